"""``flowprov verify``: its verdict on a run, and its exit status."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from flowprov import records
from flowprov.journal.format import find_journals
from flowprov.read.buffer import Buffer
from tests.cli.support import CommandResult, flowprov, run_and_kill, start_endless
from tests.support import lines, of_type, only, run, start, wait_until

_FINISHED = """
    import flowprov

    @flowprov.task
    def step(number):
        return number * 2

    with flowprov.campaign("nightly"), flowprov.workflow("Whole"):
        for number in range(50):
            step(number)
"""
_FAST_HEARTBEAT = {"FLOWPROV__JOURNAL__HEARTBEAT": "0.05"}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The journal of a run that finished."""
    run(_FINISHED, tmp_path)
    return Path(only(find_journals(tmp_path / "flowprov_buffer")))


def _verify(folder: Path, *arguments: str | Path) -> CommandResult:
    return flowprov("verify", *arguments, cwd=folder)


def _lines(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines(keepends=True)


def test_a_finished_run_is_complete(journal: Path, tmp_path: Path) -> None:
    result = _verify(tmp_path)
    assert (result.status, result.verdict, result.err) == (0, "COMPLETE", "")
    assert "all 52 events" in result.out
    assert "nightly" in result.out


@pytest.mark.parametrize("levels", range(4), ids=["journal", "host", "campaign", "buffer"])
def test_a_source_is_a_journal_or_a_folder_above_it(journal: Path, tmp_path: Path, levels: int) -> None:
    source = [journal, *journal.parents][levels]
    assert _verify(tmp_path, source).verdict == "COMPLETE"


def test_json_has_the_same_result(journal: Path, tmp_path: Path) -> None:
    result = _verify(tmp_path, "--json").json
    assert (result["verdict"], result["campaign"]["name"]) == ("COMPLETE", "nightly")
    report = only(result["journals"])
    assert (report["path"], report["state"], report["exact"]) == (str(journal), "closed", True)
    assert [report[count] for count in ("captured", "written", "dropped", "found")] == [52, 52, {}, 52]
    assert (report["reasons"], report["damages"], result["interrupted"], result["open"]) == ([], [], [], [])
    assert (report["internal_errors"], result["internal_errors"]) == ({}, {})


def test_a_killed_run_names_its_interrupted_scopes_and_gives_counts_as_at_least(tmp_path: Path) -> None:
    run_and_kill(tmp_path)
    result = _verify(tmp_path)
    assert (result.status, result.verdict) == (1, "INCOMPLETE")
    assert "gone" in result.out
    assert "at least" in result.out
    assert "ended without a footer: what is known comes from the records alone" in result.out
    report = _verify(tmp_path, "--json").json
    assert [(each["kind"], each["name"]) for each in report["interrupted"]] == [("workflow", "Doomed")]
    journal = only(report["journals"])
    assert (journal["state"], journal["exact"], journal["captured"], journal["found"]) == (
        "gone",
        False,
        6,
        6,
    )


def test_a_task_that_a_heartbeat_saw_open_is_named_after_a_kill(tmp_path: Path) -> None:
    with start_endless(tmp_path, env=_FAST_HEARTBEAT) as process:
        # The other process writes the heartbeat: only its file shows it.
        wait_until(lambda: of_type(lines(tmp_path), records.OpenTask))
        alive = _verify(tmp_path, "--json").json
        process.kill()
    assert [(each["name"], each["status"]) for each in alive["open"]] == [
        ("Doomed", "RUNNING"),
        ("waiting", "RUNNING"),
    ]
    result = _verify(tmp_path)
    assert result.status == 1
    assert "comes from its last heartbeat" in result.out
    task = only([line for line in result.out.splitlines() if line.split()[:2] == ["task", "waiting"]])
    rows = Buffer(tmp_path / "flowprov_buffer").records()
    assert [task.split()[2]] == [row.task_id for row in rows if isinstance(row, records.Task)][-1:]


def test_a_task_that_ended_after_a_heartbeat_saw_it_is_not_interrupted(tmp_path: Path) -> None:
    code = """
        import flowprov
        from flowprov.runtime import runtime

        with flowprov.workflow("W"):
            with flowprov.task_scope("long"):
                journal = next(iter(runtime.get().journals()))
                flowprov.task(lambda: None)()
                journal.write_heartbeat()
    """
    run(code, tmp_path)
    assert only(of_type(lines(tmp_path), records.OpenTask)).activity_id == "long"
    result = _verify(tmp_path)
    assert (result.status, result.verdict) == (0, "COMPLETE")


def test_a_run_in_progress_is_running_and_no_failure(tmp_path: Path) -> None:
    with start_endless(tmp_path) as process:
        result = _verify(tmp_path)
        report = _verify(tmp_path, "--json").json
        process.kill()
    assert (result.status, result.verdict) == (0, "RUNNING")
    assert "still open" in result.out
    assert only(report["open"])["name"] == "Doomed"
    assert only(report["journals"])["alive"] is True


def test_a_damaged_line_is_reported_with_its_offset(journal: Path, tmp_path: Path) -> None:
    content = _lines(journal)
    offset = sum(map(len, content[:20]))
    content[20] = b'{"type":"task","task_id":' + content[20][25:].replace(b'"', b"'")
    journal.write_bytes(b"".join(content))
    result = _verify(tmp_path)
    assert (result.status, result.verdict) == (1, "INCOMPLETE")
    assert f"{journal}:{offset}  {len(content[20]) - 1} bytes" in result.out
    assert "1 event missing: 52 written, 51 found" in result.out


def test_a_line_that_was_cut_out_is_reported_as_missing(journal: Path, tmp_path: Path) -> None:
    content = _lines(journal)
    gone = next(number for number, line in enumerate(content) if line.startswith(b'{"type":"task"'))
    journal.write_bytes(b"".join([*content[:gone], *content[gone + 1 :]]))
    result = _verify(tmp_path)
    assert result.status == 1
    assert "1 event missing: 52 written, 51 found" in result.out
    assert only(_verify(tmp_path, "--json").json["journals"])["damages"] == []


def test_a_line_that_occurs_twice_is_one_too_many(journal: Path, tmp_path: Path) -> None:
    content = _lines(journal)
    twice = next(line for line in content if line.startswith(b'{"type":"task"'))
    journal.write_bytes(b"".join([*content[:-1], twice, content[-1]]))
    result = _verify(tmp_path)
    assert result.status == 1
    assert "1 event too many: 52 written, 53 found" in result.out


def test_a_footer_that_was_cut_off_leaves_its_writer_gone(journal: Path, tmp_path: Path) -> None:
    journal.write_bytes(b"".join(_lines(journal)[:-1]))
    result = _verify(tmp_path)
    assert result.status == 1
    assert "ended without a footer" in result.out


def test_counts_that_do_not_add_up_are_reported(journal: Path, tmp_path: Path) -> None:
    journal.write_bytes(journal.read_bytes().replace(b'"captured":52', b'"captured":54'))
    result = _verify(tmp_path)
    assert result.status == 1
    assert "captured 54 is not written 52 and dropped 0" in result.out


def test_dropped_events_are_reported_by_reason(tmp_path: Path) -> None:
    run(_FINISHED, tmp_path, env={"FLOWPROV__JOURNAL__MAX_BYTES": "8192"})
    result = _verify(tmp_path)
    assert (result.status, result.verdict) == (1, "INCOMPLETE")
    report = only(_verify(tmp_path, "--json").json["journals"])
    assert report["dropped"]["max_bytes"] > 0
    assert f"events dropped: max_bytes {report['dropped']['max_bytes']}" in result.out
    assert (report["state"], report["captured"]) == (
        "closed",
        report["written"] + report["dropped"]["max_bytes"],
    )


def test_a_running_process_with_a_full_journal_reports_its_dropped_events(tmp_path: Path) -> None:
    endless = """
        import time
        import flowprov

        @flowprov.task
        def step(number):
            return "x" * 100

        with flowprov.workflow("Endless"):
            for number in range(100):
                step(number)
            print("waiting", flush=True)
            time.sleep(600)
    """
    with start(endless, tmp_path, env={**_FAST_HEARTBEAT, "FLOWPROV__JOURNAL__MAX_BYTES": "8192"}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        report = wait_until(lambda: _journal_with_drops(tmp_path))
        result = _verify(tmp_path)
        process.kill()
    assert (report["state"], report["captured"], report["damages"]) == ("running", 101, [])
    assert report["dropped"] == {"max_bytes": 101 - report["found"]}
    assert (result.status, result.verdict) == (1, "INCOMPLETE")
    after = only(_verify(tmp_path, "--json").json["journals"])
    assert (after["state"], after["dropped"]) == ("gone", report["dropped"])


def _journal_with_drops(folder: Path) -> Any:
    journal = only(_verify(folder, "--json").json["journals"])
    return journal if journal["dropped"] else None


_FAULTY = """
    import os, subprocess, sys
    import flowprov
    from flowprov.runtime import encoders, inheritance, runtime

    @flowprov.task
    def step(number):
        return number

    def broken(*arguments):
        raise RuntimeError("our own fault")

    with flowprov.workflow("Faulty"):
        step(1)
        if "lose" in sys.argv:
            encoders.encoder_globals["_flowprov_json"] = broken
            step(2)
            step(3)
        else:
            inheritance.variables = broken
            subprocess.run([sys.executable, "-c", ""], check=True)
        if "die" in sys.argv:
            for journal in runtime.get().journals():
                journal.write_heartbeat()
            os._exit(1)
"""


@pytest.mark.parametrize("ending", ["end", "die"])
def test_faults_of_flowprov_are_named_and_counted(tmp_path: Path, ending: str) -> None:
    run(_FAULTY, tmp_path, "lose", ending, status=None)
    result = _verify(tmp_path)
    report = _verify(tmp_path, "--json").json
    ((kind, count),) = report["internal_errors"].items()
    assert (kind.endswith(": RuntimeError"), count) == (True, 2)
    assert only(report["journals"])["internal_errors"] == {kind: 2}
    assert f"faults of flowprov:\n  {kind} \N{MULTIPLICATION SIGN}2" in result.out
    assert only(report["journals"])["dropped"] == {"fault": 2}
    assert result.verdict == "INCOMPLETE"


def test_a_fault_that_cost_no_event_is_named_and_leaves_the_run_complete(tmp_path: Path) -> None:
    run(_FAULTY, tmp_path)
    result = _verify(tmp_path)
    assert (result.status, result.verdict) == (0, "COMPLETE")
    assert (
        "faults of flowprov:\n  propagating the campaign to a program: RuntimeError \N{MULTIPLICATION SIGN}1"
        in result.out
    )


def test_a_run_without_faults_has_no_section_on_them(journal: Path, tmp_path: Path) -> None:
    assert b"internal_errors" not in journal.read_bytes()
    assert "faults of flowprov" not in _verify(tmp_path).out


def test_control_characters_in_a_name_are_escaped(tmp_path: Path) -> None:
    code = """
        import flowprov, os
        with flowprov.campaign("a\\nb"), flowprov.workflow("red \\x1b[31m"):
            os._exit(1)
    """
    run(code, tmp_path, status=1)
    result = _verify(tmp_path)
    assert "\x1b" not in result.out
    assert r"red \x1b[31m" in result.out
    assert r"campaign  a\nb  " in result.out


def test_of_several_campaigns_the_latest_or_the_named_one_is_checked(tmp_path: Path) -> None:
    run_and_kill(tmp_path)
    first = only(_verify(tmp_path, "--json").json["journals"])["path"]
    run(_FINISHED, tmp_path)
    assert _verify(tmp_path).verdict == "COMPLETE"
    assert _verify(tmp_path, "--campaign", Path(first).parent.parent.name).verdict == "INCOMPLETE"


def test_an_unknown_campaign_is_refused_with_the_list_of_campaigns(journal: Path, tmp_path: Path) -> None:
    result = _verify(tmp_path, "--campaign", "other")
    assert result.status == 2
    assert result.err.startswith("Error: ")
    assert journal.parent.parent.name in result.err


def test_a_missing_source_is_refused_with_advice(tmp_path: Path) -> None:
    result = _verify(tmp_path, "nowhere")
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("Error: nowhere does not exist")
    assert "Give a buffer folder" in result.err


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = _verify(tmp_path, "empty")
    assert result.status == 2
    assert "Error: empty holds no journal with records. Give" in result.err


def test_a_missing_buffer_is_refused(tmp_path: Path) -> None:
    result = flowprov("verify", cwd=tmp_path, env={"TMPDIR": str(tmp_path)})
    assert result.status == 2
    assert "flowprov_buffer holds no journal" in result.err


def test_a_journal_that_cannot_be_opened_makes_the_run_incomplete(journal: Path, tmp_path: Path) -> None:
    (journal.parent / "7-unreadable.jsonl").mkdir()
    result = _verify(tmp_path)
    assert (result.status, result.verdict) == (2, "INCOMPLETE")
    assert "7-unreadable.jsonl" in result.out
    assert "1 journal cannot be read" in result.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_journal_that_may_not_be_read_is_refused(journal: Path, tmp_path: Path) -> None:
    journal.chmod(0)
    result = _verify(tmp_path)
    assert result.status == 2
    assert "Permission denied" in result.err
