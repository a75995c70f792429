"""``flowprov export rocrate``: a Provenance Run Crate. ``test_validators`` has a validator look at one."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.cli.support import flowprov
from tests.export.conftest import ODD_METRIC

_Entities: TypeAlias = "dict[str, dict[str, Any]]"


def _entities(crate: Path) -> _Entities:
    graph = json.loads((crate / "ro-crate-metadata.json").read_text())["@graph"]
    return {entity["@id"]: entity for entity in graph}


@pytest.fixture(scope="module")
def crate(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the crate of campaign c1."""
    folder = tmp_path_factory.mktemp("crate") / "crate"
    assert flowprov("export", "rocrate", "c1", "-o", folder, cwd=recorded).status == 0
    return folder


def _named(entities: _Entities, kind: str, name: str) -> dict[str, Any]:
    (found,) = (one for one in entities.values() if one["@type"] == kind and one.get("name") == name)
    return found


def test_a_workflow_is_a_step_and_each_attempt_an_action(crate: Path) -> None:
    entities = _entities(crate)
    action = _named(entities, "CreateAction", "train")
    assert action["actionStatus"].endswith("CompletedActionStatus")
    assert _named(entities, "HowToStep", "train")["workExample"] == action["instrument"]
    control = _named(entities, "ControlAction", "Executions of train")
    assert control["object"] == [{"@id": action["@id"]}]
    used = [entities[one["@id"]] for one in action["object"]]
    assert {one["name"]: one.get("value") for one in used if one["@type"] == "PropertyValue"} == {"lr": "0.5"}
    assert [len(one["sha256"]) for one in used if one["@type"] == "CreativeWork"] == [64]
    assert next(entities[one["@id"]]["name"] for one in action["result"]) == "../../model"


def test_the_last_value_of_each_metric_is_a_result_of_its_action(crate: Path) -> None:
    entities = _entities(crate)

    def results(action: dict[str, Any]) -> dict[str, str]:
        found = [entities[one["@id"]] for one in action.get("result", ())]
        values = [one for one in found if one["@type"] == "PropertyValue"]
        for one in values:
            formal = entities[one["exampleOfWork"]["@id"]]
            assert (formal["@type"], formal["name"]) == ("FormalParameter", one["name"])
        return {one["name"]: one["value"] for one in values}

    train = _named(entities, "CreateAction", "train")
    numbers = {"rows": "2", "loss": "0.5", ODD_METRIC: "1", "huge": str(2**60)}
    assert results(train) == {**numbers, "broken": "nan"}
    again = [one for one in entities.values() if one["@type"] == "CreateAction" and one["name"] == "again"]
    assert [results(action) for action in again] == [{"score": "0"}, {"score": "1"}]


def test_every_id_that_is_referred_to_is_there(crate: Path) -> None:
    entities = _entities(crate)

    def referred(value: Any) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(referred, value))
        if isinstance(value, dict):
            return {value["@id"]} if set(value) == {"@id"} else set().union(*map(referred, value.values()))
        return set()

    assert referred(list(entities.values())) - set(entities) <= {
        "https://w3id.org/ro/crate/1.1",
        "https://w3id.org/workflowhub/workflow-ro-crate/1.0",
    }


def test_a_crate_holds_three_files_whatever_names_were_recorded(recorded: Path, crate: Path) -> None:
    files = {"ro-crate-metadata.json", "steps.json", "prov.json"}
    assert {path.name for path in crate.rglob("*")} == files
    output = crate.parent / "crate.zip"
    flowprov("export", "rocrate", "c1", "-o", output, cwd=recorded)
    with zipfile.ZipFile(output) as archive:
        assert set(archive.namelist()) == files
        for name in files:
            assert archive.read(name) == (crate / name).read_bytes()
    assert {path.name for path in crate.parent.iterdir()} == {"crate", "crate.zip"}
    assert "hunter2" not in (crate / "prov.json").read_text()


def test_what_was_killed_failed_without_an_end(recorded: Path, tmp_path: Path) -> None:
    assert flowprov("export", "rocrate", "k1", "-o", tmp_path / "crate", cwd=recorded).status == 0
    action = _named(_entities(tmp_path / "crate"), "CreateAction", "Doomed")
    assert action["actionStatus"].endswith("FailedActionStatus")
    assert (action["error"], "endTime" in action) == ("interrupted", False)


def test_a_crate_is_of_one_campaign_and_replaces_no_folder(recorded: Path, crate: Path) -> None:
    several = flowprov("export", "rocrate", "c1", "k1", "-o", crate.parent / "x", cwd=recorded)
    assert (several.status, "A crate holds one campaign, not 2" in several.err) == (2, True)
    again = flowprov("export", "rocrate", "c1", "-o", crate, cwd=recorded)
    assert (again.status, "is a folder that is not empty" in again.err) == (2, True)
