"""The frame of a fuzzer: rounds that follow from a seed, with a limit on the time of each.

A target is anything with a name and a method ``play``: one round, with everything random from the generator
that it is given. A round that fails is named in the error, so that it can be played again::

    replay(ReaderTarget(folder), "7:1234")
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

SECONDS_PER_ROUND = 30.0


class Target(Protocol):
    """What is fuzzed."""

    name: str

    def play(self, rng: random.Random) -> None:
        """Play one round; raise if something does not hold."""


class HeldUpError(Exception):
    """A round took too long: something hangs, or its cost grows faster than its input."""


def fuzz(target: Target, seed: int, *, rounds: int | None = None, seconds: float | None = None) -> int:
    """Play rounds until there were so many, or until the time is over; return their number.

    Raises
    ------
    AssertionError
        If a round failed; the message names it.
    """
    end = None if seconds is None else time.monotonic() + seconds
    number = 0
    while (rounds is None or number < rounds) and (end is None or time.monotonic() < end):
        name = f"{seed}:{number}"
        try:
            replay(target, name)
        except Exception as error:  # whatever it is, the round that met it must be named
            raise AssertionError(
                f"round {name!r} of {target.name}: {type(error).__name__}: {error}"[:2_000]
            ) from error
        number += 1
    return number


def replay(target: Target, name: str) -> None:
    """Play one round by its name."""
    with time_limit(SECONDS_PER_ROUND):
        target.play(random.Random(name))  # noqa: S311 - no secret


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Create a context that raises :class:`HeldUpError` in this thread if it takes longer."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise HeldUpError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
