"""Files of settings: their bytes, their encoding, their nodes.

Flows in: the path of a file. Flows out: the node at its top, or problems that say why there is none.
"""

from __future__ import annotations

import codecs
import os
import stat

from flowprov.settings.report import Problems, SourceLocation
from flowprov.settings.sources import SourceNode
from flowprov.settings.yaml_text import MAX_TEXT, YAML_ERRORS, add_yaml_problem, compose

_SAMPLE = 256  # bytes
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def node_of_content(content: bytes, path: str, problems: Problems) -> SourceNode | None:
    """Return the node at the top of a file; None if it is empty, or if that is a problem."""
    if len(content) > MAX_TEXT:
        problems.add(
            SourceLocation(path), (), f"too large: expected at most {MAX_TEXT // 1024} KiB of settings"
        )
        return None
    if encoding := other_encoding(content):
        hint = "save the file in this encoding"
        message = f"found {encoding.upper()}, expected UTF-8"
        problems.add(SourceLocation(path, 1), (), message, hint=lambda: hint)
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        problems.add(
            SourceLocation(path, line), (), "not UTF-8", hint=lambda: "save the file in this encoding"
        )
        return None
    try:
        return compose(text)
    except YAML_ERRORS as error:
        add_yaml_problem(problems, path, text, error)
        return None


def other_encoding(content: bytes) -> str | None:
    """Return the encoding of a text that is not UTF-8, as Windows saves it, by its mark or its zero bytes."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding
    beginning = content[:_SAMPLE]
    if len(beginning) < 2 or b"\0" not in beginning:
        return None
    even, odd = beginning[0::2].count(0), beginning[1::2].count(0)
    if odd > len(beginning) // 4 and not even:
        return "utf-16-le"
    return "utf-16-be" if even > len(beginning) // 4 and not odd else None


def read_file(path: str) -> bytes:
    """Read a regular file, up to one byte more than its largest size; a pipe would block the program.

    Raises
    ------
    OSError, ValueError
        If it cannot be read, or is no regular file.
    """
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "it is no regular file")
        return file.read(MAX_TEXT + 1)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def describe_read_error(error: OSError | ValueError) -> str:
    """Return why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "found a folder, expected a file"
    if isinstance(error, PermissionError):
        return "permission to read it is denied"
    reason = error.strerror if isinstance(error, OSError) else None
    return f"cannot be read: {reason or 'not a valid path'}"
