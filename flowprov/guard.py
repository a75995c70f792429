"""The guard: it keeps faults of flowprov away from the program that flowprov watches.

Flows in: exceptions that were caught in flowprov's own code. Flows out: how many internal errors there were
of each activity and type, and one log line for the first of each. An internal error is not raised into the
program. An exception that arrived from outside is: the program waits for it (see ``asynchronous``).
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator

from flowprov.asynchronous import came_from_outside
from flowprov.display import IN_LINES, TRACEBACK, EscapingFilter
from flowprov.values.redaction import redactor

try:
    import logging
except OverflowError:  # its import asks for the time, and Python cannot hold what the clock says
    _time_of_system, time.time = time.time, lambda: 0.0
    try:
        import logging
    finally:
        time.time = _time_of_system

logger = logging.getLogger("flowprov")
logger.addFilter(EscapingFilter())

# Reentrant: a signal handler or a profiler may call a captured function just here.
_lock = threading.RLock()
_errors: Counter[str] = Counter()
_warned: set[str] = set()
_unsaid: Counter[str] = Counter()  # how often saying it failed
_MAX_TRIES = 5


@contextlib.contextmanager
def guarded(activity: str) -> Iterator[None]:
    """Create a context that counts and logs an internal error, and does not raise it.

    Parameters
    ----------
    activity
        What flowprov does in the block, as for :func:`report_internal_error`.

    Raises
    ------
    BaseException
        An exception that came from outside.
    """
    try:
        yield
    except Exception as error:  # this is the guard
        report_internal_error(activity, error)


def report_internal_error(activity: str, error: BaseException) -> None:
    """Count an internal error, and log it if it is the first of its activity and type.

    Parameters
    ----------
    activity
        What flowprov was doing, in words for a person ("starting a task").
    error
        The exception.

    Raises
    ------
    BaseException
        ``error`` itself, if it is none of flowprov's: it came from outside. So the caller first puts its own
        state in order, and then calls this.
    """
    pass_on(error)
    count_internal_error(activity, error)


def count_internal_error(activity: str, error: BaseException) -> None:
    """Count and log an internal error, as :func:`report_internal_error` does, and raise nothing.

    This is for an exception that a recorded value raised, though its class is that of one from outside.
    """
    key = f"{activity}: {type(error).__name__}"
    with _lock:
        _errors[key] += 1
    warn_once(
        key,
        "flowprov met a fault of its own while %s. The program goes on, but this event may be missing from "
        "the record. Such faults are counted; only the first is logged.",
        activity,
        error=error,
    )


def count(activity: str) -> None:
    """Count something that failed, of which its place says more than an internal error would."""
    with _lock:
        _errors[activity] += 1


def pass_on(error: BaseException) -> None:
    """Raise an exception again if it came from outside; else return.

    Raises
    ------
    BaseException
        ``error`` itself.
    """
    if came_from_outside(error):
        raise error


def warn_once(
    key: str, message: str, *arguments: object, error: BaseException | None = None, in_lines: bool = False
) -> None:
    """Log a warning for a person, once per process and key, without secrets.

    What could not be said, as the stack or the memory was exhausted or a log handler raised, is said the next
    time. A log handler that keeps raising is given up.

    Parameters
    ----------
    key
        What is said once.
    message, *arguments
        What is said. What it quotes is escaped.
    error
        The exception whose traceback is shown.
    in_lines
        Whether the line breaks are ours, as whatever is quoted has none any more.
    """
    with _lock:
        if key in _warned:  # or it is being said: a log handler may come here, too
            return
        _warned.add(key)
    said = False
    try:
        text = redactor().text(message % arguments if arguments else message)
        shown = None if error is None else _traceback_of(error)
        extra: dict[str, object] = {IN_LINES: True} if in_lines else {}
        if shown is None:
            logger.warning("%s", text, exc_info=error, extra=extra)
        else:
            logger.warning("%s", text, extra={**extra, TRACEBACK: shown})
        said = True
    except Exception as failure:  # a broken log handler of the program must not become an internal error
        pass_on(failure)
    finally:
        if not said:
            _forget_warning(key)


def _forget_warning(key: str) -> None:
    _unsaid[key] += 1
    if _unsaid[key] < _MAX_TRIES:
        _warned.discard(key)


def _traceback_of(error: BaseException) -> str | None:
    """Return the traceback of an exception without the secrets in it; None if it holds none."""
    whole = "".join(traceback.format_exception(error))
    shown = redactor().traceback(whole, len(whole))
    return None if shown == whole else shown.rstrip()


def internal_errors() -> dict[str, int]:
    """Return the number of internal errors of this process, by activity and type."""
    with _lock:
        return dict(_errors)


def reset() -> None:
    """Forget all counts and warnings, in tests and in a forked child."""
    global _lock  # noqa: PLW0603 - a lock that another thread held at the fork would stay locked forever
    _lock = threading.RLock()
    _errors.clear()
    _warned.clear()
    _unsaid.clear()
