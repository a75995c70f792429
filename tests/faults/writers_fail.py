"""Faults of processes that write and of processes that deliver, in their many forms.

Flows in: a stage. Flows out: the fault, played on it.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import time

import pytest

from tests.faults.stage import Stage
from tests.support import wait_until


def program_killed(stage: Stage) -> None:
    tally = stage.folder / "tally"
    program = stage.start(TASKS="100000", PACE="0.001", COUNTER=str(tally))
    stage.await_delivery_error()
    wait_until(lambda: tally.exists() and tally.stat().st_size > 500)
    program.process.kill()
    program.finish()
    stage.captured = tally.stat().st_size
    stage.server.start()
    stage.await_shippers_gone()


def shipper_killed(stage: Stage) -> None:
    stage.server.start()
    stage.put_proxy(delay=0.02)
    random_source = random.Random(stage.sink)  # noqa: S311 - a point in time, not a secret
    program = stage.start(GATES="0.3 0.6", TASKS="2000")
    for _ in range(2):
        program.wait_at_gate()
        _kill_one(stage, random_source)
        program.resume()
    program.finish()
    _kill_one(stage, random_source)
    stage.await_shippers_gone()
    stage.ship()


def _kill_one(stage: Stage, random_source: random.Random) -> None:
    """Kill the shipper at a random time after its start."""
    wait_until(stage.shippers)
    time.sleep(random_source.uniform(0.0, 0.4))
    for process in stage.shippers():
        process.kill()


def two_deliveries(stage: Stage) -> None:
    stage.server.start()
    stage.run(TASKS="3000", delivering=False)
    stage.put_proxy(delay=0.01)
    commands = [stage.command("ship", str(stage.buffer)) for _ in range(2)]
    for process in commands:
        printed, complained = process.communicate()
        assert process.returncode == 0, printed + complained


def two_hosts(stage: Stage) -> None:
    other = ["unshare", "--uts", "sh", "-c", 'hostname another-host && exec "$@"', "sh"]
    if shutil.which("unshare") is None or subprocess.run([*other, "true"], check=False).returncode:
        pytest.skip("needs the right to give a process a host name of its own")
    stage.server.start()
    here, there = stage.start(GATES="0.5"), stage.start("alone", *other, GATES="0.5")
    for program in (here, there):
        program.wait_at_gate()
    wait_until(lambda: len(stage.shippers()) == 2)
    for program in (here, there):
        program.resume()
    for program in (here, there):
        program.finish()
    stage.await_shippers_gone()


def threads(stage: Stage) -> None:
    _run_to_end(stage, "threads")


def fork(stage: Stage) -> None:
    _run_to_end(stage, "fork")


def spawn(stage: Stage) -> None:
    _run_to_end(stage, "spawn")


def unclosed(stage: Stage) -> None:
    _run_to_end(stage, "unclosed")


def exit_at_once(stage: Stage) -> None:
    _run_to_end(stage, "exit")


def _run_to_end(stage: Stage, how: str) -> None:
    stage.server.start()
    stage.run(how, PACE="0.001")
    stage.await_shippers_gone()
