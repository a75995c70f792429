"""``flowprov export openlineage``: events in the order and form that a collector expects."""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from tests.cli.support import flowprov, start_endless
from tests.export.conftest import ODD_METRIC
from tests.support import REPOSITORY

_Event: TypeAlias = "dict[str, Any]"


def _export(folder: Path, *arguments: str, output: Path) -> list[_Event]:
    result = flowprov("export", "openlineage", *arguments, "-o", output, cwd=folder)
    assert (result.status, result.err) == (0, "")
    return [json.loads(line) for line in output.read_text().splitlines()]


@pytest.fixture(scope="module")
def events(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> list[_Event]:
    """Return the events of both campaigns."""
    return _export(recorded, "c1", "k1", output=tmp_path_factory.mktemp("openlineage") / "events.jsonl")


def _job(event: _Event) -> str:
    name: str = event["job"]["name"]
    return name


def test_each_run_begins_once_and_ends_once(events: list[_Event]) -> None:
    runs = defaultdict(list)
    for event in events:
        assert uuid.UUID(event["run"]["runId"])
        assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
        runs[event["run"]["runId"]].append(event)
    for first, last in runs.values():
        assert first["eventType"] == "START"
        assert first["eventTime"] <= last["eventTime"]
        assert first["job"] == last["job"]
    ends = {_job(last): last["eventType"] for _, last in runs.values()}
    assert (ends["train"], ends["train.fail"], ends["Doomed"]) == ("COMPLETE", "FAIL", "ABORT")
    assert "train.epoch_iteration" not in ends


def test_a_task_is_below_its_workflow(events: list[_Event]) -> None:
    (workflow,) = {event["run"]["runId"] for event in events if _job(event) == "train"}
    (task,) = (event for event in events if _job(event) == "train.load" and event["eventType"] == "COMPLETE")
    parent = task["run"]["facets"]["parent"]
    assert parent["run"]["runId"] == workflow
    assert parent["job"] == {"namespace": "nightly", "name": "train"}
    tags = {tag["key"]: tag["value"] for tag in task["run"]["facets"]["tags"]["tags"]}
    assert (tags["used.path"], tags["generated.nan"]) == ("data.csv", "nan")


def test_artifacts_are_the_inputs_and_outputs_of_who_touched_them(
    recorded: Path, events: list[_Event]
) -> None:
    (load,) = (event for event in events if _job(event) == "train.load" and event["eventType"] == "COMPLETE")
    (data,) = load["inputs"]
    assert data["namespace"].startswith("file://")
    assert data["name"] == str(recorded / "data.csv")
    assert data["facets"]["version"]["datasetVersion"].startswith("sha256:")
    outputs = {one["name"] for event in events for one in event.get("outputs", ())}
    assert outputs == {str(recorded / "model.bin"), str(recorded / "odd\n<i>.bin")}
    (killed,) = (event for event in events if _job(event) == "Doomed" and event["eventType"] == "ABORT")
    assert [one["name"] for one in killed["inputs"]] == [data["name"]]


def test_the_last_value_of_each_metric_is_a_facet_of_the_end(events: list[_Event]) -> None:
    found: dict[str, list[Any]] = {}
    for event in events:
        if (facet := event["run"]["facets"].get("flowprov_metrics")) is not None:
            assert event["eventType"] != "START"
            assert all(event["eventTime"] >= one["time"] for one in facet["metrics"])
            shown = [{key: one[key] for key in one if key != "time"} for one in facet["metrics"]]
            found.setdefault(_job(event), []).append(shown)
    assert found == {
        "train": [
            [
                {"name": ODD_METRIC, "value": 1, "step": 10},
                {"name": "broken", "value": "nan"},
                {"name": "huge", "value": str(2**60), "step": 10},
                {"name": "loss", "value": 0.5, "step": 10},
                {"name": "rows", "value": 2},
            ]
        ],
        "train.load": [[{"name": "rows", "value": 2}]],
        "again": [[{"name": "score", "value": 0}], [{"name": "score", "value": 1}]],
        "Doomed": [[{"name": "loss", "value": 0.25}]],
    }


def test_the_facet_of_metrics_is_as_its_schema_says(events: list[_Event]) -> None:
    schema = json.loads((REPOSITORY / "docs/reference/openlineage-metrics.schema.json").read_text())
    known = schema["properties"]["metrics"]["items"]["properties"]
    for event in events:
        if (facet := event["run"]["facets"].get("flowprov_metrics")) is not None:
            assert (facet["_schemaURL"], set(facet)) == (schema["$id"], set(schema["required"]))
            assert all({"name", "value"} <= set(one) <= set(known) for one in facet["metrics"])


def test_every_facet_names_its_producer_and_its_schema(events: list[_Event]) -> None:
    facets = [
        facet
        for event in events
        for holder in (event["run"], event["job"], *event.get("inputs", ()), *event.get("outputs", ()))
        for facet in holder["facets"].values()
    ]
    assert all(facet["_producer"].startswith("urn:flowprov:") for facet in facets)
    spec, own = "https://openlineage.io/spec/facets/", "urn:flowprov:openlineage:"
    assert {facet["_schemaURL"].startswith(own) for facet in facets if "metrics" in facet} == {True}
    assert all(facet["_schemaURL"].startswith(spec) for facet in facets if "metrics" not in facet)
    text = json.dumps(events)
    assert "hunter2" not in text
    assert "me:secret" not in text


def test_what_still_runs_has_a_start_alone(tmp_path: Path) -> None:
    with start_endless(tmp_path) as process:
        try:
            events = _export(tmp_path, output=tmp_path / "events.jsonl")
        finally:
            process.kill()
    assert [event["eventType"] for event in events if _job(event) == "Doomed"] == ["START"]
