"""Export campaigns of a buffer to MLflow.

Flows in: sources, and the campaigns that are wanted. Flows out: their runs in MLflow, and what was new.
"""

from __future__ import annotations

import fcntl
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from flowprov.export.mlflow.exporter import ExperimentReport, export_runs
from flowprov.export.mlflow.run_export import RunExport, exports_of
from flowprov.export.mlflow.store import Store
from flowprov.journal.folders import PRIVATE, open_no_link
from flowprov.read.artifacts.catalog import Catalog, Sighting
from flowprov.read.campaign_names import campaign_of, find_campaign
from flowprov.read.campaign_sources import (
    CampaignSource,
    Sources,
    campaigns_of,
    describe_sources,
    each_source,
)
from flowprov.read.questions import runs_of, with_resumed
from flowprov.read.source import default_folder
from flowprov.versioning.pending import finish_pending

_LOCK = ".export-mlflow.lock"


def export_campaigns(
    store: Store, source: Sources = None, campaigns: Iterable[str] = (), *, upload_bytes: int = 0
) -> list[ExperimentReport]:
    """Export campaigns; return what that did to each experiment.

    Campaigns of one name share an experiment, as the programs of a pipeline do that each open it anew.

    Parameters
    ----------
    store
        MLflow.
    source
        As for :func:`flowprov.runs`.
    campaigns
        Ids, beginnings or ends of ids that fit only one, or names; by default all.
    upload_bytes
        Files of at most so many bytes that runs generated are uploaded; 0 uploads none.

    Raises
    ------
    JournalError, UnknownIdError, SinkError
        If a source cannot be read, there is no such campaign, or MLflow fails.
    """
    finish_pending()
    with _sole_export(source):
        found = campaigns_of(source, None)
        wanted = {one.campaign_id for one in _chosen(source, found, list(campaigns))}
        # A run that was resumed in another campaign is one run, whichever of the two is asked for.
        read = found if len(wanted) == len(found) else with_resumed(found, wanted)
        exports = [one.run for one in exported_runs(read) if one.campaigns & wanted]
        return export_runs(store, exports, upload_bytes=upload_bytes)


@contextmanager
def _sole_export(source: Sources) -> Iterator[None]:
    """Have one process at a time export a buffer: two would create the same runs twice."""
    folders = [default_folder() if one is None else Path(one) for one in each_source(source)]
    with ExitStack() as stack:
        for folder in sorted(folder for folder in folders if folder.is_dir()):
            with suppress(OSError):  # a buffer that cannot be written, or has no locks, is exported without
                flags = os.O_WRONLY | os.O_CREAT
                file = stack.enter_context(os.fdopen(open_no_link(folder / _LOCK, flags, PRIVATE), "wb"))
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


class ExportedRun(NamedTuple):
    """What MLflow gets of a run, and the campaigns of which it is: of several if it was resumed."""

    run: RunExport
    campaigns: frozenset[str]


def exported_runs(found: Sequence[CampaignSource]) -> Iterator[ExportedRun]:
    """Yield what MLflow gets of each run of some campaigns."""
    catalog = Catalog(journal.path for one in found for journal in one.journals)
    sightings: dict[str, list[Sighting]] = defaultdict(list)
    for sighting in catalog.sightings:
        sightings[sighting.workflow_id].append(sighting)
    for contents in runs_of(found, every_iteration=True):
        for run, group in exports_of(contents, sightings):
            ids = {str(one.workflow.campaign_id) for one in group if one.workflow is not None}
            yield ExportedRun(run, frozenset(ids or {contents.campaign.campaign_id}))


def _chosen(source: Sources, found: Sequence[CampaignSource], wanted: Sequence[str]) -> list[CampaignSource]:
    """Return the campaigns that are meant: of a name all that have it."""
    if not wanted:
        return list(found)
    names = {one.campaign_id: campaign_of(one.journals).name for one in found}
    groups = {one.campaign_id: one.journals for one in found}
    places = describe_sources(source, found)
    chosen: set[str] = set()
    for word in wanted:
        named = [one for one, name in names.items() if word in (one, name)]
        chosen.update(named or [find_campaign(groups, word, places)])
    return [one for one in found if one.campaign_id in chosen]
