"""A journal that a program has written anew, as JSON of its own, is read as before by every command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.support import flowprov
from tests.support import run

PROGRAM = """
import flowprov, pathlib

@flowprov.task
def prepare(rows):
    pathlib.Path("data.txt").write_text("x" * rows)
    flowprov.log_artifact("data.txt", name="data")
    return {"rows": rows}

@flowprov.task
def train(lr, data):
    flowprov.use_artifact("data.txt", name="data")
    loop = flowprov.EpochLoop(3)
    for epoch in loop:
        loop.end_iter(loss=lr / (epoch + 1))
    pathlib.Path("model.bin").write_bytes(b"weights %r" % lr)
    flowprov.log_artifact("model.bin", name="model")

@flowprov.task
def fail():
    raise ValueError("on purpose")

with flowprov.campaign("search"), flowprov.workflow("W", used={"seed": 1}) as workflow:
    workflow.add_tags("mine")
    data = prepare(10)
    train(0.1, data)
    try:
        fail()
    except ValueError:
        pass
"""
SPELLINGS: dict[str, Callable[[dict[str, object]], str]] = {
    "with spaces": json.dumps,
    "sorted": lambda content: json.dumps(dict(sorted(content.items())), separators=(",", ":")),
}
COMMANDS = (
    ("show",),
    ("runs", "--json"),
    ("artifacts", "--json"),
    ("verify",),
    ("history",),
    ("query", "select activity_id, status from tasks order by started_at"),
    ("query", "select name, value from metrics order by step"),
    ("whence", "model.bin"),
    ("lineage", "model.bin"),
    *(("export", kind, "-o", "-") for kind in ("trace", "prov-json", "openlineage")),
    ("export", "cyclonedx", "model.bin", "-o", "-"),
)


@pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS)
def test_all_commands_read_a_journal_that_was_written_anew(
    tmp_path: Path, spell: Callable[[dict[str, object]], str]
) -> None:
    run(PROGRAM, tmp_path)
    before = {command: flowprov(*command, cwd=tmp_path) for command in COMMANDS}
    for journal in (tmp_path / "flowprov_buffer").rglob("*.jsonl"):
        lines = journal.read_text().splitlines()
        journal.write_text("".join(f"{spell(json.loads(line))}\n" for line in lines if line.strip()))
    for command in COMMANDS:
        assert before[command].out
        assert flowprov(*command, cwd=tmp_path) == before[command], command
