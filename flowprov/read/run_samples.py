"""The samples of a run: which of its data it saw, and when.

Flows in: the batches of a run, of all its attempts and ranks; :mod:`flowprov.read.seen_batches` reads them.
Flows out: tables, and sets of samples.

Where an attempt goes on from a checkpoint, what the attempt before did behind that checkpoint is in no
weights of the later one: it is left out there, and counts only for checkpoints of its own attempt.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from flowprov.contents.content import Content
from flowprov.contents.paths import read_path
from flowprov.contents.reading import Reading
from flowprov.errors import MissingExtraError, UnknownIdError, UsageError
from flowprov.read.unknown_ids import describe_unknown
from flowprov.records import Artifact, Digest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

Limit: TypeAlias = "int | Mapping[str | None, int] | None"
"""A number of batches: of each loader, or of all the same; None for all that there are."""


class SeenBatch(NamedTuple):
    """A batch that a loop was handed.

    Attributes
    ----------
    name
        What its loader is for; None if the program gave no name.
    epoch, step
        The epoch; and how many batches of the loader the rank was handed before, over all attempts.
    rank
        The rank of its process.
    attempt
        The attempt of the run, from 0.
    indices
        Its samples, sorted.
    """

    name: str | None
    epoch: int | None
    step: int
    rank: int | None
    attempt: int
    indices: list[Any]


class SavedCheckpoint(NamedTuple):
    """A file or folder that a run wrote.

    Attributes
    ----------
    artifact
        Its artifact.
    id
        The full id of the artifact.
    digest
        What it holds; None as long as that is not known.
    attempt
        The attempt that wrote it, from 0.
    steps
        How many batches of each loader its rank had been handed, over all attempts.
    """

    artifact: Artifact
    id: str
    digest: Digest | None
    attempt: int
    steps: Mapping[str | None, int]

    @property
    def step(self) -> int:
        """How many batches of the loader that was used most."""
        return max(self.steps.values(), default=0)


class Samples:
    """The samples of a run.

    Parameters
    ----------
    run_id
        Id of the run.
    attempts
        What each attempt was handed, in their order; the steps of each go on from those before.
    offsets
        For each attempt, how many batches the weights had seen from which it went on: of each loader, or of
        all the same.
    checkpoints
        What the run wrote.
    """

    def __init__(
        self,
        run_id: str,
        attempts: Sequence[Sequence[SeenBatch]],
        offsets: Sequence[Limit],
        checkpoints: Sequence[SavedCheckpoint] = (),
    ) -> None:
        self.run_id = run_id
        self._attempts = attempts
        self._offsets = offsets
        self._checkpoints = list(checkpoints)

    def frame(self) -> pd.DataFrame:
        """Return one row per sample that was handed out: ``epoch``, ``step``, ``rank``, ``sample``.

        ``step`` counts the batches of a rank from 0, through the epochs and attempts. If several loaders
        were recorded, ``name`` tells them apart.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise MissingExtraError("pandas", "pandas", "read samples as a DataFrame") from error
        batches = list(self._chain(len(self._attempts) - 1))
        sizes = [len(batch.indices) for batch in batches]
        columns = {
            "epoch": pd.array(_repeated([batch.epoch for batch in batches], sizes), dtype="Int64"),
            "step": _repeated([batch.step for batch in batches], sizes),
            "rank": pd.array(_repeated([batch.rank for batch in batches], sizes), dtype="Int64"),
            "sample": [index for batch in batches for index in batch.indices],
        }
        if len({batch.name for batch in batches}) > 1:
            columns["name"] = _repeated([batch.name for batch in batches], sizes)
        frame: pd.DataFrame = pd.DataFrame(columns)
        return frame

    def saw(self, sample: Any) -> SampleHistory:
        """Return which batches held a sample, and which checkpoints had seen it."""
        batches = [batch for batch in self._chain(len(self._attempts) - 1) if sample in batch.indices]
        return SampleHistory(
            sample,
            batches,
            [one for one in self._checkpoints if sample in self._seen(one.attempt, one.steps, None)],
        )

    def seen(
        self, *, checkpoint: Any = None, step: int | None = None, name: str | None = None
    ) -> np.ndarray[Any, Any]:
        """Return the samples that a checkpoint had seen: a sorted array, each of them once.

        Parameters
        ----------
        checkpoint
            Its digest, its artifact, its name, or a path: of the file as it was, or of any copy of it.
        step
            Instead of it, how many steps were done.
        name
            Of which loader, if several were recorded.

        Raises
        ------
        UnknownIdError
            If the run wrote no such checkpoint.
        UsageError
            If there are several loaders, and no name.
        MissingExtraError
            If numpy is not installed.
        """
        try:
            import numpy as np
        except ModuleNotFoundError as error:
            raise MissingExtraError("numpy", "pandas", "read samples as an array") from error
        names = {batch.name for attempt in self._attempts for batch in attempt}
        if name is None and len(names) > 1:
            known = ", ".join(sorted(map(str, names)))
            raise UsageError(f"run {self.run_id} has several loaders ({known}): say which one, by name=")
        limit: Limit = step
        attempt = len(self._attempts) - 1
        if checkpoint is not None:
            saved = self._find(checkpoint)
            attempt, limit = saved.attempt, saved.steps
        return np.array(sorted(self._seen(attempt, limit, name)))

    @property
    def checkpoints(self) -> list[SavedCheckpoint]:
        """The checkpoints of the run, in the order in which they were written."""
        return list(self._checkpoints)

    def _seen(self, attempt: int, limit: Limit, name: str | None) -> set[Any]:
        return {
            index
            for batch in self._chain(attempt, limit)
            if name is None or batch.name == name
            for index in batch.indices
        }

    def _chain(self, attempt: int, limit: Limit = None) -> Iterator[SeenBatch]:
        """Yield the batches that led to what an attempt had after so many, the first ones first."""
        limits: list[list[Limit]] = [[] for _ in self._attempts]
        for number in range(attempt + 1):
            limits[number] = [limit, *self._offsets[number + 1 : attempt + 1]]
        for batches, each in zip(self._attempts, limits, strict=True):
            yield from (batch for batch in batches if each and all(_is_within(batch, one) for one in each))

    def _find(self, checkpoint: Any) -> SavedCheckpoint:
        given = str(getattr(checkpoint, "artifact_id", None) or checkpoint)
        latest_first = list(reversed(self._checkpoints))
        for saved in latest_first:
            if given in (saved.id, saved.artifact.name) or given in _digests_of(saved):
                return saved
        path = os.path.abspath(given)  # noqa: PTH100 - as artifacts are recorded: links stay links
        content = read_path(path, Reading())
        for saved in latest_first:
            if content.sha256 in _digests_of(saved):
                return saved
        for saved in latest_first:  # its process was killed before it had the digest, or the file is gone
            if saved.artifact.path == path and not (content.sha256 and _may_differ(saved, content)):
                return saved
        names = {saved.id: saved.artifact.path for saved in self._checkpoints}
        raise UnknownIdError(describe_unknown("checkpoint", given, f"run {self.run_id}", names))

    def __repr__(self) -> str:
        batches = list(self._chain(len(self._attempts) - 1))
        different = len({index for batch in batches for index in batch.indices})
        return (
            f"<samples of run {self.run_id}: {different} in {len(batches)} batches, "
            f"{len(self._attempts)} attempts, {len(self._checkpoints)} checkpoints>"
        )


def _digests_of(saved: SavedCheckpoint) -> set[str]:
    return set() if saved.digest is None else {*(saved.digest.digests or {}).values()}


def _may_differ(saved: SavedCheckpoint, content: Content) -> bool:
    """Whether what lies at the place of a checkpoint is known to be, or looks like, something else."""
    return saved.digest is not None or saved.artifact.size not in (None, content.size)


def _is_within(batch: SeenBatch, limit: Limit) -> bool:
    if isinstance(limit, Mapping):
        limit = limit.get(batch.name, 0)
    return limit is None or batch.step < limit


def _repeated(values: Iterable[Any], sizes: Sequence[int]) -> list[Any]:
    return [value for value, size in zip(values, sizes, strict=True) for _ in range(size)]


class SampleHistory(NamedTuple):
    """Where a sample was met.

    Attributes
    ----------
    sample
        The sample.
    batches
        The batches that held it.
    checkpoints
        The checkpoints that had seen it.
    """

    sample: Any
    batches: list[SeenBatch]
    checkpoints: list[SavedCheckpoint]
