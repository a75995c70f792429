"""Import experiments of MLflow: each becomes a campaign, and each run a workflow.

Flows in: a store of MLflow, and a buffer. Flows out: a journal for each experiment with runs that the buffer
does not hold yet. Ids follow from those of MLflow, so that a second import gives nothing new.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import msgspec

from flowprov.errors import UnknownIdError
from flowprov.export.mlflow.exporter import ARTIFACTS_FILE, HISTORY_FILE, STEP
from flowprov.export.mlflow.run_export import RUN_ID
from flowprov.export.mlflow.store import Store, StoredExperiment, StoredRun
from flowprov.imports.mlflow.run_records import ENDED, artifacts_of, metrics_of, workflow_id_of, workflow_of
from flowprov.imports.staged_journal import staged_journal
from flowprov.read.decoding import records_of_kind
from flowprov.read.source import Source
from flowprov.read.unknown_ids import describe_unknown
from flowprov.records import Artifact, Campaign, Workflow, encode
from flowprov.settings import JournalSettings
from flowprov.values import Summarizer

_PROGRAM = "mlflow"
_MS = 1_000_000  # nanoseconds


class ImportReport(msgspec.Struct):
    """What an import did with one experiment.

    Attributes
    ----------
    name, campaign_id
        The experiment, and the campaign that it became.
    imported, known
        How many runs are new, and how many the buffer held already.
    running
        How many runs were left as they still run.
    values
        How many values of metrics were recorded.
    """

    name: str
    campaign_id: str
    imported: int = 0
    known: int = 0
    running: int = 0
    values: int = 0


def import_experiments(
    store: Store,
    settings: JournalSettings,
    summarizer: Summarizer,
    *,
    experiment: str | None = None,
    running: bool = False,
) -> Iterator[ImportReport]:
    """Import experiments; yield what that did, for each that has runs.

    Parameters
    ----------
    store
        MLflow.
    settings
        The ``journal`` part of the settings; ``path`` is the buffer.
    summarizer
        What conceals secrets.
    experiment
        Only the experiment of this name or id; by default all.
    running
        Whether runs that MLflow holds for running are imported, too, as interrupted ones.

    Raises
    ------
    UnknownIdError, SinkError, JournalError
        If there is no such experiment, MLflow fails, or the buffer cannot be written. What was imported
        until then stays.
    """
    found = [one for one in store.experiments() if not one.deleted]
    chosen = [one for one in found if experiment in (None, one.name, one.experiment_id)]
    if experiment is not None and not chosen:
        names = {one.name: None for one in found}
        raise UnknownIdError(describe_unknown("experiment", experiment, store.name, names))
    for one in chosen:
        report = _import(store, one, settings, summarizer, running=running)
        if report.imported or report.known or report.running or experiment is not None:
            yield report


def campaign_id_of(experiment: StoredExperiment) -> str:
    """Return the id of the campaign that an experiment becomes: always the same."""
    facts = (experiment.experiment_id, experiment.created_at, experiment.artifact_location)
    return str(uuid5(NAMESPACE_URL, f"mlflow:{facts}"))


def _import(
    store: Store,
    experiment: StoredExperiment,
    settings: JournalSettings,
    summarizer: Summarizer,
    *,
    running: bool,
) -> ImportReport:
    report = ImportReport(experiment.name, campaign_id_of(experiment))
    known = _known_workflows(settings, report.campaign_id)
    wanted = []
    for run in store.runs(experiment.experiment_id):
        if run.deleted or (STEP in run.tags and RUN_ID not in run.tags):
            continue
        if workflow_id_of(run.mlflow_id) in known:
            report.known += 1
        elif run.status not in ENDED and not running:
            report.running += 1
        else:
            wanted.append(run)
    if not wanted:
        return report
    wanted.sort(key=lambda one: (one.started_at or 0, one.mlflow_id))
    starts = [run.started_at for run in wanted if run.started_at is not None]
    created = min([*starts, *([] if experiment.created_at is None else [experiment.created_at])], default=0)
    campaign = Campaign(campaign_id=report.campaign_id, name=experiment.name, started_at=created * _MS)
    with staged_journal(campaign, _PROGRAM, settings) as journal:
        for run in wanted:
            journal.append(encode(workflow_of(run, experiment, summarizer)))
            series = (store.history(run.mlflow_id, name) for name in run.metric_names)
            for record in metrics_of(workflow_id_of(run.mlflow_id), series, summarizer):
                journal.append_addition(encode(record))
                report.values += len(record.values)
            for line in artifacts_of(run, _listed(store, run), journal.next_number):
                append = journal.append if isinstance(line, Artifact) else journal.append_addition
                append(encode(line))
            report.imported += 1
    return report


def _listed(store: Store, run: StoredRun) -> Iterator[tuple[str, int | None]]:
    """Yield the artifacts of a run, without the files that an export of flowprov's wrote."""
    own = {HISTORY_FILE, ARTIFACTS_FILE} if RUN_ID in run.tags else set()
    return (found for found in store.artifacts(run.mlflow_id) if found[0] not in own)


def _known_workflows(settings: JournalSettings, campaign_id: str) -> set[str]:
    """Return the ids of the workflows that the buffer holds of a campaign."""
    if not Path(settings.path).is_dir():
        return set()
    journals = Source(settings.path).campaign(campaign_id)
    return {record.workflow_id for journal in journals for record in records_of_kind(journal, Workflow)}
