"""Parquet files beside closed journals: the same records, for fast reading.

Flows in: ``x.parquet`` beside a closed ``x.jsonl``. Flows out: the digest that it holds, if it can be used.

A Parquet file is a copy, and never the truth: see ``parquet_writer``. Its metadata holds the digest, which
says of which state of the journal it is a copy. Whatever is wrong with one, the journal is read.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flowprov.errors import MissingExtraError
from flowprov.read.digest import Digest, decode_digest
from flowprov.read.digest_file import keep_digests, known_digests
from flowprov.regular_files import open_regular

logger = logging.getLogger("flowprov")

SUFFIX = ".parquet"
_MAGIC = b"PAR1"
METADATA_KEY = "flowprov"
TASK_COLUMNS = {
    "type": "VARCHAR",
    "task_id": "JSON",
    "parent_task_id": "JSON",
    "group_id": "JSON",
    **dict.fromkeys(("workflow_id", "campaign_id", "activity_id", "subtype", "status"), "VARCHAR"),
    **dict.fromkeys(("submitted_at", "started_at", "ended_at"), "BIGINT"),
    **dict.fromkeys(("used", "generated", "custom_metadata", "error", "tags", "dependencies"), "JSON"),
    **dict.fromkeys(("telemetry_at_start", "telemetry_at_end"), "JSON"),
    "hostname": "VARCHAR",
    **dict.fromkeys(("pid", "rank"), "BIGINT"),
    "thread": "VARCHAR",
}
"""The fields of tasks in journals, with their types in duckdb."""

_reported: set[Path] = set()


class UnreadableFilesError(Exception):
    """Some Parquet files are damaged inside."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__(paths)
        self.paths = list(paths)


def raise_if_unreadable(connection: Any, paths: Iterable[Path], error: Exception) -> None:
    """Raise if files are damaged inside, from which an error of duckdb may come.

    Raises
    ------
    UnreadableFilesError
        If any is.
    """
    duckdb = import_duckdb()
    of_statements = (
        duckdb.ParserException,
        duckdb.BinderException,
        duckdb.CatalogException,
        duckdb.ConversionException,
        duckdb.PermissionException,
        duckdb.OutOfMemoryException,
    )
    if not isinstance(error, of_statements) and (
        unreadable := [path for path in paths if not _can_read(connection, path)]
    ):
        raise UnreadableFilesError(unreadable) from error


def _can_read(connection: Any, path: Path) -> bool:
    statement = "select sum(length(columns(*)::varchar)) from read_parquet($1)"
    try:
        connection.execute(statement, [str(path)]).fetchall()
    except import_duckdb().Error:
        return False
    return True


def parquet_path(journal: Path) -> Path:
    """Return the path of the Parquet file of a journal."""
    return journal.with_suffix(SUFFIX)


def import_duckdb() -> Any:
    """Import duckdb.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError("duckdb", "query", "write and read Parquet files") from error
    return duckdb


def has_duckdb() -> bool:
    """Whether duckdb is installed, and can be imported."""
    try:
        import_duckdb()
    except MissingExtraError:
        return False
    return True


def connect(**config: str) -> Any:
    """Return a connection to a database in memory.

    Raises
    ------
    MissingExtraError
        If duckdb is not installed.
    """
    connection = import_duckdb().connect(config=config)
    connection.execute("set enable_progress_bar = false")  # it would print to standard output
    return connection


def digests_of(journals: Iterable[Path]) -> dict[Path, Digest]:
    """Return the digests that the Parquet files of some journals hold, by the journal's path.

    A file that cannot be used is left out, and said once.
    """
    candidates = {
        name: path
        for path in journals
        if os.path.exists(name := os.fspath(parquet_path(path)))  # noqa: PTH110
    }
    if not candidates or find_spec("duckdb") is None:
        return {}
    files = {path: Path(name) for name, path in candidates.items()}
    known = known_digests(candidates.values(), files)
    unknown = {name: path for name, path in candidates.items() if path not in known}
    if not unknown:
        return known
    if not has_duckdb():
        return {}
    found = _digests_in(unknown)
    keep_digests(found, files)
    return {path: digest for path in candidates.values() if (digest := known.get(path) or found.get(path))}


def _digests_in(candidates: Mapping[str, Path]) -> dict[Path, Digest]:
    """Return the digests that Parquet files hold, by the paths of their journals."""
    found: dict[Path, Digest] = {}
    unusable: dict[Path, str] = {}
    with connect(threads="1") as connection:  # more of them only wait for each other here
        for name, data in metadata_of(connection, list(candidates)):
            digest = None if data is None else decode_digest(data)
            if digest is not None and digest.fits(candidates[name]):
                found[candidates[name]] = digest
            else:
                damaged = digest is None
                unusable[Path(name)] = (
                    "is damaged or of another version" if damaged else "is of another state of its journal"
                )
    report_unusable(unusable)
    return found


def metadata_of(connection: Any, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
    """Yield what flowprov wrote into the metadata of each file; None of a file that cannot be read."""
    try:
        yield from _query_metadata(connection, names)
    except import_duckdb().Error:  # one of them is damaged
        whole = [name for name in names if _is_whole(Path(name))]
        yield from ((name, None) for name in set(names).difference(whole))
        if len(whole) < len(names):
            yield from metadata_of(connection, whole)
        elif len(whole) == 1:
            yield whole[0], None
        else:
            for name in whole:
                yield from metadata_of(connection, [name])


def _query_metadata(connection: Any, names: Sequence[str]) -> list[tuple[str, bytes | None]]:
    if not names:
        return []
    rows = connection.execute(
        "select file_name, value from parquet_kv_metadata($1) where key = $2",
        [list(names), METADATA_KEY.encode()],
    ).fetchall()
    return list({**dict.fromkeys(names), **dict(rows)}.items())


def _is_whole(path: Path) -> bool:
    """Whether a file begins and ends as Parquet does."""
    try:
        descriptor = open_regular(path)
    except OSError:
        return False
    try:
        size = os.fstat(descriptor).st_size
        ends = os.pread(descriptor, len(_MAGIC), 0), os.pread(descriptor, len(_MAGIC), max(0, size - 4))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return ends == (_MAGIC, _MAGIC)


def report_unusable(unusable: Mapping[Path, str]) -> None:
    """Say once that Parquet files cannot be used, and why."""
    new = {path: reason for path, reason in unusable.items() if path not in _reported}
    _reported.update(new)
    if new:
        path, reason = next(iter(new.items()))
        others = f" Nor {len(new) - 1} other such files." if len(new) > 1 else ""
        logger.warning(
            "flowprov does not use %s: it %s.%s It reads what that was made from. Without the file, flowprov "
            "compact writes it anew.",
            path,
            reason,
            others,
        )


def quoted(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"
