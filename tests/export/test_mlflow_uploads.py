"""Small files that a run generated go to MLflow with it, if they are asked for and still what they were."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from flowprov.cli.output import Failure
from flowprov.cli.sizes import parse_size
from flowprov.export.mlflow.campaign_export import export_campaigns
from flowprov.export.mlflow.exporter import ExperimentReport
from flowprov.export.mlflow.uploads import NOT_UPLOADED, UPLOADED
from tests.cli.support import flowprov
from tests.export.memory_store import MemoryStore
from tests.support import run

_PROGRAM = """
    import pathlib, flowprov

    def write(name, content):
        pathlib.Path(name).parent.mkdir(exist_ok=True)
        pathlib.Path(name).write_bytes(content)
        return name

    with flowprov.campaign("files"), flowprov.workflow("TRAIN"):
        flowprov.use_artifact(write("used.csv", b"a,b"))
        for epoch in range(2):  # the second one replaces the first
            flowprov.log_artifact(write("last.ckpt", b"epoch %d" % epoch), kind="checkpoint")
        for folder in "ab":
            flowprov.log_artifact(write(f"{folder}/model.bin", folder.encode()))
        flowprov.log_artifact(write("odd\\n<i> ü %2e?.bin" + "x" * 150, b"odd"))
        flowprov.log_artifact(write("large.bin", b"x" * 1_001))
        flowprov.log_artifact(write("gone.bin", b"gone"))
        flowprov.log_artifact(write("changed.bin", b"before"))
        flowprov.log_artifact("a", kind="folder")
"""


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Return the folder of a program that wrote files, of which one is gone and one was changed."""
    run(_PROGRAM, tmp_path)
    (tmp_path / "gone.bin").unlink()
    (tmp_path / "changed.bin").write_bytes(b"behind")
    return tmp_path


def _export(store: MemoryStore, folder: Path, upload_bytes: int = 1_000) -> ExperimentReport:
    (report,) = export_campaigns(store, folder / "flowprov_buffer", upload_bytes=upload_bytes)
    return report


def _uploaded(store: MemoryStore) -> dict[str, bytes]:
    """Return the files in MLflow, by their names without the digest."""
    found = {}
    for (_, path), content in store.files.items():
        if isinstance(content, bytes):
            folder, _, name = path.partition("/")
            assert folder == "files"
            stem, _, rest = name.rpartition("-")
            found[f"{stem}{rest[8:]}-{content.decode()}"] = content
    return found


_SMALL = {"last.ckpt-epoch 1", "model.bin-a", "model.bin-b"}


def test_files_that_are_small_and_unchanged_are_uploaded_and_no_others(recorded: Path) -> None:
    store = MemoryStore()
    report = _export(store, recorded)
    (odd,) = set(_uploaded(store)) - _SMALL
    assert odd == "odd__i_____2e_.binxxxxxxxxxxxxxxxx-odd"
    assert set(_uploaded(store)) > _SMALL
    assert (report.uploaded, report.not_uploaded) == (4, [])


def test_without_being_asked_no_file_is_uploaded(recorded: Path) -> None:
    store = MemoryStore()
    report = _export(store, recorded, 0)
    assert (report.uploaded, _uploaded(store)) == (0, {})
    (child,) = store.children("TRAIN")
    assert UPLOADED not in child.tags


def test_a_second_export_uploads_nothing_and_asks_for_nothing(recorded: Path) -> None:
    store = MemoryStore()
    _export(store, recorded)
    before, calls = store.content(), store.calls
    report = _export(store, recorded)
    assert (report.uploaded, report.unchanged) == (0, 1)
    assert (store.content(), store.calls) == (before, calls)


def test_a_run_that_was_exported_before_gets_its_files_when_they_are_asked_for(recorded: Path) -> None:
    store = MemoryStore()
    _export(store, recorded, 0)
    report = _export(store, recorded)
    assert (report.unchanged, report.uploaded, len(_uploaded(store))) == (1, 4, 4)
    report = _export(store, recorded, 2_000)
    assert (report.uploaded, len(_uploaded(store))) == (1, 5)  # only the larger one


def test_a_file_that_was_put_back_is_uploaded_then(recorded: Path) -> None:
    store = MemoryStore()
    _export(store, recorded)
    (recorded / "changed.bin").write_bytes(b"before")
    os.utime(recorded / "changed.bin", ns=(1, 1))
    (recorded / "gone.bin").write_bytes(b"gone")
    report = _export(store, recorded)
    assert report.uploaded == 2
    assert {"changed.bin-before", "gone.bin-gone"} < set(_uploaded(store))


def test_what_took_the_place_of_a_file_is_not_read(recorded: Path) -> None:
    (recorded / "a" / "model.bin").unlink()
    os.mkfifo(recorded / "a" / "model.bin")
    store = MemoryStore()
    assert _export(store, recorded).uploaded == 3


def test_a_file_that_is_refused_is_a_mark_and_the_next_export_tries_it_again(recorded: Path) -> None:
    store = MemoryStore()
    _export(store, recorded)
    refused = next(path for _, path in store.files if "last" in path).partition("/")[2]
    store = MemoryStore()
    store.refused = {refused}
    report = _export(store, recorded)
    (child,) = store.children("TRAIN")
    assert (report.uploaded, child.status) == (3, "FINISHED")
    assert report.not_uploaded == [f"TRAIN {child.name}, {refused}: {refused} is refused"]
    assert json.loads(child.tags[NOT_UPLOADED]) == {refused: f"{refused} is refused"}
    store.refused = set()
    report = _export(store, recorded)
    assert (report.uploaded, report.not_uploaded) == (1, [])
    assert json.loads(child.tags[NOT_UPLOADED]) == {}


def test_half_a_file_of_an_export_that_was_killed_is_written_anew(recorded: Path) -> None:
    store = MemoryStore()
    _export(store, recorded)
    (child,) = store.children("TRAIN")
    key = next(key for key in store.files if "last" in key[1])
    store.files[key] = b"epo"
    del child.tags[UPLOADED]
    assert _export(store, recorded).uploaded == 1
    assert store.files[key] == b"epoch 1"


def test_a_run_that_was_deleted_gets_no_files(recorded: Path) -> None:
    store = MemoryStore()
    _export(store, recorded, 0)
    store.children("TRAIN")[0].deleted = True
    assert (_export(store, recorded).uploaded, _uploaded(store)) == (0, {})


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1000", 1_000), ("10MB", 10_000_000), ("1.5 kb", 1_500), ("2G", 2_000_000_000), ("7b", 7)],
)
def test_sizes_are_written_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_what_is_no_size_is_said(tmp_path: Path) -> None:
    for text in ("-1", "10XB", "", "MB"):
        with pytest.raises(Failure, match="is no size: give bytes"):
            parse_size(text)
    result = flowprov("export", "mlflow", "--uri", "x", "--upload-bytes", "ten", cwd=tmp_path)
    assert (result.status, result.out) == (2, "")
    assert "ten is no size" in result.err
    wrong = flowprov("--set", "sinks.mlflow.upload_bytes=-1", "export", "mlflow", "--uri", "x", cwd=tmp_path)
    assert "a whole number from 0" in wrong.err
