"""The program that the faults meet: it computes, counts its own calls and times its own steps.

Flows in: how it works (its argument), how much and how fast (its environment), and a line on standard input
for each gate at which it stops. Flows out: a line at each gate; and at the end what it knows of itself as one
line of JSON. Nothing of what it tells comes from flowprov.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import flowprov

TASKS = int(os.environ["TASKS"])
PACE = float(os.environ.get("PACE", "0"))
GATES = {int(TASKS * float(share)) for share in os.environ.get("GATES", "").split()}
TEXT = "y" * int(os.environ.get("TEXT", "0"))
WORKERS = 3


class Seen(NamedTuple):
    """What a part of the program knows of itself: its calls, their sum, and seconds of the longest."""

    captured: int
    total: int
    longest: float


@flowprov.task
def step(number: int) -> dict[str, object]:
    """Compute something that can be checked."""
    return {"square": number * number, "text": TEXT}


def say(line: str) -> None:
    """Tell whoever started the program."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def work(numbers: Iterable[int]) -> Seen:
    """Make steps; what the program waits for at a gate, or paces itself, does not count as theirs."""
    captured = total = 0
    longest = 0.0
    counter = os.environ.get("COUNTER")
    tally = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if counter else None
    for number in numbers:
        if number in GATES:
            say("gate")
            sys.stdin.readline()
        began = time.monotonic()
        total += int(str(step(number)["square"]))
        longest = max(longest, time.monotonic() - began)
        captured += 1
        if tally is not None:
            os.write(tally, b".")
        time.sleep(PACE)
    if tally is not None:
        os.close(tally)
    return Seen(captured, total, longest)


def tell(parts: Iterable[Seen], closing: float) -> None:
    """Print what the program knows, with the moment at which it has nothing left to do but to leave."""
    captured, totals, longest = zip(*parts, strict=True)
    told = {
        "captured": sum(captured),
        "right": sum(totals) == sum(number * number for number in range(TASKS)),
        "held_up": max(longest) + closing,
        "at": time.monotonic(),
    }
    say(json.dumps(told))


def shares() -> list[range]:
    """Divide the work among several."""
    return [range(begin, TASKS, WORKERS) for begin in range(WORKERS)]


def all_of_it(how: str) -> list[Seen]:
    """Do the work alone, with threads, or with processes."""
    if how == "threads":
        with ThreadPoolExecutor(WORKERS) as threads:
            return list(threads.map(flowprov.bind(work), shares()))
    if how in ("fork", "spawn"):
        with multiprocessing.get_context(how).Pool(WORKERS) as pool:
            found = pool.map(work, shares(), chunksize=1)
            pool.close()
            pool.join()  # so that they leave as processes do, and are not terminated
            return found
    return [work(range(TASKS))]


def main(how: str) -> None:
    """Run the work in a workflow that closes, or in one that does not."""
    opened = flowprov.workflow("W")
    if how == "unclosed":
        opened.start()
        tell(all_of_it(how), 0.0)
        return
    with opened:
        found = all_of_it(how)
        if how == "exit":
            tell(found, 0.0)
            os._exit(0)
        began = time.monotonic()
    tell(found, time.monotonic() - began)


if __name__ == "__main__":
    main(sys.argv[1])
