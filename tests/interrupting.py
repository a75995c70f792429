"""Interrupting flowprov at every point where the interpreter looks for signals, one after the other.

The interpreter looks for signals at the start of a function, at a jump backward and after each call. A tracer
raises the exception of a signal handler at one such point of flowprov's code after the other, so that none is
left out but these: behind the last call of a ``with`` or ``try``. The interpreter looks there while it is
still inside, and a tracer is called when it is outside: a lock would seem to stay taken.
"""

from __future__ import annotations

import dis
import functools
import opcode
import signal
import sys
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any

from tests.support import REPOSITORY

PACKAGE = str(REPOSITORY / "flowprov")
CHECKED = {"RESUME", "JUMP_BACKWARD"}


class Deadline(Exception):  # noqa: N818 - a condition, as in many programs
    """What the handler raises."""


def on_alarm(_number: int, _frame: FrameType | None) -> None:
    raise Deadline("time is up")


class Interruption:
    """Raises the exception of a handler at the n-th point of flowprov's code where one can arrive."""

    def __init__(self, position: int, handler: Callable[[int, FrameType | None], None]) -> None:
        self.left = position
        self._handler = handler
        self._last: dict[int, tuple[str, int]] = {}

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> Any:
        """Trace flowprov's frames, instruction by instruction."""
        file = frame.f_code.co_filename
        if not file.startswith((PACKAGE, "<flowprov")):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "exception":  # a call that raised: the interpreter does not look for signals there
            self._last.pop(id(frame), None)
        if event == "opcode":
            name = opcode.opname[frame.f_code.co_code[frame.f_lasti]]
            before, offset = self._last.get(id(frame), ("", 0))
            self._last[id(frame)] = name, frame.f_lasti
            is_behind_call = before.startswith("CALL") and _is_caught_alike(
                frame.f_code, offset, frame.f_lasti
            )
            if name in CHECKED or is_behind_call:
                self.left -= 1
                if self.left == 0:
                    sys.settrace(None)
                    self._handler(signal.SIGALRM, frame)
        return self


def _is_caught_alike(code: CodeType, *offsets: int) -> bool:
    """Whether the same handlers catch an exception at some instructions."""
    catching = [{entry for entry in _handlers(code) if entry[0] <= offset < entry[1]} for offset in offsets]
    return all(one == catching[0] for one in catching)


@functools.cache
def _handlers(code: CodeType) -> list[tuple[int, int, int]]:
    """Return where each handler of exceptions begins and ends to catch them, and its place."""
    return [(one.start, one.end, one.target) for one in dis._parse_exception_table(code)]  # type: ignore[attr-defined]


def interrupted(action: Callable[[], Any], position: int) -> bool:
    """Run an action with one interruption; return whether it came, and passed on."""
    interruption = Interruption(position, on_alarm)
    sys.settrace(interruption)
    try:
        action()
    except Deadline:
        return True
    finally:
        sys.settrace(None)
    assert interruption.left > 0, "the exception of the handler was kept"
    return False


def count_points(action: Callable[[], Any]) -> int:
    """Run an action; return at how many points of it an exception can arrive."""
    far = 1 << 40
    interruption = Interruption(far, on_alarm)
    sys.settrace(interruption)
    try:
        action()
    finally:
        sys.settrace(None)
    return far - interruption.left
