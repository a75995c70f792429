"""Compact campaigns: write a Parquet file beside each journal that never changes any more.

Flows in: the journals of a campaign. Flows out: Parquet files, and counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from flowprov.journal.liveness import is_gone_for_sure
from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.extract import unanswered
from flowprov.read.digest import Digest
from flowprov.read.digest_file import keep_digests
from flowprov.read.merged_file import merge_small_files
from flowprov.read.parquet_files import parquet_path
from flowprov.read.parquet_writer import ParquetWriter


class Compacted(msgspec.Struct):
    """What became of the journals of a campaign: how many were compacted now, were already, and cannot be.

    ``open`` counts journals that may grow: they have no footer, and their process may be there. ``damaged``
    counts those with lines that are no records, or that duckdb does not read as flowprov does.
    """

    written: int = 0
    current: int = 0
    open: int = 0
    damaged: int = 0


def compact(
    journals: Sequence[JournalSummary],
    digests: Mapping[Path, Digest],
    writer: ParquetWriter,
    on_journal: Callable[[], object] = lambda: None,
) -> Compacted:
    """Write the Parquet files that are missing.

    Parameters
    ----------
    journals, digests
        The journals of a campaign, and the digests of those that were compacted before.
    writer
        Writes the files.
    on_journal
        Called after each journal.

    Raises
    ------
    OSError, FlowprovError
        If a journal cannot be read, or a file not written.
    """
    result = Compacted()
    known = dict(digests)
    for journal in journals:
        if journal.path in known:
            result.current += 1
        elif journal.footer is None and not is_gone_for_sure(journal.path, journal.header):
            result.open += 1
        elif (digest := writer.write(journal)) is not None:
            known[journal.path] = digest
            result.written += 1
        else:
            result.damaged += 1
        on_journal()
    by_id = {journal.header.journal_id: journal for journal in journals if journal.path in known}
    extracts = {name: known[journal.path].extract() for name, journal in by_id.items()}
    # What one journal says of tasks of another one belongs to the digest of that one.
    while asked := unanswered(extracts):
        for home, wanted in asked.items():
            digest = writer.write(by_id[home], wanted)
            if digest is None:  # it has changed meanwhile
                return result
            known[by_id[home].path] = digest
            extracts[home] = digest.extract()
    files = {path: parquet_path(path) for path in known}
    keep_digests(known, files)
    merge_small_files(files.values(), writer)
    return result
