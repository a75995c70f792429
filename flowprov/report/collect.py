"""Collect what a report says.

Flows in: the names of campaigns or runs, and sources. Flows out: a report. Every part of it is limited: of
many runs, tasks or values some are shown, and the report says which.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from flowprov.display import count, format_size
from flowprov.errors import FlowprovError
from flowprov.read.answers.contents import Contents
from flowprov.read.answers.run_search import TaskTree
from flowprov.read.answers.series import values_of
from flowprov.read.answers.tables import (
    Failures,
    Line,
    campaign_line,
    failures_in,
    run_lines,
    runs_with_attempts,
)
from flowprov.read.campaign_sources import CampaignSource, Sources
from flowprov.read.parquet_files import has_duckdb
from flowprov.read.questions import runs_of
from flowprov.records import Status, Workflow
from flowprov.report.activities import activities_of, failures_of
from flowprov.report.curves import Measured, charts_of
from flowprov.report.goals import choose_goal, metric_names
from flowprov.report.large import Span, add_curves, curves_statement, spans_of
from flowprov.report.lineage_graph import lineage_of
from flowprov.report.parallel import parallel_of
from flowprov.report.parts import CampaignPart, Fact, Report
from flowprov.report.record_check import (
    check_of,
    journal_bytes,
    open_items_of,
    verifications_of,
    worst_verdict,
)
from flowprov.report.run_table import best_run, in_order, run_table
from flowprov.report.subject import Subject, find_subject
from flowprov.report.surroundings import surroundings_of
from flowprov.report.task_answers import TaskAnswers, ask_tasks
from flowprov.report.telemetry import Telemetry
from flowprov.report.text import format_duration, format_energy, format_time, listed, shown
from flowprov.report.timeline import timeline_of
from flowprov.report.tree_lines import tree_of
from flowprov.version import __version__
from flowprov.versioning.pending import finish_pending

LARGE_BYTES = 150_000_000  # of journals: from here on not every iteration is read
_ENDED = {"ERROR": "failed"}


@dataclass(frozen=True)
class _ReadCampaign:
    """What is known of a campaign: its line, what failed, its runs, and its part of the report."""

    line: Line
    failed: Failures
    runs: list[Line]
    part: CampaignPart
    energy: float | None
    processes: int


def collect(
    wanted: Sequence[str] = (),
    source: Sources = None,
    *,
    metric: str | None = None,
    best: str | None = None,
    title: str | None = None,
) -> Report:
    """Return a report on campaigns or runs.

    Parameters
    ----------
    wanted
        Their ids, beginnings of these, or names; by default the campaign with the latest record.
    source
        As for :func:`flowprov.runs`.
    metric, best
        By which metric runs are compared, and whether its smallest (``"min"``) or largest (``"max"``) value
        is the best; by default their names decide.
    title
        The title; by default the names of the campaigns.

    Raises
    ------
    UnknownIdError, JournalError, SinkError
        As :func:`flowprov.runs` does.
    UsageError
        If no run has the metric, or its name does not say which values are good.
    """
    finish_pending()
    subject = find_subject(wanted, source)
    measured = Measured()
    found = [_campaign(subject, one, number, measured) for number, one in enumerate(subject.campaigns, 1)]
    lines = [line for one in found for line in one.runs]
    goal = choose_goal(lines, metric, best)
    ordered = in_order(lines, goal)
    chosen, why = best_run(ordered, goal)
    charts, notes = charts_of(measured, ordered, goal)
    return Report(
        title=shown(title, 120) if title else _names_of(found),
        status=worst_verdict([one.part.status for one in found]),
        made_at=format_time(time.time_ns()),
        version=__version__,
        facts=_facts(found, lines),
        best=chosen,
        why_no_best=why,
        runs=run_table(ordered, goal),
        charts=charts,
        parallel=parallel_of(ordered, goal),
        campaigns=[one.part for one in found],
        notes=notes,
    )


def _names_of(found: Sequence[_ReadCampaign]) -> str:
    """Return the names of some campaigns, each once."""
    counts = Counter(str(one.line["name"] or one.line["campaign_id"]) for one in found)
    names = (
        shown(name, 60) if number == 1 else f"{shown(name, 60)} ({count(number, 'campaign')})"
        for name, number in counts.items()
    )
    return listed(names, 3)


def _campaign(subject: Subject, campaign: CampaignSource, number: int, measured: Measured) -> _ReadCampaign:
    """Read a campaign; the values of its metrics are added to those measured."""
    size = journal_bytes(campaign)
    large = size > LARGE_BYTES
    checks = verifications_of(campaign)
    verdict = worst_verdict([check.verdict for check in checks])
    notes: list[str] = []
    contents = runs_of([campaign], every_iteration=not large)[0]
    line = campaign_line(contents, size, verdict)
    runs = [one for one in run_lines(contents) if _is_meant(one, subject)]
    run_ids = {str(one["run_id"]) for one in runs}
    spans = spans_of(runs_with_attempts(contents, attempts=False), run_ids) if large else []
    tasks = _ask_tasks(campaign, size, spans, notes)
    if not large:
        _measure(contents, run_ids, measured)
    elif tasks.more:
        add_curves(tasks.more[0], spans, metric_names(runs), measured)
        notes.append(f"The journals have {format_size(size)}: points of curves are chosen where they are.")
    workflows = [row for row in contents.rows if isinstance(row, Workflow)]
    start = line["started_at"] or 0
    end = start + int((line["duration"] or 0.0) * 1e9)
    if verdict == "RUNNING":
        end = max(end, *(journal.last_at for journal in campaign.journals))
    telemetry = Telemetry(campaign.journals, start, end)
    tree, tree_left_out = tree_of(campaign)
    examined = sum(one.record.took_ns or 0 for kept in contents.versions.values() for one in kept)
    failures = failures_of(tasks.failed, workflows)
    failed_workflows = sum(row.status == Status.ERROR.value for row in workflows)
    processes = len({(one.header.hostname, one.header.pid) for one in campaign.journals})
    part = CampaignPart(
        number=number,
        name=shown(line["name"] or "(unnamed)", 80),
        campaign_id=campaign.campaign_id,
        status=verdict,
        facts=_campaign_facts(line, processes),
        timeline=timeline_of(tasks.longest, workflows, telemetry.series(), start / 1e9, end / 1e9),
        tree=tree,
        tree_left_out=tree_left_out,
        activities=activities_of(tasks.activities),
        failures=failures,
        failures_total=tasks.failed_total + failed_workflows,
        open_items=open_items_of(checks),
        surroundings=surroundings_of(contents.versions, workflows, campaign.journals),
        lineage=lineage_of(campaign),
        check=check_of(checks, size, line["duration"], examined),
        notes=notes,
    )
    return _ReadCampaign(line, failures_in(contents), runs, part, telemetry.energy, processes)


def _is_meant(line: Line, subject: Subject) -> bool:
    ids = subject.run_ids
    return ids is None or any(line[name] in ids for name in ("run_id", "workflow_id", "campaign_id"))


def _measure(contents: Contents, run_ids: set[str], measured: Measured) -> None:
    """Add the values of the runs of a campaign to those measured."""
    tree = TaskTree(contents)
    for group in runs_with_attempts(contents, attempts=False):
        if group[0].run_id not in run_ids:
            continue
        points: dict[str, list[tuple[float, float]]] = {}
        for value in values_of(group, tree):
            points.setdefault(value.name, []).append((value.step, value.value))
        for name, found in points.items():
            measured.add(group[0].run_id, name, found)


def _ask_tasks(campaign: CampaignSource, size: int, spans: Sequence[Span], notes: list[str]) -> TaskAnswers:
    if size > LARGE_BYTES and not has_duckdb():
        notes.append(
            f"The journals have {format_size(size)}: curves, timeline, sums and failures are left out, as "
            'they need pip install "flowprov[query]".'
        )
        return TaskAnswers([], [], [], 0)
    try:
        more = [curves_statement(spans)] if spans else []
        return ask_tasks(campaign, more)
    except FlowprovError as error:
        notes.append(f"Timeline, sums and failures of tasks are left out: {shown(str(error), 200)}")
        return TaskAnswers([], [], [], 0)


def _campaign_facts(line: Line, processes: int) -> list[Fact]:
    return [
        Fact("started", f"{format_time(line['started_at'])} UTC"),
        Fact("duration", format_duration(line["duration"])),
        Fact("runs", f"{line['runs']:,}"),
        Fact("tasks", f"{line['tasks']:,}", "without iterations"),
        Fact("processes", f"{processes:,}"),
    ]


def _facts(found: Sequence[_ReadCampaign], runs: Sequence[Line]) -> list[Fact]:
    """Return the facts of the first screen: how many runs, what they cost, and what failed."""
    statuses = [str(line["status"] or "UNKNOWN") for line in runs]
    good = statuses.count(Status.FINISHED.value)
    others = [name for name in dict.fromkeys(statuses) if name != Status.FINISHED.value]
    ended = listed([f"{statuses.count(name):,} {_ENDED.get(name, name.lower())}" for name in others])
    spent = sum(line["duration"] or 0.0 for line in runs)
    wall = sum(one.line["duration"] or 0.0 for one in found)
    energies = [one.energy for one in found if one.energy is not None]
    failed_runs = sum(name in ("ERROR", "INTERRUPTED") for name in statuses)
    facts = [
        Fact("runs", f"{len(runs):,}", f"{good:,} finished" + (f", {ended}" if ended else "")),
        Fact("time", format_duration(wall), f"{format_duration(spent)} of runs, {_processes(found)}"),
        Fact("failed", count(failed_runs, "run"), _failure_note(found)),
    ]
    if energies:
        facts.append(Fact("energy of GPUs", format_energy(sum(energies)), "the whole devices"))
    return facts


def _failure_note(found: Sequence[_ReadCampaign]) -> str:
    """Return how many tasks failed, and workflows outside of any; and the error that came most often."""
    of_tasks = count(sum(one.line["tasks"] for one in found), "task")
    tasks = sum(one.failed.tasks for one in found)
    workflows = sum(one.failed.workflows for one in found if one.failed.workflows > one.failed.tasks)
    failed = [f"{tasks:,} of {of_tasks}"] if tasks else []
    failed += [count(workflows, "workflow")] if workflows else []
    if not failed:
        return f"none of {of_tasks}"
    groups = [group for one in found for group in one.part.failures]
    often = max(groups, key=lambda group: group.times, default=None)
    named = "" if often is None else f", mostly {often.error} in {often.activity}"
    return f"{' and '.join(failed)} ended with an error{named}"


def _processes(found: Sequence[_ReadCampaign]) -> str:
    return count(sum(one.processes for one in found), "process")
