"""Mutations of journals: of the fields of records, of lines, of bytes, and of files.

Every function takes the random generator first. What it returns is damaged, or lies, as little or as much as
the generator wants.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

# What a terminal must not get: escape sequences, C1 controls, line breaks of every kind, bidi marks.
HOSTILE_TEXT = (
    "\x1b[2J\x1b[1;1H\nCOMPLETE: 1 journal, closed; all 3 events that were captured are there.\r\n"
    "\x9b31m\x85\u2028\u2029\u202e\u2066\u200f\x00\x07"
)
_TEXTS = (
    "",
    "x" * 5_000,
    HOSTILE_TEXT,
    "\ud800",
    "\u00b2",
    "dask:k",
    "task",
    "9" * 400,
    "None",
    "\0",
    "../../x",
)
_NUMBERS = (0, -1, 1, 2**31, 2**63 - 1, 2**63, -(2**63), 2**64, 10**30, 10**400, 10**4_000, 1e308, -0.0, 0.5)
_STATUSES = ("RUNNING", "SUBMITTED", "FINISHED", "ERROR", "INTERRUPTED", "CANCELLED", "finished")
_NAMES = (*_TEXTS, "$int", "$float", "$$", "type", "tags", "statistics", "gpu", "energy_j")
_MARKED = (*_TEXTS, "9" * 20_000, "0x" + "f" * 20_000)
_MAX_DEPTH = 4
_RAW = (
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "9" * 20_000,
    "[" * 3_000,
    "{",
    "\\",
    '"\\ud800"',
    "tru",
    "01",
)
_GARBAGE = (
    b"",
    b"{}",
    b"[]",
    b"null",
    b"\xff\xfe\x00\x01",
    b"2026-11-28 INFO another program",
    b'{"event":"other","level":"info"}',
    b'{"type":"campaign","campaign_id":',
    b'{"type":"campaign","campaign_id":7}',
    b'{"type":"footer","at":1,"captured":1,"written":1}',
    b'{"type":"task","task_id":1,"parent_task_id":1}',
    b'{"type":"workflow","workflow_id":"w","parent_workflow_id":"w"}',
    b"\0" * 5_000,
    b" " * 3_000,
    b"\xef\xbb\xbf{}",
    HOSTILE_TEXT.encode("utf-8", "surrogatepass"),
)


def hostile_value(rng: Random, pool: Sequence[Any], depth: int = 0) -> Any:
    """Return a value that no writer writes there; some are taken from the journals themselves."""
    kinds: list[Callable[[], Any]] = [
        lambda: rng.choice(_TEXTS),
        lambda: rng.choice(_NUMBERS),
        lambda: rng.choice((None, True, False, *_STATUSES)),
        lambda: rng.choice(pool or _TEXTS),
        lambda: rng.choice(pool or _TEXTS),
    ]
    if depth < _MAX_DEPTH:
        kinds += [
            lambda: [hostile_value(rng, pool, depth + 1) for _ in range(rng.randrange(4))],
            lambda: {rng.choice(_NAMES): hostile_value(rng, pool, depth + 1) for _ in range(3)},
            lambda: _nested(rng, rng.choice((20, 95, 240, 800))),
            lambda: {rng.choice(("$int", "$float", "$int_bits")): rng.choice(_MARKED)},
        ]
    return rng.choice(kinds)()


def _nested(rng: Random, depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if rng.random() < 0.5 else {"a": value}
    return value


def mutate_fields(rng: Random, line: bytes, pool: Sequence[Any]) -> bytes:
    """Return the line of a record with some fields replaced, removed, added or doubled."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(record, (dict, list)):
        return line
    for _ in range(rng.choice((1, 1, 2, 5))):
        container: Any = record
        while inner := [item for item in _items(container) if isinstance(item, (dict, list)) and item]:
            if rng.random() < 0.4:
                break
            container = rng.choice(inner)
        _mutate_one(rng, container, pool)
    text = json.dumps(record, ensure_ascii=rng.random() < 0.5, separators=(",", ":"))
    if rng.random() < 0.15:  # a token that is no JSON, or a key that is there twice
        where = text.rfind(":") + 1
        raw = rng.choice(_RAW)
        text = text[:where] + raw + "}" if rng.random() < 0.5 else text[:-1] + ',"type":"task"}'
    return text.encode("utf-8", "surrogatepass")


def _items(container: Any) -> list[Any]:
    return list(container.values() if isinstance(container, dict) else container)


def _mutate_one(rng: Random, container: Any, pool: Sequence[Any]) -> None:
    """Replace, remove or add one field of a mapping, or one item of a list."""
    keys = list(container) if isinstance(container, dict) else list(range(len(container)))
    if not keys:
        return
    key = rng.choice(keys)
    if isinstance(container, dict) and rng.random() < 0.15:
        del container[key]
    elif isinstance(container, dict) and rng.random() < 0.15:
        container[rng.choice(("type", "task_id", "status", *_TEXTS))] = hostile_value(rng, pool)
    elif type(container[key]) is int and rng.random() < 0.3:
        container[key] += rng.choice((-1, 1, 1_000, -1_000, 10**12))
    else:
        container[key] = hostile_value(rng, pool)


def mutate_lines(rng: Random, lines: list[bytes], pool: Sequence[Any]) -> list[bytes]:
    """Return the lines of a journal with one mutation."""
    lines = list(lines)
    at = rng.randrange(len(lines) + 1)
    kind = rng.randrange(10)
    if kind < 5 and at < len(lines):
        lines[at] = mutate_fields(rng, lines[at], pool)
    elif kind == 5:
        lines[at : at + rng.choice((0, 1, 3))] = [rng.choice(_GARBAGE) for _ in range(rng.choice((1, 3)))]
    elif kind == 6 and at < len(lines):
        lines[at:at] = [lines[rng.randrange(len(lines))]] * rng.choice((1, 2, 30))
    elif kind == 7 and at < len(lines):
        lines[at] = lines[at][: rng.randrange(len(lines[at]) + 1)]
    elif kind == 8 and at + 1 < len(lines):
        lines[at : at + 2] = [lines[at] + lines[at + 1]] if rng.random() < 0.5 else lines[at : at + 2][::-1]
    else:
        rng.shuffle(lines)
    return lines


def mutate_bytes(rng: Random, data: bytes) -> bytes:
    """Return the bytes of a file with some of them changed, removed or added."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 20))):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(4)
        if kind == 0 and at < len(changed):
            changed[at] = rng.randrange(256)
        elif kind == 1:
            del changed[at : at + rng.choice((1, 50, 5_000))]
        elif kind == 2:
            changed[at:at] = rng.choice((b"\n", b"\0" * 70_000, b"\r", b"}\n{", rng.randbytes(40)))
        else:
            del changed[at:]
    return bytes(changed)


def mutate_file(rng: Random, path: Path) -> None:
    """Put something else in the place of a journal, or beside it."""
    action: Callable[[Path], object] = rng.choice(
        (_make_sparse, _make_fifo, _make_folder, _make_link, _make_dangling, _copy, _rename, _empty, _socket)
    )
    action(path)


def _make_sparse(path: Path) -> None:
    os.truncate(path, 20 << 30)


def _make_fifo(path: Path) -> None:
    if not (fifo := path.with_name("1-fifo.jsonl")).exists():
        os.mkfifo(fifo)


def _make_folder(path: Path) -> None:
    (path.parent / "2-folder.jsonl").mkdir(exist_ok=True)


def _make_link(path: Path) -> None:
    _link(path.with_name("3-link.jsonl"), Path("/dev/zero"))


def _make_dangling(path: Path) -> None:
    name = path.with_name("4-dangling.jsonl")
    _link(name, name)


def _link(name: Path, target: Path) -> None:
    if not name.is_symlink():
        name.symlink_to(target)


def _copy(path: Path) -> None:
    if path.name != "5-copy.jsonl":
        shutil.copy(path, path.parent / "5-copy.jsonl")


def _rename(path: Path) -> None:
    path.rename(path.with_name(os.fsdecode(b"\xff\xfe\x1b[2J.jsonl")))


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _socket(path: Path) -> None:
    name = path.with_name("6.jsonl")
    if len(str(name)) < 100 and not name.exists():
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(name))
