"""Where events rest: an append-only journal per process, which is the message buffer."""

from flowprov.journal.header import Identity
from flowprov.journal.journal import Journal
from flowprov.journal.maintenance import JournalMaintenance

__all__ = ["Identity", "Journal", "JournalMaintenance"]
