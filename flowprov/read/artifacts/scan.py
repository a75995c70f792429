"""Find the lines of a journal that speak of artifacts, without reading the others.

Flows in: the bytes of a file. Flows out: the records of artifacts and digests, and of tasks and workflows
that name an artifact among their values. A thousand campaigns are searched this way in less than a second.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from flowprov.records import NOT_A_RECORD, Artifact, Digest, Record, all_as_written, decode, prefix_of
from flowprov.regular_files import next_data, open_regular

logger = logging.getLogger("flowprov")

_BLOCK = 4 << 20
_MAX_LINE = 16 << 20
_RECORDS = (prefix_of(Artifact), prefix_of(Digest))
_MARKER = b'"$artifact":"'


def scan(path: Path) -> Iterator[Record]:
    """Yield the records of a journal that speak of artifacts; damaged ones are left out.

    A journal that cannot be read is warned of.
    """
    try:
        for block in _blocks(path):
            yield from filter(None, map(_record_of, _lines(block)))
    except FileNotFoundError:  # it went away
        return
    except OSError as error:
        logger.warning("flowprov cannot read %s (%s): its artifacts are missing here.", path, error.strerror)


def _record_of(line: bytes) -> Record | None:
    """Return the record of a line; None if it is damaged, of which flowprov verify tells."""
    try:
        return decode(line)
    except NOT_A_RECORD:
        return None


def _blocks(path: Path, size: int = _BLOCK) -> Iterator[bytes]:
    """Yield the bytes of a file in stretches of whole lines; holes are skipped."""
    descriptor = open_regular(path)
    try:
        position, rest = 0, b""
        while data := os.pread(descriptor, size, position):
            position += len(data)
            if not data.strip(b"\0"):  # reserved, or a hole
                if (following := next_data(descriptor, position)) is None:
                    break
                position = max(position, following)
                continue
            end = data.rfind(b"\n") + 1
            if not end and len(rest) < _MAX_LINE:
                rest += data
                continue
            yield all_as_written(rest + data[:end])
            rest = data[end:]
        # A last line without its end is still being written.
    finally:
        os.close(descriptor)


def lines_with(path: Path, texts: Sequence[bytes], block_size: int = _BLOCK) -> Iterator[bytes]:
    """Yield the lines of a journal that hold one of some texts; so many bytes are in memory at once."""
    try:
        for block in _blocks(path, block_size):
            for text in texts:
                yield from _lines_around(block, text)
    except OSError:  # it went away, or `scan` has warned of it
        return


def _lines(block: bytes) -> Iterator[bytes]:
    """Yield the lines of interest in a block."""
    for prefix in _RECORDS:  # inside another record it is a value
        yield from (line for line in _lines_around(block, prefix) if line.startswith(prefix))
    yield from (line for line in _lines_around(block, _MARKER) if not line.startswith(_RECORDS))


def _lines_around(block: bytes, text: bytes) -> Iterator[bytes]:
    """Yield the lines in a block that hold a text."""
    at = block.find(text)
    while at >= 0:
        begin = max(block.rfind(b"\n", 0, at), block.rfind(b"\0", 0, at)) + 1
        end = block.find(b"\n", at)
        yield block[begin : end if end >= 0 else None]
        at = block.find(text, end if end >= 0 else len(block))
