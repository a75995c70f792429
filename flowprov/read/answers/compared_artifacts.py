"""The artifacts of two items beside each other: what they used, and the weights that they ended with.

Flows in: two items, and the artifacts of their campaigns. Flows out: those that differ by their content.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePath
from typing import Any

from flowprov.read.answers.items import Item
from flowprov.read.artifacts.catalog import GENERATED, USED, Catalog, Sighting

_SHOWN = 16  # characters of a digest
_MAX_INPUTS = 100


def inputs_that_differ(a: Item, b: Item, catalog: Catalog) -> dict[str, Any]:
    """Return what was used by one of the two only, by its name: the beginnings of both digests.

    Where both have no digest, as of a file that was missing, it is by what else they differ.
    """
    ours, theirs = (_by_name(_of(item, USED, catalog)) for item in (a, b))
    names = [*ours, *(name for name in theirs if name not in ours)][:_MAX_INPUTS]
    pairs = {name: _pair(ours.get(name), theirs.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair is not None}


def weights_that_differ(a: Item, b: Item, catalog: Catalog) -> dict[str, Any]:
    """Return how the last weights of the two differ: their places, and how many tensors are equal.

    It is empty if the weights are the same, or if one of the two generated none. If both had one place, it
    is the beginnings of their digests.
    """
    last = [_last_weights(_of(item, GENERATED, catalog)) for item in (a, b)]
    first, second = last
    if first is None or second is None or first.weights == second.weights:
        return {}
    tensors = [set((one.digest.tensors if one.digest is not None else None) or []) for one in (first, second)]
    found: dict[str, Any] = {"last": [first.place, second.place]}
    if first.place == second.place:
        found["last"] = [str(one.weights)[:_SHOWN] for one in (first, second)]
    if all(tensors):
        found["equal tensors"] = f"{len(tensors[0] & tensors[1])} of {max(map(len, tensors))}"
    return found


def _of(item: Item, role: str, catalog: Catalog) -> list[Sighting]:
    """Return the artifacts of an item: those inside its task, else those of its workflow."""
    own = [] if item.task is None else [str(item.task.task_id)]
    for wanted in (own, [one.workflow_id for one in item.workflows]):
        found = [
            one
            for one in catalog.sightings
            if one.role == role and not {*one.around, one.workflow_id}.isdisjoint(wanted)
        ]
        if found:
            return found
    return []


def _by_name(sightings: Iterable[Sighting]) -> dict[str, Sighting]:
    """Return artifacts by what a person calls them; of several of one name the last."""
    return {one.record.name or PurePath(one.place or one.record.kind).name: one for one in sightings}


def _pair(one: Sighting | None, other: Sighting | None) -> list[str | None] | None:
    """Return by what two artifacts differ; None if nothing says that they do."""
    if one is None or other is None:
        return [_shown(one), _shown(other)]
    if _same(one, other):
        return None
    descriptions = ([_shown(each), *_known_of(each)] for each in (one, other))
    pairs = zip(*descriptions, strict=True)
    return next(([first, second] for first, second in pairs if first != second), None)


def _shown(one: Sighting | None) -> str | None:
    return None if one is None else (one.sha256 or one.state)[:_SHOWN]


def _known_of(one: Sighting) -> list[str]:
    """Return what is known of an artifact besides its SHA-256, each behind what became of its digest."""
    digests = {} if one.digest is None else one.digest.digests or {}
    known = (" ".join(digests.values()), one.size, one.place)
    return [f"{one.state}: {value}" for value in known]


def _same(one: Sighting, other: Sighting) -> bool:
    return not set(one.identifiers()).isdisjoint(other.identifiers())


def _last_weights(sightings: Iterable[Sighting]) -> Sighting | None:
    return max((one for one in sightings if one.weights), key=lambda one: one.at, default=None)
