"""A program that does everything at once, at random: threads, alarms that record, forks, campaigns.

It notes what it recorded, and prints that at its end. ``test_everything_at_once`` compares the records with
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import flowprov
from flowprov import guard
from flowprov.capture import version_records

_THREADS, _WORKFLOWS, _CAMPAIGNS = 5, 25, 15
_made: Counter[str] = Counter()
_lock = threading.RLock()


def _note(what: str, number: int = 1) -> None:
    with _lock:
        _made[what] += number


@flowprov.task
def step(value: float, **more: object) -> dict[str, object]:
    return {"value": value, **more}


@flowprov.task
def failing(value: float) -> None:
    raise ValueError(f"no {value}")


@flowprov.task
def numbers(count: int) -> Generator[int, None, None]:
    yield from range(count)


@flowprov.task
async def waiting(value: int) -> int:
    await asyncio.sleep(0)
    return value


def _step() -> None:
    step(1.0, items=[1, 2])
    _note("step")


def _fail() -> None:
    with contextlib.suppress(ValueError):
        failing(1.0)
    _note("failing")


def _leave_generator() -> None:
    generator = numbers(3)
    next(generator)
    generator.close()
    _note("numbers")


def _wait() -> None:
    async def all_of_them() -> None:
        await asyncio.gather(*map(waiting, range(3)))

    asyncio.run(all_of_them())
    _note("waiting", 3)


def _train() -> None:
    for _ in flowprov.EpochLoop(range(2)):
        for _ in flowprov.BatchLoop(range(2)):
            flowprov.log_metrics({"loss": 0.5})


def _step_in_thread() -> None:
    thread = threading.Thread(target=flowprov.bind(step), args=(1.0,))
    thread.start()
    thread.join()
    _note("step")


def _log(chance: random.Random) -> None:
    if chance.random() < 0.5:
        flowprov.log_artifact(__file__, keep=True)
    else:
        flowprov.log_params({"lr": 0.1})


def _act(chance: random.Random, depth: int = 0) -> None:
    def log() -> None:
        _log(chance)

    plain = [_step, _fail, _leave_generator, _wait, _train, _step_in_thread, log]
    for _ in range(chance.randrange(1, 6)):
        if depth < 3 and chance.random() < 0.2:
            if chance.random() < 0.5:
                with flowprov.task_scope("scope"):
                    _act(chance, depth + 1)
                _note("scope")
            else:
                with flowprov.workflow("inner"):
                    _act(chance, depth + 1)
        else:
            chance.choice(plain)()


def _work(chance: random.Random) -> None:
    for _ in range(_WORKFLOWS):
        with flowprov.workflow("outer", campaign_id=f"c{chance.randrange(_CAMPAIGNS)}"):
            _act(chance)


def _fork(chance: random.Random) -> None:
    pid = os.fork()
    if pid == 0:
        signal.setitimer(signal.ITIMER_REAL, 0)
        step(1.0)
        sys.exit(0)
    _note("step")
    os.waitpid(pid, 0)


def main(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - no cryptography
    version_records._REST = 0
    sys.setswitchinterval(chance.choice([1e-6, 1e-5, 1e-4, 5e-3]))
    writer, roll_bytes = chance.choice(["mapped", "write", "queued"]), chance.choice([16_384, 64 << 20])
    # The queued writer hands each line to a thread. A handler that takes too long is interrupted by itself.
    alarms = writer != "queued" and chance.random() < 0.7
    journal = {"path": "buffer", "writer": writer, "roll_bytes": roll_bytes, "heartbeat": 1}
    flowprov.configure({"journal": journal})
    threads = [
        threading.Thread(target=_work, args=(random.Random(f"{seed} {number}"),))  # noqa: S311
        for number in range(_THREADS)
    ]
    for thread in threads:
        thread.start()
    if alarms:
        signal.signal(signal.SIGALRM, lambda *_: _step())
        signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    with flowprov.workflow("main", campaign_id="main"):
        while any(thread.is_alive() for thread in threads):
            if chance.random() < 0.3:
                _fork(chance)
            _step()
            if chance.random() < 0.1:
                gc.collect()
            time.sleep(0.01)
        signal.setitimer(signal.ITIMER_REAL, 0)
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps([_made, guard.internal_errors()]))


if __name__ == "__main__":
    Path("buffer").mkdir()
    main(int(sys.argv[1]))
