"""What delivery costs the program that is recorded, and what it costs the process that delivers.

Flows in: nothing; the benchmark starts servers on loopback ports and stops them again. Flows out: two
tables::

    python -m benchmarks.delivery

A server that is not installed is left out, with a message.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pymongo
import pytest
import redis

from flowprov.journal.format import find_journals
from flowprov.shipping.shipment import BATCH
from tests.sinks.mongodb_server import MongoServer
from tests.sinks.redis_server import RedisServer
from tests.sinks.server_process import ServerProcess
from tests.support import clean_environment

HERE = Path(__file__).resolve().parent
RATE = 1000
TURN_S = 1.0
REST_S = 0.5  # after a turn, for the delivery of what it captured
DEAD = "redis://127.0.0.1:1/0"  # nobody listens there
COLUMNS = {"call": "in the calls", "thread": "thread", "process": "process", "shipper": "delivering process"}
RECORD_MANY = """
import sys, flowprov
step = flowprov.task(lambda x, y=2.0: x * y)
with flowprov.workflow("waiting"):
    for number in range(int(sys.argv[1])):
        step(number, y=0.5)
"""


def main() -> None:
    """Print both tables."""
    arguments = argparse.ArgumentParser(description="what delivery costs")
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--records", type=int, default=200_000)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd(), ignore_cleanup_errors=True) as name:
        folder = Path(name)
        watched(folder, options.rounds)
        print()
        throughput(folder, options.records)


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, ServerProcess]]:
    """Run the servers that are installed."""
    started: dict[str, ServerProcess] = {}
    kinds: dict[str, type[RedisServer | MongoServer]] = {"Redis": RedisServer, "MongoDB": MongoServer}
    try:
        for name, kind in kinds.items():
            try:
                started[name] = kind(folder / name)
            except pytest.skip.Exception as reason:
                print(f"left out: {reason}", file=sys.stderr)
                continue
            started[name].start()
        yield started
    finally:
        for server in started.values():
            server.kill()


# -- the program that is watched --------------------------------------------------------------------------


class Program:
    """A program that calls a function at a steady pace, and the process that delivers for it.

    Both rest between its turns. During a turn the delivery for all other programs is frozen, so that each
    program is measured beside its own delivery alone.
    """

    def __init__(self, folder: Path, kind: str, uri: str = "") -> None:
        folder.mkdir()
        added = {"FLOWPROV__JOURNAL__HEARTBEAT": "1", "FLOWPROV__SINKS__STOP_TIMEOUT": "0"}
        if uri:
            added[f"FLOWPROV__SINKS__{uri.partition('://')[0].upper()}__URI"] = uri
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "paced.py"), kind, uri],
            cwd=folder,
            env=clean_environment(**added),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._shipper: int | None = self._told()
        self._signal(signal.SIGSTOP)

    def turn(self) -> dict[str, float]:
        """Let the program run for a turn, and return the CPU microseconds of an event."""
        assert self._process.stdin is not None
        self._signal(signal.SIGCONT)
        time.sleep(REST_S)
        self._process.stdin.write(f"{RATE} {TURN_S}\n")
        self._process.stdin.flush()
        figures: dict[str, float] = self._told()
        time.sleep(REST_S)
        self._signal(signal.SIGSTOP)
        return figures

    def end(self) -> None:
        """End the program, and the process that delivers for it."""
        self._signal(signal.SIGKILL)
        self._process.kill()
        self._process.communicate()

    def _told(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def _signal(self, number: signal.Signals) -> None:
        if self._shipper is not None:
            with suppress(ProcessLookupError):
                os.kill(self._shipper, number)


def watched(folder: Path, rounds: int) -> None:
    """Print what delivery adds to a program that captures at a steady pace."""
    with servers(folder) as running, ExitStack() as ends:
        programs = {"not captured": Program(folder / "plain", "plain")}
        programs["no sink"] = Program(folder / "none", "captured")
        for name, uri in {
            **{name: each.uri() for name, each in running.items()},
            "a dead server": DEAD,
        }.items():
            programs[name] = Program(folder / f"to {name}", "captured", uri)
        for program in programs.values():
            ends.callback(program.end)
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in programs}
        for number in range(rounds):
            order = list(programs)
            for name in order[number % len(order) :] + order[: number % len(order)]:
                taken[name].append(programs[name].turn())
    print(f"CPU µs an event at {RATE:,} a second, pauses between events included in all but the first; in")
    print(
        f"brackets beside no sink in the same round (goal 1.1 for the calls); medians of {rounds} rounds.\n"
    )
    print(f"| | {' | '.join(COLUMNS.values())} |")
    print(f"|---|{'---|' * len(COLUMNS)}")
    for name, figures in taken.items():
        print(f"| {name} | {' | '.join(_cell(column, figures, taken['no sink']) for column in COLUMNS)} |")


def _cell(column: str, figures: list[dict[str, float]], beside: list[dict[str, float]]) -> str:
    middle = statistics.median(each[column] for each in figures)
    if column == "shipper" or figures is beside:
        return f"{middle:.1f}"
    ratio = statistics.median(one[column] / other[column] for one, other in zip(figures, beside, strict=True))
    return f"{middle:.1f} ({ratio:.2f})"


# -- the process that delivers ----------------------------------------------------------------------------


def throughput(folder: Path, records: int) -> None:
    """Print how fast a waiting journal is delivered, beside a bare client that sends the same lines."""
    waiting = folder / "waiting"
    waiting.mkdir()
    command = [sys.executable, "-c", RECORD_MANY, str(records)]
    subprocess.run(command, cwd=waiting, env=clean_environment(), check=True)
    (journal,) = find_journals(waiting)
    lines = [line for line in journal.read_bytes().split(b"\n") if line.strip()]
    print(
        f"{len(lines):,} lines that wait in a journal; CPU seconds are those of 100,000 lines; a bare client"
    )
    print("sends the same lines in batches of the same size, and knows of nothing else.\n")
    print(
        "| | lines a second | CPU, delivering | CPU, bare client | CPU, server | time beside a bare client |"
    )
    print("|---|---|---|---|---|---|")
    share = 1e5 / len(lines)
    with servers(folder / "servers") as running:
        for name, server in running.items():
            bare_s, bare_cpu = bare_client(server.uri(), lines)
            before = _cpu_of_children()
            seconds, cpu = ship(waiting, server.uri())
            served = _cpu_of_children() - before
            columns = (
                f"{len(lines) / seconds:,.0f}",
                *(f"{share * each:.2f} s" for each in (cpu, bare_cpu, served)),
                f"{seconds / bare_s:.2f}",
            )
            print(f"| {name} | {' | '.join(columns)} |", flush=True)


def ship(folder: Path, uri: str) -> tuple[float, float]:
    """Deliver a buffer with the command; return its seconds and its CPU seconds, its start included."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [sys.executable, "-m", "flowprov", "ship", str(folder), "--to", uri]
    subprocess.run(command, env=clean_environment(), stdout=subprocess.DEVNULL, check=True)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def bare_client(uri: str, lines: list[bytes]) -> tuple[float, float]:
    """Send lines to a server with nothing but a client; return seconds and CPU seconds."""
    began, cpu = time.perf_counter(), time.process_time()
    batches = [range(first, min(first + BATCH, len(lines))) for first in range(0, len(lines), BATCH)]
    if uri.startswith("redis"):
        with redis.Redis.from_url(uri) as client:
            for batch in batches:
                pipeline = client.pipeline(transaction=False)
                for number in batch:
                    pipeline.xadd("bare", {b"r": lines[number]}, f"{number + 1}-0")
                pipeline.execute()
    else:
        with pymongo.MongoClient[dict[str, Any]](uri, w="majority", journal=True) as database:
            for batch in batches:
                documents = [{"_id": number, **json.loads(lines[number])} for number in batch]
                database["bare"]["lines"].insert_many(documents, ordered=False)
    return time.perf_counter() - began, time.process_time() - cpu


def _cpu_of_children() -> float:
    times = [child.cpu_times() for child in psutil.Process().children()]
    return float(sum(each.user + each.system for each in times))


if __name__ == "__main__":
    main()
