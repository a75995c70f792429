"""The guard: it keeps faults of flowprov away from the program that flowprov watches.

Flows in: exceptions that flowprov's own code raised while it captured. Flows out: how many there were of each
activity and type, and one log line for the first of each. Nothing is raised from here into the program.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter
from collections.abc import Iterator

logger = logging.getLogger("flowprov")

_lock = threading.Lock()
_errors: Counter[str] = Counter()
_warned: set[str] = set()


@contextlib.contextmanager
def guarded(activity: str) -> Iterator[None]:
    """Create a context that counts and logs an internal error, and does not raise it.

    Parameters
    ----------
    activity
        What flowprov does in the block, as for :func:`report_internal_error`.
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


def warn_once(key: str, message: str, *arguments: object, error: BaseException | None = None) -> None:
    """Log a warning for a person, once per process and key."""
    with _lock:
        if key in _warned:
            return
        _warned.add(key)
    try:
        logger.warning(message, *arguments, exc_info=error)
    except Exception:  # a broken log handler of the program must not become an internal error
        return


def internal_errors() -> dict[str, int]:
    """Return the number of internal errors of this process, by activity and type."""
    with _lock:
        return dict(_errors)


def reset() -> None:
    """Forget all counts and warnings, in tests and in a forked child."""
    global _lock  # noqa: PLW0603 - a lock that another thread held at the fork would stay locked forever
    _lock = threading.Lock()
    _errors.clear()
    _warned.clear()
