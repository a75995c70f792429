"""What ``flowprov verify`` says of deliveries.

Flows in: what was found of each journal and sink. Flows out: one table, with a row for each journal and a
column for each sink, and the words of the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowprov.cli.output import table
from flowprov.read.sink_check import SinkCounts
from flowprov.read.verify import JournalCheck, Verification


def delivery_table(journals: Sequence[JournalCheck]) -> list[str]:
    """Write the table; below it which sink each column is; empty without sinks."""
    sinks = by_sink(journals)
    if not sinks:
        return []
    marks = [f"[{number}]" for number in range(1, len(sinks) + 1)]
    rows = [
        (
            check.report.path.name,
            str(max(each.lines for each in check.deliveries)),
            *map(_cell, check.deliveries),
        )
        for check in journals
    ]
    return [
        *table(("JOURNAL", "LINES", *marks), rows, numbers=1 + len(marks)),
        *(f"{mark} {_line(*item)}" for mark, item in zip(marks, sinks.items(), strict=True)),
    ]


def by_sink(journals: Sequence[JournalCheck]) -> dict[str, list[SinkCounts]]:
    """Sort the deliveries by sink."""
    found: dict[str, list[SinkCounts]] = {}
    for check in journals:
        for each in check.deliveries:
            found.setdefault(each.sink, []).append(each)
    return found


def delivery_state(found: Verification) -> str:
    """Say, where nothing is amiss, what is delivered and what still waits; empty without sinks."""
    told, done = [], []
    for sink, deliveries in by_sink(found.journals).items():
        waiting = sum(each.waiting or 0 for each in deliveries)
        if waiting:
            told.append(f"{_records(waiting, 'waits', 'wait')} for {sink}")
        else:
            done.append(sink)
    if done:
        told.insert(0, f"delivered to {' and '.join(done)}")
    return "".join(f", {each}" for each in told)


def complaints(found: Verification, ship: str, *, named: bool) -> list[str]:
    """Say what is amiss with each sink.

    Parameters
    ----------
    found
        What was found.
    ship
        The command that delivers what waits.
    named
        Whether the sinks have to be named to that command.
    """
    told = []
    for sink, deliveries in by_sink(found.journals).items():
        if any(each.unknown is not None for each in deliveries):
            told.append(f"delivery to {sink} unknown")
        if missing := sum(each.missing or 0 for each in deliveries):
            told.append(f"{_records(missing, 'is', 'are')} missing on {sink}")
        waiting = sum(each.waiting or 0 for each in deliveries)
        if waiting and not found.running:
            command = f"{ship} --to {sink}" if named else ship
            told.append(f"{_records(waiting, 'waits', 'wait')} for {sink}: `{command}` delivers them")
    return told


def _cell(delivery: SinkCounts) -> str:
    if delivery.unknown is not None:
        return "unknown"
    return ", ".join([str(delivery.held), *_rest([delivery])])


def _line(sink: str, deliveries: list[SinkCounts]) -> str:
    unknown = next((each.unknown for each in deliveries if each.unknown is not None), None)
    if unknown is not None:
        return f"{sink}  unknown: {unknown}"
    lines, held = sum(each.lines for each in deliveries), sum(each.held or 0 for each in deliveries)
    return ", ".join([f"{sink}  holds {held} of {lines} lines", *_rest(deliveries)])


def _rest(deliveries: list[SinkCounts]) -> list[str]:
    counts = {
        "waiting": sum(each.waiting or 0 for each in deliveries),
        "trimmed": sum(each.trimmed or 0 for each in deliveries),
        "missing": sum(each.missing or 0 for each in deliveries),
    }
    return [f"{count} {what}" for what, count in counts.items() if count]


def _records(count: int, one: str, many: str) -> str:
    return f"{count} record {one}" if count == 1 else f"{count} records {many}"
