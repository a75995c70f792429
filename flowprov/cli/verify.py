"""``flowprov verify``: whether all that a campaign captured is there.

Flows in: a campaign. Flows out: what is to be said of its journals, as text or JSON, and the exit status:
0 all is there (so far), 1 something is missing, damaged, dropped or interrupted, 2 it cannot be read.
"""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec

from flowprov.cli.output import heading, say, source_options, table
from flowprov.read.lineage import printable
from flowprov.read.verify import JournalCheck, Unended, Verification
from flowprov.read.verify import verify as verify_campaign

_HEAD = ("JOURNAL", "HOST", "PID", "STATE", "CAPTURED", "WRITTEN", "DROPPED", "FOUND")


@click.command()
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def verify(default: str | None, source: str | None, campaign: str | None, *, as_json: bool) -> None:
    """Check that all that was captured is there.

    Exit status: 0 if it is, or is so far; 1 if something is missing, damaged, dropped or interrupted; 2 if it
    cannot be read.
    """
    found = verify_campaign(source or default, campaign_id=campaign)
    say(msgspec.json.encode(as_dict(found)).decode() if as_json else as_text(found))
    if found.unreadable:
        sys.exit(2)
    sys.exit(1 if found.verdict == "INCOMPLETE" else 0)


def as_text(found: Verification) -> str:
    """Write what was found for people; the verdict is the last line."""
    parts = [
        [heading(found.campaign)],
        table(_HEAD, [_row(check) for check in found.journals], numbers=4),
        _legend(found),
        _section("wrong", [line for check in found.journals for line in _wrong(check)]),
        _section("interrupted", _scopes(found.interrupted)),
        _section("still open", _scopes(found.open)),
        _section("cannot be read", [f"{path}: {why}" for path, why in found.unreadable.items()]),
        [_verdict(found)],
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


def _scopes(scopes: list[Unended]) -> list[str]:
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


def _verdict(found: Verification) -> str:
    events = sum(check.report.found for check in found.journals)
    running = sum(check.state == "running" for check in found.journals)
    journals = _count(len(found.journals), "journal")
    if found.verdict == "COMPLETE":
        return f"COMPLETE: {journals}, closed; all {_count(events, 'event')} that were captured are there."
    if found.verdict == "RUNNING":
        so_far = _count(events, "event")
        return f"RUNNING: {running} of {journals} still written; {so_far} so far, nothing amiss."
    faulty = sum(bool(check.reasons) for check in found.journals)
    told = [
        f"{faulty} of {journals} at fault" if faulty else "",
        f"{_count(len(found.interrupted), 'scope')} interrupted" if found.interrupted else "",
        f"{_count(len(found.unreadable), 'journal')} cannot be read" if found.unreadable else "",
        f"{running} still written" if running else "",
    ]
    return f"INCOMPLETE: {'; '.join(filter(None, told))}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
