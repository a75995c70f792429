"""One pass over the bytes of a file: its digest, and the digests of its tensors.

Flows in: a descriptor of a regular file. Flows out: its content. The file is looked at before and after: what
changed meanwhile is read once more, and then said to have changed.

Hashing and reading release the GIL, as each call takes a large stretch.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable

import msgspec

from flowprov.contents import formats, safetensors, torch_zip
from flowprov.contents.content import TELLING_BYTES, Content, Tensors, is_pattern
from flowprov.contents.stretches import DamagedError, Stretch

# Between two of them the program may have to hand over the GIL, so they are large.
_CHUNK = 4 << 20
_LOOK = 64  # bytes of a tensor that are looked at before all of it: is it one pattern
_TRIES = 2


class StoppedError(Exception):
    """The reading was stopped before its end, as the program ends."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How artifacts are read.

    Attributes
    ----------
    weights
        Whether tensors are looked for.
    max_bytes
        What is larger is not read; None: everything is.
    stop
        Whether to stop now; asked again and again.
    """

    weights: bool = True
    max_bytes: int | None = None
    stop: Callable[[], bool] = bool


def read_file(descriptor: int, reading: Reading, name: str = "") -> Content:
    """Read a file and return its content.

    Parameters
    ----------
    descriptor
        An open regular file.
    reading
        How it is read.
    name
        Its name, which may say a format where the bytes do not.

    Raises
    ------
    StoppedError
        If the reading was stopped.
    OSError
        If the file cannot be read.
    """
    began = time.monotonic_ns()
    read_bytes = 0
    content = Content(state="changed_while_read")
    for _ in range(_TRIES):
        before = os.fstat(descriptor)
        if reading.max_bytes is not None and before.st_size > reading.max_bytes:
            reason = f"{before.st_size} bytes are more than artifacts.max_bytes ({reading.max_bytes})"
            return Content(state="skipped", reason=reason, size=before.st_size)
        content, count = _pass(descriptor, before.st_size, reading, name)
        read_bytes += count
        after = os.fstat(descriptor)
        if count == before.st_size and _is_same(before, after):
            break
        content = Content(
            state="changed_while_read", reason="it changed while it was read", size=after.st_size
        )
    return msgspec.structs.replace(content, took_ns=time.monotonic_ns() - began, read_bytes=read_bytes)


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def _pass(descriptor: int, size: int, reading: Reading, name: str) -> tuple[Content, int]:
    """Read a file once; return its content and how many bytes there were."""
    kind, stretches, reason = _structure(descriptor, size, name, weights=reading.weights)
    whole = hashlib.sha256(usedforsecurity=False)
    tensors = _TensorHasher(stretches)
    buffer = bytearray(min(_CHUNK, max(size, 1)))
    view = memoryview(buffer)
    position = 0
    while position < size:
        count = os.preadv(descriptor, [view[: min(len(buffer), size - position)]], position)
        if count == 0:
            break
        part = view[:count]
        whole.update(part)
        tensors.update(part, position)
        position += count
        if reading.stop():
            raise StoppedError
    found = tensors.result() if stretches and position == size else None
    content = Content(
        state="digested", reason=reason, sha256=whole.hexdigest(), size=size, format=kind, tensors=found
    )
    return content, position


def _structure(
    descriptor: int, size: int, name: str, *, weights: bool
) -> tuple[str | None, list[Stretch], str | None]:
    """Return the format of a file, where its tensors lie, and why they are not known."""
    head = os.pread(descriptor, formats.HEAD_BYTES, 0)
    kind: str | None = None
    try:
        if torch_zip.is_zip(head):
            kind = "zip"
            members = torch_zip.entries(descriptor, size)
            kind = torch_zip.format_of(members)
            if not weights or kind not in ("torch-zip", "pt2"):
                return kind, [], None
            return kind, torch_zip.stretches(descriptor, size, members), None
        if safetensors.is_safetensors(head, size):  # first: the length of its header may look like a pickle
            kind = "safetensors"
            return kind, safetensors.stretches(descriptor, size) if weights else [], None
    except DamagedError as error:
        return kind, [], f"no weights digest: {error}"
    kind = formats.by_content(head) or formats.by_name(name)
    legacy = kind == "torch-legacy" and weights
    return kind, [], "no weights digest: this form of torch.save must be unpickled" if legacy else None


class _TensorHasher:
    """Hashes the tensors of a file while its bytes pass."""

    def __init__(self, stretches: list[Stretch]) -> None:
        self._stretches = stretches
        self._next = 0
        self._hash = hashlib.sha256(usedforsecurity=False)
        self._pattern: bytes | None = None  # the one of which the tensor consists so far
        self._all: set[bytes] = set()
        self._telling: set[bytes] = set()

    def update(self, part: memoryview, position: int) -> None:
        """Take the bytes of the file from a position on."""
        end = position + len(part)
        while self._next < len(self._stretches):
            first, last = self._stretches[self._next]
            if first >= end:
                return
            begins = first >= position
            piece = part[max(first, position) - position : min(last, end) - position]
            self._look(piece, begins=begins)
            self._hash.update(piece)
            if last > end:
                return
            self._finish(last - first)

    def _look(self, piece: memoryview, *, begins: bool) -> None:
        """Look whether a tensor goes on as one pattern; most differ in their first bytes."""
        if begins:
            self._pattern = bytes(piece[:8])
        if self._pattern is None or not piece:
            return
        start = bytes(piece[:_LOOK])
        if not is_pattern(start) or not is_pattern(bytes(piece)) or start[:8] not in self._pattern * 2:
            self._pattern = None

    def _finish(self, size: int) -> None:
        digest = self._hash.digest()
        self._all.add(digest)
        if size >= TELLING_BYTES and self._pattern is None:
            self._telling.add(digest)
        self._hash = hashlib.sha256(usedforsecurity=False)
        self._pattern = None
        self._next += 1

    def result(self) -> Tensors:
        """Return the tensors, at the end of the file."""
        return Tensors(frozenset(self._all), frozenset(self._telling))
