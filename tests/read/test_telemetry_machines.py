"""Machines are listed for all processes, and update the machine_info of a workflow's record."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from flowprov.read import Buffer
from flowprov.read.verify import verify
from flowprov.records import Footer, Machine, Record
from tests.journal.support import header, write
from tests.read.samples import change, ns, rows_of, sample, task, workflow
from tests.support import only


def machine(at: float, **values: Any) -> Machine:
    return Machine(at=ns(at), values=values)


def info(*journals: Iterable[Any]) -> Any:
    return only(rows_of(*journals)).machine_info


def test_the_machine_info_of_a_workflow_is_updated_with_the_last_machine_of_its_process() -> None:
    recorded = {"cpu": {"model": "old", "sockets": 1}, "python": "3.11"}
    opening, ending = workflow(1, 9, machine_info=recorded)
    first, last = machine(1, cpu={"model": "a"}), machine(5, cpu={"model": "b", "cores": 2}, gpus=1)
    assert info([first, opening, last, ending]) == {
        "cpu": {"model": "b", "sockets": 1, "cores": 2},
        "python": "3.11",
        "gpus": 1,
    }


def test_a_workflow_without_machine_info_has_the_machine_and_the_other_way_round() -> None:
    assert info([*workflow(1, 9), machine(1, cpu=1)]) == {"cpu": 1}
    assert info([*workflow(1, 9, machine_info={"cpu": 2})]) == {"cpu": 2}
    assert info([*workflow(1, 9)]) is None


def test_the_machine_is_that_on_which_the_workflow_was_opened() -> None:
    opening, ending = workflow(1, 9)
    assert info([machine(1, name="opener"), opening], [machine(1, name="ender"), ending]) == {
        "name": "opener"
    }
    assert info([machine(1, name="ender"), ending], [machine(1, name="opener"), opening]) == {
        "name": "opener"
    }
    assert info([*workflow(1, 9)], [machine(1, name="other")]) is None


def test_a_workflow_of_many_ranks_has_the_machine_of_the_lowest_rank() -> None:
    second = [msgspec.structs.replace(message, rank=1) for message in workflow(1, 9)]
    assert info([*second, machine(1, name="one")], [*workflow(2, 8), machine(1, name="zero")]) == {
        "name": "zero"
    }


def test_all_processes_of_a_campaign_are_listed_with_their_last_machine(tmp_path: Path) -> None:
    write(tmp_path, header("a", pid=1, rank=0), machine(1, cpu=1), task(1, 2), machine(2, cpu=2))
    write(tmp_path, header("b", pid=2, hostname="node-2"), machine(1, **{"odd$": {"$$x": 1}}))
    write(tmp_path, header("c", pid=3), task(1, 2))
    write(tmp_path, header("d", "another", pid=4), machine(0, cpu=9))
    assert Buffer(tmp_path).machines(campaign_id="c1") == [
        {"hostname": "node-1", "pid": 1, "rank": 0, "journal_id": "a", "at": ns(2), "values": {"cpu": 2}},
        {
            "hostname": "node-2",
            "pid": 2,
            "rank": None,
            "journal_id": "b",
            "at": ns(1),
            "values": {"odd$": {"$x": 1}},
        },
    ]


def test_machines_and_samples_are_neither_rows_nor_events(tmp_path: Path) -> None:
    write(tmp_path, header(), machine(1, cpu=1), sample(1), change(2, mem=1), task(1, 2))
    assert len(list(Buffer(tmp_path).records())) == 1
    assert only(Buffer(tmp_path).journals()).found == 1


def test_a_follower_returns_only_messages_and_without_readings(tmp_path: Path) -> None:
    write(tmp_path, header(), machine(1, cpu=1), sample(1), task(1, 2), change(2, mem=1))
    (message,) = Buffer(tmp_path).follow().available()
    assert (message, message.telemetry_at_start) == (only(list(Buffer(tmp_path).messages())), None)


def test_machines_and_samples_do_not_count_when_a_campaign_is_verified(tmp_path: Path) -> None:
    written: list[Record] = [machine(1, cpu=1), sample(1), task(1, 2), change(2, mem=1), machine(2, cpu=2)]
    write(tmp_path, header(), *written, Footer(at=ns(3), captured=1, written=1))
    verification = verify(tmp_path)
    assert (verification.verdict, only(verification.journals).reasons) == ("COMPLETE", [])
