"""``runs``, ``metrics`` and ``campaigns``: what a person asks first, over whole buffers.

Flows in: one source or several. Flows out: DataFrames.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flowprov.errors import UnknownIdError
from flowprov.read.answers.answer_frames import answer_frame
from flowprov.read.answers.compared import CompactedCampaign, items_in_files
from flowprov.read.answers.contents import Contents, read_contents, read_runs
from flowprov.read.answers.difference import Difference
from flowprov.read.answers.items import Item, find_item
from flowprov.read.answers.joined_campaigns import across_campaigns, groups_of, join_resumed
from flowprov.read.answers.tables import (
    CAMPAIGN_COLUMNS,
    METRIC_COLUMNS,
    RUN_COLUMNS,
    Line,
    campaign_line,
    metric_lines,
    run_lines,
    runs_with_attempts,
)
from flowprov.read.artifacts.catalog import Catalog
from flowprov.read.artifacts.counts import catalog_of
from flowprov.read.artifacts.resumed_from import resolve_checkpoints
from flowprov.read.campaign_names import campaign_of
from flowprov.read.campaign_sources import CampaignSource, Sources, campaigns_of, describe_sources, size_of
from flowprov.read.digest import Digest, create_digest
from flowprov.read.unknown_ids import describe_unknown
from flowprov.values import as_id
from flowprov.versioning.pending import finish_pending

if TYPE_CHECKING:
    import pandas as pd


def runs(source: Sources = None, *, campaign_id: str | None = None, attempts: bool = False) -> pd.DataFrame:
    """Return the runs of a buffer as a DataFrame: one row per run, in the order of their starts.

    A run is what contains a training loop: the outermost task in which a loop ran or metrics were logged,
    else the workflow in which that was. A workflow without any of these is a run, too, and so is a task that
    failed before its loop, where another task of its name and workflow is a run. The ranks of a job are one
    run.

    Parameters
    ----------
    source
        As for :class:`Buffer`; or several of these.
    campaign_id
        Only this campaign; by default all.
    attempts
        Whether each attempt of a run has a row, of a workflow or a Dask task. By default they are one: with
        the ``run_id`` and the start of the first, and the status of the latest.

    Returns
    -------
    pandas.DataFrame
        ``run_id``, ``name``, ``campaign_id``, ``campaign``, ``workflow_id``, ``status``, ``started_at`` and
        ``ended_at`` (``datetime64[ns, UTC]``), ``duration`` (seconds, of all attempts; one that was
        interrupted counts up to the last record of its processes), ``hostname``, ``git_commit``,
        ``git_dirty``, ``user``, ``tags``, ``error``, ``attempts``. Then ``params.<key>``: the scalars of what
        the run used, nested keys joined by dots; a task's own are above those of its workflow. Then
        ``metrics.<key>``, the last value, and ``metrics.<key>.min`` and ``.max``. Beyond two million cells
        the columns that the fewest runs have are left out, which a warning says.

    Raises
    ------
    JournalError, UnknownIdError, SinkError
        As :class:`Buffer` does.
    MissingExtraError
        If pandas is not installed.
    """
    lines = run_table(source, campaign_id=campaign_id, attempts=attempts)
    return answer_frame(lines, RUN_COLUMNS)


def metrics(
    source: Sources = None,
    *,
    campaign_id: str | None = None,
    run_id: str | None = None,
    names: Iterable[str] | None = None,
    attempts: bool = False,
) -> pd.DataFrame:
    """Return the metrics of runs as a DataFrame: one row per value.

    They come from what iterations generated (numbers only) and from ``log_metrics``. There is one value per
    run, name and step, so ``frame.pivot(index="step", columns="name", values="value").plot()`` draws the
    curves of a run. An integer that is too large for a float is infinite here.

    Parameters
    ----------
    source, campaign_id
        As for :func:`runs`.
    run_id
        Only this run.
    names
        Only these metrics.
    attempts
        Whether each attempt of a run stands by itself. By default they are one: of a step that two of them
        made, the later one counts.

    Returns
    -------
    pandas.DataFrame
        ``run_id``, ``name``, ``step``, ``epoch``, ``value``, ``at``, ``task_id``. ``step`` counts on through
        the epochs, for each run and name.

    Raises
    ------
    JournalError, UnknownIdError, SinkError
        As :class:`Buffer` does. UnknownIdError also if there is no run with this id.
    MissingExtraError
        If pandas is not installed.
    """
    wanted = as_id(run_id)
    names = [names] if isinstance(names, str) else names
    chosen = None if names is None else list(names)
    lines: list[Line] = []
    known: dict[str, str | None] = {}
    found = campaigns_of(source, campaign_id)
    for contents in runs_of(found, every_iteration=True):
        if wanted is not None:
            groups = runs_with_attempts(contents, attempts=attempts)
            known.update({group[0].run_id: group[-1].name for group in groups})
        lines += metric_lines(contents, run_id=wanted, names=chosen, attempts=attempts)
    if wanted is not None and wanted not in known:
        raise UnknownIdError(describe_unknown("run", wanted, describe_sources(source, found), known))
    return answer_frame(lines, METRIC_COLUMNS)


def campaigns(source: Sources = None) -> pd.DataFrame:
    """Return the campaigns of a buffer as a DataFrame: one row per campaign, the latest last.

    Parameters
    ----------
    source
        As for :func:`runs`.

    Returns
    -------
    pandas.DataFrame
        ``campaign_id``, ``name``, ``started_at``, ``duration`` (seconds, up to the latest end, or the last
        record of what was interrupted), ``runs``, ``tasks`` (without iterations), ``errors`` (tasks that
        ended with one), ``size`` (bytes of the journals), ``status``: RUNNING, COMPLETE or INCOMPLETE, as
        ``flowprov verify`` says.

    Raises
    ------
    JournalError, SinkError, MissingExtraError
        As :func:`runs` does.
    """
    return answer_frame(campaign_table(source), CAMPAIGN_COLUMNS)


def diff(a: str, b: str, source: Sources = None, *, forwards: bool = False) -> Difference:
    """Return what differs between two runs, tasks, workflows or campaigns.

    Parameters
    ----------
    a, b
        Their ids, or beginnings or ends of these that fit only one, or names that only one has.
    source
        As for :func:`runs`.
    forwards
        Whether to look for the first module call whose inputs agree and whose outputs differ. Both must have
        forwards that were recorded with ``tensor_statistics``.

    Returns
    -------
    Difference
        How they ended, parameters, settings, code, environment, the artifacts that were used, metrics (the
        last value, the smallest, the largest, and the step from which the curves part), the last weights and
        durations. It prints as a table; ``to_dict()`` returns all of it, ``beyond(1e-5)`` leaves out metrics
        that are nearly the same, and ``with_phases()`` adds what the steps are made of.

    Raises
    ------
    UnknownIdError
        If an id fits none, or several.
    JournalError, SinkError
        As :class:`Buffer` does; the first, too, if there are no forwards to compare.
    """
    wanted = as_id(a) or "", as_id(b) or ""
    finish_pending()
    found, items = campaigns_of(source, None), None
    where = describe_sources(source, found)
    if found and not forwards:
        compacted = [CompactedCampaign(one.journals, one.digests()) for one in found]
        items = items_in_files(compacted, wanted)
    if items is None:
        contents = contents_of(found)
        items = [find_item(contents, one, where) for one in wanted]
    theirs = {
        name for item in items for name in (item.contents.campaign.campaign_id, *item.contents.campaign_names)
    }
    campaigns = [one for one in found if one.campaign_id in theirs]
    artifacts = catalog_of([journal for one in campaigns for journal in one.journals])

    def read_whole() -> list[Item]:
        contents = contents_of(campaigns)
        return [find_item(contents, item.id, where) for item in items]

    return Difference(*items, forwards=forwards, artifacts=artifacts, read_whole=read_whole)


def run_table(
    source: Sources = None, *, campaign_id: str | None = None, attempts: bool = False
) -> list[Line]:
    """Return the lines of :func:`runs` without pandas; times are in nanoseconds since the epoch."""
    finish_pending()
    found = all_runs(source, campaign_id)
    return [line for contents in found for line in run_lines(contents, attempts=attempts)]


def campaign_table(source: Sources = None) -> list[Line]:
    """Return the lines of :func:`campaigns` without pandas; times are in nanoseconds since the epoch."""
    lines = []
    found = campaigns_of(source, None)
    for one in found:
        digests = {**_new_digests(one), **one.digests()}
        sizes = [size_of(journal) for journal in one.journals]
        contents = read_runs(campaign_of(one.journals), one.journals, digests)
        lines.append(campaign_line(contents, sum(sizes), one.verdict(digests)))
    return lines


def _new_digests(campaign: CampaignSource) -> dict[Path, Digest]:
    """Return the digests of closed journals that have none yet: so each is read once."""
    known, found = campaign.digests(), {}
    for journal in campaign.journals:
        if journal.footer is not None and journal.path not in known:
            try:
                created = create_digest(journal)
            except OSError:  # it went away meanwhile, and that will be said
                continue
            if created is not None:
                found[journal.path] = created[0]
    return found


def all_contents(source: Sources, campaign_id: str | None) -> Iterator[Contents]:
    """Yield what the campaigns of some sources hold, the latest campaign last.

    Campaigns between which a run was resumed are one.
    """
    yield from contents_of(campaigns_of(source, campaign_id))


def contents_of(found: Sequence[CampaignSource]) -> list[Contents]:
    """Return what some campaigns hold; those between which a run was resumed are one."""
    contents = [read_contents(campaign_of(one.journals), one.journals) for one in found]
    return join_resumed(resolve_checkpoints(contents, _catalog_of(found)))


def all_runs(
    source: Sources, campaign_id: str | None, *, every_iteration: bool = False
) -> Iterator[Contents]:
    """Yield what the runs of the campaigns of some sources are, the latest campaign last; see read_runs.

    Campaigns between which a run was resumed are one.
    """
    yield from runs_of(campaigns_of(source, campaign_id), every_iteration=every_iteration)


def runs_of(found: Sequence[CampaignSource], *, every_iteration: bool = False) -> list[Contents]:
    """Return what the runs of some campaigns are, as :func:`all_runs` yields it."""
    catalog = _catalog_of(found)
    contents = _runs_apart(found, catalog, every_iteration=every_iteration)
    if not every_iteration:  # steps count where a run goes on in another campaign
        for index in across_campaigns(contents):
            one = found[index]
            contents[index] = read_runs(campaign_of(one.journals), one.journals, every_iteration=True)
        contents = resolve_checkpoints(contents, catalog)
    return join_resumed(contents)


def with_resumed(found: Sequence[CampaignSource], wanted: Container[str]) -> list[CampaignSource]:
    """Return the campaigns whose ids are wanted, and those that share a resumed run with one of them."""
    groups = groups_of(_runs_apart(found, _catalog_of(found)))
    chosen = [group for group in groups if any(found[position].campaign_id in wanted for position in group)]
    return [found[position] for position in sorted(position for group in chosen for position in group)]


def _runs_apart(
    found: Sequence[CampaignSource], catalog: Callable[[], Catalog], *, every_iteration: bool = False
) -> list[Contents]:
    """Return what the runs of each campaign are; those between which a run was resumed stay apart."""
    contents = [
        read_runs(campaign_of(one.journals), one.journals, one.digests(), every_iteration=every_iteration)
        for one in found
    ]
    return resolve_checkpoints(contents, catalog)


def _catalog_of(campaigns: Sequence[CampaignSource]) -> Callable[[], Catalog]:
    """Return a function that looks for the artifacts of some campaigns when it is called first."""
    return functools.cache(lambda: Catalog(journal.path for one in campaigns for journal in one.journals))
