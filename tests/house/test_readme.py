"""What the README shows is what a person sees: its program prints that table, its commands that text."""

from __future__ import annotations

import platform
import re
import signal
from pathlib import Path

import pytest

from tests.cli.support import flowprov
from tests.support import REPOSITORY, run

_README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
_HOST = "vm"  # where the README's text was printed
_END_OF_AN_EPOCH = "        epochs.end_iter("
_KILL = f"""\
        if epoch == 2:
            import os, signal
            os.kill(os.getpid(), signal.SIGKILL)
{_END_OF_AN_EPOCH}"""


def _program() -> str:
    (code,) = re.findall(r"```python\n(.*?)```", _README, re.DOTALL)
    return str(code)


def _shown() -> tuple[str, str]:
    """Return the two blocks of printed text: what the commands say of a killed run, and the table."""
    commands, table = re.findall(r"```text\n(.*?)```", _README, re.DOTALL)
    return str(commands), str(table)


def _shape(text: str) -> list[list[str]]:
    """Return the words of each line, without what differs from run to run: ids, times, losses, host, pid."""
    text = re.sub(rf"\b{re.escape(platform.node())}\b", _HOST, text)
    for pid in set(re.findall(r"(\d+)-[0-9a-f]{32}\.jsonl", text)):
        text = re.sub(rf"\b{pid}\b", "PID", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}", "ID", text)
    text = re.sub(r"\b\d[\d.]* (µs|ms|s)\b", "TIME", text)
    text = re.sub(r"\b\d+\.\d+(e[-+]\d+)?\b", "NUMBER", text)
    return [line.split() for line in text.strip().splitlines()]


def test_the_ten_lines_print_the_table_that_the_readme_shows(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    printed, complaints = run(_program(), tmp_path)
    assert _shape(printed) == _shape(_shown()[1])
    assert complaints == ""


def test_the_ten_lines_are_ten() -> None:
    block = _program().partition("with ")[2].partition("\n\n")[0]
    assert len(block.splitlines()) == 10


def test_the_commands_say_of_the_killed_program_what_the_readme_shows(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    killed = _program().replace(_END_OF_AN_EPOCH, _KILL)
    assert killed != _program()
    run(killed, tmp_path, env={"FLOWPROV__JOURNAL__HEARTBEAT": "600"}, status=-signal.SIGKILL)
    shown = re.findall(r"^\$ flowprov (.*)\n((?:(?!\$ ).*\n)*)", _shown()[0], re.MULTILINE)
    assert [command.split()[0] for command, _ in shown] == ["show", "verify"]
    for command, text in shown:
        assert _shape(flowprov(*command.split(), cwd=tmp_path).out) == _shape(text)
