"""Loaders whose order of samples is the same in each pass, because nobody called ``set_epoch``.

Flows in: the journals of a campaign. Flows out: a sentence for each such loader. Only the lines of passes are
read, which a search of the bytes finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flowprov.journal.summary import JournalSummary
from flowprov.read.artifacts.scan import lines_with
from flowprov.records import NOT_A_RECORD, LoaderPass, decode, prefix_of

_MANY_BYTES = 200_000_000  # of journals: of larger ones `flowprov show --ranks` tells it
_PREFIX = prefix_of(LoaderPass)
_BLOCK = 1 << 17
_QUESTION = "did nobody call set_epoch?"


def repeated_orders(journals: Sequence[JournalSummary]) -> list[str]:
    """Return which loaders of a campaign handed out the same order in each pass."""
    try:
        size = sum(journal.path.stat().st_size for journal in journals)
    except OSError:  # one went away meanwhile
        return []
    if size >= _MANY_BYTES:
        return []
    found = [text for journal in journals for text in _of_journal(journal)]
    return sorted(dict.fromkeys(found))


def does_repeat(passes: Sequence[LoaderPass]) -> bool:
    """Whether a sampler that shuffles by its epoch had the same one in all passes over its loader."""
    epochs = [(one.loader or {}).get("sampler_epoch") for one in passes]
    known = [epoch for epoch in epochs if epoch is not None]
    shuffles = bool(passes) and (passes[-1].loader or {}).get("shuffle") is not False
    return len(known) > 1 and all(epoch == known[0] for epoch in known) and shuffles


def describe_repeated(who: str, count: int) -> str:
    """Return the sentence for a loader that repeats its order."""
    return f"{who}: the order repeats in all {count} passes; {_QUESTION}"


def _of_journal(journal: JournalSummary) -> Iterator[str]:
    header = journal.header
    loaders: dict[tuple[str | None, ...], list[LoaderPass]] = {}
    for one in _passes_in(journal):
        # What is set up alike, in one workflow, is one loader.
        facts = {name: value for name, value in (one.loader or {}).items() if name != "sampler_epoch"}
        loaders.setdefault((one.workflow_id, one.name, repr(facts)), []).append(one)
    for (_, name, _), passes in loaders.items():
        if does_repeat(passes):
            who = f"pid {header.pid}" if header.rank is None else f"rank {header.rank}"
            yield describe_repeated(who + (f", loader {name}" if name else ""), len(passes))


def _passes_in(journal: JournalSummary) -> Iterator[LoaderPass]:
    for line in lines_with(journal.path, [_PREFIX], _BLOCK):
        try:
            record = decode(line) if line.startswith(_PREFIX) else None
        except NOT_A_RECORD:  # damage, of which flowprov verify tells
            continue
        if isinstance(record, LoaderPass):
            yield record
