"""The files that one process wrote one after the other for a campaign: they are read as one.

Flows in: the journals of a campaign. Flows out: the same in the order in which they are read, and groups of
those that belong together.

A journal goes on in a next file when it has reached ``journal.roll_bytes``, and when somebody has removed or
closed its file. What is open then ends in a later file. So an earlier file is as alive as the last one, and
the telemetry of all of them belongs together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from flowprov.journal.format import SUFFIX
from flowprov.journal.liveness import is_recent
from flowprov.journal.summary import JournalSummary, summarize
from flowprov.read.attempts import process_key

_RECENT_S = 600.0  # a folder was listed shortly before


def continues(later: JournalSummary, earlier: JournalSummary) -> bool:
    """Whether a journal is the one in which the process of another one went on next."""
    return later.header.previous == earlier.header.journal_id and process_key(later.header) == process_key(
        earlier.header
    )


def in_succession(journals: Iterable[JournalSummary]) -> list[JournalSummary]:
    """Return journals sorted by their paths, those of one process one after the other.

    Each has the time of the last record of its process, and is alive if the last one is.
    """
    ordered = sorted(journals, key=lambda journal: journal.path)
    by_id = {journal.header.journal_id: journal for journal in ordered}
    next_of: dict[str, JournalSummary] = {}
    is_later = set()
    for journal in ordered:
        earlier = _earlier_of(journal, by_id)
        if earlier is not None and earlier.header.journal_id not in next_of:
            next_of[earlier.header.journal_id] = journal
            is_later.add(journal.path)
    result: list[JournalSummary] = []
    for journal in ordered:
        if journal.path in is_later:
            continue
        files = [journal]
        while (following := next_of.pop(files[-1].header.journal_id, None)) is not None:
            files.append(following)
        last_at = max(one.last_at for one in files)
        result += [one._replace(alive=files[-1].alive, last_at=last_at) for one in files]
    found = {journal.path for journal in result}
    return result + [
        journal for journal in ordered if journal.path not in found
    ]  # headers that lie: a circle


def _earlier_of(journal: JournalSummary, by_id: dict[str, JournalSummary]) -> JournalSummary | None:
    """Return the last of the files before a journal that is there; None if there is none."""
    header = journal.header
    if header.previous is None:
        return None
    for name in (header.previous, *(ancestor for ancestor, _ in reversed(header.ancestors))):
        earlier = by_id.get(name)
        if earlier is not None and earlier is not journal:
            return earlier if process_key(earlier.header) == process_key(header) else None
    return None


def successions(journals: Iterable[JournalSummary]) -> list[list[JournalSummary]]:
    """Return groups of journals that are read as one, from journals in that order."""
    groups: list[list[JournalSummary]] = []
    for journal in journals:
        if groups and continues(journal, groups[-1][-1]):
            groups[-1].append(journal)
        else:
            groups.append([journal])
    return groups


def followers_of(journal: JournalSummary) -> Iterator[JournalSummary]:
    """Yield the files in which a process went on, one after the other, as far as they lie beside."""
    pattern = f"{journal.header.pid}-*{SUFFIX}"
    while True:
        before = journal
        for other in sorted(journal.path.parent.glob(pattern)):  # in the order in which they were created
            if other.name <= journal.path.name:
                continue
            if (later := summarize(other)) is not None and continues(later, journal):
                journal = later
                yield journal
        if journal is before or journal.footer is None:  # else it may have gone on just now
            return


def last_follower_of(journal: JournalSummary) -> JournalSummary:
    """Return the file in which a process is now, or ended; the journal itself if it did not go on."""
    for later in followers_of(journal):
        journal = later
    return journal


def with_followers(journals: Sequence[JournalSummary]) -> list[JournalSummary]:
    """Return journals, and the files in which processes went on since the folder was listed."""
    result = list(journals)
    known = {journal.header.previous for journal in journals}
    for journal in result:  # grows with each file that is found
        footer = journal.footer
        if footer is None or not footer.open or journal.header.journal_id in known:
            continue
        if is_recent(footer.at, _RECENT_S) and (later := next(followers_of(journal), None)) is not None:
            known.add(journal.header.journal_id)
            result.append(later)
    return result
