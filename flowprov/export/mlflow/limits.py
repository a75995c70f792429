"""What MLflow takes: how names and values must be, and how much one call may hold.

Flows in: names and values as they were recorded. Flows out: the same, cut and rewritten with a mark where
MLflow would refuse or cut them silently.

The numbers are those of MLflow 3.17 (``mlflow.utils.validation``).
"""

from __future__ import annotations

import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

MAX_NAME = 250
MAX_PARAM = 6_000
MAX_TAG = 8_000
MAX_EXPERIMENT_NAME = 500
MAX_DATASET_DIGEST = 36
MAX_DATASET_NAME = 500
MAX_METRICS_PER_CALL = 1_000
MAX_OTHERS_PER_CALL = 100  # params, and as many tags
_MAX_CALL = 250_000  # characters: a server takes a request of 1 MB, and one may have 4 bytes
_LARGEST = 1.7976931348623157e308  # what MLflow keeps for an infinite number

_FOREIGN = re.compile(r"[^/\w.\- :]")


def fit_name(name: str) -> str:
    """Return the name that a param, metric or tag has in MLflow: the same, if MLflow takes it.

    Otherwise characters that it refuses become underscores, a long name is cut, and eight digits of a digest
    follow, so that two names never become one.
    """
    clean = _FOREIGN.sub("_", name)
    if not clean.strip() or posixpath.normpath(clean) != clean or clean.startswith(("/", ".")):
        clean = clean.replace("/", "_").strip(". ") or "_"
    if clean == name and len(name) <= MAX_NAME:
        return name
    return _with_digest(clean, name, MAX_NAME)


def fit_experiment_name(name: str) -> str:
    """Return the name that a campaign has in MLflow; one that is too long is cut and marked by a digest."""
    return name if len(name) <= MAX_EXPERIMENT_NAME else _with_digest(name, name, MAX_EXPERIMENT_NAME)


def fit_value(value: str, longest: int) -> str:
    """Return a value that is short enough; where something was cut, it says how much there was."""
    if len(value) <= longest:
        return value
    mark = cut_mark(len(value))
    return value[: longest - len(mark)] + mark


def cut_mark(length: int) -> str:
    """Return what stands at the end of a text that is cut, of so many characters."""
    return f"… [cut: {length:,} characters]"


def as_stored(value: float) -> float:
    """Return the number that MLflow keeps of a metric: an infinite one becomes the largest that there is."""
    return math.copysign(_LARGEST, value) if math.isinf(value) else value


class Point(NamedTuple):
    """One value of a metric; ``at`` is in milliseconds since the epoch."""

    name: str
    value: float
    step: int
    at: int


class LogBatch(NamedTuple):
    """What one call of ``log_batch`` takes."""

    metrics: list[Point]
    params: dict[str, str]
    tags: dict[str, str]


def batches(
    metrics: Iterable[Point], params: Iterable[tuple[str, str]], tags: Iterable[tuple[str, str]]
) -> Iterator[LogBatch]:
    """Divide what a run has into calls: the params first, then the tags, then the metrics."""
    for part in _parts(list(params)):
        yield LogBatch([], dict(part), {})
    for part in _parts(list(tags)):
        yield LogBatch([], {}, dict(part))
    points = list(metrics)
    for first in range(0, len(points), MAX_METRICS_PER_CALL):
        yield LogBatch(points[first : first + MAX_METRICS_PER_CALL], {}, {})


def _parts(pairs: Sequence[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    part: list[tuple[str, str]] = []
    size = 0
    for name, value in pairs:
        added = len(name) + len(value)
        if part and (len(part) == MAX_OTHERS_PER_CALL or size + added > _MAX_CALL):
            yield part
            part, size = [], 0
        part.append((name, value))
        size += added
    if part:
        yield part


def _with_digest(text: str, original: str, longest: int) -> str:
    mark = f"_{sha256(original.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return text[: longest - len(mark)] + mark
