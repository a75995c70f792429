"""The catalog: every use and generation of an artifact that some journals record.

Flows in: journals. Flows out: sightings, and which of them are of one artifact. Artifacts are known by their
digests: sightings that share one are of the same artifact, whatever process, campaign or path they come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from flowprov.journal.reader import header_from_path, read_head
from flowprov.read.artifacts.scan import scan
from flowprov.records import (
    Artifact,
    Digest,
    Header,
    OpenTask,
    Record,
    Task,
    Workflow,
)

GENERATED, USED = "generated", "used"
_MAX_DEPTH = 20


class Sighting(msgspec.Struct, eq=False):
    """One use or generation of an artifact.

    Attributes
    ----------
    artifact_id
        The id of the record of the artifact.
    record
        That record.
    role, workflow_id, task_id, at
        Who used or generated it, and when.
    inside
        The tasks around, the innermost first.
    header
        Of the journal.
    digest
        What it holds; None as long as that is pending.
    """

    artifact_id: str
    record: Artifact
    role: str
    workflow_id: str
    task_id: str | None
    at: int
    inside: list[str]
    header: Header
    digest: Digest | None = None

    @property
    def campaign_id(self) -> str:
        """The campaign."""
        return self.header.campaign_id

    @property
    def activity(self) -> str:
        """The id of the task, else of the workflow."""
        return self.task_id or self.workflow_id

    @property
    def around(self) -> list[str]:
        """The task and those around it, the innermost first."""
        return [*([] if self.task_id is None else [self.task_id]), *self.inside]

    @property
    def state(self) -> str:
        """What became of its digest."""
        return "pending" if self.digest is None else self.digest.state

    @property
    def sha256(self) -> str | None:
        """Its SHA-256."""
        return None if self.digest is None else (self.digest.digests or {}).get("sha256")

    @property
    def weights(self) -> str | None:
        """Its weights digest."""
        return None if self.digest is None else self.digest.weights

    @property
    def size(self) -> int | None:
        """Its size in bytes."""
        known = None if self.digest is None else self.digest.size
        return self.record.size if known is None else known

    @property
    def place(self) -> str | None:
        """Where it was seen: its path, else its address, else its name."""
        return self.record.path or self.record.uri or self.record.name

    def identifiers(self) -> Iterator[str]:
        """Yield by what it is known: its digests, else its status, else its id alone."""
        digests = {} if self.digest is None else self.digest.digests or {}
        yield from (f"{name}:{value}" for name, value in digests.items())
        if not digests:
            stat = self.record.stat
            if self.digest is None and stat is not None:
                yield f"stat:{self.header.hostname}:{stat}"
            yield f"id:{self.artifact_id}"


class Catalog:
    """All sightings of some journals.

    Attributes
    ----------
    sightings
        The sightings in the order of time.
    journals
        How many journals were searched.
    """

    def __init__(self, paths: Iterable[Path], campaign_id: str | None = None) -> None:
        self.sightings: list[Sighting] = []
        self.journals = 0
        self._found: dict[str, Sighting] = {}
        self._digests: dict[str, Digest] = {}
        self._named: list[tuple[Header, Record]] = []
        for path in paths:
            self.journals += 1
            self._add_journal(path, campaign_id)
        self._complete()

    def _add_journal(self, path: Path, campaign_id: str | None) -> None:
        header: Header | None = None
        for record in scan(path):
            if header is None:
                header = read_head(path).header or header_from_path(path)
                if campaign_id is not None and header.campaign_id != campaign_id:
                    return
            if isinstance(record, Artifact):
                sighting = _sighting(record, header)
                self._found.setdefault(sighting.artifact_id, sighting)
            elif isinstance(record, Digest):
                known = self._digests.get(artifact_id := header.full_id(record.number))
                if known is None or known.state != "digested":  # a later one completes it
                    self._digests[artifact_id] = record
            else:
                self._named.append((header, record))

    def _complete(self) -> None:
        for artifact_id, sighting in self._found.items():
            sighting.digest = self._digests.get(artifact_id)
        self.sightings = list(self._found.values())
        known = {(one.role, one.activity, key) for one in self.sightings for key in one.identifiers()}
        for header, record in self._named:
            for sighting in self._sightings_in(header, record):
                keys = {(sighting.role, sighting.activity, key) for key in sighting.identifiers()}
                if not keys & known:
                    known |= keys
                    self.sightings.append(sighting)
        self.sightings.sort(key=lambda one: one.at)

    def _sightings_in(self, header: Header, record: Record) -> Iterator[Sighting]:
        """Yield a sighting for each artifact that stands among the values of a task or workflow."""
        if not isinstance(record, (Task, Workflow, OpenTask)):
            return
        task_id = None if isinstance(record, Workflow) else header.full_id(record.task_id)
        parent = None if isinstance(record, Workflow) else record.parent_task_id
        for role in (USED, GENERATED):
            for artifact_id in _named_in(getattr(record, role)):
                named = self._found.get(artifact_id)
                workflow_id = record.workflow_id or (None if named is None else named.workflow_id)
                if named is None or workflow_id is None:
                    continue
                at = record.started_at if role == USED else record.ended_at
                yield Sighting(
                    artifact_id=artifact_id,
                    record=named.record,
                    role=role,
                    workflow_id=workflow_id,
                    task_id=task_id,
                    at=at or record.started_at or named.at,
                    inside=[] if parent is None else [header.full_id(parent)],
                    header=header,
                    digest=named.digest,
                )


def _sighting(record: Artifact, header: Header) -> Sighting:
    return Sighting(
        artifact_id=header.full_id(record.number),
        record=record,
        role=record.role,
        workflow_id=record.workflow_id,
        task_id=None if record.task_id is None else header.full_id(record.task_id),
        at=record.at,
        inside=[header.full_id(one) for one in record.inside or ()],
        header=header,
    )


def _named_in(values: Any, depth: int = 0) -> Iterator[str]:
    """Yield the ids of the artifacts among some values."""
    if depth > _MAX_DEPTH:
        return
    if isinstance(values, dict):
        artifact_id = values.get("$artifact")
        if isinstance(artifact_id, str):
            yield artifact_id
            return
        values = list(values.values())
    if isinstance(values, list):
        for value in values:
            yield from _named_in(value, depth + 1)


class Identities:
    """Which sightings are of one artifact.

    Attributes
    ----------
    artifacts
        The sightings of each artifact in the order of time, by its node id: its SHA-256, else the id of its
        first record.
    """

    def __init__(self, sightings: Iterable[Sighting]) -> None:
        self._parents: dict[str, str] = {}
        sightings = list(sightings)
        for sighting in sightings:
            first, *others = sighting.identifiers()
            for key in others:
                self._unite(first, key)
            self._root(first)
        groups: dict[str, list[Sighting]] = {}
        for sighting in sightings:
            groups.setdefault(self._root(next(sighting.identifiers())), []).append(sighting)
        self.artifacts: Mapping[str, list[Sighting]] = {
            next(filter(None, (one.sha256 for one in group)), group[0].artifact_id): group
            for group in groups.values()
        }
        self._node_of = {id(one): node for node, group in self.artifacts.items() for one in group}

    def node_of(self, sighting: Sighting) -> str:
        """Return the node id of the artifact of a sighting."""
        return self._node_of[id(sighting)]

    def _root(self, key: str) -> str:
        root = self._parents.setdefault(key, key)
        while self._parents[root] != root:
            root = self._parents[root]
        while self._parents[key] != root:
            self._parents[key], key = root, self._parents[key]
        return root

    def _unite(self, one: str, other: str) -> None:
        self._parents[self._root(other)] = self._root(one)
