"""``flowprov verify``: the truth about a run, and the exit status that goes with it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from flowprov import records
from flowprov.journal.format import find_journals
from flowprov.read.buffer import Buffer
from tests.cli.support import Said, flowprov, killed, running
from tests.support import lines, of_type, only, run, start

_FINISHED = """
    import flowprov

    @flowprov.task
    def step(number):
        return number * 2

    with flowprov.campaign("nightly"), flowprov.workflow("Whole"):
        for number in range(50):
            step(number)
"""
_BEATING = {"FLOWPROV__JOURNAL__HEARTBEAT": "0.05"}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """The journal of a run that ended well."""
    run(_FINISHED, tmp_path)
    return Path(only(find_journals(tmp_path / "flowprov_buffer")))


def _verify(folder: Path, *arguments: str | Path) -> Said:
    return flowprov("verify", *arguments, cwd=folder)


def _lines(journal: Path) -> list[bytes]:
    return journal.read_bytes().splitlines(keepends=True)


def test_a_finished_run_is_complete(journal: Path, tmp_path: Path) -> None:
    said = _verify(tmp_path)
    assert (said.status, said.verdict, said.err) == (0, "COMPLETE", "")
    assert "all 52 events" in said.out
    assert "nightly" in said.out


@pytest.mark.parametrize("levels", range(4), ids=["journal", "host", "campaign", "buffer"])
def test_a_source_is_a_journal_or_a_folder_above_it(journal: Path, tmp_path: Path, levels: int) -> None:
    source = [journal, *journal.parents][levels]
    assert _verify(tmp_path, source).verdict == "COMPLETE"


def test_json_says_the_same(journal: Path, tmp_path: Path) -> None:
    said = _verify(tmp_path, "--json").json
    assert (said["verdict"], said["campaign"]["name"]) == ("COMPLETE", "nightly")
    told = only(said["journals"])
    assert (told["path"], told["state"], told["exact"]) == (str(journal), "closed", True)
    assert [told[count] for count in ("captured", "written", "dropped", "found")] == [52, 52, {}, 52]
    assert (told["reasons"], told["damages"], said["interrupted"], said["open"]) == ([], [], [], [])
    assert (told["internal_errors"], said["internal_errors"]) == ({}, {})


def test_a_killed_run_names_what_it_interrupted_and_counts_at_least(tmp_path: Path) -> None:
    killed(tmp_path)
    said = _verify(tmp_path)
    assert (said.status, said.verdict) == (1, "INCOMPLETE")
    assert "gone" in said.out
    assert "at least" in said.out
    assert "ended without a footer: what is known comes from the records alone" in said.out
    told = _verify(tmp_path, "--json").json
    assert [(each["kind"], each["name"]) for each in told["interrupted"]] == [("workflow", "Doomed")]
    journal = only(told["journals"])
    assert (journal["state"], journal["exact"], journal["captured"], journal["found"]) == (
        "gone",
        False,
        6,
        6,
    )


def test_a_task_that_a_heartbeat_saw_open_is_named_after_a_kill(tmp_path: Path) -> None:
    with running(tmp_path, env=_BEATING) as process:
        deadline = time.monotonic() + 30
        while not of_type(lines(tmp_path), records.OpenTask) and time.monotonic() < deadline:
            time.sleep(0.01)  # the heartbeat is the other process's: its file is all there is to look at
        alive = _verify(tmp_path, "--json").json
        process.kill()
    assert [(each["name"], each["status"]) for each in alive["open"]] == [
        ("Doomed", "RUNNING"),
        ("waiting", "RUNNING"),
    ]
    said = _verify(tmp_path)
    assert said.status == 1
    assert "comes from its last heartbeat" in said.out
    task = only([line for line in said.out.splitlines() if line.split()[:2] == ["task", "waiting"]])
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
    said = _verify(tmp_path)
    assert (said.status, said.verdict) == (0, "COMPLETE")


def test_a_run_in_progress_is_running_and_no_failure(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        said = _verify(tmp_path)
        told = _verify(tmp_path, "--json").json
        process.kill()
    assert (said.status, said.verdict) == (0, "RUNNING")
    assert "still open" in said.out
    assert only(told["open"])["name"] == "Doomed"
    assert only(told["journals"])["alive"] is True


def test_a_damaged_line_is_told_by_its_place(journal: Path, tmp_path: Path) -> None:
    content = _lines(journal)
    offset = sum(map(len, content[:20]))
    content[20] = b'{"type":"task","task_id":' + content[20][25:].replace(b'"', b"'")
    journal.write_bytes(b"".join(content))
    said = _verify(tmp_path)
    assert (said.status, said.verdict) == (1, "INCOMPLETE")
    assert f"{journal}:{offset}  {len(content[20]) - 1} bytes" in said.out
    assert "1 event missing: 52 written, 51 found" in said.out


def test_a_line_that_was_cut_out_is_missed(journal: Path, tmp_path: Path) -> None:
    content = _lines(journal)
    gone = next(number for number, line in enumerate(content) if line.startswith(b'{"type":"task"'))
    journal.write_bytes(b"".join([*content[:gone], *content[gone + 1 :]]))
    said = _verify(tmp_path)
    assert said.status == 1
    assert "1 event missing: 52 written, 51 found" in said.out
    assert only(_verify(tmp_path, "--json").json["journals"])["damages"] == []


def test_a_line_that_stands_there_twice_is_one_too_many(journal: Path, tmp_path: Path) -> None:
    content = _lines(journal)
    twice = next(line for line in content if line.startswith(b'{"type":"task"'))
    journal.write_bytes(b"".join([*content[:-1], twice, content[-1]]))
    said = _verify(tmp_path)
    assert said.status == 1
    assert "1 event too many: 52 written, 53 found" in said.out


def test_a_footer_that_was_cut_off_leaves_its_writer_gone(journal: Path, tmp_path: Path) -> None:
    journal.write_bytes(b"".join(_lines(journal)[:-1]))
    said = _verify(tmp_path)
    assert said.status == 1
    assert "ended without a footer" in said.out


def test_counts_that_do_not_add_up_are_said(journal: Path, tmp_path: Path) -> None:
    journal.write_bytes(journal.read_bytes().replace(b'"captured":52', b'"captured":54'))
    said = _verify(tmp_path)
    assert said.status == 1
    assert "captured 54 is not written 52 and dropped 0" in said.out


def test_what_was_dropped_is_told_by_its_reason(tmp_path: Path) -> None:
    run(_FINISHED, tmp_path, env={"FLOWPROV__JOURNAL__MAX_BYTES": "8192"})
    said = _verify(tmp_path)
    assert (said.status, said.verdict) == (1, "INCOMPLETE")
    told = only(_verify(tmp_path, "--json").json["journals"])
    assert told["dropped"]["max_bytes"] > 0
    assert f"events dropped: max_bytes {told['dropped']['max_bytes']}" in said.out
    assert (told["state"], told["captured"]) == ("closed", told["written"] + told["dropped"]["max_bytes"])


def test_a_process_that_goes_on_after_its_journal_is_full_tells_its_drops_while_it_runs(
    tmp_path: Path,
) -> None:
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
    with start(endless, tmp_path, env={**_BEATING, "FLOWPROV__JOURNAL__MAX_BYTES": "8192"}) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        deadline = time.monotonic() + 30
        while not (told := only(_verify(tmp_path, "--json").json["journals"]))["dropped"]:
            assert time.monotonic() < deadline
        said = _verify(tmp_path)
        process.kill()
    assert (told["state"], told["captured"], told["damages"]) == ("running", 101, [])
    assert told["dropped"] == {"max_bytes": 101 - told["found"]}
    assert (said.status, said.verdict) == (1, "INCOMPLETE")
    after = only(_verify(tmp_path, "--json").json["journals"])
    assert (after["state"], after["dropped"]) == ("gone", told["dropped"])


_FAULTY = """
    import os, subprocess, sys
    import flowprov
    from flowprov.runtime import context, runtime

    @flowprov.task
    def step(number):
        return number

    def broken(*arguments):
        raise RuntimeError("our own fault")

    with flowprov.workflow("Faulty"):
        step(1)
        if "lose" in sys.argv:
            runtime.encoder_globals["_flowprov_json"] = broken
            step(2)
            step(3)
        else:
            context.propagated_variables = broken
            subprocess.run([sys.executable, "-c", ""], check=True)
        if "die" in sys.argv:
            for journal in runtime.get().journals():
                journal.write_heartbeat()
            os._exit(1)
"""


@pytest.mark.parametrize("ending", ["end", "die"])
def test_faults_of_flowprov_are_named_and_counted(tmp_path: Path, ending: str) -> None:
    run(_FAULTY, tmp_path, "lose", ending, status=None)
    said = _verify(tmp_path)
    told = _verify(tmp_path, "--json").json
    ((kind, count),) = told["internal_errors"].items()
    assert (kind.endswith(": RuntimeError"), count) == (True, 2)
    assert only(told["journals"])["internal_errors"] == {kind: 2}
    assert f"faults of flowprov:\n  {kind} \N{MULTIPLICATION SIGN}2" in said.out
    assert only(told["journals"])["dropped"] == {"fault": 2}
    assert said.verdict == "INCOMPLETE"


def test_a_fault_that_cost_no_event_is_named_and_leaves_the_run_complete(tmp_path: Path) -> None:
    run(_FAULTY, tmp_path)
    said = _verify(tmp_path)
    assert (said.status, said.verdict) == (0, "COMPLETE")
    assert (
        "faults of flowprov:\n  propagating the campaign to a program: RuntimeError \N{MULTIPLICATION SIGN}1"
        in said.out
    )


def test_a_run_without_faults_has_no_section_on_them(journal: Path, tmp_path: Path) -> None:
    assert b"internal_errors" not in journal.read_bytes()
    assert "faults of flowprov" not in _verify(tmp_path).out


def test_a_name_does_not_steer_the_terminal(tmp_path: Path) -> None:
    code = """
        import flowprov, os
        with flowprov.campaign("a\\nb"), flowprov.workflow("red \\x1b[31m"):
            os._exit(1)
    """
    run(code, tmp_path, status=1)
    said = _verify(tmp_path)
    assert "\x1b" not in said.out
    assert r"red \x1b[31m" in said.out
    assert r"campaign  a\nb  " in said.out


def test_of_several_campaigns_the_latest_or_the_named_one_is_checked(tmp_path: Path) -> None:
    killed(tmp_path)
    first = only(_verify(tmp_path, "--json").json["journals"])["path"]
    run(_FINISHED, tmp_path)
    assert _verify(tmp_path).verdict == "COMPLETE"
    assert _verify(tmp_path, "--campaign", Path(first).parent.parent.name).verdict == "INCOMPLETE"


def test_a_campaign_that_is_not_there_is_refused_with_those_that_are(journal: Path, tmp_path: Path) -> None:
    said = _verify(tmp_path, "--campaign", "other")
    assert said.status == 2
    assert said.err.startswith("Error: ")
    assert journal.parent.parent.name in said.err


def test_a_missing_source_is_refused_with_a_mend(tmp_path: Path) -> None:
    said = _verify(tmp_path, "nowhere")
    assert (said.status, said.out) == (2, "")
    assert said.err.startswith("Error: nowhere does not exist")
    assert "Give a buffer folder" in said.err


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = _verify(tmp_path, "empty")
    assert said.status == 2
    assert "Error: empty holds no journal with records. Give" in said.err


def test_no_buffer_at_all_is_refused(tmp_path: Path) -> None:
    said = flowprov("verify", cwd=tmp_path, env={"TMPDIR": str(tmp_path)})
    assert said.status == 2
    assert "flowprov_buffer holds no journal" in said.err


def test_a_journal_that_cannot_be_opened_is_no_success(journal: Path, tmp_path: Path) -> None:
    (journal.parent / "7-unreadable.jsonl").mkdir()
    said = _verify(tmp_path)
    assert (said.status, said.verdict) == (2, "INCOMPLETE")
    assert "7-unreadable.jsonl" in said.out
    assert "1 journal cannot be read" in said.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_journal_that_may_not_be_read_is_refused(journal: Path, tmp_path: Path) -> None:
    journal.chmod(0)
    said = _verify(tmp_path)
    assert said.status == 2
    assert "Permission denied" in said.err
