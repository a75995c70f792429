"""``flowprov verify``: whether all that a campaign captured is there.

Flows in: a campaign. Flows out: the verdict on its journals, as text or JSON, and the exit status: 0 if all
is there (so far), 1 if something is missing, damaged, dropped, interrupted or not delivered, 2 if it cannot
be read.
"""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from typing import Any

import click
import msgspec

from flowprov.cli.output import campaign_heading, print_all, print_json, source_options, table
from flowprov.cli.progress import progress
from flowprov.cli.sink_probes import open_probes
from flowprov.cli.verify_sinks import delivery_problems, delivery_state, delivery_table, run_lines
from flowprov.read.campaign_sources import find_campaign_id
from flowprov.read.journal_report import sum_internal_errors
from flowprov.read.verify import JournalCheck, OpenItem, Verification
from flowprov.read.verify import verify as verify_campaign

_MAX_ATTEMPTS = 20
_MAX_NAMED = 3
_MAX_DAMAGES = 100  # of one journal
_MAX_LINES = 1_000  # of one section
_HEAD = ("JOURNAL", "HOST", "PID", "STATE", "CAPTURED", "WRITTEN", "DROPPED", "FOUND")


@click.command()
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--to",
    "uris",
    multiple=True,
    metavar="URI",
    help="A sink to check, instead of those of the settings; can be repeated. Other users of a machine can "
    "see arguments: give credentials by FLOWPROV__SINKS__REDIS__URI or FLOWPROV__SINKS__MONGODB__URI.",
)
@click.pass_context
def verify(
    context: click.Context,
    source: str | None,
    campaign: str | None,
    uris: tuple[str, ...],
    *,
    as_json: bool,
) -> None:
    """Check that every captured event is in the journals, and on the sinks if there are any.

    MLflow holds runs in place of events: of these it is checked whether they are there as they are now.

    Exit status: 0 if all are, or are so far; 1 if something is missing, damaged, dropped, interrupted or not
    delivered; 2 if a journal cannot be read.
    """
    probes = open_probes(context, uris, from_server="://" in (source or ""))
    with closing(probes), progress("reading"):
        campaign_id = find_campaign_id(source or context.obj, campaign)
        result = verify_campaign(
            source or context.obj, campaign_id=campaign_id, sinks=probes.lines, run_sinks=probes.runs
        )
    command = shlex.join(["flowprov", "ship", *filter(None, [source])])
    problems = delivery_problems(result, command, named=bool(uris))
    if as_json:
        print_json(to_builtins(result))
    else:
        print_all(format_lines(result, problems))
    if result.unreadable:
        sys.exit(2)
    sys.exit(1 if result.verdict == "INCOMPLETE" else 0)


def format_lines(result: Verification, problems: list[str]) -> list[str]:
    """Return the result as lines for people; the verdict is the last one.

    Parameters
    ----------
    result
        The result.
    problems
        The problems of the delivery.
    """
    parts = [
        [campaign_heading(result.campaign)],
        table(_HEAD, [_row(check) for check in result.journals], numbers=4),
        _legend(result),
        _section("wrong", [line for check in result.journals if check.at_fault for line in _faults(check)]),
        _section("missing", result.missing),
        _section("interrupted", _scopes(result.lost)),
        _section("attempts", _attempts(result)),
        _section("earlier attempts", _earlier_attempts(result)),
        _section("ended from outside", _unclosed(result)),
        _section("still open", _scopes(result.open)),
        _section("cannot be read", [f"{path}: {reason}" for path, reason in result.unreadable.items()]),
        _section("copies", [f"{copy} is a copy; {path} is read" for copy, path in result.copies.items()]),
        _section("outside the folder of the campaign", [str(path) for path in result.misplaced]),
        _section("faults of flowprov", _internal_errors(result)),
        _section("odd about the run", result.odd),
        _section("delivered", [*delivery_table(result.journals), *run_lines(result.run_deliveries)]),
        [_verdict(result, problems)],
    ]
    return [line for part in parts if part for line in ("", *part)][1:]


def to_builtins(result: Verification) -> dict[str, Any]:
    """Return the result in JSON's types."""
    return {
        "verdict": result.verdict,
        "campaign": {"campaign_id": result.campaign.campaign_id, "name": result.campaign.name},
        "journals": [_journal(check) for check in result.journals],
        "missing": result.missing,
        "partial": result.partial,
        "attempts": msgspec.to_builtins(result.attempts),
        "interrupted": msgspec.to_builtins(result.interrupted),
        "open": msgspec.to_builtins(result.open),
        "unreadable": [{"path": str(path), "reason": reason} for path, reason in result.unreadable.items()],
        "copies": [{"path": str(copy), "of": str(path)} for copy, path in result.copies.items()],
        "misplaced": [str(path) for path in result.misplaced],
        "odd": result.odd,
        "run_deliveries": msgspec.to_builtins(result.run_deliveries),
        "internal_errors": sum_internal_errors(check.report for check in result.journals),
    }


def _journal(check: JournalCheck) -> dict[str, Any]:
    report = check.report
    return {
        "path": str(report.path),
        "journal_id": report.header.journal_id,
        "hostname": report.header.hostname,
        "pid": report.header.pid,
        "rank": report.header.rank,
        "state": check.state,
        "alive": report.alive,
        "exact": check.exact,
        "captured": check.captured,
        "written": check.written,
        "dropped": report.dropped,
        "internal_errors": report.internal_errors or {},
        "found": report.found,
        "damages": [
            {
                "path": str(damage.path),
                "offset": damage.offset,
                "length": damage.length,
                "reason": damage.reason,
            }
            for damage in report.damages
        ],
        "reasons": check.reasons,
        "faults": check.faults,
        "notes": check.notes,
        "worker": check.worker,
        "superseded": check.superseded,
        "deliveries": msgspec.to_builtins(check.deliveries),
    }


def _row(check: JournalCheck) -> tuple[str, ...]:
    report = check.report
    sign = "" if check.exact else ">="
    return (
        report.path.name,
        report.header.hostname,
        str(report.header.pid),
        check.state,
        f"{sign}{check.captured}",
        f"{sign}{check.written}",
        f"{sign}{sum(report.dropped.values())}",
        str(report.found),
    )


def _legend(result: Verification) -> list[str]:
    if all(check.exact for check in result.journals):
        return []
    return [">= at least: without a footer counts are known from the last heartbeat and the records found."]


def _faults(check: JournalCheck) -> list[str]:
    if not check.reasons:
        return []
    damages = [
        f"  {damage.path}:{damage.offset}  {damage.length} bytes  {damage.reason}"
        for damage in check.report.damages[:_MAX_DAMAGES]
    ]
    more = len(check.report.damages) - len(damages)
    damages += [f"  ... and {more} more"] if more > 0 else []
    return [
        str(check.report.path),
        *(f"  {reason}" for reason in check.reasons),
        *(f"  {line}" for line in damages),
    ]


def _internal_errors(result: Verification) -> list[str]:
    errors = sum_internal_errors(check.report for check in result.journals)
    return [f"{kind} \N{MULTIPLICATION SIGN}{count}" for kind, count in errors.items()]


def _scopes(scopes: list[OpenItem]) -> list[str]:
    rows = [
        (
            scope.kind,
            scope.name or "(unnamed)",
            scope.id,
            "" if scope.attempt is None else str(scope.attempt),
            f"{scope.hostname} pid {scope.pid}",
        )
        for scope in scopes
    ]
    return table(("KIND", "NAME", "ID", "ATTEMPT", "WHERE"), rows) if rows else []


def _attempts(result: Verification) -> list[str]:
    """Return the attempts of the workflows that have more than one, and of which one was interrupted."""
    interrupted = {item.workflow_id for item in result.interrupted if item.kind == "workflow"}
    rows = [
        (each.name or "(unnamed)", each.workflow_id, str(each.attempt), each.status)
        for each in result.attempts
        if each.workflow_id in interrupted
    ]
    more = [f"... and {len(rows) - _MAX_ATTEMPTS} more"] if len(rows) > _MAX_ATTEMPTS else []
    return [*table(("WORKFLOW", "ID", "ATTEMPT", "STATUS"), rows[:_MAX_ATTEMPTS]), *more] if rows else []


def _earlier_attempts(result: Verification) -> list[str]:
    """Return what is open or wrong in attempts that another one followed, which is no fault any more."""
    scopes = _scopes([item for item in result.interrupted if item.superseded])
    faults = [line for check in result.journals if check.superseded for line in _faults(check)]
    return [*scopes, *faults]


def _unclosed(result: Verification) -> list[str]:
    """Return which processes were ended from outside, and that this alone is no fault."""
    lines = [
        line
        for check in result.journals
        if check.state == "gone" and not (check.worker or check.at_fault or check.superseded)
        for line in (str(check.report.path), *(f"  {text}" for text in (*check.reasons, *check.notes)))
    ]
    workers = [check for check in result.journals if check.notes and check.worker]
    if workers:
        were = "worker process was" if len(workers) == 1 else f"{len(workers)} worker processes were"
        lines.append(f"{'1 ' if len(workers) == 1 else ''}{were} ended without a footer")
    return lines


def _section(title: str, lines: list[str]) -> list[str]:
    more = [f"  ... and {len(lines) - _MAX_LINES} more lines"] if len(lines) > _MAX_LINES else []
    return [f"{title}:", *(f"  {line}" for line in lines[:_MAX_LINES]), *more] if lines else []


def _verdict(result: Verification, problems: list[str]) -> str:
    events = sum(check.report.found for check in result.journals)
    running = sum(check.state == "running" for check in result.journals)
    gone = sum(check.state == "gone" for check in result.journals)
    journals = _count(len(result.journals), "journal")
    if result.verdict == "COMPLETE":
        complete = f"all {_count(events, 'event')} that were captured are there"
        closed = f"{gone} of them not closed" if gone else "closed"
        cut = f"; {_cut(result)}" if any(item.superseded for item in result.interrupted) else ""
        return f"COMPLETE: {journals}, {closed}; {complete}{cut}{delivery_state(result)}."
    if result.verdict == "RUNNING":
        so_far = _count(events, "event")
        so_far += f" so far{delivery_state(result)}"
        return f"RUNNING: {running} of {journals} still written; {so_far}, nothing amiss."
    faulty = sum(check.at_fault for check in result.journals)
    findings = [
        f"{faulty} of {journals} at fault" if faulty else "",
        f"{_count(len(result.missing), 'part')} missing" if result.missing else "",
        _interrupted(result.lost),
        f"{_count(len(result.unreadable), 'journal')} cannot be read" if result.unreadable else "",
        f"{running} still written" if running else "",
        f"no record is lost, all {_count(events, 'event')} that are known of are there"
        if result.lost and not (faulty or result.missing or result.unreadable or running)
        else "",
        *problems,
    ]
    return f"INCOMPLETE: {'; '.join(filter(None, findings))}."


def _interrupted(items: list[OpenItem]) -> str:
    """Return which workflows were interrupted, and in which attempt; of many only how many."""
    workflows = [item for item in items if item.kind == "workflow"]
    tasks = len(items) - len(workflows)
    if len(workflows) > _MAX_NAMED:
        names = [_count(len(workflows), "workflow")]
    else:
        names = [f"workflow {item.name or item.id} (attempt {item.attempt})" for item in workflows]
    named = [*names, *([_count(tasks, "task")] if tasks else [])]
    return f"{_and(named)} interrupted" if named else ""


def _cut(result: Verification) -> str:
    """Return which attempts were interrupted, and what became of the last one; of many only how many."""
    last = {each.workflow_id: each for each in result.attempts}
    cut: dict[str, list[str]] = {}
    for item in result.interrupted:
        if item.kind == "workflow" and item.workflow_id in last and item.superseded:
            cut.setdefault(item.workflow_id, []).append(str(item.attempt))
    if not cut or len(cut) > _MAX_NAMED:
        scopes = sum(item.superseded for item in result.interrupted)
        return f"{_count(scopes, 'scope')} of earlier attempts interrupted"
    return ", ".join(
        f"{'attempt' if len(numbers) == 1 else 'attempts'} {_and(numbers)} of workflow "
        f"{last[name].name or name} interrupted, attempt {last[name].attempt} {last[name].status}"
        for name, numbers in cut.items()
    )


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
