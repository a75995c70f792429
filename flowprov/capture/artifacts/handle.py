"""The handle of an artifact: what ``log_artifact`` and ``use_artifact`` return.

Flows in: what is known of an artifact at the call, and later its content. Flows out: its digest, for a
program that asks, and what a record says where the handle stands among values.
"""

from __future__ import annotations

import _thread
import os
import time
from typing import Any

from flowprov.contents.content import Content
from flowprov.contents.paths import read_path
from flowprov.contents.reading import Reading

_SLICE_S = 0.5


class Artifact:
    """A file, folder or object that a task or workflow used or generated.

    It may stand among the inputs and outputs of anything, and be pickled to another process.

    Attributes
    ----------
    artifact_id
        The id of its record; None if nothing is recorded.
    role
        ``"used"`` or ``"generated"``.
    name, kind, path
        As they are recorded; ``path`` is absolute, and None for an object.
    """

    __slots__ = ("_content", "_lock", "_pid", "_size", "_stat", "artifact_id", "kind", "name", "path", "role")

    def __init__(
        self,
        role: str,
        *,
        name: str | None,
        kind: str,
        path: str | None,
        size: int | None = None,
        artifact_id: str | None = None,
        content: Content | None = None,
    ) -> None:
        self.role, self.name, self.kind, self.path = role, name, kind, path
        self.artifact_id = artifact_id
        self._size = size
        self._content = content
        self._lock: Any = None
        self._pid = os.getpid()
        self._stat: tuple[int, int] | None = None

    @property
    def size(self) -> int | None:
        """Its size in bytes; of a folder that of all files, for which it waits as :attr:`digest` does."""
        if self._size is None and self.wait() and self._content is not None:
            return self._content.size
        return self._size

    @property
    def digest(self) -> str | None:
        """Its SHA-256 in hexadecimal; this waits until it is there. None if it has none."""
        self.wait()
        return None if self._content is None else self._content.sha256

    @property
    def weights(self) -> str | None:
        """The digest of its tensors, whatever file holds them; this waits as :attr:`digest` does."""
        self.wait()
        return None if self._content is None else self._content.weights

    @property
    def state(self) -> str:
        """What became of its digest, as the column of :func:`flowprov.artifacts` says; it does not wait."""
        return "pending" if self._content is None else self._content.state

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the digest is there, or why there is none; return whether it is.

        Parameters
        ----------
        timeout
            Seconds; None waits as long as it takes.
        """
        if self._content is None and self.path is not None and self._is_elsewhere():
            self._read_here()
        lock = self._lock
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._content is None and lock is not None and self._lock is not None:
            pause = _SLICE_S if deadline is None else min(_SLICE_S, deadline - time.monotonic())
            if pause <= 0:
                return False
            # In slices: an exception from outside may arrive between these two, and leave it locked.
            if lock.acquire(timeout=pause):
                lock.release()
                break
        return self._content is not None

    def expect(self, stat: tuple[int, int] | None) -> None:
        """Have the digest come later.

        Parameters
        ----------
        stat
            Size and mtime, by which another process knows whether a file is still the same.
        """
        self._stat = stat
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def is_still(self, status: os.stat_result) -> bool:
        """Whether a file is the one that was logged, as far as its status tells."""
        return self._stat == (status.st_size, status.st_mtime_ns)

    def settle(self, content: Content | None) -> None:
        """Take the content; None if nobody will read it in this process."""
        lock, self._lock = self._lock, None
        self._content = content
        if lock is not None and lock.locked():
            lock.release()

    @property
    def content(self) -> Content | None:
        """What it holds; None if that is not known yet."""
        return self._content

    def _is_elsewhere(self) -> bool:
        """Whether no thread of this process reads it: this one was forked, or got a pickle."""
        return self._lock is None or self._pid != os.getpid()

    def _read_here(self) -> None:
        """Read a file that another process logged, if it is still the same here."""
        self._lock = None
        if self._stat is None or self.path is None:
            return
        try:
            status = os.stat(self.path)  # noqa: PTH116 - it may be bytes that are no text
        except (OSError, ValueError):  # it is not there, or not any more
            return
        if (status.st_size, status.st_mtime_ns) == self._stat:
            self._content = read_path(self.path, Reading())

    def __reduce__(self) -> tuple[Any, ...]:
        state = (self.role, self.name, self.kind, self.path, self._size, self.artifact_id, self._stat)
        return (_copy_of, (state, self._content))

    def __fspath__(self) -> str:
        if self.path is None:
            raise TypeError("this artifact is an object and has no path")
        return self.path

    def __repr__(self) -> str:
        what = self.path or self.name or self.kind
        return f"<flowprov artifact {what} ({self.role}, {self.state})>"


def _copy_of(state: tuple[Any, ...], content: Content | None) -> Artifact:
    """Return the copy of an artifact, which knows what was known when it was made."""
    role, name, kind, path, size, artifact_id, stat = state
    copy = Artifact(
        role, name=name, kind=kind, path=path, size=size, artifact_id=artifact_id, content=content
    )
    copy._stat, copy._pid = stat, -1  # noqa: SLF001 - it is one of ours
    return copy
