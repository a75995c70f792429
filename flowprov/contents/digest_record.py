"""The record of what an artifact holds.

Flows in: the number of an artifact, and its content. Flows out: a digest record.
"""

from __future__ import annotations

from flowprov.clock import clock
from flowprov.contents.content import Content
from flowprov.records import Digest, LocalId


def digest_record(number: LocalId, content: Content) -> Digest:
    """Return the record of what an artifact holds."""
    return Digest(
        number=number,
        state=content.state,
        reason=content.reason,
        size=content.size,
        format=content.format,
        digests=None if content.sha256 is None else {"sha256": content.sha256},
        weights=content.weights,
        tensors=None if content.tensors is None else content.tensors.shortened(),
        files=None if content.members is None else len(content.members),
        members=content.listed_members(),
        took_ns=content.took_ns,
        read_bytes=content.read_bytes,
        at=clock.now(),
    )
