"""A file that appears when it is complete.

Flows in: the path that a person gave. Flows out: a file beside it, moved there at the end. Whatever ends the
work before, Ctrl-C too, leaves what was at that path as it was.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowprov.errors import UsageError

_MAX_NAME = 60  # characters of a name; each has up to four bytes


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Create a context in which the contents of a path are written in a new folder beside it.

    Nobody else can have placed anything in that folder.

    Parameters
    ----------
    path
        A file or a folder. A file that is there is replaced at the end; a folder must be new or empty.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    UsageError
        If nothing can come to lie there.
    """
    if not path.name:
        raise UsageError(f"{path} names no file. Give -o the path of a file, as in -o export.json.")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent} is no folder. Create it, or give -o a file in another one.")
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(f"{path} is a folder that is not empty. Give -o another name, or remove it.")
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name[:_MAX_NAME]}.", dir=path.parent))
    try:
        yield folder / path.name
        if path.is_dir():
            path.rmdir()  # it is empty
        (folder / path.name).replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
