"""Where events rest: an append-only journal per process, which is the message buffer."""

from flowprov.journal.identity import Identity
from flowprov.journal.journal import Journal
from flowprov.journal.keeper import Keeper

__all__ = ["Identity", "Journal", "Keeper"]
