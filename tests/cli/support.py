"""The command line, run as a person runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import clean_environment, start

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


class Said(NamedTuple):
    """What a command said."""

    status: int
    out: str
    err: str

    @property
    def verdict(self) -> str:
        """The last line's first word."""
        return self.out.splitlines()[-1].partition(":")[0]

    @property
    def json(self) -> Any:
        """What was said, parsed."""
        return json.loads(self.out)


def flowprov(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> Said:
    """Run ``python -m flowprov``."""
    done = subprocess.run(
        [sys.executable, "-m", "flowprov", *map(str, arguments)],
        cwd=cwd,
        env=clean_environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


def running(folder: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a program that stays inside a task; it is there when this returns."""
    process = start(ENDLESS, folder, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    return process


def killed(folder: Path, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Run the same program and kill it there."""
    with running(folder, env) as process:
        process.kill()
    assert process.returncode == -signal.SIGKILL
    return process
