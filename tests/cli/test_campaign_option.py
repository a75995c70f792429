"""``--campaign`` takes what a person calls a campaign: an id, its beginning, or a name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import flowprov
from tests.support import run

_PROGRAM = """
    import sys, flowprov

    for campaign_id, name in (("id-one", "Search"), ("id-two", "Tuning"), ("id-three", "Tuning")):
        with flowprov.campaign(name, campaign_id=campaign_id), flowprov.workflow(f"of {campaign_id}"):
            flowprov.log_params(lr=0.1)
            open("weights.bin", "wb").write(campaign_id.encode())
            flowprov.log_artifact("weights.bin")
"""

_COMMANDS = [
    ("runs", "--json"),
    ("query", "select * from runs", "--json"),
    ("query", "select * from tasks, workflows", "--json"),
    ("artifacts", "--json"),
    ("show", "--json"),
    ("verify", "--json"),
    ("digest",),
]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    run(_PROGRAM, folder)
    return folder


@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
def test_a_name_or_the_beginning_of_an_id_chooses_a_campaign(
    command: tuple[str, ...], recorded: Path
) -> None:
    by_id = flowprov(*command, "--campaign", "id-one", cwd=recorded)
    assert by_id.status == 0
    assert by_id.err == ""
    assert "id-three" not in by_id.out
    for text in ("Search", "id-o"):
        assert flowprov(*command, "--campaign", text, cwd=recorded) == by_id


@pytest.mark.parametrize("command", [*_COMMANDS, ("query", "select 1")], ids=" ".join)
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Tuning", "'Tuning' may mean id-two, id-three. Give the id of one."),
        ("id-t", "'id-t' may mean id-two, id-three. Give the id of one."),
        ("sear", "holds no campaign 'sear'. Did you mean id-one (Search)?"),
        ("", "holds no campaign ''; it holds id-one (Search), id-two (Tuning), id-three (Tuning)."),
    ],
    ids=["a name of two", "a beginning of two", "unknown", "nothing"],
)
def test_what_means_no_campaign_or_several_is_refused(
    command: tuple[str, ...], text: str, said: str, recorded: Path
) -> None:
    result = flowprov(*command, "--campaign", text, cwd=recorded)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("Error: ")
    assert result.err.endswith(f"{said}\n")


def test_a_campaign_is_chosen_among_several_sources(recorded: Path, tmp_path: Path) -> None:
    run(_PROGRAM.replace("Search", "Other").replace("id-one", "another"), tmp_path)
    sources = "--source", tmp_path / "flowprov_buffer", "--source", recorded / "flowprov_buffer"
    for text, campaign_id in (("Search", "id-one"), ("Other", "another"), ("anoth", "another")):
        asked = "query", "select campaign_id from runs", "--json", "--campaign", text
        result = flowprov(*asked, *sources, cwd=tmp_path)
        assert result.json == {"campaign_id": campaign_id}
    result = flowprov("runs", *sources, "--campaign", "nowhere", cwd=tmp_path)
    assert result.status == 2
    assert all(str(place) in result.err for place in sources[1::2])


def test_nothing_is_removed_by_an_empty_name(tmp_path: Path) -> None:
    run(_PROGRAM.replace(', ("id-two", "Tuning"), ("id-three", "Tuning")', ","), tmp_path)
    result = flowprov("rm", "--yes", "", cwd=tmp_path)
    assert (result.status, "holds no campaign ''" in result.err) == (2, True)
    assert (tmp_path / "flowprov_buffer" / "id-one").is_dir()
