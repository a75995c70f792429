"""``openlineage``: campaigns as events of OpenLineage, one a line.

Flows in: campaigns. Flows out: JSON Lines that a collector of OpenLineage takes, such as Marquez.

A workflow is a job, and each attempt a run of it. So is a task, below its parent; of iterations and forwards
only those that touched an artifact, as others say nothing of data. Artifacts are data sets: inputs and
outputs of who used and generated them. The last value of each metric is a facet of our own.

https://openlineage.io/docs/spec/object-model describes events; their schemas are named in each of them.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote, urlsplit

from flowprov.export.campaigns import ExportedCampaign
from flowprov.export.logged_metrics import LastValues, plain_number
from flowprov.export.new_file import written_beside
from flowprov.export.plain_values import flat_values, plain_text, to_json
from flowprov.read.artifacts.catalog import USED, Sighting
from flowprov.read.frames import as_datetime
from flowprov.read.labels import FORWARDS, ITERATION
from flowprov.read.rows import Row
from flowprov.records import Error, Status, Workflow
from flowprov.version import __version__

_Json: TypeAlias = "dict[str, Any]"

_SPEC = "https://openlineage.io/spec"
_EVENT = f"{_SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
_PRODUCER = f"urn:flowprov:{__version__}"
_METRICS = "urn:flowprov:openlineage:1-0-0:FlowprovMetricsRunFacet"
"""The schema of our own facet ``flowprov_metrics``: docs/reference/openlineage-metrics.schema.json."""
_NAMESPACE = uuid.UUID("6f0d5a2e-6e0f-5c53-9d55-0f8d1b1f6a10")  # of the ids of runs
_LEFT_OUT = FORWARDS | {ITERATION}
_ENDS = {
    Status.FINISHED.value: "COMPLETE",
    Status.ERROR.value: "FAIL",
    Status.INTERRUPTED.value: "ABORT",
    Status.CANCELLED.value: "ABORT",
}
_Key: TypeAlias = "tuple[str, int | None]"  # the id of a task, or of a workflow with its attempt


def write_openlineage(campaigns: Sequence[ExportedCampaign], path: Path) -> int:
    """Write the events of campaigns; return how many tasks and workflows they are of."""
    number = 0
    with written_beside(path) as new, new.open("w", encoding="utf-8") as file:
        for campaign in campaigns:
            for events in _Events(campaign).runs():
                file.writelines(f"{to_json(event)}\n" for event in events)
                number += 1
    return number


class _Events:
    """The events of one campaign."""

    def __init__(self, campaign: ExportedCampaign) -> None:
        self._campaign = campaign
        self._namespace = plain_text(campaign.name)
        self._touched: dict[_Key, list[Sighting]] = defaultdict(list)
        for sighting in campaign.catalog.sightings:
            self._touched[self._key_of(sighting)].append(sighting)
        self._metrics = LastValues(campaign.journals, campaign.stream.attempts)
        self._names = {row.workflow_id: _name(row.name) for row in campaign.stream.workflows}

    def runs(self) -> Iterator[list[_Json]]:
        """Yield the events of each run."""
        for workflow in self._campaign.stream.workflows:
            parent = workflow.parent_workflow_id
            around = None if parent is None else self._workflow_run(parent, 1)
            run_id = self._run_id(workflow.workflow_id, workflow.attempt)
            touched = self._touched.get((workflow.workflow_id, workflow.attempt or 1), ())
            yield list(self._events(workflow, run_id, _name(workflow.name), around, touched))
        for task in self._campaign.stream.tasks():
            touched = self._touched.get((str(task.task_id), None), ())
            if task.subtype in _LEFT_OUT and not touched:
                continue
            around = None
            if task.workflow_id is not None:
                around = self._workflow_run(task.workflow_id, task.attempt)
            job = f"{self._names.get(task.workflow_id or '', '(unnamed)')}.{_name(task.activity_id)}"
            yield list(self._events(task, self._run_id(str(task.task_id)), job, around, touched))

    def _events(
        self, row: Row, run_id: str, job: str, around: _Json | None, touched: Sequence[Sighting]
    ) -> Iterator[_Json]:
        """Yield the event of a start and that of an end; the later one names data sets and metrics."""
        started = as_datetime(row.started_at) or as_datetime(row.ended_at)
        if started is None:
            return  # submitted, and never started
        facets = _run_facets(row, around)
        run = {"runId": run_id, "facets": facets}
        event = {"producer": _PRODUCER, "schemaURL": _EVENT, "run": run, "job": self._job(row, job)}
        run_at_end = {"runId": run_id, "facets": {**facets, **self._metrics_facet(row)}}
        kind = _ENDS.get(row.status or "")
        later = {
            "run": run_at_end,
            "inputs": _datasets(one for one in touched if one.role == USED),
            "outputs": _datasets(one for one in touched if one.role != USED),
        }
        yield {"eventType": "START", "eventTime": started.isoformat(), **event, **({} if kind else later)}
        if kind is not None:
            ended = as_datetime(self._campaign.end_of(row)) or started
            yield {"eventType": kind, "eventTime": max(started, ended).isoformat(), **event, **later}

    def _metrics_facet(self, row: Row) -> _Json:
        """Return the last value of each metric of a run as a facet; nothing if there is none."""
        if isinstance(row, Workflow):
            values = self._metrics.of_workflow(row.workflow_id, row.attempt)
        else:
            values = self._metrics.of_task(str(row.task_id))
        shown = [
            {
                "name": name,
                "value": plain_number(last.value),
                **({} if last.step is None else {"step": last.step}),
                **({} if (at := as_datetime(last.at)) is None else {"time": at.isoformat()}),
            }
            for name, last in values.items()
        ]
        facet = {"_producer": _PRODUCER, "_schemaURL": _METRICS, "metrics": shown}
        return {"flowprov_metrics": facet} if shown else {}

    def _job(self, row: Row, name: str) -> _Json:
        kind = "WORKFLOW" if isinstance(row, Workflow) else "TASK"
        facts = {"processingType": "BATCH", "integration": "FLOWPROV", "jobType": kind}
        facets = {"jobType": _facet("2-0-3/JobTypeJobFacet", facts)}
        code = (row.code_repository or {}) if isinstance(row, Workflow) else {}
        url, commit = code.get("remote"), code.get("commit")
        if isinstance(url, str) and "://" in url:
            location = {"type": "git", "url": quote(url, safe=":/?#@%&=+~,;"), "version": commit}
            facets["sourceCodeLocation"] = _facet(
                "1-0-1/SourceCodeLocationJobFacet",
                {key: value for key, value in location.items() if isinstance(value, str)},
            )
        return {"namespace": self._namespace, "name": name, "facets": facets}

    def _workflow_run(self, workflow_id: str, attempt: int | None) -> _Json:
        return {
            "run": {"runId": self._run_id(workflow_id, attempt)},
            "job": {"namespace": self._namespace, "name": self._names.get(workflow_id, "(unnamed)")},
        }

    def _run_id(self, name: str, attempt: int | None = 1) -> str:
        """Return the id of a run: that of its first attempt, where this is a UUID, else one made of it."""
        if (attempt or 1) == 1:
            try:
                return str(uuid.UUID(name))
            except ValueError:
                pass
        text = "\0".join((self._campaign.campaign.campaign_id, name, str(attempt or 1)))
        return str(uuid.uuid5(_NAMESPACE, plain_text(text)))

    def _key_of(self, sighting: Sighting) -> _Key:
        if sighting.task_id is not None:
            return sighting.task_id, None
        index = self._campaign.stream.attempts.get(sighting.workflow_id)
        attempt = 1 if index is None else index.find(sighting.header, sighting.at)
        return sighting.workflow_id, attempt


def _run_facets(row: Row, around: _Json | None) -> _Json:
    facets: _Json = {}
    if around is not None:
        facets["parent"] = _facet("1-1-0/ParentRunFacet", around)
    engine = {"version": __version__, "name": "flowprov"}
    facets["processing_engine"] = _facet("1-1-1/ProcessingEngineRunFacet", engine)
    if isinstance(row.error, Error):
        message = plain_text(f"{row.error.type}: {row.error.message}")
        error = {"message": message, "programmingLanguage": "python"}
        if row.error.traceback:
            error["stackTrace"] = plain_text(row.error.traceback)
        facets["errorMessage"] = _facet("1-0-1/ErrorMessageRunFacet", error)
    tags = [
        {"key": f"{role}.{path}", "value": value if isinstance(value, str) else to_json(value)}
        for role, values in (("used", row.used), ("generated", row.generated))
        for path, value in flat_values(values).items()
    ]
    if tags:
        facets["tags"] = _facet(
            "1-0-0/TagsRunFacet", {"tags": [{**tag, "source": "flowprov"} for tag in tags]}
        )
    return facets


def _datasets(sightings: Iterator[Sighting]) -> list[_Json]:
    """Return artifacts as data sets, each once."""
    found: dict[tuple[str, str], _Json] = {}
    for sighting in sightings:
        namespace, name = _address(sighting)
        facets: _Json = {}
        if sighting.sha256 is not None:
            facets["version"] = _facet(
                "1-0-1/DatasetVersionDatasetFacet", {"datasetVersion": f"sha256:{sighting.sha256}"}
            )
        kind = {"datasetType": plain_text(sighting.record.kind)}
        facets["datasetType"] = _facet("1-0-0/DatasetTypeDatasetFacet", kind)
        found[namespace, name] = {"namespace": namespace, "name": name, "facets": facets}
    return list(found.values())


def _address(sighting: Sighting) -> tuple[str, str]:
    """Return namespace and name of an artifact, as OpenLineage names files and addresses."""
    record = sighting.record
    if record.path is None and record.uri is not None:
        parts = urlsplit(record.uri)
        if parts.scheme and parts.netloc:
            return plain_text(f"{parts.scheme}://{parts.netloc}"), plain_text(parts.path.lstrip("/") or "/")
    host = quote(sighting.header.hostname, safe="")
    return f"file://{host}", plain_text(record.path or record.uri or record.name or sighting.artifact_id)


def _name(text: str | None) -> str:
    return plain_text(text or "(unnamed)")


def _facet(schema: str, facts: _Json) -> _Json:
    file, name = f"{schema}.json", schema.rpartition("/")[2]
    return {"_producer": _PRODUCER, "_schemaURL": f"{_SPEC}/facets/{file}#/$defs/{name}", **facts}


__all__ = ["write_openlineage"]
