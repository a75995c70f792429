"""A signal handler that records rolls the journal, at any instruction of an append that it interrupts.

A tracer plays the handler: it is called before each instruction of the writer, and records events at one.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from flowprov.journal import Identity, Journal, append_writer, file_succession, line_appender, mmap_writer
from flowprov.journal.format import find_journals
from flowprov.records import Footer, Task
from flowprov.settings import JournalSettings
from tests.journal.support import NoMaintenance
from tests.support import lines_of, of_type, only

_FILES = {module.__file__ for module in (line_appender, file_succession, mmap_writer, append_writer)}
_FIRST = 15  # the append with which a file of 16 kB is left
_TEXT = "x" * 920


class _Handler:
    """Calls a function before the n-th instruction of the mapped writer, once."""

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


@pytest.mark.parametrize("recorded", [1, 3, 40])
def test_no_record_comes_to_a_file_that_was_left(tmp_path: Path, recorded: int) -> None:
    was_traced = sys.gettrace()
    number = 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        handler = _play(folder, number, recorded)
        sys.settrace(was_traced)
        _check(folder, _FIRST + 3 + (0 if handler.left > 0 else recorded))
        if handler.left > 0:  # the append has fewer instructions
            break
    assert number > 100


def _play(folder: Path, number: int, recorded: int) -> _Handler:
    """Append so many events that the file is left, interrupted at one instruction, and some more."""
    settings = JournalSettings(path=str(folder), writer="mapped", roll_bytes=16_384)
    journal = Journal(settings, Identity(campaign_id="c1", hostname="node-1"), NoMaintenance())

    def append() -> None:
        journal.append(b'{"type":"task","task_id":%d,"activity_id":"%b"}\n' % (next_number(), _TEXT.encode()))

    next_number = iter(range(1 << 30)).__next__

    def handle() -> None:
        for _ in range(recorded):
            append()

    handler = _Handler(number, handle)
    for _ in range(_FIRST - 1):
        append()
    sys.settrace(handler.trace)
    append()
    sys.settrace(None)
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
