"""Find a bare file among what was recorded: by its digest, its weights, its tensors, or as part of a folder.

Flows in: the content of a file, and the catalog. Flows out: the artifacts that it is, or comes from, and how
each was found. The ways are tried in this order, and the first that finds anything is the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flowprov.contents.content import Content
from flowprov.read.artifacts.catalog import Catalog, Sighting
from flowprov.read.artifacts.graph import ALTERNATE_OF, HAD_MEMBER, WAS_DERIVED_FROM

_LEAST_SHARE = 0.5  # of the tensors of one of two files, for the other to come from it
_MAX_FOUND = 20


class Match(NamedTuple):
    """How a file was found.

    Attributes
    ----------
    found_by
        ``"digest"``, ``"weights"``, ``"tensors"`` or ``"member"``.
    reason
        The same in words.
    sightings
        The artifacts, the best first.
    relation
        The relation of the file to them; None if it is one of them.
    """

    found_by: str
    reason: str
    sightings: list[Sighting]
    relation: str | None = None


def find(content: Content, catalog: Catalog) -> Match | None:
    """Return how a file was found; None if nothing knows it."""
    for way in WAYS:
        if (match := way(content, catalog)) is not None:
            return match
    return None


def _by_digest(content: Content, catalog: Catalog) -> Match | None:
    found = [one for one in catalog.sightings if content.sha256 is not None and one.sha256 == content.sha256]
    return Match("digest", "its digest", found) if found else None


def _by_weights(content: Content, catalog: Catalog) -> Match | None:
    weights = content.weights
    found = [one for one in catalog.sightings if weights is not None and one.weights == weights]
    if not found:
        return None
    return Match("weights", "the weights digest: all tensors are the same", found, ALTERNATE_OF)


def _by_tensors(content: Content, catalog: Catalog) -> Match | None:
    own = set((content.tensors.shortened() or []) if content.tensors is not None else [])
    if not own:
        return None
    shared: list[tuple[int, Sighting]] = []
    for one in catalog.sightings:
        recorded = [] if one.digest is None else one.digest.tensors or []
        count = len(own.intersection(recorded))
        if count and count >= _LEAST_SHARE * min(len(own), len(recorded)):
            shared.append((count, one))
    if not shared:
        return None
    most = max(count for count, _ in shared)
    found = [one for count, one in shared if count == most]
    return Match("tensors", f"{most} of {len(own)} tensors", found[:_MAX_FOUND], WAS_DERIVED_FROM)


def _by_member(content: Content, catalog: Catalog) -> Match | None:
    found: list[Sighting] = []
    name = ""
    for one in catalog.sightings:
        members = [] if one.digest is None or content.sha256 is None else one.digest.members or []
        for path, _, sha256 in members:
            if sha256 == content.sha256:
                name = name or path
                found.append(one)
                break
    return Match("member", f"its digest, as {name} of a folder", found, HAD_MEMBER) if found else None


# What is certain comes first. The last way is `declared_data`: what DVC declares of a file.
WAYS: tuple[Callable[[Content, Catalog], Match | None], ...] = (
    _by_digest,
    _by_weights,
    _by_member,
    _by_tensors,
)
