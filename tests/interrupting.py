"""Interrupting flowprov at every point where the interpreter looks for signals, one after the other.

The interpreter looks for signals at the start of a function, at a jump backward and after each call. A tracer
raises the exception of a signal handler at one such point of flowprov's code after the other, so that none is
left out.
"""

from __future__ import annotations

import opcode
import signal
import sys
from collections.abc import Callable
from types import FrameType
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
        self._last: dict[int, str] = {}

    def __call__(self, frame: FrameType, event: str, _argument: Any) -> Any:
        """Trace flowprov's frames, instruction by instruction."""
        file = frame.f_code.co_filename
        if not file.startswith((PACKAGE, "<flowprov")):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "exception":  # a call that raised: the interpreter does not look for signals there
            self._last[id(frame)] = ""
        if event == "opcode":
            name = opcode.opname[frame.f_code.co_code[frame.f_lasti]]
            before = self._last.get(id(frame), "")
            self._last[id(frame)] = name
            if name in CHECKED or before.startswith("CALL"):
                self.left -= 1
                if self.left == 0:
                    sys.settrace(None)
                    self._handler(signal.SIGALRM, frame)
        return self


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
