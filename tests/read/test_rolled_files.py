"""The files of one process are read as one, wherever its journal rolled."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

import flowprov
from flowprov import records
from flowprov.journal.format import find_journals
from flowprov.read import Buffer
from flowprov.read.compaction import compact
from flowprov.read.digest import encode_digest
from flowprov.read.digest_file import NAME
from flowprov.read.outline import Outline
from flowprov.read.parquet_files import digests_of
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source
from flowprov.read.verify import verify, verify_journals
from flowprov.records import Footer, Header
from tests.support import lines_of, of_type, run, start, wait_until

_TRAINING = """
    import contextlib, sys, time
    import flowprov

    flowprov.configure(
        journal={"roll_bytes": 16384, "heartbeat": 0.05},
        telemetry_capture={"interval": 0.02, "cpu": True, "mem": True, "process": True},
    )

    @flowprov.task
    def load(batch):
        return {"size": batch}

    @flowprov.task
    def fail():
        raise ValueError("on purpose")

    with flowprov.workflow("training"):
        with flowprov.task_scope("fit", used={"lr": 0.1}) as fit:
            flowprov.log_params(seed=7)
            epochs = flowprov.EpochLoop(6)
            for epoch in epochs:
                batches = flowprov.BatchLoop(25, epochs)
                for batch in batches:
                    load(batch)
                    time.sleep(0.001)
                    batches.end_iter({"loss": 1 / (1 + epoch + batch)})
                fit.set_generated(epochs=epoch)
                flowprov.log_metrics(accuracy=0.5 + epoch / 20)
                epochs.end_iter({"val_loss": 1 / (1 + epoch)})
                time.sleep(0.03)
            with contextlib.suppress(ValueError):
                fail()
        with contextlib.suppress(KeyError):
            with flowprov.task_scope("around"):
                for number in flowprov.Loop(200):
                    load(number)
                    if number == 150:
                        raise KeyError("out of the loop")
        END
"""
_ID = re.compile(r"[0-9a-f]{32}-(\d+)")


@pytest.fixture(scope="module")
def rolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the buffer of a training that rolled many times."""
    folder = tmp_path_factory.mktemp("rolled")
    run(_TRAINING.replace("END", "pass"), folder)
    assert len(find_journals(folder)) > 10
    return folder / "flowprov_buffer"


@pytest.fixture(scope="module")
def whole(rolled: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the same buffer as if it had not rolled."""
    folder = tmp_path_factory.mktemp("whole") / "buffer"
    files = find_journals(rolled)
    target = folder / files[0].relative_to(rolled)
    target.parent.mkdir(parents=True)
    contents = [lines_of(path) for path in files]
    footers = [one for lines in contents for one in of_type(lines, Footer)]
    footer = msgspec.structs.replace(
        footers[-1],
        captured=sum(one.captured for one in footers),
        written=sum(one.written for one in footers),
    )
    kept = [one for lines in contents for one in lines if not isinstance(one, (Header, Footer))]
    written = b"".join(map(records.encode, [contents[0][0], *kept, footer]))
    first = files[0].stem.partition("-")[2].encode()
    target.write_bytes(re.sub(_ID.pattern.encode(), first + rb"-\1", written))
    return folder


@pytest.fixture
def compacted(rolled: Path, tmp_path: Path) -> Path:
    """Return a copy of the buffer with a Parquet file beside each journal."""
    pytest.importorskip("duckdb")
    folder = tmp_path / "compacted"
    shutil.copytree(rolled, folder)
    source = Source(folder)
    journals = source.require_campaign()
    writer = ParquetWriter()
    assert compact(journals, {}, writer).written == len(journals)
    writer.close()
    return folder


def _neutral(value: Any) -> Any:
    """Return a value without the ids of journals, which differ."""
    return json.loads(_ID.sub(r"task \1", json.dumps(value, default=str, sort_keys=True)))


def _rows(folder: Path) -> list[Any]:
    rows = flowprov.read_buffer(folder, merge=True, return_df=False)
    return [_neutral(row) for row in rows]


def test_rows_are_the_same(rolled: Path, whole: Path) -> None:
    expected = _rows(whole)
    assert _rows(rolled) == expected
    assert all(row["status"] in ("FINISHED", "ERROR") for row in expected)
    assert any(row["telemetry_at_start"] for row in expected)


def test_messages_follow_in_order(rolled: Path, whole: Path) -> None:
    def messages(folder: Path) -> list[Any]:
        return [_neutral(msgspec.to_builtins(one)) for one in Buffer(folder).follow().available()]

    assert messages(rolled) == messages(whole)


def test_telemetry_and_machines_are_those_of_one_process(rolled: Path, whole: Path) -> None:
    one, other = Buffer(rolled).telemetry(), Buffer(whole).telemetry()
    rates = [name for name in one.columns if "percent" in name]
    assert list(one["at"]) == list(other["at"])
    assert one[rates].isna().sum().tolist() == other[rates].isna().sum().tolist()
    assert len(Buffer(rolled).machines()) == 1


def test_runs_and_metrics_are_the_same(rolled: Path, whole: Path, compacted: Path) -> None:
    expected = flowprov.runs(whole).drop(columns=["run_id"])
    for folder in (rolled, compacted):
        pd.testing.assert_frame_equal(flowprov.runs(folder).drop(columns=["run_id"]), expected)
        metrics = flowprov.metrics(folder)
        columns = ["name", "step", "epoch", "value", "at"]
        pd.testing.assert_frame_equal(metrics[columns], flowprov.metrics(whole)[columns])


def _tree(folder: Path) -> list[str]:
    source = Source(folder)
    outline = Outline(source.require_campaign(), digests=source.digests)
    lines = list(outline.lines())
    if source.digests:
        assert outline._lines.files is not None, "the Parquet files are read"
    named = [outline.label(key) for key in (*outline.slowest(), *outline.failed())]
    return [_ID.sub(r"task \1", line) for line in (*lines, str(outline.failures), *named)]


def test_the_tree_is_the_same(rolled: Path, whole: Path, compacted: Path) -> None:
    expected = _tree(whole)
    assert _tree(rolled) == expected
    assert _tree(compacted) == expected


_STATEMENTS = (
    "select activity_id, status, count(*), min(started_at), max(ended_at) from tasks group by 1, 2",
    "select parent_task_id, count(*) as n from tasks group by all order by n, parent_task_id",
    "select round(sum(generated->>'$.loss'), 9) from tasks",
    "select name, status from workflows",
)


@pytest.mark.parametrize("statement", _STATEMENTS)
def test_queries_have_the_same_answers(rolled: Path, whole: Path, compacted: Path, statement: str) -> None:
    pytest.importorskip("duckdb")

    def answer(folder: Path) -> Any:
        return sorted(_neutral(flowprov.query(statement, folder).to_numpy().tolist()), key=str)

    assert answer(rolled) == answer(whole) == answer(compacted)


def test_a_query_of_compacted_files_reads_them(compacted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = flowprov.query("select count(*) as n from tasks", compacted)["n"][0]
    for path in find_journals(compacted):  # of the same length and with the same end
        data = path.read_bytes()
        middle = len(data) // 2
        path.write_bytes(data[: middle - 500] + b" " * 1000 + data[middle + 500 :])
    assert flowprov.query("select count(*) as n from tasks", compacted)["n"][0] == expected


def test_the_verdict_is_the_same(rolled: Path, whole: Path, compacted: Path) -> None:
    for folder in (rolled, whole, compacted):
        found = verify(folder)
        assert (found.verdict, found.open_items, found.missing) == ("COMPLETE", [], [])
    source = Source(compacted)
    journals = source.require_campaign()
    assert verify_journals(source, journals, digests=source.digests).verdict == "COMPLETE"


def test_a_file_that_is_missing_is_missed(rolled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "buffer"
    shutil.copytree(rolled, folder)
    path = find_journals(folder)[3]
    path.unlink()
    found = verify(folder)
    assert found.verdict == "INCOMPLETE"
    assert any(path.stem.partition("-")[2] in sentence for sentence in found.missing)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """Return a training in the middle of which all files but the last are closed, and its buffer."""
    program = _TRAINING.replace("EpochLoop(6)", "EpochLoop(2 if not sys.argv[1:] else 1000)")
    with start(program, tmp_path, "long") as process:
        folder = tmp_path / "flowprov_buffer"
        wait_until(lambda: folder.exists() and len(find_journals(folder)) > 5)
        try:
            yield process, folder
        finally:
            process.kill()


def test_what_is_open_in_earlier_files_runs_and_is_interrupted_by_a_kill(running: tuple[Any, Path]) -> None:
    process, folder = running
    for alive in (True, False):
        rows = flowprov.read_buffer(folder, merge=True, return_df=False)
        status = {row["activity_id"] or row["name"]: row["status"] for row in rows if row["ended_at"] is None}
        expected = "RUNNING" if alive else "INTERRUPTED"
        assert status["training"] == status["fit"] == expected
        tree = _tree(folder)
        assert any("training" in line and expected in line.upper() for line in tree)
        found = verify(folder)
        assert found.verdict == ("RUNNING" if alive else "INCOMPLETE")
        assert {item.name for item in found.open_items} >= {"training", "fit"}
        assert {item.status for item in found.open_items} == {expected}
        process.kill()
        process.wait()
        time.sleep(0.1)


def test_the_digests_that_compact_wrote_are_those_in_the_files(compacted: Path) -> None:
    journals = find_journals(compacted)
    written = digests_of(journals)
    assert any(digest.unusual for digest in written.values())
    for path in compacted.glob(f"*/{NAME}"):
        path.unlink()
    assert list(map(encode_digest, digests_of(journals).values())) == list(
        map(encode_digest, written.values())
    )
