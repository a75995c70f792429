"""What the tests of the example share: its scripts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import flowprov
from tests.examples.support import RunScript


@pytest.fixture
def run_script(tmp_path: Path) -> RunScript:
    """Run a script of the example in an empty folder, with the flowprov that is under test."""

    def run(*command: str, timeout: float = 200) -> subprocess.CompletedProcess[str]:
        library = str(Path(flowprov.__file__).parents[1])
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPROV_")}
        return subprocess.run(
            [sys.executable, *command],
            cwd=tmp_path,
            env=kept | {"PYTHONPATH": library},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    return run
