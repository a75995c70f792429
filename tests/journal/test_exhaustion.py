"""The stack or the memory is exhausted, or a log handler raises, as a record is appended or a fault said."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowprov import guard
from flowprov.read.verify import verify
from tests.journal.support import open_journal
from tests.support import run

# A captured function is called at each depth of the stack, down to the last frame, and then again at the top.
_DEEP = """
    import json, sys
    import flowprov

    @flowprov.task
    def step(number):
        return number

    def down(frames):
        if frames:
            return down(frames - 1)
        try:
            step(1)
        except RecursionError:
            refused.append(1)

    flowprov.configure(journal={"sync": sys.argv[1]})
    refused, calls = [], 1
    with flowprov.workflow("W", campaign_id="c1"):
        step(0)
        for left in range(-5, 60):
            calls += 1
            try:
                down(sys.getrecursionlimit() - 30 - left)
            except RecursionError:
                refused.append(1)
        for number in range(100):
            calls += 1
            step(number)
    journal = flowprov.runtime.runtime.peek().journals()[0]
    print(json.dumps([calls, len(refused), journal.counts()]))
"""

# The same, and a full disk, so that there is something to say.
_DEEP_AND_FULL = _DEEP.replace(
    'journal={"sync": sys.argv[1]}', 'journal={"max_bytes": 5000, "sync": sys.argv[1]}'
)


@pytest.mark.parametrize("writer", ["mapped", "write"])
@pytest.mark.parametrize("sync", ["off", "record"])
def test_an_exhausted_stack_costs_at_most_the_call_that_met_it(
    tmp_path: Path, sync: str, writer: str
) -> None:
    printed, warnings = run(_DEEP, tmp_path, sync, env={"FLOWPROV__JOURNAL__WRITER": writer})
    calls, refused, (captured, written, dropped) = json.loads(printed)
    assert captured == written + sum(dropped.values())
    assert captured >= calls - refused + 2, "the workflow begins and ends"
    assert "stops recording" not in warnings
    assert written >= 100
    assert verify(tmp_path / "flowprov_buffer").verdict == ("INCOMPLETE" if dropped else "COMPLETE")


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_what_an_exhausted_stack_kept_from_being_said_is_said_later(tmp_path: Path, writer: str) -> None:
    _, warnings = run(_DEEP_AND_FULL, tmp_path, "off", env={"FLOWPROV__JOURNAL__WRITER": writer})
    assert warnings.count("stops recording") == 1


@pytest.fixture(autouse=True)
def _fresh_guard() -> Iterator[None]:
    guard.reset()
    yield
    guard.reset()


class _Failing(logging.Handler):
    def __init__(self, error: BaseException, times: int) -> None:
        super().__init__()
        self.error, self.times, self.said = error, times, 0

    def emit(self, _: logging.LogRecord) -> None:
        if self.times:
            self.times -= 1
            raise self.error
        self.said += 1


@pytest.fixture
def handle() -> Iterator[Callable[[BaseException, int], _Failing]]:
    added: list[_Failing] = []

    def add(error: BaseException, times: int) -> _Failing:
        added.append(_Failing(error, times))
        guard.logger.addHandler(added[-1])
        return added[-1]

    yield add
    for handler in added:
        guard.logger.removeHandler(handler)


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError("full"), ValueError("broken")])
def test_what_a_log_handler_failed_to_say_is_said_the_next_time(
    error: Exception, handle: Callable[[BaseException, int], _Failing]
) -> None:
    handler = handle(error, 1)
    for _ in range(5):
        guard.warn_once("key", "the disk is full")
    assert handler.said == 1


def test_a_log_handler_that_keeps_raising_is_given_up(
    handle: Callable[[BaseException, int], _Failing],
) -> None:
    handler = handle(ValueError("broken"), sys.maxsize)
    for _ in range(100):
        guard.warn_once("key", "the disk is full")
    assert sys.maxsize - handler.times == 5


def test_an_exception_from_outside_in_a_log_handler_passes_on_and_the_warning_is_said_later(
    handle: Callable[[BaseException, int], _Failing],
) -> None:
    handler = handle(KeyboardInterrupt(), 1)
    with pytest.raises(KeyboardInterrupt):
        guard.warn_once("key", "the disk is full")
    guard.warn_once("key", "the disk is full")
    assert handler.said == 1


def test_a_log_handler_that_meets_the_same_fault_says_it_once() -> None:
    said = []

    class Reporting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record)
            guard.warn_once("key", "the disk is full")

    handler = Reporting()
    guard.logger.addHandler(handler)
    try:
        guard.warn_once("key", "the disk is full")
    finally:
        guard.logger.removeHandler(handler)
    assert len(said) == 1


@pytest.mark.parametrize("writer", ["mapped", "write"])
@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError("full")])
def test_only_a_full_journal_and_the_system_stop_recording(
    tmp_path: Path, error: Exception, writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path, writer)
    journal.append(b'{"type":"task","task_id":0}\n')

    def fail(_: bytes, **_options: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(journal, "fast_append", fail)
        patch.setattr(journal, "_append_to_file", fail)
        journal.append(b'{"type":"task","task_id":1}\n')
    journal.append(b'{"type":"task","task_id":2}\n')
    captured, written, dropped = journal.counts()
    assert (captured, written + sum(dropped.values())) == (3, 3)
    assert written >= 2
    assert guard.internal_errors() == {f"appending a record: {type(error).__name__}": 1}
    journal.close()
