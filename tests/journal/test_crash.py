"""A process that dies, in every way: acknowledged records are on disk, and the run is not FINISHED."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from flowprov import records
from tests.support import lines, of_type, only, start, tasks, wait_until

# Each call is acknowledged on a pipe after it returned: every call on the pipe must be in the journal.
_ACKNOWLEDGING = """
    import os, sys
    import flowprov

    @flowprov.task
    def step(number, text):
        return number

    with flowprov.workflow("Doomed"):
        number = 0
        while True:
            step(number, "x" * (number % 300))
            os.write(1, b"%d\\n" % number)
            number += 1
            {ending}
"""


@pytest.mark.parametrize("writer", ["mapped", "write"])
@pytest.mark.parametrize("seed", range(5))
def test_sigkill_at_a_random_moment_loses_no_acknowledged_call(
    tmp_path: Path, writer: str, seed: int
) -> None:
    moment = random.Random(f"{writer} {seed}").uniform(0.0, 0.4)  # noqa: S311 - a moment, no secret
    env = {"FLOWPROV__JOURNAL__WRITER": writer}
    with start(_ACKNOWLEDGING.format(ending=""), tmp_path, env=env) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        deadline = time.monotonic() + moment
        acknowledged = [int(first)]
        for line in process.stdout:
            if line.endswith("\n"):
                acknowledged.append(int(line))
            if time.monotonic() > deadline:
                process.kill()
                break
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL
    kept = [task.used["number"] for task in tasks(tmp_path) if task.used]
    assert kept == list(range(len(kept))), "no gap and nothing twice"
    assert set(acknowledged) <= set(kept)
    assert len(kept) <= len(acknowledged) + 1, "at most the call that was not acknowledged yet"


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("if number == 50: os._exit(3)", 3),
        ("if number == 50: os.kill(os.getpid(), 15)", -signal.SIGTERM),
        ("if number == 50: os.abort()", -signal.SIGABRT),
        ("if number == 50: import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
    ],
    ids=["os._exit", "SIGTERM", "abort", "segfault"],
)
def test_a_process_that_ends_without_exit_handlers_keeps_every_record(
    tmp_path: Path, ending: str, status: int
) -> None:
    with start(_ACKNOWLEDGING.format(ending=ending), tmp_path) as process:
        process.communicate(timeout=60)
    assert process.returncode == status
    assert len(tasks(tmp_path)) == 50
    written = lines(tmp_path)
    assert not of_type(written, records.Footer)
    assert [workflow.status for workflow in of_type(written, records.Workflow)] == ["RUNNING"]


def test_an_exception_that_ends_the_program_is_recorded_with_a_footer(tmp_path: Path) -> None:
    code = _ACKNOWLEDGING.format(ending="if number == 5: raise RuntimeError('out of patience')")
    with start(code, tmp_path) as process:
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "RuntimeError: out of patience" in stderr
    written = lines(tmp_path)
    assert [w.status for w in of_type(written, records.Workflow)] == ["RUNNING", "ERROR"]
    footer = only(of_type(written, records.Footer))
    assert (footer.captured, footer.written, footer.dropped) == (7, 7, None)


def test_a_long_task_that_a_heartbeat_saw_is_known_after_a_kill(tmp_path: Path) -> None:
    code = """
        import flowprov, sys
        @flowprov.task
        def long(name):
            print("in it", flush=True)
            sys.stdin.read()
            while True:
                pass
        with flowprov.workflow("W"):
            long("alpha")
    """
    with start(code, tmp_path, env={"FLOWPROV__JOURNAL__HEARTBEAT": "0.05"}) as process:
        assert process.stdout is not None
        process.stdout.readline()
        # The other process writes the heartbeat: only its file shows it.
        wait_until(lambda: of_type(lines(tmp_path), records.OpenTask))
        process.kill()
    opened = only(of_type(lines(tmp_path), records.OpenTask))
    assert opened.activity_id == "long"
    assert opened.used == {"name": "alpha"}
    assert opened.status == "RUNNING"
