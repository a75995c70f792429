"""The weights digest: the same tensors have the same one, whatever file holds them."""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from flowprov.contents.content import TELLING_BYTES
from flowprov.contents.objects import read_object
from tests.contents.files import random_tensors, read, write_safetensors, write_torch_zip

torch = pytest.importorskip("torch", reason='NO TORCH: pip install -e ".[dev]"')


def _state() -> dict[str, Any]:
    return {
        "embed.weight": torch.randn(64, 64),
        "norm.weight": torch.ones(2000),
        "half": torch.randn(40, 40).to(torch.bfloat16),
        "counter": torch.tensor(7),
    }


def test_it_is_the_same_in_safetensors_shards_bin_and_a_wrapped_checkpoint(tmp_path: Path) -> None:
    state = _state()
    raw = {name: _bytes(tensor) for name, tensor in state.items()}
    write_safetensors(tmp_path / "a.safetensors", raw)
    write_safetensors(tmp_path / "b.safetensors", dict(reversed(raw.items())), format="pt")
    torch.save(state, tmp_path / "c.bin")
    torch.save({"model": state, "epoch": 3}, tmp_path / "d.pt")
    shards = tmp_path / "shards"
    shards.mkdir()
    names = list(raw)
    write_safetensors(shards / "model-1.safetensors", {name: raw[name] for name in names[:2]})
    write_safetensors(shards / "model-2.safetensors", {name: raw[name] for name in names[2:]})
    torch.save({"step": torch.randn(300)}, shards / "optimizer.pt")
    (shards / "config.json").write_text("{}")
    found = {path.name: read(path) for path in tmp_path.iterdir()}
    assert len({content.weights for content in found.values()}) == 1
    assert found["shards"].format == "hf-checkpoint"
    assert read_object(state).content.weights == found["a.safetensors"].weights
    assert len({content.sha256 for content in found.values()}) == 5


def test_it_is_the_digest_of_the_sorted_digests_of_the_tensors(tmp_path: Path) -> None:
    tensors = random_tensors(3)
    content = read(write_safetensors(tmp_path / "m", tensors))
    digests = sorted({hashlib.sha256(data).digest() for data in tensors.values()})
    assert content.weights == hashlib.sha256(b"".join(digests)).hexdigest()


def test_it_differs_if_one_element_does(tmp_path: Path) -> None:
    state = _state()
    torch.save(state, tmp_path / "a.pt")
    state["embed.weight"][3, 3] += 1
    torch.save(state, tmp_path / "b.pt")
    assert read(tmp_path / "a.pt").weights != read(tmp_path / "b.pt").weights


@pytest.mark.parametrize("length", [0x480, 0x8B1F, 0x0580])
def test_the_length_of_a_header_is_taken_for_no_other_format(tmp_path: Path, length: int) -> None:
    header = b'{"a":{"dtype":"U8","shape":[2000],"data_offsets":[0,2000]}}'.ljust(length)
    (tmp_path / "m").write_bytes(struct.pack("<Q", length) + header + os.urandom(2000))
    content = read(tmp_path / "m")
    assert content.format == "safetensors"
    assert content.weights is not None


def test_small_and_constant_tensors_tell_nothing(tmp_path: Path) -> None:
    tensors = {"zeros": bytes(4096), "ones": b"\0\0\x80?" * 700_001, "small": b"x" * (TELLING_BYTES - 1)}
    content = read(write_safetensors(tmp_path / "m", {"odd": b"abc", **tensors}))
    assert content.tensors is not None
    assert len(content.tensors.all) == 4
    assert not content.tensors.telling
    assert content.tensors.shortened() is None


def test_tensors_of_any_place_and_length_are_hashed_whole(tmp_path: Path) -> None:
    for sizes in [(1 << 20,), (3, (1 << 20) - 5, 1 << 21), ((1 << 20) + 1, 0, 7)]:
        tensors = {str(number): os.urandom(size) for number, size in enumerate(sizes)}
        expected = {hashlib.sha256(data).digest() for data in tensors.values() if data}
        for path in (
            write_safetensors(tmp_path / "m", tensors),
            write_torch_zip(tmp_path / "z", tensors),
        ):
            found = read(path).tensors
            assert found is not None
            assert found.all == expected


def test_the_legacy_form_of_torch_save_says_why_it_has_none(tmp_path: Path) -> None:
    torch.save(_state(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    content = read(tmp_path / "old.pt")
    assert (content.state, content.format, content.weights) == ("digested", "torch-legacy", None)
    assert "unpickled" in (content.reason or "")


def test_weights_can_be_left_out(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path / "m", random_tensors(2))
    content = read(path, weights=False)
    assert (content.format, content.weights) == ("safetensors", None)


def test_an_exported_program_is_told_from_a_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/data/weights/weight_0", b"y" * 2000)
    content = read(tmp_path / "m.pt2")
    assert content.format == "pt2"
    assert content.tensors is not None


@pytest.mark.soak
def test_a_program_that_torch_exported_is_one(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(40, 40), (torch.randn(2, 40),))
    torch.export.save(program, tmp_path / "m.pt2")
    assert read(tmp_path / "m.pt2").format == "pt2"


def _bytes(tensor: Any) -> bytes:
    return bytes(tensor.reshape(-1).view(torch.uint8).numpy())
