"""Running the command line as a person does."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from tests.forkserver import COMMANDS, forkserver
from tests.support import clean_environment, start, start_command

ENDLESS = """
    import time
    import flowprov

    @flowprov.task
    def step(number):
        return number * 2

    @flowprov.task
    def waiting(name):
        print("waiting", flush=True)
        while True:
            time.sleep(1)

    with flowprov.campaign("nightly"), flowprov.workflow("Doomed"):
        for number in range(5):
            step(number)
        waiting("alpha")
"""


class CommandResult(NamedTuple):
    """The exit status and the output of a command."""

    status: int
    out: str
    err: str

    @property
    def verdict(self) -> str:
        """The first word of the last line."""
        return self.out.splitlines()[-1].partition(":")[0]

    @property
    def json(self) -> Any:
        """The output, parsed as JSON."""
        return json.loads(self.out)


def flowprov(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> CommandResult:
    """Run ``python -m flowprov`` with some arguments."""
    environment = clean_environment(**(env or {}))
    if server := forkserver(COMMANDS, environment):
        python = ["-m", "flowprov", *map(str, arguments)]
        result = CommandResult(*server.run(python, cwd, environment, 120))
    else:
        with start_command(*arguments, cwd=cwd, env=env) as process:
            try:
                stdout, stderr = process.communicate(timeout=120)
            finally:
                process.kill()  # so that one that hangs does not hang the test
        result = CommandResult(process.returncode, stdout, stderr)
    assert "Traceback" not in result.err
    assert "a fault of its own" not in result.err
    return result


def start_endless(folder: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a program that never ends; when this returns, it is inside a task.

    It writes no heartbeat unless ``env`` says so: on a slow machine one would come while a test looks.
    """
    process = start(ENDLESS, folder, env={"FLOWPROV__JOURNAL__HEARTBEAT": "3600", **(env or {})})
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    return process


def run_and_kill(folder: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the same program and kill it inside the task."""
    with start_endless(folder, env) as process:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    return process
