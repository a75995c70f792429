"""``flowprov verify``: whether all that a campaign captured is there.

Flows in: a campaign. Flows out: what is to be said of its journals, as text or JSON, and the exit status:
0 all is there (so far), 1 something is missing, damaged, dropped, interrupted or not delivered, 2 it cannot
be read.
"""

from __future__ import annotations

import shlex
import sys
from typing import Any

import click
import msgspec

from flowprov.cli.output import Failure, heading, say, source_options, table
from flowprov.cli.verify_sinks import complaints, delivery_state, delivery_table
from flowprov.read.lineage import printable
from flowprov.read.sink_check import SinkProbe
from flowprov.read.verify import JournalCheck, OpenItem, Verification
from flowprov.read.verify import verify as verify_campaign
from flowprov.settings import load_settings, parse_assignment, redact_uri

_HEAD = ("JOURNAL", "HOST", "PID", "STATE", "CAPTURED", "WRITTEN", "DROPPED", "FOUND")


@click.command()
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--to",
    "uris",
    multiple=True,
    metavar="URI",
    help="A sink to ask what it holds, in place of those of the settings; can be repeated. Other users of a "
    "machine can see arguments: give credentials by FLOWPROV__SINKS__REDIS__URI or "
    "FLOWPROV__SINKS__MONGODB__URI.",
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
    """Check that all that was captured is there, and delivered where there are sinks.

    Exit status: 0 if it is, or is so far; 1 if something is missing, damaged, dropped, interrupted or not
    delivered; 2 if it cannot be read.
    """
    sinks = _sink_probes(context, uris, from_server="://" in (source or ""))
    found = verify_campaign(source or context.obj, campaign_id=campaign, sinks=sinks)
    for sink in sinks:
        sink.close()
    command = shlex.join(["flowprov", "ship", *filter(None, [source])])
    complained = complaints(found, command, named=bool(uris))
    say(msgspec.json.encode(as_dict(found)).decode() if as_json else as_text(found, complained))
    if found.unreadable:
        sys.exit(2)
    sys.exit(1 if found.verdict == "INCOMPLETE" else 0)


def _sink_probes(context: click.Context, uris: tuple[str, ...], *, from_server: bool) -> list[SinkProbe]:
    """Give the sinks that are to be asked: none if the campaign itself is read from one."""
    if from_server:
        if uris:
            raise Failure("--to asks what a sink holds of a buffer: give the buffer folder, not a server")
        return []
    given = context.find_root().params
    settings = load_settings(given["path"], dict(map(parse_assignment, given["assignments"]))).sinks
    named = [uri for uri in (settings.redis.uri, settings.mongodb.uri) if uri is not None]
    apart = {redact_uri(uri): uri for uri in uris or named}  # as people see them
    return [SinkProbe(uri, maxlen=settings.redis.maxlen) for uri in apart.values()]


def as_text(found: Verification, complained: list[str]) -> str:
    """Write what was found for people; the verdict is the last line.

    Parameters
    ----------
    found
        What was found.
    complained
        What is amiss with its delivery.
    """
    parts = [
        [heading(found.campaign)],
        table(_HEAD, [_row(check) for check in found.journals], numbers=4),
        _legend(found),
        _section("wrong", [line for check in found.journals for line in _wrong(check)]),
        _section("interrupted", _scopes(found.interrupted)),
        _section("still open", _scopes(found.open)),
        _section("cannot be read", [f"{path}: {why}" for path, why in found.unreadable.items()]),
        _section("delivered", delivery_table(found.journals)),
        [_verdict(found, complained)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def as_dict(found: Verification) -> dict[str, Any]:
    """Give what was found in JSON's types."""
    return {
        "verdict": found.verdict,
        "campaign": {"campaign_id": found.campaign.campaign_id, "name": found.campaign.name},
        "journals": [_journal(check) for check in found.journals],
        "interrupted": msgspec.to_builtins(found.interrupted),
        "open": msgspec.to_builtins(found.open),
        "unreadable": [{"path": str(path), "reason": why} for path, why in found.unreadable.items()],
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
    least = "" if check.exact else ">="
    return (
        report.path.name,
        report.header.hostname,
        str(report.header.pid),
        check.state,
        f"{least}{check.captured}",
        f"{least}{check.written}",
        f"{least}{sum(report.dropped.values())}",
        str(report.found),
    )


def _legend(found: Verification) -> list[str]:
    if all(check.exact for check in found.journals):
        return []
    return [">= at least: without a footer counts are known from the last heartbeat and the records found."]


def _wrong(check: JournalCheck) -> list[str]:
    if not check.reasons:
        return []
    damages = [
        f"  {each.path}:{each.offset}  {each.length} bytes  {printable(each.reason)}"
        for each in check.report.damages
    ]
    return [
        str(check.report.path),
        *(f"  {reason}" for reason in check.reasons),
        *(f"  {line}" for line in damages),
    ]


def _scopes(scopes: list[OpenItem]) -> list[str]:
    rows = [
        (
            each.kind,
            printable(each.name or "(unnamed)"),
            printable(each.id),
            f"{each.hostname} pid {each.pid}",
        )
        for each in scopes
    ]
    return table(("KIND", "NAME", "ID", "WHERE"), rows) if rows else []


def _section(title: str, lines: list[str]) -> list[str]:
    return [f"{title}:", *(f"  {line}" for line in lines)] if lines else []


def _verdict(found: Verification, complained: list[str]) -> str:
    events = sum(check.report.found for check in found.journals)
    running = sum(check.state == "running" for check in found.journals)
    journals = _count(len(found.journals), "journal")
    if found.verdict == "COMPLETE":
        there = f"all {_count(events, 'event')} that were captured are there"
        return f"COMPLETE: {journals}, closed; {there}{delivery_state(found)}."
    if found.verdict == "RUNNING":
        so_far = _count(events, "event")
        so_far += f" so far{delivery_state(found)}"
        return f"RUNNING: {running} of {journals} still written; {so_far}, nothing amiss."
    faulty = sum(bool(check.reasons) for check in found.journals)
    told = [
        f"{faulty} of {journals} at fault" if faulty else "",
        f"{_count(len(found.interrupted), 'scope')} interrupted" if found.interrupted else "",
        f"{_count(len(found.unreadable), 'journal')} cannot be read" if found.unreadable else "",
        f"{running} still written" if running else "",
        *complained,
    ]
    return f"INCOMPLETE: {'; '.join(filter(None, told))}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
