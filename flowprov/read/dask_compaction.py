"""Compaction on the workers of a Dask cluster, which see the same folder.

Flows in: journals, and the address of a scheduler. Flows out: their Parquet files, each written by a worker.
"""

from __future__ import annotations

import contextlib
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from flowprov.errors import FlowprovError, MissingExtraError
from flowprov.journal.liveness import is_gone_for_sure
from flowprov.journal.summary import JournalSummary, summarize
from flowprov.read.parquet_writer import ParquetWriter

_TIMEOUT_S = 10


def write_on_cluster(address: str, journals: Sequence[JournalSummary], known: Container[Path]) -> None:
    """Write the Parquet files that are missing, each on some worker.

    Parameters
    ----------
    address
        The address of the scheduler.
    journals
        The journals.
    known
        Those that have their file.

    Raises
    ------
    MissingExtraError
        If distributed is not installed here.
    FlowprovError
        If there is no such cluster, if a worker does not see a journal, or cannot write beside it.
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError("distributed", "dask", "compact on a Dask cluster") from error
    missing = [
        journal
        for journal in journals
        if journal.path not in known
        and (journal.footer is not None or is_gone_for_sure(journal.path, journal.header))
    ]
    try:
        client: Any = distributed.Client(address, timeout=_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise FlowprovError(
            f"there is no Dask cluster at {address} ({error or type(error).__name__}): give the address of "
            "its scheduler, as in tcp://host:8786"
        ) from error
    with client:
        # The largest first, so that no worker begins with one when the others are done.
        missing.sort(key=lambda journal: -journal.path.stat().st_size)
        paths = [str(journal.path.absolute()) for journal in missing]
        problems = [one for one in client.gather(client.map(write_file, paths, pure=False)) if one]
    if problems:
        raise FlowprovError(f"{problems[0]} ({len(problems)} of {len(paths)} journals)")


def write_file(path: str) -> str | None:
    """Write the Parquet file of one journal, on a worker; return what is wrong with its surroundings."""
    journal = summarize(Path(path))
    if journal is None:
        return f"a Dask worker does not see {path}: its workers must have the folder under the same path"
    with contextlib.closing(ParquetWriter()) as writer:
        try:
            writer.write(journal)  # one that is damaged gets none, and the command counts it
        except (OSError, FlowprovError) as error:
            return str(error)
    return None
