"""``flowprov compact``: Parquet files beside journals, which are used only while they fit."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

import flowprov as package
from flowprov.cli import main
from flowprov.errors import FlowprovError, MissingExtraError
from flowprov.journal.format import find_journals
from flowprov.read import automatic_compaction, campaign_sources, parquet_files, parquet_writer
from flowprov.read.compaction import compact
from flowprov.read.grouping import by_campaign
from flowprov.read.parquet_files import parquet_path
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.questions import campaign_table, run_table
from flowprov.read.source import Source
from flowprov.records import Footer, Task, encode
from tests.cli.support import flowprov, start_endless
from tests.support import run, wait_until

duckdb = pytest.importorskip("duckdb")

_PROGRAM = """
    import sys, flowprov

    @flowprov.task
    def prepare(number):
        return number

    for name in sys.argv[1:]:
        with flowprov.campaign(name, campaign_id=f"id-{name}"), flowprov.workflow("train", used={"lr": 0.1}):
            prepare(1)
            loop = flowprov.EpochLoop(4)
            for epoch in loop:
                loop.end_iter(loss=1 / (epoch + 1))
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A buffer with two campaigns."""
    folder = tmp_path_factory.mktemp("recorded")
    run(_PROGRAM, folder, "one", "two")
    return folder / "flowprov_buffer"


@pytest.fixture
def buffer_folder(recorded: Path, tmp_path: Path) -> Path:
    """A copy of that buffer."""
    return shutil.copytree(recorded, tmp_path / "flowprov_buffer")


@pytest.fixture(autouse=True)
def nothing_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_files, "_reported", {})


def compacted(folder: Path) -> list[Path]:
    source, writer = Source(folder), ParquetWriter()
    for journals in by_campaign(source.summaries()).values():
        compact(journals, source.digests, writer)
    return [parquet_path(journal) for journal in find_journals(folder)]


def answers(folder: Path) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    return campaign_table(folder), run_table(folder)


def test_answers_are_the_same_and_the_journals_as_they_were(buffer_folder: Path) -> None:
    before, journals = answers(buffer_folder), find_journals(buffer_folder)
    texts = [journal.read_bytes() for journal in journals]
    files = compacted(buffer_folder)
    assert all(path.is_file() for path in files)
    assert find_journals(buffer_folder) == journals
    assert [journal.read_bytes() for journal in journals] == texts
    assert answers(buffer_folder) == before
    assert [stat.S_IMODE(path.stat().st_mode) for path in files] == [0o600, 0o600]
    assert sorted(path.name for path in files[0].parent.iterdir()) == sorted(
        [journals[0].name, files[0].name]
    )
    assert flowprov("verify", cwd=buffer_folder.parent).status == 0


def test_the_tasks_stand_in_columns_that_other_programs_read(buffer_folder: Path) -> None:
    files = [str(path) for path in compacted(buffer_folder)]
    (count, losses), *_ = duckdb.execute(
        "select count(*), sum((generated->>'$.loss')::double) from read_parquet($1) where line is null",
        [files],
    ).fetchall()
    assert (count, round(losses, 4)) == (10, round(2 * (1 + 1 / 2 + 1 / 3 + 1 / 4), 4))


def test_campaigns_are_chosen_and_counted(buffer_folder: Path) -> None:
    result = flowprov("compact", "one", cwd=buffer_folder.parent)
    assert (result.status, result.out, result.err) == (0, "campaign  one  id-one  1 compacted\n", "")
    result = flowprov("compact", "--json", cwd=buffer_folder.parent)
    found = {line["campaign_id"]: line for line in map(json.loads, result.out.splitlines())}
    assert {name: (line["written"], line["current"]) for name, line in found.items()} == {
        "id-one": (0, 1),
        "id-two": (1, 0),
    }


def test_a_journal_that_grows_behind_its_footer_is_read_again(
    buffer_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, *_ = compacted(buffer_folder)
    journal = file.with_suffix(".jsonl")
    late = Task(task_id=99, activity_id="late", status="ERROR", started_at=1, ended_at=2)
    with journal.open("ab") as stream:
        stream.write(encode(late) + encode(Footer(at=3, captured=8, written=8)))
    (one, *_), _ = answers(buffer_folder)
    assert (one["errors"], one["tasks"]) == (1, 2)
    assert "is of another state of its journal" in caplog.text
    answers(buffer_folder)
    assert caplog.text.count(str(file)) == 1  # said once
    compacted(buffer_folder)
    assert answers(buffer_folder)[0][0]["errors"] == 1


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _garbled(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(b"PAR1" + bytes(reversed(data[4:-4])) + b"PAR1")


def _of_somebody_else(path: Path) -> None:
    path.unlink()
    duckdb.execute(f"copy (select 1 as a) to '{path}' (format parquet)")


def _of_another_version(path: Path) -> None:
    path.unlink()
    duckdb.execute(
        f"copy (select 1 as a) to '{path}' (format parquet, kv_metadata {{flowprov: '{{\"version\": 9}}'}})"
    )


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "spoil", [_cut, _emptied, _garbled, _of_somebody_else, _of_another_version, _a_folder]
)
def test_a_file_that_cannot_be_used_is_left_and_said_once(
    buffer_folder: Path, caplog: pytest.LogCaptureFixture, spoil: object
) -> None:
    before = answers(buffer_folder)
    file, other = compacted(buffer_folder)
    spoil(file)  # type: ignore[operator]
    assert answers(buffer_folder) == answers(buffer_folder) == before
    assert caplog.text.count("flowprov does not use") == 1
    assert str(file) in caplog.text
    assert str(other) not in caplog.text


def test_without_duckdb_the_journals_are_read(buffer_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = answers(buffer_folder)
    compacted(buffer_folder)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert answers(buffer_folder) == before
    with pytest.raises(MissingExtraError, match=r'pip install "flowprov\[query\]"'):
        ParquetWriter()


def test_a_file_that_cannot_be_written_is_one_sentence(
    buffer_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_writer, "new_journal_id", lambda: "taken")
    journal = find_journals(buffer_folder)[0]
    file = parquet_path(journal)
    file.with_name(f"{file.name}.taken.new").mkdir()
    with pytest.raises(FlowprovError, match=rf"{file.name} cannot be written \(.*\)\. Compact where"):
        compacted(buffer_folder)
    assert not file.exists()


@pytest.mark.parametrize("installed", [True, False])
def test_what_takes_long_is_said_with_what_makes_it_faster(
    buffer_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, installed: bool
) -> None:
    monkeypatch.setattr(campaign_sources, "_MANY_BYTES", 1_000)
    monkeypatch.setattr(campaign_sources, "has_duckdb", lambda: installed)
    run_table(buffer_folder)
    assert "flowprov compact makes the next answers faster" in caplog.text
    assert ("pip install" in caplog.text) is not installed
    caplog.clear()
    compacted(buffer_folder)
    run_table(buffer_folder)
    assert not caplog.text


def test_what_runs_or_is_damaged_is_left(buffer_folder: Path) -> None:
    journal = find_journals(buffer_folder)[0]
    journal.write_bytes(journal.read_bytes().replace(b'"activity_id"', b'"activity_id', 1))
    with start_endless(buffer_folder.parent) as process:
        try:
            result = flowprov("compact", cwd=buffer_folder.parent)
        finally:
            process.kill()
    assert result.status == 0
    assert {line.rpartition("  ")[2] for line in result.out.splitlines()} == {
        "1 damaged",
        "1 compacted",
        "1 not closed",
    }
    assert not parquet_path(journal).exists()


def test_removing_a_campaign_removes_its_files(buffer_folder: Path) -> None:
    compacted(buffer_folder)
    assert flowprov("rm", "--yes", "one", cwd=buffer_folder.parent).status == 0
    assert [path.name for path in buffer_folder.iterdir()] == ["id-two"]
    assert list(package.campaigns(buffer_folder)["name"]) == ["two"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "no campaign 'nowhere'"),
        (("--source", "missing"), "does not exist"),
        (("--source", "redis://localhost:1/0"), "takes a buffer folder"),
    ],
)
def test_a_mistake_is_one_sentence(buffer_folder: Path, arguments: tuple[str, ...], said: str) -> None:
    result = flowprov("compact", *arguments, cwd=buffer_folder.parent)
    assert (result.status, result.out) == (2, "")
    assert said in result.err
    assert len(result.err.splitlines()) == 1


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_the_journal_of_a_killed_process_is_compacted_and_the_one_of_a_running_is_not(
    tmp_path: Path, writer: str
) -> None:
    with start_endless(tmp_path, {"FLOWPROV__JOURNAL__WRITER": writer}) as process:
        folder = tmp_path / "flowprov_buffer"
        journals = Source(folder).require_campaign()
        writing = ParquetWriter()
        assert compact(journals, {}, writing).open == 1
        process.kill()
        process.wait()
    before, rows = answers(folder), package.read_buffer(folder, merge=True, return_df=False)
    source = Source(folder)
    assert compact(source.require_campaign(), source.digests, writing).written == 1
    writing.close()
    source = Source(folder)
    assert source.require_campaign()
    assert len(source.digests) == 1
    assert answers(folder) == before
    found = package.query("select activity_id, status from tasks", folder)
    expected = sorted((row["activity_id"], row["status"]) for row in rows if row["type"] == "task")
    assert sorted(map(tuple, found.to_numpy().tolist())) == expected
    with find_journals(folder)[0].open("ab") as file:
        file.write(b"{}\n")
    source = Source(folder)
    assert source.require_campaign()
    assert not source.digests, "it has changed after all"


@pytest.fixture
def large(recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the buffer, whose journals count as large."""
    monkeypatch.setattr(automatic_compaction, "LEAST", 1)
    return shutil.copytree(recorded, tmp_path / "buffer")


def test_large_journals_are_compacted_without_being_asked_once(large: Path) -> None:
    assert automatic_compaction.is_due(large)
    assert automatic_compaction.compact_folder(large) == 2
    assert not automatic_compaction.is_due(large)
    assert automatic_compaction.compact_folder(large) == 0
    assert len(list(large.rglob("*.parquet"))) == 2


def test_two_at_once_do_no_harm(large: Path) -> None:
    with ThreadPoolExecutor() as pool:
        written = list(pool.map(automatic_compaction.compact_folder, [large] * 4))
    assert sum(written) == 2
    source = Source(large)
    assert source.summaries()
    assert len(source.digests) == 2
    assert not list(large.rglob("*.new"))


def test_what_cannot_be_compacted_is_not_tried_again_and_again(large: Path) -> None:
    for path in find_journals(large):
        path.write_bytes(b"damaged\n" + path.read_bytes())
        os.utime(path, (1, 1))
    assert automatic_compaction.is_due(large)
    assert automatic_compaction.compact_folder(large) == 0
    assert not automatic_compaction.is_due(large)


def test_the_command_starts_it_in_a_process_of_its_own(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: started.append(command))
    for words in (["ls"], ["runs"], ["show"], ["query", "select 1"]):
        options = [] if words == ["show"] else ["--source"]
        result = CliRunner().invoke(main, [*words, *options, str(large)])
        assert result.exit_code == 0, result.output
    assert len(started) == 4
    off = CliRunner().invoke(main, ["--set", "journal.compact=off", "ls", "--source", str(large)])
    assert off.exit_code == 0
    assert len(started) == 4
    monkeypatch.undo()
    journal = find_journals(large)[0]
    with journal.open("r+b") as file:  # a reserved slot that nobody reads makes it large
        data = file.read()
        file.seek(0)
        end = data.index(b"\n") + 1
        file.write(data[:end] + b" " * (1 << 20) + b"\n" + data[end:])
    assert flowprov("ls", "--source", large, cwd=large.parent).status == 0
    wait_until(parquet_path(journal).exists)


def test_a_cluster_of_dask_writes_the_files(buffer_folder: Path) -> None:
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    )
    with cluster:
        before = answers(buffer_folder)
        options = ("--dask", cluster.scheduler_address, "--source", buffer_folder)
        result = flowprov("compact", "--json", *options, cwd=buffer_folder)
        assert result.status == 0, result.err
    assert all(parquet_path(journal).is_file() for journal in find_journals(buffer_folder))
    assert answers(buffer_folder) == before
    gone = flowprov("compact", "--dask", "tcp://127.0.0.1:9", "--source", buffer_folder, cwd=buffer_folder)
    assert gone.status == 2
    assert "no Dask cluster" in gone.err
