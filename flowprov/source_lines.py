"""Lines of source, for records: nothing but regular files is opened, and no code of the program runs.

Flows in: the name of a file, as code has it, and the globals of that code. Flows out: the lines of the file,
of a module in an archive, or of generated code. ``linecache`` would open whatever bears the name: a FIFO
blocks whoever opens it, and the program may have opened nothing. Its entries are read, and left as they are.
"""

from __future__ import annotations

import io
import linecache
import os
import tokenize
import zipimport
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowprov.regular_files import read_at_once

_MAX_BYTES = 16 << 20
_NO_GLOBALS: dict[str, Any] = {}


def source_lines(filename: str, code_globals: dict[str, Any] = _NO_GLOBALS) -> Sequence[str]:
    """Return the lines of a source file, of a module in an archive, or of a notebook's cell.

    Parameters
    ----------
    filename
        The file's name, as a code object has it.
    code_globals
        The globals of that code: they say how its module was loaded.

    Returns
    -------
    Sequence of str
        No lines if they cannot be had.
    """
    size, modified, cached = _cached(filename)
    if cached and (modified is None or _is_unchanged(filename, size, modified)):
        return cached
    if filename.startswith("<") and filename.endswith(">"):
        return cached
    return _lines_of_file(filename) or cached or _lines_of_archive(code_globals)


def _cached(filename: str) -> tuple[object, object, Sequence[str]]:
    """Return the size, the time and the lines of what ``linecache`` holds."""
    entry: Any = linecache.cache.get(filename)
    # What is shorter is a promise to ask a loader, which may be any code.
    if type(entry) is tuple and len(entry) == 4 and type(entry[2]) is list:
        return entry[:3]
    return None, None, []


def _is_unchanged(filename: str, size: object, modified: object) -> bool:
    try:
        status = os.stat(filename)  # noqa: PTH116 - a Path is dear to make
    except (OSError, ValueError):
        return False
    return (status.st_size, status.st_mtime) == (size, modified)


def _lines_of_file(filename: str) -> Sequence[str]:
    """Return the lines of a file.

    ``linecache`` would open it for longer than is safe beside the program; see ``read_at_once``.
    """
    try:
        content = read_at_once(Path(filename), _MAX_BYTES)
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        return io.TextIOWrapper(io.BytesIO(content), encoding).readlines()
    except (OSError, ValueError, SyntaxError):  # there is no such file, or it is no source
        return []


def _lines_of_archive(code_globals: dict[str, Any]) -> Sequence[str]:
    """Return the lines of a module that was imported from a ZIP archive. Other loaders are foreign code."""
    loader, name = dict.get(code_globals, "__loader__"), dict.get(code_globals, "__name__")
    if type(loader) is not zipimport.zipimporter or type(name) is not str:
        return []
    try:
        if not Path(loader.archive).is_file():
            return []
        return (loader.get_source(name) or "").splitlines(keepends=True)
    except (OSError, ValueError, ImportError):  # the archive has gone, or holds no source
        return []
