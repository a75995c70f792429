"""A program that calls one function at a steady pace and reports its cost; delivery.py runs it.

Flows in: whether the function is captured, and the URI of a sink; on standard input, for each turn, events a
second and seconds. Flows out: the pid of the process that delivers; for each turn one line of JSON with the
CPU microseconds of an event.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import flowprov
from flowprov.shipping.status import Report, ShipperFiles

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def step(x: int, y: float = 2.0) -> float:
    """Do next to nothing."""
    return x * y


def at_a_pace(call: Callable[..., float], rate: float, seconds: float) -> float:
    """Call a function at a rate per second; return the CPU seconds of this thread inside the calls."""
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
    """Return the pid of the process that delivers the buffer of this folder, once it has begun."""
    deadline = time.monotonic() + 30
    while not _has_begun(report := ShipperFiles(Path("flowprov_buffer"), [uri]).read_report()):
        assert time.monotonic() < deadline, f"nobody delivers to {uri}"
        time.sleep(0.05)
    assert report is not None
    return report.pid


def _has_begun(report: Report | None) -> bool:
    return report is not None and any(each.held or each.last_error for each in report.sinks.values())


def cpu_of(pid: int | None) -> float:
    """Return the CPU seconds that another process has taken."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def turns(call: Callable[..., float], pid: int | None) -> None:
    """Measure one turn for each line of standard input."""
    print(json.dumps(pid), flush=True)
    for line in sys.stdin:
        rate, seconds = map(float, line.split())
        thread, process, other = time.thread_time(), time.process_time(), cpu_of(pid)
        inside = at_a_pace(call, rate, seconds)
        figures = {
            "call": inside,
            "thread": time.thread_time() - thread,
            "process": time.process_time() - process,
            "shipper": cpu_of(pid) - other,
        }
        print(json.dumps({name: 1e6 * each / (rate * seconds) for name, each in figures.items()}), flush=True)


def main() -> None:
    """Start, and take turns until standard input ends."""
    kind, uri = sys.argv[1:]
    with flowprov.workflow("paced") if kind == "captured" else contextlib.nullcontext():
        call = flowprov.task(step) if kind == "captured" else step
        at_a_pace(call, 1000, 1)
        turns(call, who_delivers(uri) if uri else None)


if __name__ == "__main__":
    main()
