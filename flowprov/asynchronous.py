"""Asynchronous exceptions: those that reach flowprov's code from outside, at any of its instructions.

Flows in: an exception that was caught in flowprov's code. Flows out: whether it came from outside. A signal
handler of the program raises one, ``PyThreadState_SetAsyncExc`` has the interpreter raise one. The program
waits for it, so no guard may keep it. It can arrive wherever flowprov's code runs.

The interpreter does not mark such an exception. It is known by its traceback: a signal handler is called by
the frame that it interrupts, and takes this frame as its argument. What the interpreter raises of its own
accord has no arguments and comes from no ``raise`` statement.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal's own functions swallow what arrives in them
import opcode
import os
import sys
from itertools import pairwise
from types import CodeType, FrameType, TracebackType
from typing import Any

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep  # noqa: PTH120, PTH100 - pathlib is dear to import
_VALUES = os.path.join(_PACKAGE, "values") + os.sep  # noqa: PTH118 - as above
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep  # noqa: PTH120, PTH100 - as above
_FROZEN = "<frozen "
_GENERATED = "<flowprov"  # encoders of arguments (capture.function_spec)
# What the interpreter or its library raises without arguments, as part of normal work or of a real shortage.
_RAISED_BY_C = (StopIteration, StopAsyncIteration)
_EXHAUSTED = (MemoryError, RecursionError)
_RAISING = frozenset({"RAISE_VARARGS", "RERAISE"})
# Instructions that cannot raise by themselves: at these the interpreter looks for signals.
_NEVER_RAISING = frozenset({"RESUME", "JUMP_BACKWARD", "JUMP_ABSOLUTE", "JUMP_FORWARD", "NOP"})
# What tracers and profilers are told of.
_EVENTS = frozenset({"call", "line", "return", "exception", "opcode", "c_call", "c_return", "c_exception"})
_CO_VARARGS = 0x04  # of inspect, which is dear to import
_UNSET = object()


def came_from_outside(error: BaseException) -> bool:
    """Whether an exception that was caught in flowprov's code is none of flowprov's.

    Parameters
    ----------
    error
        The exception, with its traceback.

    Notes
    -----
    True for whatever is no ``Exception``, such as KeyboardInterrupt and SystemExit: nobody's fault is raised
    as one. True for an exception that a signal handler raised, whatever its class. True for one that
    ``PyThreadState_SetAsyncExc`` has the interpreter raise, as far as it can be told: raised without
    arguments, at an instruction that raises nothing itself or at a call.

    False for an exception that the code of a recorded value raised.
    """
    if not isinstance(error, Exception):
        return True
    return _raised_asynchronously(error)


def interrupted_reading(error: BaseException) -> bool:
    """Whether an exception that was caught while a value was read is not the value's own.

    Code of a value may raise anything, a ``BaseException`` of its own among it (native extensions that panic
    do). So here the class alone says nothing, but for the two that end programs.
    """
    return (
        isinstance(error, (KeyboardInterrupt, SystemExit))
        or _is_thrown_in(error)
        or _raised_asynchronously(error)
    )


def interrupted_worker(error: BaseException) -> bool:
    """Whether an exception that was caught in a Dask worker's event loop came from outside.

    A ``SystemExit`` of a recorded value must not end the worker, so its class says nothing either.
    """
    return isinstance(error, KeyboardInterrupt) or _raised_asynchronously(error)


def interrupted_describing(error: BaseException, *, returned: bool) -> bool:
    """Whether an exception that was caught while one of the program's was described came from outside.

    The code of the described exception may raise anything, what ends programs among it. The program waits for
    the described one. So in doubt that one goes on, and this one is the doing of its code.

    Parameters
    ----------
    error
        The exception that was caught.
    returned
        Whether the code of the described exception had returned. It was called by the one call of the frame
        that caught this, so the two cannot be mistaken for each other.
    """
    trace = error.__traceback__
    if not returned and trace is not None and trace.tb_next is None and "CALL" in _instruction(trace):
        return isinstance(error, KeyboardInterrupt)  # code in C raised it, and looks itself for Ctrl-C
    if isinstance(error, KeyboardInterrupt) and _innermost_instruction(error) not in _RAISING:
        return True
    # sys.exit() looks as if another greenlet had thrown it in.
    return (not isinstance(error, SystemExit) and _is_thrown_in(error)) or _raised_asynchronously(error)


def _is_thrown_in(error: BaseException) -> bool:
    """Whether another greenlet threw an exception into this one: it was raised where this one had switched.

    What a native extension raises as it panics comes from a call, too. Its class is that of no loaded module.
    """
    if isinstance(error, Exception) or not {"greenlet", type(error).__module__} <= sys.modules.keys():
        return False
    return error.__traceback__ is not None and _innermost_instruction(error) not in _RAISING


def _raised_asynchronously(error: BaseException) -> bool:
    trace = error.__traceback__
    if error.args and (trace is None or trace.tb_next is None):
        return False  # the most common case, decided at once: an instruction of the catching frame raised it
    innermost: TracebackType | None = None
    interrupted: dict[int, TracebackType] = {}
    handlers: set[CodeType] | None = None
    through_program = False
    while trace is not None:
        if handlers is None:
            handlers = _codes_of_handlers()
        frame = trace.tb_frame
        if _is_called_by_interpreter(frame, interrupted, handlers):
            return True
        interrupted[id(frame)] = trace
        through_program = through_program or not _is_ours(frame.f_code.co_filename)
        innermost, trace = trace, trace.tb_next
    return innermost is not None and _raised_by_interpreter(error, innermost, through_program=through_program)


def _is_ours(filename: str) -> bool:
    """Whether code is flowprov's, or of the standard library, which flowprov calls."""
    return filename.startswith((_PACKAGE, _GENERATED, _FROZEN)) or (
        filename.startswith(_LIBRARY) and "site-packages" not in filename
    )


def _codes_of_handlers() -> set[CodeType]:
    """Return the code of the signal handlers that are installed now."""
    codes = set()
    for number in _signal.valid_signals():
        handler: Any = _signal.getsignal(number)
        if type(handler) is int:  # the default, or none
            continue
        while hasattr(handler, "func"):  # functools.partial
            handler = handler.func
        handler = getattr(handler, "__func__", handler)
        code = getattr(handler, "__code__", None)
        if code is None and callable(handler):
            code = getattr(type(handler).__call__, "__code__", None)
        if isinstance(code, CodeType):
            codes.add(code)
    return codes


def _is_called_by_interpreter(
    frame: FrameType, interrupted: dict[int, TracebackType], handlers: set[CodeType]
) -> bool:
    """Whether the interpreter called a function on its own account, as it calls signal handlers and tracers.

    Such a function is called from the frame that was interrupted, and gets this very frame: a handler behind
    the number of the signal, a tracer in front of the name of an event. A handler may be replaced by the time
    its exception is caught. Then only its arguments tell.

    Parameters
    ----------
    frame
        A frame of the function.
    interrupted
        The frames nearer to where the exception was caught, by their ids: where it passed through them.
    handlers
        The code of the handlers that are installed.
    """
    held = frame.f_back
    caller = interrupted.get(id(held))
    if caller is None:
        return False
    arguments = _arguments_of(frame)
    pairs = list(pairwise(arguments))
    is_handler = any(second is held and _is_signal(first) for first, second in pairs)
    if frame.f_code in handlers:
        # The handler may have deleted or replaced its arguments. Its code may also be that of a decorator,
        # which is called for many functions.
        return is_handler or any(value is _UNSET or type(value) is FrameType for value in arguments)
    is_tracer = any(first is held and type(second) is str and second in _EVENTS for first, second in pairs)
    return (is_handler or is_tracer) and not _may_call(caller, frame.f_code)


def _arguments_of(frame: FrameType) -> list[Any]:
    """Return the positional arguments of a call, as far as its frame still holds them."""
    code, variables = frame.f_code, frame.f_locals
    arguments = [variables.get(name, _UNSET) for name in code.co_varnames[: code.co_argcount]]
    if code.co_flags & _CO_VARARGS:
        rest = variables.get(code.co_varnames[code.co_argcount + code.co_kwonlyargcount], _UNSET)
        arguments.extend(rest if type(rest) is tuple else (rest,))
    return arguments


def _is_signal(number: object) -> bool:
    return issubclass(type(number), int) and 0 < int.__index__(number) < _signal.NSIG  # type: ignore[arg-type]


def _may_call(caller: TracebackType, callee: CodeType) -> bool:
    """Whether a frame may itself have called a function, at the instruction where an exception passed.

    The interpreter looks for signals after calls, too. So a frame of the program counts as the caller of what
    is named in its code. flowprov gives no frame of its own to functions of others.
    """
    code = caller.tb_frame.f_code
    if code.co_filename.startswith((_PACKAGE, _GENERATED)) or "CALL" not in _instruction(caller):
        return False
    return callee.co_name in (*code.co_names, *code.co_varnames, *code.co_cellvars, *code.co_freevars)


def _raised_by_interpreter(error: BaseException, innermost: TracebackType, *, through_program: bool) -> bool:
    """Whether the interpreter raised an exception of its own accord, as another thread asked it to.

    Parameters
    ----------
    error
        The exception.
    innermost
        Where it was raised.
    through_program
        Whether code of the program or of a library ran there, or called what ran: it may have raised this.
    """
    if error.args or isinstance(error, _RAISED_BY_C):
        return False
    code = innermost.tb_frame.f_code
    name = _instruction(innermost)
    if name in _NEVER_RAISING:
        return True
    if name in _RAISING or type(error).__module__.partition(".")[0] == "flowprov":
        return False
    if through_program:
        return False
    # A real shortage of memory has no arguments either. While a value is read it is the value's.
    return not (isinstance(error, _EXHAUSTED) and code.co_filename.startswith(_VALUES))


def _innermost_instruction(error: BaseException) -> str:
    """Return the name of the instruction that raised an exception."""
    innermost = error.__traceback__
    while innermost is not None and innermost.tb_next is not None:
        innermost = innermost.tb_next
    return "NOP" if innermost is None else _instruction(innermost)


def _instruction(trace: TracebackType) -> str:
    """Return the name of the instruction at which an exception passed through a frame."""
    code, position = trace.tb_frame.f_code.co_code, trace.tb_lasti
    while position > 0 and opcode.opname[code[position]] == "CACHE":  # behind a call of a Python function
        position -= 2
    return opcode.opname[code[position]] if position >= 0 else "NOP"


__all__ = ["came_from_outside", "interrupted_describing", "interrupted_reading"]
