"""Damaged and hostile model files: nothing runs, nothing grows, and the file still has its digest."""

from __future__ import annotations

import json
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contents.files import random_tensors, read, sha256, write_safetensors, write_torch_zip


def _header(path: Path, header: object, length: int | None = None, data: bytes = b"x" * 4096) -> Path:
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(encoded) if length is None else length) + encoded + data)
    return path


def _tensor(begin: object, end: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": _tensor(0, 2000), "b": _tensor(1000, 3000)},
        {"a": _tensor(0, 1 << 60)},
        {"a": _tensor(-8, 100)},
        {"a": _tensor(100, 8)},
        {"a": _tensor(0, 10**30)},
        {"a": _tensor("0", 8)},
        {"a": {"data_offsets": [1]}},
        b'{"a":' * 50_000,
        b"{" + b" " * 100,
        b'{"a\xff": 1}',
        [],
    ],
    ids=str,
)
def test_a_header_that_cannot_be_true_leaves_the_file_without_weights(tmp_path: Path, header: object) -> None:
    path = _header(tmp_path / "m.safetensors", header)
    content = read(path)
    assert (content.state, content.sha256) == ("digested", sha256(path.read_bytes()))
    assert content.weights is None
    assert content.format != "safetensors" or "no weights digest" in (content.reason or "")


def test_a_header_of_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 5 << 30) + b"{")
        file.truncate(8 << 30)
    assert read(path, max_bytes=1 << 20).state == "skipped"
    with path.open("r+b") as file:
        file.write(struct.pack("<Q", 40 << 20))
        file.truncate(41 << 20)
    tracemalloc.start()
    try:
        assert "a header of" in (read(path).reason or "")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


class _Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("harm"),))


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Harmful()))
        archive.writestr("archive/data/0", b"y" * 2000)
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(_Harmful()))
    assert read(tmp_path / "m.pt").weights is not None
    assert read(tmp_path / "m.pkl").format == "pickle"
    assert not (tmp_path / "harm").exists()


def test_a_zip_bomb_is_not_inflated(tmp_path: Path) -> None:
    path = write_torch_zip(tmp_path / "m.pt", {"a": bytes(50 << 20)}, zipfile.ZIP_DEFLATED)
    content = read(path)
    assert (content.state, content.weights) == ("digested", None)
    assert "compressed" in (content.reason or "")
    assert content.read_bytes == path.stat().st_size < 1 << 20


def test_members_that_overlap_have_no_weights(tmp_path: Path) -> None:
    path = write_torch_zip(tmp_path / "m.pt", random_tensors(2))
    data = bytearray(path.read_bytes())
    directory = data.find(b"PK\x01\x02")
    first = data.find(b"archive/data/0", directory) - 4
    second = data.find(b"archive/data/1", directory) - 4
    data[second : second + 4] = data[first : first + 4]  # the offset of the other one
    path.write_bytes(data)
    content = read(path)
    assert (content.state, content.weights) == ("digested", None)
    assert "overlap" in (content.reason or "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for all examples of a test: to make one for each takes longer than all else."""
    return tmp_path_factory.mktemp("hostile")


@settings(max_examples=60)
@given(st.data())
def test_no_change_to_a_model_file_makes_its_reading_fail(folder: Path, data: st.DataObject) -> None:
    is_zip = data.draw(st.booleans())
    path = (write_torch_zip if is_zip else write_safetensors)(folder / "m", random_tensors(3, 64))
    changed = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(changed) - 1, 0)))
        if data.draw(st.booleans()):
            changed[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
        else:
            changed = changed[: at + 1]
    path.write_bytes(changed)
    content = read(path)
    assert (content.state, content.sha256) == ("digested", sha256(bytes(changed)))


@settings(max_examples=40)
@given(st.binary(max_size=300))
def test_any_bytes_have_a_digest(folder: Path, data: bytes) -> None:
    path = folder / "file"
    for beginning in (b"", b"PK\x03\x04", struct.pack("<Q", 40) + b"{"):
        path.write_bytes(beginning + data)
        assert read(path).sha256 == sha256(beginning + data)
