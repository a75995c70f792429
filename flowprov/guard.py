"""The wall between faults of flowprov and the program that it watches.

Flows in: exceptions that flowprov's own code raised while it captured. Flows out: a count of each, by place,
and one log line for the first of each kind. Nothing is ever raised from here into user code.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter

logger = logging.getLogger("flowprov")

_lock = threading.Lock()
_faults: Counter[str] = Counter()
_said: set[str] = set()


def fault(place: str, error: BaseException) -> None:
    """Count a fault of ours and log the first one of its kind.

    Parameters
    ----------
    place
        What flowprov was doing, in words that a person can use ("starting a task").
    error
        What was raised.
    """
    key = f"{place}: {type(error).__name__}"
    with _lock:
        _faults[key] += 1
    say_once(
        key,
        "flowprov met a fault of its own while %s; the program goes on, this event may be missing from the "
        "record. It is counted, and said only this once.",
        place,
        error=error,
    )


def say_once(key: str, message: str, *arguments: object, error: BaseException | None = None) -> None:
    """Log a warning that a person should see, once per process and key."""
    with _lock:
        if key in _said:
            return
        _said.add(key)
    try:
        logger.warning(message, *arguments, exc_info=error)
    except Exception:  # a broken log handler of the program's must not become a fault of ours
        return


def faults() -> dict[str, int]:
    """Give the number of faults so far in this process, by place and type."""
    with _lock:
        return dict(_faults)


def reset() -> None:
    """Forget all counts and what was said: for tests, and in a forked child."""
    global _lock  # noqa: PLW0603 - a lock that a thread held at the fork would stay locked forever
    _lock = threading.Lock()
    _faults.clear()
    _said.clear()
