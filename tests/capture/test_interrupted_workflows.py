"""A workflow that is interrupted where it opens or ends has an end, and every later one is recorded.

Each action runs in a campaign of its own, so that the journal of another campaign is closed as idle in it. A
tracer raises the exception of a signal handler at one point of it after the other; after each, another thread
does the same, which no lock that stayed taken may keep from it.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flowprov
from flowprov.journal.event_counts import is_event
from flowprov.journal.format import find_journals
from flowprov.records import Footer, Workflow
from flowprov.runtime import context, runtime
from tests.interrupting import Deadline, count_points, interrupted
from tests.support import PATIENCE_S, lines_of, of_type

_STEP = 61  # of the points in a usual run of the tests, one of so many
_OTHERS = 12  # campaigns before, of which the journals are closed as idle


@flowprov.task
def add(x: float) -> float:
    return x + 1


@flowprov.task
def produce(n: int) -> Iterator[int]:
    yield from range(n)


def _enter(campaign_id: str) -> None:
    with flowprov.workflow("w", campaign_id=campaign_id):
        add(1)


def _start_and_stop(campaign_id: str) -> None:
    workflow = flowprov.workflow("w", campaign_id=campaign_id)
    try:
        workflow.start()
        add(1)
    finally:
        try:
            workflow.stop()
        except Deadline:  # maybe before anything was done: it may be repeated
            workflow.stop()
            raise


def _nest(campaign_id: str) -> None:
    with flowprov.workflow("outer", campaign_id=campaign_id), flowprov.workflow("inner"):
        for _ in flowprov.Loop(1):
            list(produce(1))


def _give(campaign_id: str) -> None:
    with flowprov.workflow("w", campaign_id=campaign_id) as workflow:
        workflow.set_generated(loss=0.5)
        workflow.add_tags("t")
        with flowprov.task_scope("step", used={"a": 1}) as step:
            step.set_generated(b=2)


def _play(action: Callable[[str], None], step: int) -> int:
    """Interrupt an action at one point after the other; return how often the exception arrived."""
    names = (f"c{number}" for number in itertools.count())
    for _ in range(_OTHERS):
        action(next(names))
    arrivals = 0
    for position in range(1, count_points(lambda: action(next(names))), step):
        arrivals += interrupted(lambda: action(next(names)), position)
        assert context.current.get() is None
        assert [key for journal in runtime.get().journals() for key in journal.open_scopes] == []
        thread = threading.Thread(target=action, args=(next(names),), daemon=True)
        thread.start()
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), f"what was interrupted at point {position} left a lock taken"
    runtime.shutdown()
    return arrivals


def _check(folder: Path) -> None:
    """Compare the footers of all journals with what they hold, and openings with ends."""
    for path in find_journals(folder):
        lines = lines_of(path)
        assert isinstance(lines[-1], Footer), path
        assert lines[-1].written == sum(map(is_event, path.read_bytes().splitlines(keepends=True)))
        assert set(lines[-1].dropped or {}) <= {"interrupted"}
        records = [record for record in of_type(lines, Workflow) if record.status is not None]
        for workflow_id in {record.workflow_id for record in records}:
            own = [record for record in records if record.workflow_id == workflow_id]
            assert [bool(record.name) for record in own] == [True, False], "an opening, then an end"
            assert own[-1].status in ("FINISHED", "ERROR")


@pytest.mark.parametrize("action", [_enter, _start_and_stop, _nest, _give])
@pytest.mark.parametrize("writer", ["mapped", "write", "queued"])
def test_an_interrupted_workflow_ends_and_stops_no_later_one(
    buffer: Path, writer: str, action: Callable[[str], None]
) -> None:
    flowprov.configure(journal={"path": str(buffer), "writer": writer})
    assert _play(action, _STEP) > 50
    _check(buffer)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("action", [_enter, _start_and_stop, _nest, _give])
@pytest.mark.parametrize("writer", ["mapped", "write", "queued"])
def test_at_every_point(buffer: Path, writer: str, action: Callable[[str], None]) -> None:
    flowprov.configure(journal={"path": str(buffer), "writer": writer})
    assert _play(action, 1) > 1000
    _check(buffer)
