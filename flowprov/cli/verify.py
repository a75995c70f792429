"""``flowprov verify``: whether all that a campaign captured is there.

Flows in: a campaign. Flows out: the verdict on its journals, as text or JSON, and the exit status: 0 if all
is there (so far), 1 if something is missing, damaged, dropped, interrupted or not delivered, 2 if it cannot
be read.
"""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click
import msgspec

from flowprov.cli.output import Failure, campaign_heading, print_text, source_options, table
from flowprov.cli.verify_sinks import delivery_problems, delivery_state, delivery_table
from flowprov.read.journal_report import sum_internal_errors
from flowprov.read.labels import printable
from flowprov.read.sink_check import SinkProbe
from flowprov.read.verify import JournalCheck, OpenItem, Verification
from flowprov.read.verify import verify as verify_campaign
from flowprov.settings import load_settings, parse_assignment, redact_uri

_HEAD = ("JOURNAL", "HOST", "PID", "STATE", "CAPTURED", "WRITTEN", "DROPPED", "FOUND")


@click.command(short_help="Check that nothing is missing: in the buffer, and on the sinks.")
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

    Exit status: 0 if all are, or are so far; 1 if something is missing, damaged, dropped, interrupted or not
    delivered; 2 if a journal cannot be read.
    """
    sinks = _sink_probes(context, uris, from_server="://" in (source or ""))
    result = verify_campaign(source or context.obj, campaign_id=campaign, sinks=sinks)
    for sink in sinks:
        sink.close()
    command = shlex.join(["flowprov", "ship", *filter(None, [source])])
    problems = delivery_problems(result, command, named=bool(uris))
    print_text(
        msgspec.json.encode(to_builtins(result)).decode() if as_json else format_text(result, problems)
    )
    if result.unreadable:
        sys.exit(2)
    sys.exit(1 if result.verdict == "INCOMPLETE" else 0)


def _sink_probes(context: click.Context, uris: tuple[str, ...], *, from_server: bool) -> list[SinkProbe]:
    """Return the sinks to check: none if the campaign itself is read from one."""
    if from_server:
        if uris:
            raise Failure("--to asks what a sink holds of a buffer: give the buffer folder, not a server")
        return []
    options = context.find_root().params
    settings = load_settings(options["path"], dict(map(parse_assignment, options["assignments"]))).sinks
    configured = [uri for uri in (settings.redis.uri, settings.mongodb.uri) if uri is not None]
    by_name = {redact_uri(uri): uri for uri in uris or configured}  # one for each name that people see
    return [SinkProbe(uri, maxlen=settings.redis.maxlen) for uri in by_name.values()]


def format_text(result: Verification, problems: list[str]) -> str:
    """Return the result as text for people; the verdict is the last line.

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
        _section("wrong", [line for check in result.journals for line in _faults(check)]),
        _section("missing", [printable(sentence) for sentence in result.missing]),
        _section("interrupted", _scopes(result.interrupted)),
        _section("still open", _scopes(result.open)),
        _section("cannot be read", [f"{path}: {reason}" for path, reason in result.unreadable.items()]),
        _section("copies", [f"{copy} is a copy; {path} is read" for copy, path in result.copies.items()]),
        _section("outside the folder of the campaign", [str(path) for path in result.misplaced]),
        _section("faults of flowprov", _internal_errors(result)),
        _section("delivered", delivery_table(result.journals)),
        [_verdict(result, problems)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def to_builtins(result: Verification) -> dict[str, Any]:
    """Return the result in JSON's types."""
    return {
        "verdict": result.verdict,
        "campaign": {"campaign_id": result.campaign.campaign_id, "name": result.campaign.name},
        "journals": [_journal(check) for check in result.journals],
        "missing": result.missing,
        "interrupted": msgspec.to_builtins(result.interrupted),
        "open": msgspec.to_builtins(result.open),
        "unreadable": [{"path": str(path), "reason": reason} for path, reason in result.unreadable.items()],
        "copies": [{"path": str(copy), "of": str(path)} for copy, path in result.copies.items()],
        "misplaced": [str(path) for path in result.misplaced],
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
        f"  {damage.path}:{damage.offset}  {damage.length} bytes  {printable(damage.reason)}"
        for damage in check.report.damages
    ]
    return [
        str(check.report.path),
        *(f"  {reason}" for reason in check.reasons),
        *(f"  {line}" for line in damages),
    ]


def _internal_errors(result: Verification) -> list[str]:
    errors = sum_internal_errors(check.report for check in result.journals)
    return [f"{printable(kind)} \N{MULTIPLICATION SIGN}{count}" for kind, count in errors.items()]


def _scopes(scopes: list[OpenItem]) -> list[str]:
    rows = [
        (
            scope.kind,
            printable(scope.name or "(unnamed)"),
            printable(scope.id),
            f"{scope.hostname} pid {scope.pid}",
        )
        for scope in scopes
    ]
    return table(("KIND", "NAME", "ID", "WHERE"), rows) if rows else []


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def _verdict(result: Verification, problems: list[str]) -> str:
    events = sum(check.report.found for check in result.journals)
    running = sum(check.state == "running" for check in result.journals)
    journals = _count(len(result.journals), "journal")
    if result.verdict == "COMPLETE":
        complete = f"all {_count(events, 'event')} that were captured are there"
        return f"COMPLETE: {journals}, closed; {complete}{delivery_state(result)}."
    if result.verdict == "RUNNING":
        so_far = _count(events, "event")
        so_far += f" so far{delivery_state(result)}"
        return f"RUNNING: {running} of {journals} still written; {so_far}, nothing amiss."
    faulty = sum(bool(check.reasons) for check in result.journals)
    findings = [
        f"{faulty} of {journals} at fault" if faulty else "",
        f"{_count(len(result.missing), 'recorder')} missing" if result.missing else "",
        f"{_count(len(result.interrupted), 'scope')} interrupted" if result.interrupted else "",
        f"{_count(len(result.unreadable), 'journal')} cannot be read" if result.unreadable else "",
        f"{running} still written" if running else "",
        *problems,
    ]
    return f"INCOMPLETE: {'; '.join(filter(None, findings))}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
