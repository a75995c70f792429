"""The guard between faults of flowprov and the program that it watches.

Flows in: exceptions that flowprov's own code raised while it captured. Flows out: a count of each, by
activity and type, and one log line for the first of each kind. Nothing is raised from here into the program.
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
    """Create a context in which a fault of ours is counted and logged; it goes no further.

    Parameters
    ----------
    activity
        What flowprov does in the block, as :func:`report_internal_error` takes it.
    """
    try:
        yield
    except Exception as error:  # this is the guard
        report_internal_error(activity, error)


def report_internal_error(activity: str, error: BaseException) -> None:
    """Count a fault of ours and log the first one of its kind.

    Parameters
    ----------
    activity
        What flowprov was doing, in words that a person can use ("starting a task").
    error
        What was raised.
    """
    key = f"{activity}: {type(error).__name__}"
    with _lock:
        _errors[key] += 1
    warn_once(
        key,
        "flowprov met a fault of its own while %s; the program goes on, this event may be missing from the "
        "record. It is counted, and said only this once.",
        activity,
        error=error,
    )


def warn_once(key: str, message: str, *arguments: object, error: BaseException | None = None) -> None:
    """Log a warning that a person should see, once per process and key."""
    with _lock:
        if key in _warned:
            return
        _warned.add(key)
    try:
        logger.warning(message, *arguments, exc_info=error)
    except Exception:  # a broken log handler of the program's must not become a fault of ours
        return


def internal_errors() -> dict[str, int]:
    """Return how many faults of ours this process has met, by activity and type."""
    with _lock:
        return dict(_errors)


def reset() -> None:
    """Forget all counts and warnings: for tests, and in a forked child."""
    global _lock  # noqa: PLW0603 - a lock that a thread held at the fork would stay locked forever
    _lock = threading.Lock()
    _errors.clear()
    _warned.clear()
