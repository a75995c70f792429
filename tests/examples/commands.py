"""Examples as their README says: its commands, typed in a copy of the folder."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowprov
from tests.support import REPOSITORY, clean_environment, wait_until

EXAMPLES = REPOSITORY / "examples"
_SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)


def copy_example(name: str, folder: Path) -> Path:
    """Copy an example, with the script that all of them share; return its folder."""
    ignored = shutil.ignore_patterns("__pycache__", "flowprov_buffer")
    shutil.copy(EXAMPLES / "to_safetensors.py", folder)
    return Path(shutil.copytree(EXAMPLES / name, folder / name, ignore=ignored))


def commit_all(folder: Path) -> str:
    """Make a git repository of a folder; return its only commit."""
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *arguments], check=True)
    told = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return told.stdout.strip()


def commands_of_readme(name: str) -> list[str]:
    """Return the commands of the README of an example, without those that install."""
    text = "".join(_SHELL.findall((EXAMPLES / name / "README.md").read_text())).replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("pip ")]


def type_in(folder: Path, command: str) -> str:
    """Run a command as a person types it into a shell in a folder; return all that it prints."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(  # noqa: S602 -- a person types it into a shell
        command,
        shell=True,
        cwd=folder,
        env=clean_environment(PATH=path, OMP_NUM_THREADS="1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    assert "flowprov met a fault" not in done.stdout
    return done.stdout


def type_commands_of_readme(name: str, folder: Path) -> dict[str, str]:
    """Type all commands of a README in a copy of the example; return what each printed."""
    return {command: type_in(folder, command) for command in commands_of_readme(name)}


def load_script(path: Path) -> Any:
    """Return a script as a module; nothing is left of it among the modules."""
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def runner_of(script: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what runs the ``main`` of a script with arguments in this process, which has torch already."""
    module = load_script(script)

    def run(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", [str(script), *arguments])
        try:
            module.main()
        finally:
            wait_until(has_no_pending)

    return run


def has_no_pending() -> bool:
    """Whether all digests are recorded, for which a program would wait at its end."""
    return not flowprov.artifacts()["state"].eq("pending").any()
