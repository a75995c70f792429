"""The memory of the program and of the shipper while millions of events go to two servers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pymongo
import pytest

from flowprov.journal.format import find_journals
from flowprov.journal.reader import JournalReader
from flowprov.sinks.redis import RedisReader
from tests.processes import shippers
from tests.sinks.mongodb_server import MongoServer
from tests.sinks.redis_server import RedisServer
from tests.sinks.server_process import started
from tests.support import only, start, wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3 * 3600)]

_EVENTS = int(os.environ.get("FLOWPROV_TEST_SOAK_EVENTS", "2_000_000"))
_PORTIONS = 20
# Twenty samples without a trend differ only by what the allocator keeps for some batches more or less.
_GROWTH_KB = 10_000

# Captures in portions. After each one it waits until both servers hold all earlier portions, and prints its
# own memory and the shipper's. So there is always something to deliver, and never gigabytes.
_PROGRAM = """
    import os, sys, time
    from pathlib import Path
    import flowprov
    from flowprov.runtime import runtime
    from flowprov.shipping.status import ShipperFiles
    from flowprov.journal.summary import last_position

    files = ShipperFiles(Path("flowprov_buffer").absolute(), sys.argv[3:])

    def anonymous(pid):
        # The kernel can take back pages of the journal; memory of the heap is ours.
        with open(f"/proc/{pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields["RssAnon"].split()[0]), int(fields["VmRSS"].split()[0])

    def wait_until_all_hold(position):
        while True:
            report = files.read_report()
            if report is not None and len(report.sinks) == 2:
                if all(max(sink.held.values(), default=-1) >= position for sink in report.sinks.values()):
                    return report.pid
            time.sleep(0.05)

    @flowprov.task
    def step(number, factor=0.5):
        return number * factor

    portion, portions = int(sys.argv[1]), int(sys.argv[2])
    with flowprov.workflow("long"):
        before = 0
        for turn in range(portions):
            loop = flowprov.Loop(portion // 2)
            for number in loop:
                step(number)
                loop.end_iter({"loss": 0.5})
            shipper = wait_until_all_hold(before)
            before = last_position(runtime.get().journals()[0].path)
            print((turn + 1) * portion, *anonymous(os.getpid()), *anonymous(shipper), flush=True)
"""


class Sample(NamedTuple):
    """The memory of two processes after so many events, in kB."""

    events: int
    program_anonymous: int
    program_resident: int
    shipper_anonymous: int
    shipper_resident: int


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    with started(RedisServer(tmp_path / "redis", "--appendfsync", "everysec")) as server:
        yield server


@pytest.fixture
def mongodb_server(tmp_path: Path) -> Iterator[MongoServer]:
    with started(MongoServer(tmp_path / "mongodb"), "--oplog-max-entries", "1000") as server:
        yield server


def test_memory_is_flat_while_two_million_events_go_to_two_servers(
    redis_server: RedisServer, mongodb_server: MongoServer, tmp_path: Path
) -> None:
    uris = (redis_server.uri(), mongodb_server.uri())
    environment = {
        "FLOWPROV__SINKS__REDIS__URI": uris[0],
        "FLOWPROV__SINKS__MONGODB__URI": uris[1],
        "FLOWPROV__SINKS__STOP_TIMEOUT": "600",
        "FLOWPROV__JOURNAL__HEARTBEAT": "1",
    }
    arguments = (str(_EVENTS // _PORTIONS), str(_PORTIONS), *uris)
    samples = []
    with start(_PROGRAM, tmp_path, *arguments, env=environment) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        for line in program.stdout:
            samples.append(Sample(*map(int, line.split())))
            sys.stdout.write(line)  # printed by pytest -s, and if the test fails
        assert program.wait() == 0, program.stderr.read()
    assert len(samples) == _PORTIONS
    settled = samples[_PORTIONS // 5 :]
    for what in ("program_anonymous", "shipper_anonymous"):
        sizes = [getattr(sample, what) for sample in settled]
        assert max(sizes) - sizes[0] < _GROWTH_KB, f"{what} grew: {sizes} kB"
    wait_until(lambda: not shippers(tmp_path), 120)
    _all_is_there_once(redis_server, mongodb_server, tmp_path / "flowprov_buffer")


def _all_is_there_once(redis_server: RedisServer, mongodb_server: MongoServer, buffer: Path) -> None:
    """Compare the records on the servers with the journal, line by line for Redis."""
    path = only(find_journals(buffer))
    journal_id = path.stem.partition("-")[2]
    source = RedisReader(redis_server.uri())
    lines = differing = 0
    delivered = source.entries(journal_id)
    for position, line in JournalReader(path, 0, bytes).read():
        lines += 1
        differing += next(delivered, None) != (position, line)
    assert (differing, next(delivered, None)) == (0, None)
    assert redis_server.client().xlen(f"flowprov:journal:{journal_id}") == lines
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongodb_server.uri())
    with client:
        database = client["flowprov"]
        counts = {name: database[name].count_documents({}) for name in ("tasks", "workflows", "journals")}
        recorded = database["tasks"].count_documents({"type": "task"})
    # One task per call and one per iteration. There is one document per line, and one of the journal itself.
    assert recorded == _EVENTS // _PORTIONS * _PORTIONS
    assert counts["workflows"] == 2
    assert sum(counts.values()) == lines + 1
