"""Which attempt wrote the checkpoint from which another one went on.

Flows in: workflows that named a checkpoint when they resumed, and the journals. Flows out: the same
workflows, with the workflow that wrote it, and when. Content decides. A killed program may not have got as
far as the digest: then it is what the file system says of the file, and last of all its path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from flowprov.read.answers.contents import Contents
from flowprov.read.answers.resumes import resume_of
from flowprov.read.artifacts.catalog import GENERATED, Catalog, Sighting
from flowprov.read.artifacts.graph import likely_producer
from flowprov.read.rows import Row
from flowprov.records import RESUMED_FROM, Workflow


def resolve_checkpoints(found: Sequence[Contents], catalog: Callable[[], Catalog]) -> list[Contents]:
    """Return contents whose resumed workflows know which workflow wrote their checkpoint, and when.

    Parameters
    ----------
    found
        The contents of campaigns.
    catalog
        Returns the artifacts among which the checkpoints are looked for. It is called if there are any.
    """
    if not any(_asks(row) for contents in found if contents.restarted for row in contents.rows):
        return list(found)
    known = catalog()
    return [
        contents._replace(rows=[_resolved(row, known) for row in contents.rows])
        if contents.restarted
        else contents
        for contents in found
    ]


def _asks(row: Row) -> bool:
    return isinstance(row, Workflow) and (resume := resume_of(row)) is not None and resume.used is not None


def _resolved(row: Row, catalog: Catalog) -> Row:
    if not isinstance(row, Workflow) or not _asks(row):
        return row
    resume = resume_of(row)
    use = next((one for one in catalog.sightings if resume and one.artifact_id == resume.used), None)
    producer = None if use is None else producer_of(use, catalog.sightings)
    if resume is None or producer is None or resume.workflow_id not in (None, producer.workflow_id):
        return row
    metadata: dict[str, Any] = dict(row.custom_metadata or {})
    metadata[RESUMED_FROM] = {
        **metadata[RESUMED_FROM],
        "workflow_id": producer.workflow_id,
        "at": producer.at,
        "generated": producer.artifact_id,
    }
    return msgspec.structs.replace(row, custom_metadata=metadata)


def producer_of(use: Sighting, sightings: Sequence[Sighting]) -> Sighting | None:
    """Return where what was used had been generated; None if no record says it."""
    generated = [one for one in sightings if one.role == GENERATED]
    for is_same in (_has_same_content, _has_same_weights, _has_same_status, _lies_there):
        same = [one for one in generated if one.at <= use.at and is_same(one, use)]
        if same:
            return likely_producer(same, use)
    return None


def _has_same_content(one: Sighting, use: Sighting) -> bool:
    if use.sha256 is None:
        return False
    return one.sha256 == use.sha256 or use.sha256 in _members(one) or one.sha256 in _members(use)


def _members(one: Sighting) -> set[str | None]:
    members = () if one.digest is None else one.digest.members or ()
    return {sha256 for _, _, sha256 in members}


def _has_same_weights(one: Sighting, use: Sighting) -> bool:
    return use.weights is not None and one.weights == use.weights


def _has_same_status(one: Sighting, use: Sighting) -> bool:
    return use.record.stat is not None and one.record.stat == use.record.stat


def _lies_there(one: Sighting, use: Sighting) -> bool:
    """Whether one was seen where the other was, or in it; and nothing says that it is another one."""
    paths = (one.record.path, use.record.path)
    if one.sha256 is not None or None in paths or one.header.hostname != use.header.hostname:
        return False
    inner, outer = sorted(map(str, paths), key=len, reverse=True)
    return inner == outer or inner.startswith(f"{outer}/")
