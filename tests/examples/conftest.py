"""What the tests of the example share: its scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import flowprov
from tests.examples.support import RunScript
from tests.forkserver import forkserver

_IMPORTS = dict.fromkeys(("llm_train_campaign.py", "played.py"), ("torch", "dask.distributed"))
"""What scripts import that costs most."""


def script_runner(folder: Path) -> RunScript:
    """Return what runs a script of the example in a folder, with the flowprov that is under test."""

    def run(*command: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        library = str(Path(flowprov.__file__).parents[1])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPROV_")}
        environment = kept | {"PYTHONPATH": library}
        heavy = _IMPORTS.get(Path(command[0]).name)
        if heavy and (server := forkserver(heavy, environment)):
            done = server.run([*command], folder, environment, timeout)
            return subprocess.CompletedProcess(command, done.status, done.out, done.err)
        return subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    return run


@pytest.fixture
def run_script(tmp_path: Path) -> RunScript:
    """Run a script of the example in an empty folder."""
    return script_runner(tmp_path)
