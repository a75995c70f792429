"""The versions on which workflows ran: what their records say, and the packages kept beside the journals.

Flows in: version records, each with the folder of its campaign. Flows out: the one of a workflow, and its
packages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flowprov.journal.object_store import read_object
from flowprov.records import Header, Version

START = "start"


class KeptVersion(NamedTuple):
    """A version record, with the header of its journal and the folder of its campaign."""

    record: Version
    header: Header
    folder: Path

    def packages(self) -> list[str] | None:
        """Return the packages, as ``name==version``; None if their list is not there."""
        digest = self.record.packages_sha256
        content = None if digest is None else read_object(self.folder, digest)
        return None if content is None else content.decode("utf-8", "replace").splitlines()


Versions = Mapping[str, Sequence[KeptVersion]]
"""The versions of workflows, by their ids, in the order of time."""


def by_workflow(found: Iterable[KeptVersion]) -> Versions:
    """Return versions by the workflow to which they belong."""
    grouped: dict[str, list[KeptVersion]] = {}
    for one in sorted(found, key=lambda kept: kept.record.at):
        grouped.setdefault(one.record.workflow_id, []).append(one)
    return grouped


def version_at_start(versions: Versions, workflow_id: str | None, attempt: int | None) -> KeptVersion | None:
    """Return the version on which an attempt of a workflow began to run; None if there is none."""
    starts = [one for one in versions.get(str(workflow_id), ()) if one.record.moment == START]
    return starts[min(attempt or 1, len(starts)) - 1] if starts else None
