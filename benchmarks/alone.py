"""What an event costs flowprov: compared with one write, in threads, and beside a busy thread.

Flows in: nothing. Flows out: a table of ratios, each measured side by side in this process::

    python -m benchmarks.alone
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

import flowprov
from flowprov import records
from flowprov.runtime import runtime

ROUNDS = 9
CALLS = 20_000


@flowprov.task
def step(x: int, y: float = 2.0) -> float:
    """Do next to nothing."""
    return x * y


def record_a_task(count: int) -> None:
    """Call the captured function `count` times."""
    for number in range(count):
        step(number, y=0.5)


def encode_and_write(descriptor: int) -> Callable[[int], None]:
    """Return a program with the least work that keeps such a record: encode it, and write it once."""
    encoder = msgspec.json.Encoder()

    def program(count: int) -> None:
        for number in range(count):
            task = records.Task(
                task_id=number,
                workflow_id="01a1fd62-91fc-701c-a676-43a8cfba25f7",
                activity_id="step",
                status="FINISHED",
                used={"x": number, "y": 0.5},
                generated={"result": number * 0.5},
                started_at=time.time_ns(),
                ended_at=time.time_ns(),
            )
            os.write(descriptor, encoder.encode(task) + b"\n")

    return program


def in_threads(count: int) -> None:
    """Call the captured function from four threads, `count` times in all."""
    threads = [threading.Thread(target=record_a_task, args=(count // 4,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def longest_append(calls: int) -> list[float]:
    """Return the seconds of the five longest appends of a full record, beside a busy thread."""
    (journal,) = runtime.get().journals()
    line = b'{"type":"task","task_id":0%b}\n' % (b" " * 200)
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        journal.append(line)
        taken.append(time.perf_counter() - start)
    return sorted(taken)[-5:]


def seconds(program: Callable[[int], None]) -> float:
    """Return the seconds that a program takes."""
    start = time.perf_counter()
    program(CALLS)
    return time.perf_counter() - start


def ratio(one: Callable[[int], None], other: Callable[[int], None]) -> float:
    """Return the median ratio of the times of two programs that run in turn."""
    return statistics.median(seconds(one) / seconds(other) for _ in range(ROUNDS))


def start_ratio(*arguments: str) -> float:
    """Return the time of Python with some arguments divided by that of an empty program."""

    def run(*arguments: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    return statistics.median(run(*arguments) / run("-c", "pass") for _ in range(ROUNDS))


def model_with_capture_off() -> float:
    """Return the time of a captured model with capture off, divided by that of a plain model."""
    import torch

    torch.set_num_threads(1)
    batch = torch.zeros(64, 512)
    runtime.get().capturing = False
    plain, captured = torch.nn.Linear(512, 8), flowprov.torch_capture(torch.nn.Linear(512, 8))
    runtime.get().capturing = True

    def forwards(model: torch.nn.Module) -> Callable[[int], None]:
        def program(count: int) -> None:
            with torch.no_grad():
                for _ in range(count // 10):
                    model(batch)

        return program

    return ratio(forwards(captured), forwards(plain))


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, (Path(folder) / "plain").open("ab") as plain:
        flowprov.configure(journal={"path": folder})
        with flowprov.workflow("benchmark"):
            record_a_task(CALLS)
            imported, helped = start_ratio("-c", "import flowprov"), start_ratio("-m", "flowprov", "--help")
            print(f"import flowprov / an empty program        {imported:5.2f}  (goal 3)")
            print(f"flowprov --help / an empty program        {helped:5.2f}  (goal 2)")
            beside_a_write = ratio(record_a_task, encode_and_write(plain.fileno()))
            print(f"a task / encoding it and one write        {beside_a_write:5.2f}  (goal 1.25)")
            threaded = ratio(in_threads, record_a_task)
            print(f"a model, capture off / a plain one        {model_with_capture_off():5.2f}  (goal 1)")
            print(f"four threads / one, per task              {threaded:5.2f}  (goal 1.7)")
            stop = threading.Event()
            busy = threading.Thread(target=lambda: [None for _ in iter(stop.is_set, True)])
            busy.start()
            longest = longest_append(CALLS)
            stop.set()
            busy.join()
            milliseconds = ", ".join(f"{1e3 * each:.2f}" for each in longest)
            print(f"longest appends beside a busy thread      {milliseconds} ms  (goal: none over 1)")
        runtime.reset()


if __name__ == "__main__":
    main()
