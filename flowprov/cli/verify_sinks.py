"""What ``flowprov verify`` prints about deliveries.

Flows in: the counts of each journal on each sink, and those of runs. Flows out: one table, with a row for
each journal and a column for each sink; a line for each server that holds runs; and the words of the verdict.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowprov.cli.output import table
from flowprov.display import count
from flowprov.read.sink_check import RunCounts, SinkCounts
from flowprov.read.verify import JournalCheck, Verification


def delivery_table(journals: Sequence[JournalCheck]) -> list[str]:
    """Return the lines of the table, and below it the sink of each column; nothing without sinks."""
    sinks = counts_by_sink(journals)
    if not sinks:
        return []
    marks = [f"[{number}]" for number in range(1, len(sinks) + 1)]
    rows = [
        (
            check.report.path.name,
            str(max(counts.lines for counts in check.deliveries)),
            *map(_cell, check.deliveries),
        )
        for check in journals
    ]
    return [
        *table(("JOURNAL", "LINES", *marks), rows, numbers=1 + len(marks)),
        *(f"{mark} {_line(*item)}" for mark, item in zip(marks, sinks.items(), strict=True)),
    ]


def run_lines(deliveries: Sequence[RunCounts]) -> list[str]:
    """Return a line for each server that holds runs."""
    return [f"{one.sink}  {_held_runs(one)}" for one in deliveries]


def _held_runs(one: RunCounts) -> str:
    if one.unknown is not None:
        return f"unknown: {one.unknown}"
    others = {"waiting": one.waiting, "deleted there": one.deleted}
    words = [f"{number} {state}" for state, number in others.items() if number]
    return ", ".join([f"holds {one.held} of {count(one.runs, 'run')}", *words])


def counts_by_sink(journals: Sequence[JournalCheck]) -> dict[str, list[SinkCounts]]:
    """Return the counts of all journals, by sink."""
    by_sink: dict[str, list[SinkCounts]] = {}
    for check in journals:
        for counts in check.deliveries:
            by_sink.setdefault(counts.sink, []).append(counts)
    return by_sink


def delivery_state(result: Verification) -> str:
    """Return, for a verdict without problems, what is delivered and what still waits; "" without sinks."""
    phrases, done = [], []
    for sink, waiting, noun in _waiting(result):
        if waiting:
            phrases.append(f"{_number(waiting, noun, 'waits', 'wait')} for {sink}")
        else:
            done.append(sink)
    if done:
        phrases.insert(0, f"delivered to {' and '.join(done)}")
    return "".join(f", {phrase}" for phrase in phrases)


def delivery_problems(result: Verification, ship: str, *, named: bool) -> list[str]:
    """Return the problems of the delivery to each sink.

    Parameters
    ----------
    result
        The result of the check.
    ship
        The command that delivers the records that wait.
    named
        Whether that command must name the sinks.
    """
    problems = []
    for sink, deliveries in counts_by_sink(result.journals).items():
        if any(counts.unknown is not None for counts in deliveries):
            problems.append(f"delivery to {sink} unknown")
        if missing := sum(counts.missing or 0 for counts in deliveries):
            problems.append(f"{_number(missing, 'record', 'is', 'are')} missing on {sink}")
    unknown = [one.sink for one in result.run_deliveries if one.unknown is not None]
    problems += [f"delivery to {sink} unknown" for sink in unknown]
    for sink, waiting, noun in () if result.running else _waiting(result):
        if waiting:
            command = f"{ship} --to {sink}" if named else ship
            waits = _number(waiting, noun, "waits", "wait")
            problems.append(f"{waits} for {sink}: `{command}` delivers them")
    return problems


def _waiting(result: Verification) -> Iterator[tuple[str, int, str]]:
    """Yield each sink, how much waits for it, and what that is."""
    for sink, deliveries in counts_by_sink(result.journals).items():
        yield sink, sum(counts.waiting or 0 for counts in deliveries), "record"
    for one in result.run_deliveries:
        yield one.sink, one.waiting or 0, "run"


def _cell(counts: SinkCounts) -> str:
    if counts.unknown is not None:
        return "unknown"
    return ", ".join([str(counts.held), *_other_counts([counts])])


def _line(sink: str, deliveries: list[SinkCounts]) -> str:
    unknown = next((counts.unknown for counts in deliveries if counts.unknown is not None), None)
    if unknown is not None:
        return f"{sink}  unknown: {unknown}"
    lines = sum(counts.lines for counts in deliveries)
    held = sum(counts.held or 0 for counts in deliveries)
    return ", ".join([f"{sink}  holds {held} of {lines} lines", *_other_counts(deliveries)])


def _other_counts(deliveries: list[SinkCounts]) -> list[str]:
    sums = {
        "waiting": sum(counts.waiting or 0 for counts in deliveries),
        "trimmed": sum(counts.trimmed or 0 for counts in deliveries),
        "missing": sum(counts.missing or 0 for counts in deliveries),
    }
    return [f"{number} {state}" for state, number in sums.items() if number]


def _number(number: int, noun: str, one: str, many: str) -> str:
    return f"{number} {noun} {one}" if number == 1 else f"{number} {noun}s {many}"
