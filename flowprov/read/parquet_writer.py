"""Write the Parquet files of closed journals: the same records, for fast reading.

Flows in: closed journals. Flows out: ``x.parquet`` beside each ``x.jsonl``; and from many of these, one that
is merged.

A file holds the tasks that stand by themselves as columns, and all other lines as they are. It is written
under another name and renamed, so nobody sees a part of one. To remove it loses nothing.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import operator
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from flowprov.errors import FlowprovError
from flowprov.ids import new_journal_id
from flowprov.journal.reader import JournalReader
from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.extract import NOTHING, Extract, Wanted
from flowprov.read.digest import Digest, create_digest, encode_digest
from flowprov.read.parquet_files import (
    METADATA_KEY,
    TASK_COLUMNS,
    connect,
    import_duckdb,
    parquet_path,
    quoted,
)
from flowprov.records import Correction, Footer, Header, Heartbeat, LocalId, OpenTask, Task, prefix_of

logger = logging.getLogger("flowprov")

T = TypeVar("T")

_MAX_LINE = 32 << 20
_MEMORY = "512MB"
_TASK = prefix_of(Task)
_OF_TASKS = tuple(prefix_of(kind).decode() for kind in (Task, OpenTask, Correction))
# Lines that no reader of rows needs: what they say of the journal is in the digest.
_LEFT_OUT = tuple(map(prefix_of, (Header, Heartbeat, Footer, OpenTask)))


class ParquetWriter:
    """Writes Parquet files, one after the other.

    Attributes
    ----------
    connection
        To duckdb.

    Raises
    ------
    MissingExtraError
        If duckdb is not installed.
    """

    def __init__(self) -> None:
        self._duckdb = import_duckdb()
        self.connection = connect(memory_limit=_MEMORY)

    def close(self) -> None:
        """Close duckdb."""
        self.connection.close()

    def write(self, journal: JournalSummary, wanted: Wanted = NOTHING) -> Digest | None:
        """Write the Parquet file of a journal, and return its digest.

        Parameters
        ----------
        journal
            The journal.
        wanted
            What other journals name of it.

        Returns
        -------
        Digest or None
            None if the journal can have no Parquet file, as it may grow, or is damaged.

        Raises
        ------
        OSError
            If the journal cannot be read.
        FlowprovError
            If the file cannot be written.
        """
        created = create_digest(journal, wanted)
        if created is None:
            return None
        digest, extract = created
        return self._write_beside(
            parquet_path(journal.path),
            [journal.path],
            lambda new: self._write(journal, digest, extract, new),
        )

    def merge(self, files: Sequence[Path], path: Path, members: bytes) -> None:
        """Write the tasks that are columns in some Parquet files into one file.

        Parameters
        ----------
        files
            The Parquet files of journals.
        path
            The new file.
        members
            What its metadata says of them.

        Raises
        ------
        OSError
            If one of the files went away.
        FlowprovError
            If the file cannot be written.
        """

        def write(new: Path) -> bool:
            self.connection.execute("set variable members = $1", [members])
            listed = ", ".join(quoted(str(file)) for file in files)
            self.connection.execute(
                f"copy (select * from read_parquet([{listed}]) where line is null) "  # noqa: S608 - quoted
                f"to {quoted(str(new))} (format parquet, compression zstd, "
                f"kv_metadata {{{METADATA_KEY}: getvariable('members')}})"
            )
            return True

        self._write_beside(path, files, write)

    def _write_beside(
        self, path: Path, sources: Sequence[Path], write: Callable[[Path], T | None]
    ) -> T | None:
        """Write a file under another name and rename it, unless it turns out that there is none."""
        new = path.with_name(f"{path.name}.{new_journal_id()}.new")
        try:
            written = write(new)
            if written is None:
                return None
            modes = [stat.S_IMODE(source.stat().st_mode) for source in sources]
            os.chmod(new, functools.reduce(operator.and_, modes))  # noqa: PTH101 - who may read all of them
            os.replace(new, path)  # noqa: PTH105
            if not all(source.exists() for source in sources):  # removed meanwhile: so is what was copied
                path.unlink(missing_ok=True)
                return None
        except self._duckdb.IOException as error:
            raise FlowprovError(
                f"{path} cannot be written ({_reason(error)}). Compact where this user may write, and "
                "the disk has room; journals are read as before."
            ) from error
        except self._duckdb.Error as error:
            logger.warning("flowprov cannot write %s: %s", path, _reason(error))
            return None
        finally:
            with contextlib.suppress(OSError):  # it was renamed, or could not be created
                new.unlink()
        return written

    def _write(self, journal: JournalSummary, digest: Digest, extract: Extract, path: Path) -> Digest | None:
        """Write a file; return the digest in it, or None if duckdb did not see what our reader saw."""
        lines, task_ids, usual = _unusual_lines(journal, extract)
        unusual = sum(line.startswith(_OF_TASKS) for line in lines)
        digest = msgspec.structs.replace(digest, unusual=unusual)
        execute = self.connection.execute
        execute("create or replace temp table unusual as select unnest($1::varchar[]) as line", [lines])
        encoded = [msgspec.json.encode(one).decode() for one in task_ids]
        execute("create or replace temp table special as select unnest($1::varchar[]) as task_id", [encoded])
        execute("set variable digest = $1", [encode_digest(digest)])
        columns = ", ".join(f"{quoted(name)}: {quoted(kind)}" for name, kind in TASK_COLUMNS.items())
        source = (
            f"read_json({quoted(str(journal.path))}, format = 'newline_delimited', "
            f"columns = {{{columns}}}, maximum_object_size = {_MAX_LINE}"
            # Padding behind the last record of a killed process is no JSON. The rows are counted below.
            f"{', ignore_errors = true' if digest.padding else ''})"
        )
        execute(
            f"copy (select {_columns(journal.header)}, null as line from {source} "  # noqa: S608 - quoted
            f"where type = 'task' and task_id not in (from special) "
            f"union all by name select line from unusual) to {quoted(str(path))} "
            f"(format parquet, compression zstd, kv_metadata {{{METADATA_KEY}: getvariable('digest')}})"
        )
        rows = execute("select count(*) from read_parquet($1)", [str(path)]).fetchone()[0]
        return digest if rows == usual + len(lines) else None


def _unusual_lines(journal: JournalSummary, extract: Extract) -> tuple[list[str], list[LocalId], int]:
    """Return the lines that are no columns, the tasks in them, and how many other tasks there are."""
    kept: list[str] = []
    task_ids: list[LocalId] = []
    usual = 0
    for position, line in JournalReader(journal.path, 0, bytes).read():
        is_task = line.startswith(_TASK)
        if position in extract.unusual or (b"$" in line if is_task else not line.startswith(_LEFT_OUT)):
            kept.append(line.decode())
            if is_task:
                task_ids.append(_id_decoder.decode(line).task_id)
        else:
            usual += is_task
    return kept, task_ids, usual


def _reason(error: Exception) -> str:
    return str(error).split("\n", 1)[0]


class _Id(msgspec.Struct):
    task_id: LocalId


_id_decoder = msgspec.json.Decoder(_Id)


def _columns(header: Header) -> str:
    """Return the columns of tasks, with what only the header of their journal holds."""
    same = {
        "campaign_id": f"coalesce(nullif(campaign_id, ''), {quoted(header.campaign_id)})",
        "hostname": f"coalesce(nullif(hostname, ''), {quoted(header.hostname)})",
        "thread": f"coalesce(nullif(thread, ''), {quoted(header.thread)})",
        "pid": f"coalesce(pid, {header.pid})",
        "rank": "rank" if header.rank is None else f"coalesce(rank, {header.rank})",
        **{name: _full_id(name, header) for name in ("task_id", "parent_task_id", "group_id")},
    }
    return ", ".join(
        f"{same[name]} as {name}" if name in same else name for name in TASK_COLUMNS if name != "type"
    )


def _full_id(column: str, header: Header) -> str:
    """Return the SQL for the full form of an id, as :func:`flowprov.ids.full_id` makes it."""
    cases = [f"when {column} is null then null", f"when {column} like '\"%' then {column} ->> '$'"]
    if header.first_number:
        numbered = [*header.ancestors, (header.journal_id, header.first_number)]
        for journal_id, first in reversed(numbered):
            name = quoted(f"{journal_id}-")
            cases.append(f"when {column}::bigint >= {first} then {name} || {column}::varchar")
    return f"case {' '.join(cases)} else {quoted(f'{header.journal_id}-')} || {column}::varchar end"
