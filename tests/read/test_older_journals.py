"""Journals of an earlier version give the same rows, tree and verdict as they did with that version."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import flowprov
from flowprov.cli import main

CORPUS = Path(__file__).parent / "journals_0_1"
_MORE = re.compile(r" *\.\.\. (\d+) more .*")
KEPT = ("state", "alive", "exact", "captured", "written", "dropped", "found", "damages")


def _expected(kind: str) -> Any:
    return json.loads((CORPUS / f"{kind}.json").read_text())


def _text(rows: Any) -> str:
    """Return rows as JSON text, in which NaN equals NaN and a time is a string."""
    return json.dumps(rows, default=str, sort_keys=True, indent=1)


def _command(*arguments: str) -> str:
    return CliRunner().invoke(main, [*arguments]).output


@pytest.fixture(params=["closed", "forked", "full", "killed", "telemetry"])
def kind(request: pytest.FixtureRequest) -> str:
    """The name of a program of the corpus."""
    name: str = request.param
    return name


def test_an_older_journal_gives_the_same_rows(kind: str) -> None:
    expected = _expected(kind)["rows"]
    rows = flowprov.read_buffer(CORPUS / kind, return_df=False)
    actual = [{name: row[name] for name in fields} for row, fields in zip(rows, expected, strict=True)]
    assert _text(actual) == _text(expected)


def test_an_older_journal_has_the_same_tree(kind: str) -> None:
    head, *lines = _command("show", "--most", "1000", "--forwards", str(CORPUS / kind)).splitlines()
    old_head, *old_lines = _expected(kind)["show"]
    assert head == old_head
    remaining, hidden = iter(lines), 0
    for old_line in old_lines:
        if more := _MORE.fullmatch(old_line):  # that version showed the first siblings, and only six of them
            hidden += int(more[1])
            continue
        *start, generated = [*old_line.strip().split("  "), *[""] * 3][:4]
        start_of_line = (old_line[: -len(old_line.lstrip())] + "  ".join(start)).rstrip()
        line = next(line for line in remaining if line.startswith(start_of_line))
        assert line.endswith(generated) or f"-> {generated}" in line
    assert len(lines) == len([line for line in old_lines if not _MORE.fullmatch(line)]) + hidden


def test_an_older_journal_has_the_same_verdict(kind: str) -> None:
    actual, expected = json.loads(_command("verify", "--json", str(CORPUS / kind))), _expected(kind)
    assert actual["verdict"] == expected["verdict"]
    assert [item["name"] for item in actual["interrupted"]] == expected["interrupted"]
    for journal, answer in zip(actual["journals"], expected["journals"], strict=True):
        assert {name: journal[name] for name in KEPT} == {name: answer[name] for name in KEPT}
        assert len(journal["reasons"]) == answer["reasons"]
