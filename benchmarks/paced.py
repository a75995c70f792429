"""A program that calls one function at a steady pace, and tells what that cost it: run by delivery.py.

Flows in: whether the function is captured, events a second, seconds; the sinks by the environment. Flows out:
one line of JSON with the CPU microseconds an event took of the calling thread, of the process, and of the
process that delivers.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import flowprov
from flowprov.journal.shipper import ShipperFiles

WARM_UP_S = 2.0  # the start of the process that delivers is over by then
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def step(x: int, y: float = 2.0) -> float:
    """Do next to nothing."""
    return x * y


def at_a_pace(call: Callable[..., float], rate: float, seconds: float) -> float:
    """Call a function so often a second; gives the CPU seconds of this thread inside the calls."""
    inside = 0
    clock, pause, now = time.thread_time_ns, time.sleep, time.perf_counter
    due = now()
    for number in range(round(rate * seconds)):
        before = clock()
        call(number, y=0.5)
        inside += clock() - before
        due += 1 / rate
        pause(max(0.0, due - now()))
    return inside / 1e9


def who_delivers(uri: str) -> int:
    """Give the process that delivers the buffer of this folder."""
    report = ShipperFiles(Path("flowprov_buffer"), [uri]).read_report()
    assert report is not None, f"nobody delivers to {uri}"
    return report.pid


def cpu_of(pid: int | None) -> float:
    """Give the CPU seconds that another process has taken."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def main() -> None:
    """Run, and print the figures."""
    kind, rate, seconds, uri = sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
    if kind == "plain":
        measure(step, rate, seconds, "")
        return
    with flowprov.workflow("paced"):
        measure(flowprov.task(step), rate, seconds, uri)


def measure(call: Callable[..., float], rate: float, seconds: float, uri: str) -> None:
    """Measure after a warm-up."""
    at_a_pace(call, rate, WARM_UP_S)
    pid = who_delivers(uri) if uri else None
    thread, process, other = time.thread_time(), time.process_time(), cpu_of(pid)
    inside = at_a_pace(call, rate, seconds)
    figures = {
        "call": inside,
        "thread": time.thread_time() - thread,
        "process": time.process_time() - process,
        "shipper": cpu_of(pid) - other,
    }
    per_event = {name: 1e6 * value / (rate * seconds) for name, value in figures.items()}
    print(json.dumps({**per_event, "pid": pid}), flush=True)


if __name__ == "__main__":
    main()
