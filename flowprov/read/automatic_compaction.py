"""Compaction that nobody asked for: after an answer of the command ``flowprov``, and after a delivery.

Flows in: a buffer folder. Flows out: Parquet files beside its large journals that change no more. This takes
the time of the process in which it runs, so it is never called in one that records.

One process at a time does this for a folder. Its lock has the time at which it began: only what was written
since is a reason to begin again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from flowprov.errors import FlowprovError
from flowprov.journal.folders import PRIVATE, open_no_link
from flowprov.journal.format import scan_journals
from flowprov.read.compaction import compact
from flowprov.read.grouping import by_campaign
from flowprov.read.parquet_files import has_duckdb, parquet_path
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source

LEAST = 1 << 20  # bytes of a journal: smaller ones are read as fast
_LOCK = ".compact.lock"


def is_due(folder: Path) -> bool:
    """Whether large journals of a folder that can be written have no Parquet file, and may get one."""
    began = _modified_at(folder / _LOCK)
    return any(_modified_at(path) > began for path in _candidates(folder))


def compact_folder(folder: Path) -> int:
    """Write the missing Parquet files beside large journals of a folder; return how many were written.

    It is none where another process does this, where duckdb is not installed, or nothing can be written.
    """
    if not has_duckdb() or not _candidates(folder):
        return 0
    with _locked(folder) as is_alone:
        if not is_alone:
            return 0
        source = Source(folder)
        groups = by_campaign(source.summaries())
        chosen = set(_candidates(folder))
        written = 0
        with contextlib.closing(ParquetWriter()) as writer:
            for group in groups.values():
                journals = [one for one in group if one.path in chosen or one.path in source.digests]
                if chosen.isdisjoint(journal.path for journal in journals):
                    continue
                with contextlib.suppress(OSError, FlowprovError):  # the next campaign may be writable
                    written += compact(journals, source.digests, writer).written
    return written


def _candidates(folder: Path) -> list[Path]:
    return [path for path in scan_journals(folder)[0] if _is_candidate(path)]


def _is_candidate(path: Path) -> bool:
    try:
        is_large = path.stat().st_size >= LEAST
    except OSError:  # it went away
        return False
    return is_large and not parquet_path(path).exists() and os.access(path.parent, os.W_OK)


def _modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Create a context in which no other process compacts a folder by itself; whether that worked."""
    try:
        file = os.fdopen(open_no_link(folder / _LOCK, os.O_WRONLY | os.O_CREAT, PRIVATE), "wb")
    except OSError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.utime(file.fileno())
        except OSError:
            is_alone = False
        else:
            is_alone = True
        yield is_alone
