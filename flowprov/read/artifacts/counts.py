"""What of artifacts stands beside other answers: how many a campaign has, and which a task touched.

Flows in: the journals of a campaign. Flows out: counts, or a few lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.tables import Line
from flowprov.read.artifacts.catalog import Catalog

_MANY_BYTES = 200_000_000  # of journals: to search larger ones takes longer than what is asked for beside it
_MAX_SHOWN = 50


def count_artifacts(journals: Sequence[JournalSummary]) -> dict[str, int]:
    """Return how many were used, generated, and are without a digest yet; nothing if there are none."""
    catalog = catalog_of(journals)
    if catalog is None or not catalog.sightings:
        return {}
    counts = Counter(one.role for one in catalog.sightings)
    counts["pending"] = sum(one.digest is None for one in catalog.sightings)
    return {name: counts[name] for name in ("used", "generated", "pending")}


def artifacts_inside(journals: Sequence[JournalSummary], task_id: str) -> dict[str, list[Line]]:
    """Return the artifacts that a task, workflow or run used and generated, with all that is inside it."""
    catalog = catalog_of(journals)
    found: dict[str, list[Line]] = {}
    for one in [] if catalog is None else catalog.sightings:
        if task_id in (*one.around, one.workflow_id):
            line = {"name": one.record.name, "path": one.place, "digest": one.sha256 or one.state}
            found.setdefault(f"{one.role}_artifacts", []).append(line)
    return {role: lines[:_MAX_SHOWN] for role, lines in found.items()}


def catalog_of(journals: Sequence[JournalSummary]) -> Catalog | None:
    """Return all uses and generations of artifacts in some journals; None if these are large."""
    try:
        size = sum(journal.path.stat().st_size for journal in journals)
    except OSError:  # one went away meanwhile
        return None
    return Catalog(journal.path for journal in journals) if size < _MANY_BYTES else None
