"""What an artifact is to a catalog of others: a model or data; and its name, its hashes and where it lay.

Flows in: sightings of an artifact. Flows out: words and texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from flowprov.export.plain_values import plain_text
from flowprov.read.artifacts.catalog import Sighting

_MODEL_KINDS = {"checkpoint", "compiled", "model"}
_DATASET_KINDS = {"dataset", "frame", "tensor"}
_HASH = re.compile(r"[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64}|[0-9a-f]{128}")


def is_model(sightings: Iterable[Sighting]) -> bool:
    """Whether an artifact is a model: a program called it one, or it holds weights and is not called data."""
    group = list(sightings)
    kinds = {one.record.kind for one in group}
    if kinds & _MODEL_KINDS:
        return True
    return not kinds & _DATASET_KINDS and any(one.weights is not None for one in group)


def is_dataset(sightings: Iterable[Sighting]) -> bool:
    """Whether a program called an artifact a data set."""
    return any(one.record.kind in _DATASET_KINDS for one in sightings)


def name_of(sightings: Sequence[Sighting]) -> str | None:
    """Return the name that a program gave an artifact, else that of its file; the latest that is known."""
    for one in reversed(sightings):
        name = one.record.name or (one.place or "").rstrip("/").rpartition("/")[2]
        if name:
            return plain_text(name)
    return None


def places_of(sightings: Iterable[Sighting]) -> list[str]:
    """Return where an artifact lay when it was used and generated."""
    return sorted({plain_text(one.place) for one in sightings if one.place})


def is_folder(one: Sighting) -> bool:
    """Whether the digest is that of the manifest of a folder."""
    return one.digest is not None and (one.digest.members is not None or one.digest.files is not None)


def hashes_of(digests: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the algorithm and the value of each digest that is a plain hash."""
    for name, value in sorted(digests.items()):
        if _HASH.fullmatch(value):
            yield name, value


__all__ = ["hashes_of", "is_dataset", "is_folder", "is_model", "name_of", "places_of"]
