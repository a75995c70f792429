"""A campaign of which whole journals are missing is not complete, and what is missing is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowprov.journal.format import find_journals
from flowprov.read import participants
from flowprov.read.task_ids import TaskIds
from flowprov.read.verify import Verification, verify
from flowprov.records import Footer, Launch, Workflow
from tests.journal.support import NS, header, step, write
from tests.read.locations import SERVERS
from tests.read.test_attempts import LocationOf
from tests.support import lines_of, only, run, start


def _write_rank(folder: Path, rank: int, size: int = 2, **fields: object) -> Path:
    opening = Workflow(workflow_id="w", started_at=NS, status="RUNNING")
    ending = Workflow(workflow_id="w", ended_at=3 * NS, status="FINISHED")
    values: dict[str, Any] = {"pid": 10 + rank, "rank": rank, "world_size": size, **fields}
    first = header(f"r{rank}{fields.get('pid', '')}", **values)
    return write(folder, first, opening, ending, Footer(at=3 * NS, captured=2, written=2))


def test_all_ranks_are_complete_and_one_of_two_is_not(tmp_path: Path) -> None:
    for rank in range(2):
        path = _write_rank(tmp_path, rank)
    assert verify(tmp_path).verdict == "COMPLETE"
    path.unlink()
    verification = verify(tmp_path)
    assert verification.verdict == "INCOMPLETE"
    assert verification.missing == ["rank 1 of 2 has no journal"]


def test_many_missing_ranks_are_one_sentence(tmp_path: Path) -> None:
    _write_rank(tmp_path, 3, size=64)
    (sentence,) = verify(tmp_path).missing
    assert sentence == "ranks 0, 1, 2, 4, 5 and 58 more of 64 have no journal"


def test_a_rank_that_is_missing_in_one_of_two_launches_is_named(tmp_path: Path) -> None:
    for restart in range(2):
        for rank in range(2):
            launch = Launch(job="j", restart=restart)
            path = _write_rank(tmp_path, rank, pid=100 * (restart + 1) + rank, launch=launch)
    assert verify(tmp_path).missing == []
    path.unlink()
    assert verify(tmp_path).missing == ["rank 1 of 2 has no journal"]


@pytest.mark.parametrize(
    "alone", [{"RANK": "0", "WORLD_SIZE": "2"}, {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}]
)
def test_a_rank_that_shares_its_campaign_with_nobody_misses_nobody(
    tmp_path: Path, alone: dict[str, str]
) -> None:
    """Where nothing is unique to a job, each rank has a campaign of its own."""
    code = "import flowprov\nwith flowprov.workflow('W'):\n    pass"
    run(code, tmp_path, env=alone)
    assert verify(tmp_path / "flowprov_buffer").verdict == "COMPLETE"
    run(code, tmp_path, env={**alone, "FLOWPROV_CAMPAIGN_ID": "shared"})
    assert verify(tmp_path / "flowprov_buffer").missing == ["rank 1 of 2 has no journal"]


_FAMILY = """
    import multiprocessing, os, subprocess, sys
    import flowprov

    @flowprov.task
    def step(number):
        return number

    def work(number):
        with flowprov.task_scope("work"):
            step(number)
            if number == 1:
                child = os.fork()
                if child == 0:
                    step(2)
                    os._exit(0)
                os.waitpid(child, 0)

    if __name__ == "__main__":
        if sys.argv[1:] == ["inner"]:
            with flowprov.workflow("inner"):
                step(3)
        else:
            with flowprov.workflow("outer"), flowprov.task_scope("around"):
                step(0)
                for method in ("fork", "spawn"):
                    child = multiprocessing.get_context(method).Process(target=work, args=(method == "fork",))
                    child.start()
                    child.join()
                subprocess.run([sys.executable, __file__, "inner"], check=True)
"""


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """The buffer of a program with children: forked, forked from those, spawned, and a program."""
    run(_FAMILY, tmp_path)
    return tmp_path / "flowprov_buffer"


def test_a_family_of_processes_is_complete(family: Path) -> None:
    verification = verify(family)
    assert len(verification.journals) == 5
    assert (verification.missing, verification.verdict) == ([], "COMPLETE")


def test_the_loss_of_any_journal_is_noticed(family: Path) -> None:
    for journal in find_journals(family):
        hidden = journal.with_suffix(".hidden")
        journal.rename(hidden)
        verification = verify(family)
        assert [sentence for sentence in verification.missing if _id_of(hidden) in sentence]
        assert verification.verdict == "INCOMPLETE"
        hidden.rename(journal)


def _id_of(path: Path) -> str:
    return path.stem.partition("-")[2]


def test_a_workflow_that_no_journal_holds_is_named(family: Path) -> None:
    journals = {path: lines_of(path) for path in find_journals(family)}
    (outer,) = [
        path
        for path, records in journals.items()
        if any(isinstance(record, Workflow) and record.name == "outer" for record in records)
    ]
    outer.unlink()
    missing = verify(family).missing
    assert any(sentence.startswith("no journal holds the record of workflow ") for sentence in missing)


def test_a_parent_workflow_is_looked_for_in_the_other_campaigns_of_the_buffer(tmp_path: Path) -> None:
    child = Workflow(
        workflow_id="child", parent_workflow_id="far", started_at=NS, ended_at=2 * NS, status="FINISHED"
    )
    write(tmp_path, header("j1", "c1"), child, Footer(at=9 * NS, captured=1, written=1))
    verification = verify(tmp_path, campaign_id="c1")
    assert verification.missing == ["no journal holds the record of workflow far"]
    far = Workflow(workflow_id="far", started_at=NS, ended_at=2 * NS, status="FINISHED")
    write(tmp_path, header("j2", "c2"), far, Footer(at=9 * NS, captured=1, written=1))
    assert verify(tmp_path, campaign_id="c1").verdict == "COMPLETE"
    assert verify(tmp_path / "c1").verdict == "COMPLETE"


def test_a_workflow_inside_one_of_another_campaign_misses_nothing(tmp_path: Path) -> None:
    code = """
        import flowprov
        with flowprov.workflow("outer", campaign_id="a"), flowprov.workflow("inner", campaign_id="b"):
            pass
    """
    run(code, tmp_path)
    assert verify(tmp_path / "flowprov_buffer", campaign_id="b").verdict == "COMPLETE"


def test_a_journal_that_was_followed_by_another_one_is_named(tmp_path: Path) -> None:
    first, second = f"{1:032x}", f"{2:032x}"
    footer = Footer(at=9 * NS, captured=1, written=1)
    path = write(tmp_path, header(first), step(0), footer)
    write(tmp_path, header(second, ancestors=[(first, 0)], first_number=5, previous=first), step(5), footer)
    assert verify(tmp_path).verdict == "COMPLETE"
    path.unlink()
    assert verify(tmp_path).missing == [f"journal {first} is not there: journal {second} speaks of it"]


_ALONE = """
    import flowprov
    with flowprov.workflow("W"):
        flowprov.task(lambda number: number)(1)
"""


@pytest.fixture
def two_programs(tmp_path: Path) -> Path:
    """A buffer with the journals of two programs that know nothing of each other, in one campaign."""
    for _ in range(2):
        run(_ALONE, tmp_path, env={"FLOWPROV_CAMPAIGN_ID": "c1"})
    buffer = tmp_path / "flowprov_buffer"
    assert verify(buffer).verdict == "COMPLETE"
    return buffer


def _empty(path: Path, size: int = 0) -> None:
    os.truncate(path, 0)
    os.truncate(path, size)


@pytest.mark.parametrize(
    "harm",
    [
        _empty,
        lambda path: _empty(path, 64 * 1024),
        lambda path: _empty(path, 20 << 30),
        lambda path: path.write_text("somebody else's\n"),
        lambda path: path.write_bytes(bytes(range(256)) * 300),
        lambda path: shutil.copy(next(other for other in path.parent.iterdir() if other != path), path),
    ],
    ids=["emptied", "zeros", "20 GB of holes", "a text", "bytes", "another journal"],
)
@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_does_not_hold_its_journal_any_more_is_named(
    two_programs: Path, harm: Callable[[Path], object], which: int
) -> None:
    path = find_journals(two_programs)[which]
    harm(path)
    verification = verify(two_programs)
    assert verification.verdict == "INCOMPLETE"
    assert f"is not there: {path} " in only(verification.missing)


def test_copies_of_journals_miss_nothing(two_programs: Path) -> None:
    path = find_journals(two_programs)[0]
    shutil.copy(path, path.with_name("copy.jsonl"))
    shutil.copytree(path.parent, path.parent.with_name("another-host"))
    verification = verify(two_programs)
    assert (verification.verdict, verification.missing, len(verification.copies)) == ("COMPLETE", [], 4)


def test_a_journal_without_a_record_is_not_missed_while_its_process_may_be_about_to_begin_it(
    two_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = find_journals(two_programs)[0].with_name(f"{os.getpid()}-{'0' * 32}.jsonl")
    path.touch()
    assert verify(two_programs).verdict == "COMPLETE"
    monkeypatch.setattr(participants, "_BEGINNING_S", 0)  # as if some seconds were over
    assert verify(two_programs).verdict == "INCOMPLETE"


def test_files_of_others_in_a_buffer_are_no_journals_that_are_missing(two_programs: Path) -> None:
    find_journals(two_programs)[0].with_name("notes.jsonl").write_text('{"mine": 1}\n')
    assert verify(two_programs).missing == []


def test_a_parent_task_without_a_record_is_a_fault_of_a_closed_journal(tmp_path: Path) -> None:
    write(tmp_path, header(), step(1, parent_task_id=0), Footer(at=9 * NS, captured=1, written=1))
    check = only(verify(tmp_path).journals)
    assert check.reasons == ["1 task has something inside and no record"]


def test_ids_of_parents_that_a_person_gave_are_not_looked_for(tmp_path: Path) -> None:
    tasks = [step(0, parent_task_id="epoch-7"), step(1, parent_task_id="mine")]
    write(tmp_path, header(), *tasks, Footer(at=9 * NS, captured=2, written=2))
    assert verify(tmp_path).verdict == "COMPLETE"


def test_nothing_is_missing_while_a_run_goes_on(tmp_path: Path) -> None:
    code = """
        import sys, flowprov
        with flowprov.workflow("W"), flowprov.task_scope("around"):
            with flowprov.task_scope("inside"):
                pass
            print("open", flush=True)
            sys.stdin.read()
    """
    environment = {"RANK": "0", "WORLD_SIZE": "2", "FLOWPROV_CAMPAIGN_ID": "c"}
    with start(code, tmp_path, env=environment, stdin=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        verification = verify(tmp_path / "flowprov_buffer")
        process.communicate()
    assert (verification.verdict, verification.missing) == ("RUNNING", [])
    assert verify(tmp_path / "flowprov_buffer").missing == ["rank 1 of 2 has no journal"]


def test_one_journal_and_the_folder_of_a_host_say_nothing_of_others(family: Path) -> None:
    folder = find_journals(family)[0].parent
    parts: list[Verification] = [verify(path) for path in (*find_journals(family), folder)]
    assert all(part.partial and not part.missing for part in parts)
    assert not verify(folder.parent).partial


@pytest.mark.parametrize("kind", SERVERS)
def test_missing_journals_are_noticed_on_a_server(tmp_path: Path, location_of: LocationOf, kind: str) -> None:
    _write_rank(tmp_path / "journals", 1)
    location = location_of(kind)
    location.deliver(tmp_path / "journals")
    inside = Workflow(
        workflow_id="i", parent_workflow_id="elsewhere", started_at=NS, ended_at=NS, status="FINISHED"
    )
    write(
        tmp_path / "more",
        header("j5"),
        inside,
        step(0, workflow_id="gone"),
        Footer(at=NS, captured=2, written=2),
    )
    location.deliver(tmp_path / "more")
    verification = verify(location.source, campaign_id="c1")
    assert verification.verdict == "INCOMPLETE"
    assert verification.missing == [
        "rank 0 of 2 has no journal",
        "no journal holds the record of workflow gone",
    ], "a parent can belong to another campaign, of which nothing is fetched"


def test_parents_without_a_record_are_counted_by_journal() -> None:
    parents, recorded = TaskIds(), TaskIds()
    for number in (0, 7, 8, 4095, 4096, 10**8):
        parents.add(f"a-{number}")
        parents.add(f"b-{number}")
        parents.add(f"by hand {number}x")
        recorded.add(f"b-{number}")
    recorded.add("a-4096")
    recorded.add("a-9")
    assert parents.count_without(recorded) == {"a": 5}
