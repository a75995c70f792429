"""Read records: from journals and servers, as rows, as a DataFrame and as lineage."""

from flowprov.read.buffer import Buffer, read_buffer
from flowprov.read.follow import Follower
from flowprov.read.frames import COLUMNS
from flowprov.read.journal_report import JournalReport
from flowprov.read.lineage import ancestors, children, tree
from flowprov.read.nonfinite import first_nonfinite
from flowprov.read.questions import campaigns, diff, metrics, runs
from flowprov.read.seen_batches import samples
from flowprov.read.sql_query import query
from flowprov.read.version_table import versions

__all__ = [
    "COLUMNS",
    "Buffer",
    "Follower",
    "JournalReport",
    "ancestors",
    "campaigns",
    "children",
    "diff",
    "first_nonfinite",
    "metrics",
    "query",
    "read_buffer",
    "runs",
    "samples",
    "tree",
    "versions",
]
