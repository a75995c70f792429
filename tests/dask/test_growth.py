"""Many workflows one after the other on one cluster: descriptors, threads and memory stay as they are."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

import flowprov
from flowprov import guard, records
from flowprov.runtime import runtime
from tests.dask import steps
from tests.dask.support import ended
from tests.support import lines, of_type

WARM, MANY = 20, 100
MOST_MEMORY = 8 << 20  # more than an interpreter's heap wavers; a leak of 0.1 MB a workflow is past it

pytestmark = pytest.mark.timeout(200)


def _held(folder: str) -> dict[str, int]:
    """Tell what this process holds: files of the buffer, descriptors, threads, bytes."""
    gc.collect()
    process = psutil.Process()
    return {
        "pid": os.getpid(),
        "opened": sum(file.path.startswith(folder) for file in process.open_files()),
        "mapped": sum(place.path.startswith(folder) for place in process.memory_maps()),
        "descriptors": process.num_fds(),
        "threads": sum(thread.name.startswith("flowprov") for thread in threading.enumerate()),
        "journals": 0 if (held := runtime.peek()) is None else len(held.journals()),
        "memory": process.memory_info().rss,
    }


@pytest.mark.parametrize(
    "campaign", [lambda number: f"campaign-{number}", lambda _: "shared"], ids=["one each", "shared"]
)
def test_a_hundred_workflows_leave_no_more_behind_than_twenty(
    client: Any, buffer: Path, campaign: Callable[[int], str]
) -> None:
    def run(number: int) -> None:
        with flowprov.workflow("W", campaign_id=campaign(number), dask_client=client):
            client.gather(client.map(steps.add, range(4), pure=False))

    def look() -> list[dict[str, int]]:
        return [_held(str(buffer)), *client.run(_held, str(buffer)).values()]

    for number in range(WARM):
        run(number)
    before = look()
    for number in range(WARM, WARM + MANY):
        run(number)
    after = look()
    assert len(ended(buffer)) == 4 * (WARM + MANY)
    for early, late in zip(before, after, strict=True):
        assert late["pid"] == early["pid"]
        assert late["journals"] <= 5
        assert late["mapped"] <= 5
        assert late["opened"] <= 2 * 5  # a map has a descriptor of its own
        assert late["threads"] <= 1
        assert late["descriptors"] <= early["descriptors"] + 3  # connections of Dask come and go
        assert late["memory"] <= early["memory"] + MOST_MEMORY
    assert all(
        faults == {} for faults in [guard.internal_errors(), *client.run(guard.internal_errors).values()]
    )
    for footer in of_type(lines(buffer), records.Footer):
        assert (footer.written, footer.dropped, footer.open) == (footer.captured, None, None)
