"""An environment with Dagster, dagstermill, papermill, DVC and Hydra, which `make tools` creates."""

from __future__ import annotations

import os
import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import flowprov
from tests.support import REPOSITORY, clean_environment

FOLDER = Path(os.environ.get("FLOWPROV_TEST_TOOLS", REPOSITORY / ".tools"))


class Tools:
    """The commands of that environment, run in a folder; the buffer is ``flowprov_buffer`` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, **env: str) -> str:
        """Run a command to its end; return what it prints."""
        home = self.folder / "dagster_home"
        home.mkdir(exist_ok=True)
        names = {
            f"GIT_{role}_{part}": "a@b" for role in ("AUTHOR", "COMMITTER") for part in ("NAME", "EMAIL")
        }
        path = f"{FOLDER / 'bin'}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=clean_environment(
                PATH=path,
                DAGSTER_HOME=str(home),
                DVC_NO_ANALYTICS="1",
                GIT_CONFIG_GLOBAL=os.devnull,
                **names,
                **env,
            ),
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        assert "flowprov met a fault" not in done.stderr
        return done.stdout

    def python(self, code: str, *arguments: str, name: str = "program.py", **env: str) -> str:
        """Run a program of that environment; return what it prints."""
        (self.folder / name).write_text(textwrap.dedent(code))
        return self.run("python", name, *arguments, **env)

    def workflows(self) -> list[dict[str, Any]]:
        """Return the rows of all workflows, the earliest first."""
        buffer = self.folder / "flowprov_buffer"
        rows = [
            row
            for campaign_id in flowprov.campaigns(buffer)["campaign_id"]
            for row in flowprov.read_buffer(buffer, campaign_id=campaign_id, return_df=False)
            if row["type"] == "workflow"
        ]
        return sorted(rows, key=lambda row: row["started_at"])


def by_name(rows: list[dict[str, Any]]) -> Mapping[str, dict[str, Any]]:
    """Return rows by their names, of which each may be there once."""
    assert len({row["name"] for row in rows}) == len(rows)
    return {row["name"]: row for row in rows}


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    """Return the environment, at work in an empty folder."""
    if not (FOLDER / "bin" / "python").exists():
        pytest.skip("NO TOOLS: make tools")
    return Tools(tmp_path)
