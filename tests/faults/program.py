"""The program of the scenarios: it computes, counts its own calls and times its own steps.

Flows in: how it works (its argument), how much and how fast (its environment), and a line on standard input
for each gate at which it stops. Flows out: a line at each gate, and at the end its counts as one line of
JSON. None of its counts come from flowprov.
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


class Tally(NamedTuple):
    """The counts of one part of the program: its calls, the sum of their results, the longest in seconds."""

    captured: int
    total: int
    longest: float


@flowprov.task
def step(number: int) -> dict[str, object]:
    """Compute a result that can be checked."""
    return {"square": number * number, "text": TEXT}


def write_line(line: str) -> None:
    """Write a line to the process that started this program."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def work(numbers: Iterable[int]) -> Tally:
    """Run steps and time them; waiting at a gate, and pausing between steps, does not count."""
    captured = total = 0
    longest = 0.0
    counter = os.environ.get("COUNTER")
    counter_file = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if counter else None
    for number in numbers:
        if number in GATES:
            write_line("gate")
            sys.stdin.readline()
        began = time.monotonic()
        total += int(str(step(number)["square"]))
        longest = max(longest, time.monotonic() - began)
        captured += 1
        if counter_file is not None:
            os.write(counter_file, b".")
        time.sleep(PACE)
    if counter_file is not None:
        os.close(counter_file)
    return Tally(captured, total, longest)


def print_result(parts: Iterable[Tally], closing: float) -> None:
    """Print the counts of the program, with the time at which only its exit is left."""
    captured, totals, longest = zip(*parts, strict=True)
    result = {
        "captured": sum(captured),
        "right": sum(totals) == sum(number * number for number in range(TASKS)),
        "held_up": max(longest) + closing,
        "at": time.monotonic(),
    }
    write_line(json.dumps(result))


def split_work() -> list[range]:
    """Divide the work among several workers."""
    return [range(begin, TASKS, WORKERS) for begin in range(WORKERS)]


def do_work(how: str) -> list[Tally]:
    """Do the work alone, with threads, or with processes."""
    if how == "threads":
        with ThreadPoolExecutor(WORKERS) as threads:
            return list(threads.map(flowprov.bind(work), split_work()))
    if how in ("fork", "spawn"):
        with multiprocessing.get_context(how).Pool(WORKERS) as pool:
            tallies = pool.map(work, split_work(), chunksize=1)
            pool.close()
            pool.join()  # so that the processes exit by themselves, and are not terminated
            return tallies
    return [work(range(TASKS))]


def main(how: str) -> None:
    """Run the work in a workflow that closes, or in one that does not."""
    workflow = flowprov.workflow("W")
    if how == "unclosed":
        workflow.start()
        print_result(do_work(how), 0.0)
        return
    with workflow:
        tallies = do_work(how)
        if how == "exit":
            print_result(tallies, 0.0)
            os._exit(0)
        began = time.monotonic()
    print_result(tallies, time.monotonic() - began)


if __name__ == "__main__":
    main(sys.argv[1])
