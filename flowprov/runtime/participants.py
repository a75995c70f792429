"""Participants: the processes that joined a workflow are known to those that started them.

Flows in, in a child: the journals that it began, or could not begin. Flows out: entries in the roll of its
parent. Flows in, in the parent: these entries. Flows out: control records in its own journal. So a reader
knows which journals there must be, also if one of them is lost, was never written, or lies elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from flowprov import guard
from flowprov.clock import clock
from flowprov.journal import Journal
from flowprov.records import Participant
from flowprov.runtime import inheritance
from flowprov.runtime.roll import RollEntry, enter

_announced: dict[str, tuple[str, str]] = {}


def announce(journal: Journal) -> None:
    """Tell the parent of this process of a journal, once, and again if it is written after all."""
    path = "" if journal.path is None else str(journal.path)
    reason = "" if path else journal.stopped_by
    if reason is None or _announced.get(journal.journal_id) == (path, reason):
        return  # nothing was captured for it, or nothing is new
    with guard.guarded("announcing a journal to the parent process"):
        if addresses := inheritance.parents():
            identity, buffer = journal.identity, journal.settings.path
            whose = (identity.campaign_id, journal.journal_id, os.getpid(), identity.hostname)
            entry = RollEntry(*whose, buffer, path, reason)
            any(enter(address, entry) for address in addresses)
        _announced[journal.journal_id] = (path, reason)


def note(journals: Iterable[Journal]) -> None:
    """Write down, in the journals of this process, what its children entered in its roll."""
    with guard.guarded("noting which processes took part"):
        roll = inheritance.roll()
        for entry in () if roll is None else roll.new_entries():
            for journal in journals:
                if journal.path is not None and journal.identity.campaign_id == entry.campaign_id:
                    if (participant := _participant(entry, journal.settings.path, journal.path)) is not None:
                        journal.write_control(participant)
                    break


def _participant(entry: RollEntry, buffer: str, path: Path) -> Participant | None:
    """Return the record of a child; None if it records into another buffer, as its settings want it."""
    if entry.buffer != buffer:
        return None
    name = reason = None
    if not entry.path:
        reason = f"it could not write its journal ({entry.reason})"
    else:
        child = Path(entry.path)
        if child.parents[2] == path.parents[2]:
            name = f"{child.parent.name}/{child.name}"
        else:
            reason = f"its journal is {child}"
    return Participant(
        at=clock.now(),
        pid=entry.pid,
        hostname=entry.hostname,
        journal_id=entry.journal_id,
        journal=name,
        reason=reason,
    )


def reset() -> None:
    """Forget what was announced: in a forked child, and for tests."""
    _announced.clear()
