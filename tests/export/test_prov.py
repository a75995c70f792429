"""``flowprov export prov-n`` and ``prov-json``, read by the library ``prov``."""

from __future__ import annotations

from pathlib import Path

import pytest
from prov.model import (
    ProvActivity,
    ProvAgent,
    ProvAssociation,
    ProvCommunication,
    ProvDerivation,
    ProvDocument,
    ProvEntity,
    ProvGeneration,
    ProvStart,
    ProvUsage,
)

from flowprov.export.prov_records import _local
from flowprov.read import Buffer
from tests.cli.support import flowprov
from tests.export.conftest import HOSTILE

_NAMESPACE = "urn:flowprov:"


@pytest.fixture(scope="module")
def files(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a file of each notation, with both campaigns."""
    folder = tmp_path_factory.mktemp("prov")
    for form in ("prov-n", "prov-json"):
        result = flowprov("export", form, "c1", "killed", "-o", folder / form, cwd=recorded)
        assert (result.status, result.err) == (0, "")
    return {form: folder / form for form in ("prov-n", "prov-json")}


@pytest.fixture(scope="module")
def document(files: dict[str, Path]) -> ProvDocument:
    """Return the document that the library reads."""
    return ProvDocument.deserialize(str(files["prov-json"]))


def _values(record: object, name: str) -> set[object]:
    return {value for key, value in record.attributes if str(key) == name}  # type: ignore[attr-defined]


def test_both_notations_are_the_same_document(files: dict[str, Path], document: ProvDocument) -> None:
    assert ProvDocument.deserialize(str(files["prov-n"]), format="provn") == document


def test_tasks_and_workflows_are_activities_with_their_times(recorded: Path, document: ProvDocument) -> None:
    buffer = Buffer(recorded / "flowprov_buffer")
    rows = [row for name in ("c1", "k1") for row in buffer.records(campaign_id=name, merge=True)]
    activities = list(document.get_records(ProvActivity))
    assert len(activities) == len(rows)
    assert {str(status) for one in activities for status in _values(one, "flowprov:status")} == {
        "FINISHED",
        "ERROR",
        "INTERRUPTED",
    }
    without_end = [one for one in activities if isinstance(one, ProvActivity) and one.get_endTime() is None]
    assert len(without_end) == sum(row.ended_at is None for row in rows)


def test_every_name_in_a_relation_is_declared_if_it_was_recorded(document: ProvDocument) -> None:
    kinds = (ProvActivity, ProvEntity, ProvAgent)
    declared = {one.identifier for kind in kinds for one in document.get_records(kind)}
    relations = [one for one in document.get_records() if one.is_relation()]
    undeclared = []
    for relation in relations:
        ends = {value for _, value in relation.formal_attributes if hasattr(value, "localpart")}
        undeclared += [(type(relation), end) for end in ends - declared]
    (killed,) = undeclared  # the task that was killed before a heartbeat told of it; its child names it
    assert killed[0] is ProvStart
    kinds_of_relation = {type(one) for one in relations}
    assert kinds_of_relation == {
        ProvUsage,
        ProvGeneration,
        ProvDerivation,
        ProvStart,
        ProvAssociation,
        ProvCommunication,
    }
    identifiers = [one.identifier for one in document.get_records()]
    assert len(set(identifiers)) == len(identifiers)


def test_what_an_artifact_was_made_of_is_a_derivation(document: ProvDocument) -> None:
    entities = document.get_records(ProvEntity)
    labels = {one.identifier: "".join(map(str, _values(one, "prov:label"))) for one in entities}
    made_of = {
        tuple(labels[end].rpartition("/")[2] for _, end in one.formal_attributes[:2])
        for one in document.get_records(ProvDerivation)
    }
    assert ("model", "data.csv") in made_of


def test_each_call_of_log_metrics_is_an_entity_that_its_task_or_workflow_generated(
    document: ProvDocument,
) -> None:
    by = {one.args[0]: (one.args[1], one.args[2]) for one in document.get_records(ProvGeneration)}
    labels = {
        one.identifier: "".join(map(str, _values(one, "prov:label")))
        for one in document.get_records(ProvActivity)
    }
    found = []
    for entity in document.get_records(ProvEntity):
        if {str(kind) for kind in _values(entity, "prov:type")} == {"flowprov:Metrics"}:
            activity, at = by[entity.identifier]
            assert at is not None
            values = {str(key): value for key, value in entity.attributes if str(key).startswith("value:")}
            (step,) = _values(entity, "flowprov:step") or {None}
            found.append((labels[activity], str(activity).rpartition("/")[2], step, values))
    losses = [one for one in found if "value:loss" in one[3]]
    assert [(label, step, values["value:loss"]) for label, _, step, values in losses] == [
        ("epoch_iteration", 0, 1.0),
        ("epoch_iteration", 10, 0.5),
        ("Doomed", None, 0.25),
    ]
    assert {values["value:huge"] for _, _, _, values in losses[:2]} == {str(2**60)}
    assert [(label, values) for label, _, _, values in found if "value:broken" in values] == [
        ("train", {"value:broken": "nan"})
    ]
    scores = [(attempt, values["value:score"]) for _, attempt, _, values in found if "value:score" in values]
    assert scores == [("workflow:again", 0), ("2", 1)]


def test_agents_are_users_and_programs(document: ProvDocument) -> None:
    kinds = {str(kind) for one in document.get_records(ProvAgent) for kind in _values(one, "prov:type")}
    assert kinds == {"prov:Person", "prov:SoftwareAgent"}
    assert "program:program.py" in {str(one.identifier) for one in document.get_records(ProvAgent)}


def test_names_and_values_survive_and_secrets_do_not(files: dict[str, Path], document: ProvDocument) -> None:
    labels = {
        str(label) for one in document.get_records(ProvActivity) for label in _values(one, "prov:label")
    }
    assert HOSTILE.replace("\0", "\\x00") in labels
    assert "%2E.%2Fa%20b%3Ac" in "".join(str(one.identifier) for one in document.get_records(ProvActivity))
    for file in files.values():
        text = file.read_text()
        assert "hunter2" not in text
        assert "me:secret" not in text


def test_two_exports_are_the_same(recorded: Path, files: dict[str, Path], tmp_path: Path) -> None:
    flowprov("export", "prov-json", "c1", "killed", "-o", tmp_path / "again", cwd=recorded)
    assert (tmp_path / "again").read_bytes() == files["prov-json"].read_bytes()
    assert list(tmp_path.iterdir()) == [tmp_path / "again"]


@pytest.mark.parametrize("text", ["", ".", "-a", "a.", "..", "a b", "é\n", "%", "'=(),:;[]", "/", "\ud800"])
def test_the_local_part_of_a_name_is_valid_for_any_text(text: str) -> None:
    line = f"document\nprefix t <{_NAMESPACE}>\nentity(t:{_local(text)})\nendDocument\n"
    (entity,) = ProvDocument.deserialize(content=line, format="provn").get_records()
    assert str(entity.identifier).startswith("t:")
