"""The tasks of a campaign's small Parquet files in one, as opening a file takes longer than reading it.

Flows in: the Parquet files beside the journals of a campaign. Flows out: ``merged.parquet`` in the folder of
the campaign, with the rows of all tasks that stand by themselves; and the files that a statement reads.

The metadata of a merged file names its members, with their sizes and times. If one of them is another one by
now, or is not wanted, the members are read one by one. So the file cannot go stale, and to remove it loses
nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from flowprov.errors import FlowprovError
from flowprov.read.digest_file import FileState, name_in_campaign, state_of
from flowprov.read.parquet_files import connect, metadata_of
from flowprov.read.parquet_writer import ParquetWriter

NAME = "merged.parquet"
VERSION = 1
_FEW = 8  # files of a campaign: these are opened as fast one by one
_SMALL = 1 << 20  # bytes of a file; to open a larger one is the least of reading it
_SHARE = 4  # it is made anew when a quarter would come to it, so that each task is written few times


class _Members(msgspec.Struct):
    """The states of the files whose tasks a merged file holds, by their paths in its folder."""

    version: int
    states: dict[str, FileState]


_decoder = msgspec.msgpack.Decoder(_Members)


def merge_small_files(files: Iterable[Path], writer: ParquetWriter) -> None:
    """Write the merged files of campaigns that have many small Parquet files.

    Parameters
    ----------
    files
        All Parquet files of the campaigns.
    writer
        Writes the merged files.
    """
    for folder, members in _by_campaign(files).items():
        states = {member: state for member in members if (state := state_of(member)) is not None}
        small = {name_in_campaign(member): state for member, state in states.items() if state.size <= _SMALL}
        if _is_worth_it(small, _members_of(writer.connection, [folder / NAME]).get(folder / NAME, {})):
            with contextlib.suppress(OSError, FlowprovError):  # nothing is lost by it
                writer.merge(
                    [folder / name for name in small],
                    folder / NAME,
                    msgspec.msgpack.encode(_Members(VERSION, small)),
                )


def _is_worth_it(small: Mapping[str, FileState], held: Mapping[str, FileState]) -> bool:
    if len(small) < _FEW:
        return False
    if any(small.get(name) != state for name, state in held.items()):
        return True  # nobody can use what there is
    return len(small) - len(held) >= max(_FEW, len(held) // _SHARE)


def with_merged(files: Sequence[Path], without: Container[Path] = ()) -> list[Path]:
    """Return files that hold the same tasks: merged files, and those that are members of none.

    Parameters
    ----------
    files
        Parquet files beside journals.
    without
        Merged files that cannot be used.
    """
    campaigns = {
        folder / NAME: set(members)
        for folder, members in _by_campaign(files).items()
        if len(members) >= _FEW and folder / NAME not in without and (folder / NAME).exists()
    }
    if not campaigns:
        return list(files)
    held: set[Path] = set()
    merged = []
    with connect(threads="1") as connection:
        found = _members_of(connection, campaigns)
    for path, states in found.items():
        members = {path.parent / name: state for name, state in states.items()}
        if members.keys() <= campaigns[path] and all(state_of(name) == one for name, one in members.items()):
            held |= members.keys()
            merged.append(path)
    return [*merged, *(path for path in files if path not in held)]


def _members_of(connection: Any, paths: Iterable[Path]) -> dict[Path, dict[str, FileState]]:
    """Return what merged files hold; nothing of one that is missing, damaged or of another version."""
    found = metadata_of(connection, [os.fspath(path) for path in paths])
    return {Path(name): states for name, data in found if data is not None and (states := _decode(data))}


def _decode(data: bytes) -> dict[str, FileState]:
    try:
        content = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}
    return content.states if content.version == VERSION else {}


def _by_campaign(files: Iterable[Path]) -> dict[Path, list[Path]]:
    """Return files by the folders of their campaigns."""
    found: dict[Path, list[Path]] = {}
    for path in files:
        found.setdefault(path.parent.parent, []).append(path)
    return found
