"""Many workflows one after the other on one cluster: descriptors, threads and memory do not grow."""

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
from tests.support import lines, of_type, wait_until

WARM, MANY = 20, 100
MAX_GROWTH = 8 << 20  # an interpreter's heap varies less; a leak of 0.1 MB per workflow is more

pytestmark = pytest.mark.timeout(200)


def _resources(folder: str) -> dict[str, Any]:
    """Count what this process has open: files of the buffer, descriptors, threads, bytes of memory."""
    gc.collect()
    process = psutil.Process()
    return {
        "pid": os.getpid(),
        "opened": sum(file.path.startswith(folder) for file in process.open_files()),
        "mapped": sum(mapping.path.startswith(folder) for mapping in process.memory_maps()),
        "descriptors": process.num_fds() - (sockets := len(process.net_connections(kind="all"))),
        "sockets": sockets,
        "threads": [thread.name for thread in threading.enumerate() if thread.name.startswith("flowprov")],
        "journals": 0 if (active := runtime.peek()) is None else len(active.journals()),
        "memory": process.memory_info().rss,
    }


@pytest.mark.parametrize(
    "campaign", [lambda number: f"campaign-{number}", lambda _: "shared"], ids=["one each", "shared"]
)
def test_a_hundred_workflows_leave_no_more_open_than_twenty(
    client: Any, buffer: Path, campaign: Callable[[int], str]
) -> None:
    def run(number: int) -> None:
        with flowprov.workflow("W", campaign_id=campaign(number), dask_client=client):
            client.gather(client.map(steps.add, range(4), pure=False))

    def measure() -> list[dict[str, Any]]:
        return [_resources(str(buffer)), *client.run(_resources, str(buffer)).values()]

    for number in range(WARM):
        run(number)
    before = measure()
    for number in range(WARM, WARM + MANY):
        run(number)

    # the thread of versions may be behind on a busy machine, and rests after its work
    wait_until(lambda: all("flowprov-versions" not in one["threads"] for one in measure()))
    after = measure()
    assert len(ended(buffer)) == 4 * (WARM + MANY)
    for early, late in zip(before, after, strict=True):
        assert late["pid"] == early["pid"]
        assert len(late["threads"]) <= 2, late["threads"]
        assert late["journals"] <= 5
        assert late["mapped"] <= 5
        assert late["opened"] <= 2 * 5  # a mapping has a descriptor of its own
        assert late["descriptors"] <= early["descriptors"] + 3
        assert late["sockets"] <= early["sockets"] + MANY // 5  # Dask opens some connections, and keeps them
        assert late["memory"] <= early["memory"] + MAX_GROWTH
    assert all(
        errors == {} for errors in [guard.internal_errors(), *client.run(guard.internal_errors).values()]
    )
    for footer in of_type(lines(buffer), records.Footer):
        assert (footer.written, footer.dropped, footer.open) == (footer.captured, None, None)
