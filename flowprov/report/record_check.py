"""How complete the record of a campaign is, and what it takes.

Flows in: the verification of a campaign. Flows out: facts, findings, and a row for each journal.
"""

from __future__ import annotations

from collections import Counter

from flowprov.display import format_size
from flowprov.read.campaign_sources import CampaignSource, size_of
from flowprov.read.journal_report import sum_internal_errors
from flowprov.read.verify import JournalCheck, OpenItem, Verification, verify_journals
from flowprov.report.parts import Fact, JournalRow, RecordCheck
from flowprov.report.text import format_duration, format_number, listed, short_id, shown

_MAX_JOURNALS, _MAX_FINDINGS = 40, 30
_SENTENCES = {
    "COMPLETE": "Every event that was captured is in the record.",
    "RUNNING": "The campaign still runs. Nothing is amiss so far.",
    "INCOMPLETE": "Something is missing, damaged, dropped or interrupted.",
}
_WORST_FIRST = ("INCOMPLETE", "RUNNING", "COMPLETE")


def verifications_of(campaign: CampaignSource) -> list[Verification]:
    """Return the checks of a campaign, one for each source that holds journals of it."""
    return [
        verify_journals(source, journals, digests=campaign.digests()) for source, journals in campaign.sources
    ]


def worst_verdict(verdicts: list[str]) -> str:
    """Return the worst of some verdicts."""
    return next((one for one in _WORST_FIRST if one in verdicts), "INCOMPLETE")


def check_of(found: list[Verification], size: int, seconds: float | None, examined_ns: int) -> RecordCheck:
    """Return what a report says of the checks of a campaign.

    Parameters
    ----------
    found
        The checks.
    size
        The bytes of its journals.
    seconds
        How long the campaign took.
    examined_ns
        What it took to find out the versions of code, data and packages.
    """
    checks = [check for one in found for check in one.journals]
    verdict = worst_verdict([one.verdict for one in found])
    at_fault_first = sorted(checks, key=lambda check: (not check.at_fault, str(check.report.path)))
    findings = _findings(found, checks)
    shown_findings = findings[:_MAX_FINDINGS]
    if len(findings) > len(shown_findings):
        shown_findings.append(f"{len(findings) - len(shown_findings):,} more: flowprov verify lists them.")
    return RecordCheck(
        verdict,
        _SENTENCES[verdict],
        _facts(checks, size, seconds, examined_ns),
        [_row(check) for check in at_fault_first[:_MAX_JOURNALS]],
        max(len(checks) - _MAX_JOURNALS, 0),
        shown_findings,
    )


def _facts(checks: list[JournalCheck], size: int, seconds: float | None, examined_ns: int) -> list[Fact]:
    captured = sum(check.captured for check in checks)
    dropped: Counter[str] = Counter()
    for check in checks:
        dropped.update(check.report.dropped)
    exact = all(check.exact for check in checks)
    rate = "" if not seconds else f"{format_number(round(captured / seconds, 1))} a second over the campaign"
    reasons = listed(f"{number:,} {shown(reason, 40)}" for reason, number in dropped.items())
    each = f"{format_size(size / captured)} an event, telemetry included" if captured else ""
    facts = [
        Fact("events captured", f"{'' if exact else 'at least '}{captured:,}", rate),
        Fact("events dropped", f"{sum(dropped.values()):,}", reasons),
        Fact("size of the journals", format_size(size), each),
        Fact(
            "processes that recorded",
            f"{len({(c.report.header.hostname, c.report.header.pid) for c in checks}):,}",
        ),
    ]
    if examined_ns:
        facts.append(
            Fact("time to examine code and data", format_duration(examined_ns / 1e9), "in the background")
        )
    errors = sum(sum_internal_errors(check.report for check in checks).values())
    if errors:
        facts.append(Fact("faults of flowprov", f"{errors:,}", "flowprov verify names them"))
    return facts


def _findings(found: list[Verification], checks: list[JournalCheck]) -> list[str]:
    findings = [
        f"{check.report.path.name}: {reason}"
        for check in checks
        if check.at_fault
        for reason in check.reasons
    ]
    for one in found:
        findings += one.missing
        findings += [f"{path}: {reason}" for path, reason in one.unreadable.items()]
        findings += one.odd
    return [shown(text, 300) for text in findings]


def open_items_of(found: list[Verification]) -> list[str]:
    """Return what has no end: what still runs, and what was interrupted."""
    items = [item for one in found for item in (*one.open, *one.lost)]
    texts = [_open_item(item) for item in items[:_MAX_FINDINGS]]
    return texts + ([f"and {len(items) - len(texts):,} more"] if len(items) > len(texts) else [])


def _open_item(item: OpenItem) -> str:
    where = f" on {shown(item.hostname, 40)}, pid {item.pid}" if item.hostname else ""
    return f"{item.status}: {item.kind} {shown(item.name or '(unnamed)', 60)} {short_id(item.id)}{where}"


def _row(check: JournalCheck) -> JournalRow:
    report = check.report
    at_least = "" if check.exact else "≥ "
    rank = "" if report.header.rank is None else f", rank {report.header.rank}"
    return JournalRow(
        shown(report.path.name, 60),
        f"{shown(report.header.hostname, 40)}, pid {report.header.pid}{rank}",
        check.state,
        f"{at_least}{check.captured:,}",
        f"{at_least}{check.written:,}",
        f"{at_least}{sum(report.dropped.values()):,}",
        f"{report.found:,}",
        shown("; ".join(check.reasons), 200) if check.at_fault else "",
    )


def journal_bytes(campaign: CampaignSource) -> int:
    """Return the bytes of the journals of a campaign."""
    return sum(map(size_of, campaign.journals))
