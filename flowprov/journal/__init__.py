"""The message buffer: one append-only journal per process and campaign."""

from flowprov.journal.header import Identity
from flowprov.journal.journal import Journal
from flowprov.journal.maintenance import JournalMaintenance

__all__ = ["Identity", "Journal", "JournalMaintenance"]
