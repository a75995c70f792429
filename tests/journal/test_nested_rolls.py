"""A signal handler that records rolls the journal, at any instruction of an append that it interrupts.

A tracer plays the handler: it is called before each instruction of the writer, and records events at one.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from flowprov.journal import (
    Identity,
    Journal,
    append_writer,
    file_succession,
    line_appender,
    mmap_writer,
    queued_writer,
)
from flowprov.journal.format import find_journals
from flowprov.journal.queued_writer import QueuedWriter
from flowprov.locks import is_held_here
from flowprov.records import Footer, Task
from flowprov.settings import JournalSettings
from tests.journal.support import NoMaintenance
from tests.support import lines_of, of_type, only

_MODULES = (line_appender, file_succession, mmap_writer, append_writer, queued_writer)
_FILES = {module.__file__ for module in _MODULES}
_FIRST = 15  # the append with which a file of 16 kB is left
_TEXT = "x" * 920


class _Handler:
    """Calls a function before the n-th instruction of a journal and its writer, once."""

    def __init__(self, number: int, handle: Any) -> None:
        self.left = number
        self._handle = handle

    def trace(self, frame: FrameType, event: str, _argument: object) -> Any:
        if frame.f_code.co_filename not in _FILES:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                sys.settrace(None)
                self._handle()
        return self.trace


# Which writer, how many events the handler records, and how many instructions are left out between two plays.
_PLAYS = [("mapped", 1, 0), ("mapped", 3, 0), ("mapped", 40, 0), ("write", 40, 0), ("queued", 1, 2)]
_PLAYS += [("queued", 40, 4)]
_SLOW_PLAYS = [("write", 1, 0), ("write", 3, 0), ("queued", 1, 0), ("queued", 3, 0), ("queued", 40, 0)]


@pytest.mark.parametrize(
    ("writer", "recorded", "left_out"),
    [*_PLAYS, *(pytest.param(*play, marks=pytest.mark.soak) for play in _SLOW_PLAYS)],
)
def test_no_record_comes_to_a_file_that_was_left(
    tmp_path: Path, writer: str, recorded: int, left_out: int
) -> None:
    was_traced = sys.gettrace()
    number = 1
    while True:
        folder = tmp_path / str(number)
        handler = _play(folder, writer, number, recorded)
        sys.settrace(was_traced)
        _check(folder, _FIRST + 3 + (0 if handler.left > 0 else recorded))
        if handler.left > 0:  # the append has fewer instructions
            break
        number += 1 + left_out
    assert number > 100


def _play(folder: Path, writer_name: str, number: int, recorded: int) -> _Handler:
    """Append so many events that the file is left, interrupted at one instruction, and some more."""
    settings = JournalSettings(path=str(folder), writer=writer_name, roll_bytes=16_384)  # type: ignore[arg-type]
    journal = Journal(settings, Identity(campaign_id="c1", hostname="node-1"), NoMaintenance())

    def append() -> None:
        journal.append(b'{"type":"task","task_id":%d,"activity_id":"%b"}\n' % (next_number(), _TEXT.encode()))

    next_number = iter(range(1 << 30)).__next__

    def handle() -> None:
        for _ in range(recorded):
            append()
        # What the maintenance does, if what was interrupted holds no lock for which it would wait. When this
        # goes on, it may have written the footer, and not closed the file.
        if not journal.is_mid_append() and not is_held_here(journal._lock):
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(QueuedWriter, "holding_others", hold)
                patched.setattr(QueuedWriter, "close", leave_open)
                journal.end_left_files()

    not_closed: list[QueuedWriter] = []

    @contextlib.contextmanager
    def hold(left: QueuedWriter) -> Iterator[None]:
        with left._entering:
            left._holder, left._held = threading.get_ident(), True
        yield
        left._holder = 0  # of another thread, which closes the file later

    def leave_open(left: QueuedWriter) -> None:
        not_closed.append(left)

    handler = _Handler(number, handle)
    for _ in range(_FIRST - 2):
        append()
    sys.settrace(handler.trace)
    append()  # within this one, the handler leaves the file
    append()
    sys.settrace(None)
    for writer in not_closed:
        writer.close()
    for _ in range(3):
        append()
    journal.close()
    return handler


def _check(folder: Path, expected: int) -> None:
    """Compare the footers of the files with what they hold."""
    found: list[Any] = []
    for path in find_journals(folder):
        lines = lines_of(path)
        footer = only(of_type(lines, Footer))
        tasks = [task.task_id for task in of_type(lines, Task)]
        assert isinstance(lines[-1], Footer)
        assert (footer.captured, footer.written) == (len(tasks), len(tasks)), path
        found += tasks
    assert sorted(found) == list(range(expected))
