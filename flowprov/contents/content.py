"""The content of an artifact: its digests, and why there are none.

Flows in: what a pass over the bytes found. Flows out: a :class:`Content`, from which a record is made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from flowprov.values.redaction import redactor

State: TypeAlias = Literal["digested", "changed_while_read", "missing", "unreadable", "skipped"]

TELLING_BYTES = 1024
"""Smaller tensors tell nothing of where they come from: many models have the same."""

_MAX_TENSORS = 50_000  # in one record
_MAX_MEMBERS = 20_000
_MAX_MEMBER_BYTES = 4_000_000  # of all names of members in one record
_SHORT = 8  # bytes of a tensor's digest in a record


class Tensors(NamedTuple):
    """The tensors of one or several files.

    Attributes
    ----------
    all
        The SHA-256 of each tensor's bytes.
    telling
        Those of them that are neither small nor one pattern of bytes.
    """

    all: frozenset[bytes] = frozenset()
    telling: frozenset[bytes] = frozenset()

    def weights(self) -> str | None:
        """Return the weights digest: equal whatever file holds the tensors; None if there are none."""
        return hashlib.sha256(b"".join(sorted(self.all))).hexdigest() if self.all else None

    def shortened(self) -> list[str] | None:
        """Return the telling tensors as a record has them; None if there are none, or too many."""
        telling = self.telling
        if not telling or len(telling) > _MAX_TENSORS:
            return None
        return sorted(digest[:_SHORT].hex() for digest in telling)


class Member(NamedTuple):
    """A file of a folder: its path in it, its size and its SHA-256."""

    path: str
    size: int
    sha256: str


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What an artifact holds.

    Attributes
    ----------
    state
        What became of reading it.
    reason
        Why there is no digest, or no weights digest.
    sha256
        The SHA-256 of a file; of a folder that of its manifest.
    size
        Bytes, of all files of a folder together.
    format
        As its first bytes say: ``"safetensors"``, ``"torch-zip"``, ``"parquet"``.
    tensors
        The tensors that it holds; None if they were not looked for, or cannot be told.
    members
        The files of a folder.
    took_ns, read_bytes
        What it cost.
    """

    state: State
    reason: str | None = None
    sha256: str | None = None
    size: int | None = None
    format: str | None = None
    tensors: Tensors | None = None
    members: tuple[Member, ...] | None = None
    took_ns: int = 0
    read_bytes: int = 0

    @property
    def weights(self) -> str | None:
        """The weights digest."""
        return None if self.tensors is None else self.tensors.weights()

    def listed_members(self) -> list[tuple[str, int, str]] | None:
        """Return the members as a record has them; None if there are none, or too many for one line.

        Their names are without secrets. The digest of the manifest is that of the names as they are.
        """
        members = self.members
        if members is None or len(members) > _MAX_MEMBERS:
            return None
        if sum(len(member.path) for member in members) > _MAX_MEMBER_BYTES:
            return None
        clean = redactor().text
        return [(clean(printable_path(path)), size, sha256) for path, size, sha256 in members]


def unite(tensors: Iterable[Tensors]) -> Tensors | None:
    """Return the tensors of several files together; None if there are none."""
    every = list(tensors)
    if not every:
        return None
    return Tensors(
        frozenset().union(*(one.all for one in every)), frozenset().union(*(one.telling for one in every))
    )


def printable_path(path: str) -> str:
    """Return a path as text that UTF-8 can hold: other bytes stand as hexadecimal escapes."""
    if path.isascii():
        return path
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_pattern(data: bytes) -> bool:
    """Whether bytes are eight of them again and again: a tensor of zeros or ones, of whatever type."""
    return data[8:] == data[:-8]
