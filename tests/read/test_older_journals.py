"""Journals that an earlier version wrote read as they did then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import flowprov
from flowprov.cli import main

CORPUS = Path(__file__).parent / "journals_0_1"
KEPT = ("state", "alive", "exact", "captured", "written", "dropped", "found", "damages")


def _expected(kind: str) -> Any:
    return json.loads((CORPUS / f"{kind}.json").read_text())


def _text(rows: Any) -> str:
    """Write rows as JSON: there NaN equals NaN, and a time is a text."""
    return json.dumps(rows, default=str, sort_keys=True, indent=1)


def _command(*arguments: str) -> str:
    return CliRunner().invoke(main, [*arguments]).output


@pytest.fixture(params=["closed", "forked", "full", "killed", "telemetry"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each program of the corpus."""
    name: str = request.param
    return name


def test_an_older_journal_gives_the_same_rows(kind: str) -> None:
    expected = _expected(kind)["rows"]
    rows = flowprov.read_buffer(CORPUS / kind, return_df=False)
    known = [{name: row[name] for name in wanted} for row, wanted in zip(rows, expected, strict=True)]
    assert _text(known) == _text(expected)


def test_an_older_journal_has_the_same_tree(kind: str) -> None:
    assert _command("show", str(CORPUS / kind)).splitlines() == _expected(kind)["show"]


def test_an_older_journal_has_the_same_verdict(kind: str) -> None:
    found, expected = json.loads(_command("verify", "--json", str(CORPUS / kind))), _expected(kind)
    assert found["verdict"] == expected["verdict"]
    assert [each["name"] for each in found["interrupted"]] == expected["interrupted"]
    for journal, wanted in zip(found["journals"], expected["journals"], strict=True):
        assert {name: journal[name] for name in KEPT} == {name: wanted[name] for name in KEPT}
        assert len(journal["reasons"]) == wanted["reasons"]
