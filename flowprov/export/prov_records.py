"""Campaigns in the words of W3C PROV.

Flows in: campaigns. Flows out: statements, one after the other.

Tasks and workflows are activities, one for each attempt. Artifacts are entities, and so is what a task used
or generated, with its values as attributes, and each call of ``log_metrics`` with its numbers. Users and
programs are agents. Every statement has an identifier that follows from the campaign alone: two exports name
everything alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote

from flowprov.export.campaigns import ExportedCampaign
from flowprov.export.logged_metrics import LoggedMetrics, logged_metrics
from flowprov.export.plain_values import flat_values, plain_text
from flowprov.read.artifacts.catalog import USED, Catalog, Sighting
from flowprov.read.artifacts.graph import WAS_DERIVED_FROM, WAS_INFORMED_BY, Tracer
from flowprov.read.frames import as_datetime
from flowprov.read.rows import Row
from flowprov.records import Error, Task, Workflow

NAMESPACES = {
    "flowprov": "urn:flowprov:term:",
    **{name: f"urn:flowprov:{name}:" for name in ("task", "workflow", "artifact", "used", "generated")},
    **{name: f"urn:flowprov:{name}:" for name in ("metrics", "value", "user", "program", "relation")},
}
"""The prefixes of all names, and what they stand for."""

FORMAL = {
    "entity": (),
    "agent": (),
    "activity": ("startTime", "endTime"),
    "used": ("activity", "entity", "time"),
    "wasGeneratedBy": ("entity", "activity", "time"),
    "wasInformedBy": ("informed", "informant"),
    "wasStartedBy": ("activity", "trigger", "starter", "time"),
    "wasAssociatedWith": ("activity", "agent", "plan"),
    "wasDerivedFrom": ("generatedEntity", "usedEntity", "activity", "generation", "usage"),
}
"""The arguments of each kind of statement, by the names and in the order of PROV-DM."""

ELEMENTS = frozenset(("entity", "agent", "activity"))
_ATTRIBUTES = ("status", "subtype", "campaign_id", "attempt", "hostname", "pid", "rank", "thread")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")  # no other form of PROV holds them
_DASK_KEY = "dask:"  # of a task that is not known

Name: TypeAlias = str  # prefix:local
Value: TypeAlias = "bool | int | float | str"


class TypeName(NamedTuple):
    """A value of an attribute that is a name itself."""

    name: Name


class Statement(NamedTuple):
    """One record of PROV.

    Attributes
    ----------
    kind
        One of :data:`FORMAL`.
    name
        Its identifier.
    arguments
        Its first arguments; further ones are not known.
    attributes
        What else it says, by qualified names.
    """

    kind: str
    name: Name
    arguments: tuple[Name | datetime | None, ...] = ()
    attributes: Mapping[Name, Value | TypeName] = {}


class ProvRecords:
    """The statements of campaigns."""

    def __init__(self, campaigns: Sequence[ExportedCampaign]) -> None:
        self._campaigns = campaigns
        self._agents: set[Name] = set()
        self._workflows: dict[tuple[str, str, int], Name] = {}
        self.activities = 0

    def statements(self) -> Iterator[Statement]:
        """Yield the statements."""
        for campaign in self._campaigns:
            self._name_workflows(campaign)
        for campaign in self._campaigns:
            for workflow in campaign.stream.workflows:
                yield from self._of_workflow(campaign, workflow)
            for task in campaign.stream.tasks():
                yield from self._of_task(campaign, task)
            for logged in logged_metrics(campaign.journals):
                yield from self._of_metrics(campaign, logged)
        yield from self._of_artifacts()

    # Activities.

    def _name_workflows(self, campaign: ExportedCampaign) -> None:
        """Name the attempts of workflows: one that goes on in another campaign has that in its name."""
        campaign_id = campaign.campaign.campaign_id
        taken = set(self._workflows.values())
        for row in campaign.stream.workflows:
            attempt = row.attempt or 1
            name = _name("workflow", row.workflow_id) + (f"/{attempt}" if attempt > 1 else "")
            if name in taken:
                name = f"{name}/{_local(campaign_id)}"
            self._workflows[campaign_id, row.workflow_id, attempt] = name

    def _workflow(self, campaign_id: str, workflow_id: str, attempt: int | None) -> Name | None:
        """Return the name of an attempt of a workflow; None if there is no record of it."""
        return self._workflows.get((campaign_id, workflow_id, attempt or 1))

    def _of_workflow(self, campaign: ExportedCampaign, row: Workflow) -> Iterator[Statement]:
        campaign_id, attempt = campaign.campaign.campaign_id, row.attempt or 1
        name = self._workflows[campaign_id, row.workflow_id, attempt]
        yield from self._of_activity(campaign, row, name, row.name)
        if row.parent_workflow_id is not None:
            parent = self._workflow(campaign_id, row.parent_workflow_id, 1)
            if parent is not None:
                yield _relation("wasStartedBy", name, None, parent)
        before = self._workflow(campaign_id, row.workflow_id, attempt - 1) if attempt > 1 else None
        if before is not None:
            yield _relation("wasInformedBy", name, before)
        if row.user:
            user = _name("user", row.user)
            if user not in self._agents:
                self._agents.add(user)
                yield Statement("agent", user, (), _attributes("prov:Person", row.user, {}))
            yield _relation("wasAssociatedWith", name, user)

    def _of_task(self, campaign: ExportedCampaign, row: Task) -> Iterator[Statement]:
        name = _name("task", row.task_id)
        yield from self._of_activity(campaign, row, name, row.activity_id)
        if row.parent_task_id is not None:
            yield _relation("wasStartedBy", name, None, _name("task", row.parent_task_id))
        elif row.workflow_id is not None:
            workflow = self._workflow(campaign.campaign.campaign_id, row.workflow_id, row.attempt)
            if workflow is not None:
                yield _relation("wasStartedBy", name, None, workflow)
        for one in row.dependencies or ():
            if not one.startswith(_DASK_KEY):
                yield _relation("wasInformedBy", name, _name("task", one))

    def _of_activity(
        self, campaign: ExportedCampaign, row: Row, name: Name, label: str | None
    ) -> Iterator[Statement]:
        """Yield a task or workflow, what it used and generated, and the program that ran it."""
        self.activities += 1
        is_task = isinstance(row, Task)
        facts = {key: getattr(row, key, None) for key in _ATTRIBUTES}
        if isinstance(row.error, Error):
            facts["error"] = f"{row.error.type}: {row.error.message}"
        attributes = _attributes("flowprov:Task" if is_task else "flowprov:Workflow", label, facts)
        yield Statement(
            "activity", name, (as_datetime(row.started_at), as_datetime(row.ended_at)), attributes
        )
        local = name.removeprefix("task:").replace("workflow:", "workflow/")
        for role, values in (("used", row.used), ("generated", row.generated)):
            flat = flat_values(values)
            if not flat:
                continue
            entity = f"{role}:{local}"
            shown = {_name("value", path): _text(value) for path, value in flat.items()}
            yield Statement("entity", entity, (), {**_attributes("flowprov:Values", None, {}), **shown})
            if role == USED:
                yield _relation("used", name, entity)
            else:
                yield _relation("wasGeneratedBy", entity, name)
        process = campaign.processes.get((row.hostname, row.pid))
        if process is None:
            return
        header = process.header
        program = _name("program", header.program or "(unnamed)")
        if program not in self._agents:
            self._agents.add(program)
            known = {"python": header.python, "flowprov": header.flowprov}
            yield Statement("agent", program, (), _attributes("prov:SoftwareAgent", header.program, known))
        yield _relation("wasAssociatedWith", name, program)

    def _of_metrics(self, campaign: ExportedCampaign, logged: LoggedMetrics) -> Iterator[Statement]:
        """Yield the numbers of a call of ``log_metrics``, and who made it."""
        entity = f"metrics:{_local(logged.header.journal_id)}/{logged.position}"
        values = {_name("value", path): _text(value) for path, value in flat_values(logged.values).items()}
        facts = {"step": logged.step}
        yield Statement("entity", entity, (), {**_attributes("flowprov:Metrics", None, facts), **values})
        activity: Name | None
        if logged.task_id is not None:
            activity = _name("task", logged.task_id)
        else:
            index = campaign.stream.attempts.get(logged.workflow_id)
            attempt = 1 if index is None else index.find(logged.header, logged.at)
            activity = self._workflow(campaign.campaign.campaign_id, logged.workflow_id, attempt)
        if activity is not None:
            yield _relation("wasGeneratedBy", entity, activity, as_datetime(logged.at))

    # Artifacts.

    def _of_artifacts(self) -> Iterator[Statement]:
        catalog = _joined([one.catalog for one in self._campaigns])
        campaigns = {one.campaign.campaign_id: one for one in self._campaigns}
        parents = {
            row.workflow_id: row.parent_workflow_id
            for one in self._campaigns
            for row in one.stream.workflows
            if row.parent_workflow_id is not None
        }
        tracer = Tracer(catalog, parents)
        for node, sightings in tracer.identities.artifacts.items():
            entity = _name("artifact", node)
            yield Statement("entity", entity, (), _of_artifact(sightings))
            for sighting in sightings:
                activity, at = self._activity(sighting, campaigns), as_datetime(sighting.at)
                if activity is not None and sighting.role == USED:
                    yield _relation("used", activity, entity, at)
                elif activity is not None:
                    yield _relation("wasGeneratedBy", entity, activity, at)
        graph = tracer.trace(tracer.identities.artifacts, up=True, down=False, depth=1)
        for source, target, relation in graph.edges:
            if relation == WAS_DERIVED_FROM:
                yield _relation(WAS_DERIVED_FROM, _name("artifact", source), _name("artifact", target))
            elif relation == WAS_INFORMED_BY:
                later = self._activity(graph.activities.get(source), campaigns)
                earlier = self._activity(graph.activities.get(target), campaigns)
                if later is not None and earlier is not None:
                    yield _relation(WAS_INFORMED_BY, later, earlier)

    def _activity(self, sighting: Sighting | None, campaigns: dict[str, ExportedCampaign]) -> Name | None:
        """Return who used or generated an artifact; None if there is no record of it."""
        if sighting is None:
            return None
        if sighting.task_id is not None:
            return _name("task", sighting.task_id)
        index = campaigns[sighting.campaign_id].stream.attempts.get(sighting.workflow_id)
        attempt = 1 if index is None else index.find(sighting.header, sighting.at)
        return self._workflow(sighting.campaign_id, sighting.workflow_id, attempt)


def _local(text: str) -> str:
    """Return a text as the local part of a name: what may not stand there is written as %XX."""
    quoted = quote(plain_text(text), safe="") or "_"
    first, rest = quoted[0], quoted[1:]
    if first in "-.":
        first = f"%{ord(first):02X}"
    if rest.endswith("."):
        rest = f"{rest[:-1]}%2E"
    return first + rest


def _name(prefix: str, local: object) -> Name:
    return f"{prefix}:{_local(str(local))}"


def _relation(kind: str, *arguments: Name | datetime | None) -> Statement:
    """Return a relation, whose identifier follows from its kind and its ends."""
    text = "\0".join(map(str, (kind, *arguments)))
    return Statement(kind, f"relation:{sha256(text.encode()).hexdigest()[:24]}", arguments)


def _attributes(kind: Name, label: str | None, facts: Mapping[str, Any]) -> dict[Name, Value | TypeName]:
    """Return attributes: those of PROV itself, and others in our namespace; none that is None."""
    found: dict[Name, Value | TypeName] = {"prov:type": TypeName(kind)}
    if label is not None:
        found["prov:label"] = _text(label)
    for key, value in facts.items():
        if value is not None:
            found[f"flowprov:{key}"] = _text(value)
    return found


def _of_artifact(sightings: Sequence[Sighting]) -> dict[Name, Value | TypeName]:
    last = sightings[-1]
    facts = {
        "kind": last.record.kind,
        "location": last.record.path or last.record.uri,
        "size": last.size,
        "state": last.state,
        "sha256": last.sha256,
        "weights": last.weights,
        "epoch": last.record.epoch,
        "step": last.record.step,
    }
    return _attributes("flowprov:Artifact", last.record.name or last.place, facts)


def _joined(catalogs: Sequence[Catalog]) -> Catalog:
    """Return the artifacts of several campaigns as one catalog."""
    joined = Catalog(())
    joined.sightings = sorted((one for each in catalogs for one in each.sightings), key=lambda one: one.at)
    return joined


def _text(value: Value) -> Value:
    """Return a value of an attribute; a text without control characters, which some forms cannot hold."""
    if not isinstance(value, str):
        return value
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", plain_text(value))
