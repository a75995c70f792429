"""A million tasks and an hour of samples are read in linear time. `make soak` runs this test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import median

import pytest

from flowprov import records
from flowprov.journal.summary import summarize
from flowprov.read.decoding import records_of
from flowprov.read.rows import fold
from flowprov.records import Record, Sample, Task
from tests.journal.support import NS, header, write

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

_INTERVAL = NS // 2
_WHOLE_EVERY = 120  # samples


def _sample(index: int) -> Sample:
    cpu = {"user_s": index * 0.5, "system_s": index * 0.1, "idle_s": index * 1.4}
    process = {"user_s": index * 0.4, "rss_bytes": 10**9 + index}
    gpu = {"0": {"uuid": "GPU-a", "energy_j": index * 50.0, "power_w": 100.0}}
    if index % _WHOLE_EVERY == 0:
        mem, swap = {"total_bytes": 2**34, "used_bytes": 2**33}, {"used_bytes": 0}
        disk, network = {"read_bytes": 5, "write_bytes": 6}, {"sent_bytes": 7, "received_bytes": 8}
        still = {"mem": mem, "swap": swap, "disk": disk, "network": network}
        return Sample(at=index * _INTERVAL, values={"cpu": cpu, "process": process, "gpu": gpu, **still})
    del gpu["0"]["uuid"]
    return Sample(at=index * _INTERVAL, changes={"cpu": cpu, "process": process, "gpu": gpu})


def _journal(tasks: int, samples: int) -> Iterator[Record]:
    """Yield evenly spaced samples, and between them tasks of all lengths, a few half as long as the run."""
    length = samples * _INTERVAL
    per_sample = tasks // samples
    for index in range(samples):
        yield _sample(index)
        for number in range(index * per_sample, (index + 1) * per_sample):
            start = number * length // tasks
            end = start + (length // 2 if number % 10_000 == 0 else (number % 7) * _INTERVAL // 3)
            yield Task(task_id=number, workflow_id="w", started_at=start, ended_at=end, status="FINISHED")


def _seconds_to_read(folder: Path, tasks: int, samples: int) -> float:
    path = write(folder, header())
    lines = map(records.encode, _journal(tasks, samples))
    with path.open("ab") as file:
        while block := b"".join(islice(lines, 10_000)):
            file.write(block)
    journal = summarize(path)
    assert journal is not None
    begun = time.process_time()
    rows = fold([(journal, records_of(journal))])
    took = time.process_time() - begun
    assert len(rows) == tasks // samples * samples
    assert all(row.telemetry_at_start and row.telemetry_at_end for row in rows)
    return took


def test_twice_the_tasks_and_samples_take_twice_the_time(tmp_path: Path) -> None:
    halves, wholes = [], []
    for turn in range(3):  # alternating, so that a machine that becomes slower slows both
        halves.append(_seconds_to_read(tmp_path / f"half{turn}", 500_000, 3_600))
        wholes.append(_seconds_to_read(tmp_path / f"whole{turn}", 1_000_000, 7_200))
    assert median(wholes) / median(halves) <= 2.6
