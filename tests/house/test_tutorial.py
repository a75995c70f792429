"""The tutorial is replayed: its files are saved, its commands run, and they print what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import REPOSITORY, clean_environment

TUTORIAL = REPOSITORY / "docs" / "tutorial" / "README.md"
_BLOCK = re.compile(r"^```(python|sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SEPARATOR = "=== end of a block ==="


def _install_commands(folder: Path) -> None:
    """Put ``flowprov`` and ``python`` into a folder, as they are where the package is installed."""
    folder.mkdir()
    for name, module in (("python", ""), ("flowprov", "-m flowprov ")):
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {module}"$@"\n')
        (folder / name).chmod(0o755)


def _matches(expected: str, found: str) -> bool:
    """Whether a text is as expected; an ellipsis stands for anything in a line."""
    pattern = "[^\n]*".join(map(re.escape, expected.split("…")))
    return re.fullmatch(pattern, found) is not None


def test_the_tutorial_says_what_happens(tmp_path: Path) -> None:
    commands: list[str] = []
    expected: list[str] = []
    for language, text in _BLOCK.findall(TUTORIAL.read_text()):
        if language == "python":
            name = text.partition("\n")[0].removeprefix("# ")
            (tmp_path / name).write_text(text)
        elif language == "sh":
            commands.append(text)
            expected.append("")
        else:
            expected[-1] = text
    _install_commands(tmp_path / "bin")
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-e"],
        input=f"\necho '{_SEPARATOR}'\n".join(commands),
        cwd=tmp_path,
        env=clean_environment(PATH=path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = done.stdout.split(f"{_SEPARATOR}\n")
    assert len(found) == len(expected) >= 8
    for command, wanted, printed in zip(commands, expected, found, strict=True):
        assert _matches(wanted, printed), f"{command}prints\n{printed}and the tutorial says\n{wanted}"
