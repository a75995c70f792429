"""The program gets the exception that it raised, whatever the code of that exception raises.

What arrives from outside while that code runs reaches the program all the same.
"""

from __future__ import annotations

import _thread
import functools
import inspect
import queue
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import flowprov
from flowprov.runtime import context
from tests.interrupting import Deadline
from tests.support import tasks


def look_at_caller(*_: Any) -> Any:
    """Raise, as the helper of a logger does that looks at who calls."""
    frame = sys._getframe(1)
    raise RuntimeError(f"no text for {frame.f_code.co_name}")


def look_at(level: int, frame: FrameType) -> Any:
    """Raise, with the arguments of a signal handler."""
    raise RuntimeError(f"no text for {frame.f_code.co_name} at {level}")


def _look_at_flowprov(_: Any) -> str:
    frame = inspect.currentframe().f_back  # type: ignore[union-attr]
    raise NotImplementedError(str(frame))


def _pass_its_frame(_: Any) -> str:
    return str(look_at(2, sys._getframe()))


def _exit(_: Any) -> str:
    sys.exit(3)


def _raise(kind: type[BaseException]) -> Callable[[Any], str]:
    def act(_: Any) -> str:
        raise kind

    return act


METHODS: dict[str, Any] = {
    "it looks at its caller": look_at_caller,
    "it looks at our frame": _look_at_flowprov,
    "it gives its frame to another": _pass_its_frame,
    "it is code in C": queue.SimpleQueue[Any]().get_nowait,
    "it exits": _exit,
    "it ends programs": _raise(SystemExit),
    "it interrupts": _raise(KeyboardInterrupt),
    "it stops an iteration": _raise(StopIteration),
    "it returns no text": lambda _: 3,
}


def _fail_in_task(kind: type[Exception]) -> None:
    @flowprov.task
    def fail() -> None:
        raise kind

    fail()


def _fail_in_scope(kind: type[Exception]) -> None:
    with flowprov.task_scope("s"):
        raise kind


def _fail_in_workflow(kind: type[Exception]) -> None:
    with flowprov.workflow("inner"):
        raise kind


def _fail_in_loop(kind: type[Exception]) -> None:
    for _ in flowprov.Loop(1):
        raise kind


def _fail_because(kind: type[Exception]) -> None:
    cause = kind()

    @flowprov.task
    def fail() -> None:
        raise ValueError("no") from cause

    with pytest.raises(ValueError, match="no"):
        fail()
    raise cause


WAYS = [_fail_in_task, _fail_in_scope, _fail_in_workflow, _fail_in_loop, _fail_because]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", METHODS)
def test_the_program_gets_its_own_exception(
    buffer: Path, name: str, way: Callable[[type[Exception]], None]
) -> None:
    kind = type("Rejected", (Exception,), {"__str__": METHODS[name]})
    with flowprov.workflow("w"):
        scope = context.current.get()
        with pytest.raises(kind):
            way(kind)
        assert context.current.get() is scope


def test_the_record_says_that_the_message_cannot_be_read(buffer: Path) -> None:
    kind = type("Rejected", (Exception,), {"__str__": look_at_caller})
    with flowprov.workflow("w"), pytest.raises(kind):
        _fail_in_task(kind)
    (error,) = [task.error for task in tasks(buffer) if task.error]
    assert error.message == "(its message cannot be read: RuntimeError)"
    assert (error.traceback or "").endswith(f".Rejected: {error.message}\n")


class Entries(Mapping[str, Any]):
    """A mapping whose methods look at their caller, and raise."""

    def __getitem__(self, key: str) -> Any:
        return look_at_caller()

    def __iter__(self) -> Iterator[str]:
        return look_at_caller()  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return look_at_caller()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "give",
    [
        flowprov.log_params,
        flowprov.log_metrics,
        lambda entries: flowprov.current_workflow().set_generated(entries),  # type: ignore[union-attr]
        lambda entries: flowprov.current_workflow().add_tags(entries),  # type: ignore[union-attr]
        lambda entries: flowprov.workflow("inner", used=entries).start().stop(),
    ],
)
def test_what_a_mapping_raises_that_looks_at_its_caller_stays_inside(
    buffer: Path, give: Callable[[Any], Any]
) -> None:
    with flowprov.workflow("w"):
        give(Entries())


def _raise_alarm(_: Any) -> str:
    signal.raise_signal(signal.SIGALRM)
    return "a message"


def _raise_alarm_within(error: Any) -> str:
    return _raise_alarm(error)


class Handlers:
    """Signal handlers of many kinds; each raises what the program waits for."""

    @staticmethod
    def plain(_number: int, _frame: FrameType | None) -> None:
        """Raise."""
        raise Deadline("time is up")

    @staticmethod
    def without_arguments(number: int, frame: FrameType | None) -> None:
        """Delete the arguments, as some style guides have it, and raise."""
        del number, frame
        raise Deadline("time is up")

    @staticmethod
    def replaced(_number: int, _frame: FrameType | None) -> None:
        """Put another handler in its place, and raise."""
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        raise Deadline("time is up")

    @staticmethod
    def with_other_arguments(number: Any, frame: Any) -> None:
        """Give the arguments another meaning, and raise."""
        number, frame = signal.Signals(number).name, frame.f_back
        raise Deadline(f"{number} came")

    @staticmethod
    def exiting(*_: Any) -> None:
        """Exit, as a handler of SIGTERM does."""
        sys.exit(15)

    def bound(self, _number: int, _frame: FrameType | None) -> None:
        """Raise."""
        raise Deadline("time is up")

    def __call__(self, *arguments: Any) -> None:
        """Raise in another function."""
        self.bound(*arguments)


HANDLERS: dict[str, Any] = {
    "a function": Handlers.plain,
    "one that deletes its arguments": Handlers.without_arguments,
    "one that replaces itself": Handlers.replaced,
    "one that replaces its arguments": Handlers.with_other_arguments,
    "one that exits": Handlers.exiting,
    "a method": Handlers().bound,
    "an object": Handlers(),
    "a partial function": functools.partial(lambda _kind, _number, _frame: Handlers.plain(1, None), "kind"),
}


@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize("sender", [_raise_alarm, _raise_alarm_within])
def test_what_a_handler_raises_while_a_message_is_read_reaches_the_program(
    buffer: Path, name: str, sender: Callable[[Any], str]
) -> None:
    kind = type("Rejected", (Exception,), {"__str__": sender})
    before = signal.signal(signal.SIGALRM, HANDLERS[name])
    try:
        with flowprov.workflow("w"):
            scope = context.current.get()
            with pytest.raises((Deadline, SystemExit)):
                _fail_in_task(kind)
            assert context.current.get() is scope
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_ctrl_c_while_a_message_is_read_reaches_the_program(buffer: Path) -> None:
    def interrupt(_: Any) -> str:
        _thread.interrupt_main()
        return "a message"

    for method in (interrupt, functools.partial(signal.raise_signal, signal.SIGINT)):
        kind = type("Rejected", (Exception,), {"__str__": method})
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with flowprov.workflow("w"), pytest.raises(KeyboardInterrupt):
                _fail_in_task(kind)
        finally:
            signal.signal(signal.SIGINT, before)


def test_what_a_tracer_raises_reaches_the_program(buffer: Path) -> None:
    def trace(frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_code.co_name == "__str__":
            sys.settrace(None)
            raise Deadline("the debugger was left")
        return trace

    class RejectedError(Exception):
        def __str__(self) -> str:
            return "a message"

    before = sys.gettrace()
    with flowprov.workflow("w"), pytest.raises(Deadline):
        sys.settrace(trace)
        try:
            _fail_in_task(RejectedError)
        finally:
            sys.settrace(before)
