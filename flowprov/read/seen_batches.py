"""``samples``: the batches that the loops of a run were handed.

Flows in: the journals of the campaigns of a run. Flows out: its batches, attempt by attempt, with their
steps, and the checkpoints that were written among them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flowprov.errors import UnknownIdError
from flowprov.index_codec import decode_indices
from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.contents import Contents
from flowprov.read.answers.run_search import Run, TaskTree
from flowprov.read.answers.tables import runs_with_attempts
from flowprov.read.campaign_sources import CampaignSource, Sources, campaigns_of, describe_sources
from flowprov.read.decoding import records_of
from flowprov.read.questions import contents_of, runs_of
from flowprov.read.run_samples import Limit, Samples, SavedCheckpoint, SeenBatch
from flowprov.read.unknown_ids import describe_unknown
from flowprov.records import Artifact, Batch, Digest, Header, LoaderPass, Task
from flowprov.values import as_id

_GENERATED = "generated"


def samples(run_id: str, source: Sources = None) -> Samples:
    """Return which samples a run was handed, by the loaders that :func:`flowprov.sampled` recorded.

    Parameters
    ----------
    run_id
        Id of the run, as ``runs()`` has it.
    source
        As for :func:`flowprov.runs`.

    Raises
    ------
    UnknownIdError
        If there is no such run.
    JournalError, SinkError
        As :class:`flowprov.Buffer` does.
    """
    wanted = as_id(run_id) or ""
    known: dict[str, str | None] = {}
    found = campaigns_of(source, None)
    for contents in runs_of(found):
        for group in runs_with_attempts(contents, attempts=False):
            known[group[0].run_id] = group[-1].name
            if group[0].run_id == wanted:
                names = contents.campaign_names or (contents.campaign.campaign_id,)
                return _read(wanted, [one for one in found if one.campaign_id in names])
    raise UnknownIdError(describe_unknown("run", wanted, describe_sources(source, found), known))


def _read(run_id: str, campaigns: Sequence[CampaignSource]) -> Samples:
    for one in contents_of(campaigns):
        for group in runs_with_attempts(one, attempts=False):
            if group[0].run_id == run_id:
                reader = _Reader(run_id, group, one)
                for journal in (journal for campaign in campaigns for journal in campaign.journals):
                    reader.read(journal)
                return reader.result()
    return Samples(run_id, [], [])  # it was removed meanwhile


class _Pass(NamedTuple):
    """A pass over a loader, with its batches."""

    record: LoaderPass
    attempt: int
    rank: int | None
    batches: list[Batch]


class _Saved(NamedTuple):
    """A checkpoint, and how many batches each pass of its process had had when it was written."""

    artifact: Artifact
    id: str
    attempt: int
    batches: list[tuple[_Pass, int]]


class _Reader:
    """Reads the batches of a run from its journals.

    Parameters
    ----------
    run_id, attempts
        The run.
    contents
        What its campaigns hold.
    """

    def __init__(self, run_id: str, attempts: Sequence[Run], contents: Contents) -> None:
        self._run_id = run_id
        self._attempts = attempts
        self._members = _Members(attempts, contents)
        self._passes: list[_Pass] = []
        self._saved: list[_Saved] = []
        self._digests: dict[str, Digest] = {}

    def read(self, journal: JournalSummary) -> None:
        """Read a journal."""
        header = journal.header
        begun: dict[str, _Pass] = {}
        for record in records_of(journal):
            if isinstance(record, Batch):
                one_pass = begun.get(header.full_id(record.of))
                if one_pass is not None:
                    one_pass.batches.append(record)
            elif isinstance(record, LoaderPass) and record.indexed:
                attempt = self._members.attempt_of(record, header)
                if attempt is not None:
                    begun[header.full_id(record.number)] = _Pass(record, attempt, header.rank, [])
            elif isinstance(record, Digest):
                self._digests[header.full_id(record.number)] = record
            elif isinstance(record, Artifact) and record.role == _GENERATED:
                attempt = self._members.attempt_of(record, header)
                if attempt is not None:
                    counts = [(one, len(one.batches)) for one in begun.values() if one.attempt == attempt]
                    self._saved.append(_Saved(record, header.full_id(record.number), attempt, counts))
        self._passes += begun.values()

    def result(self) -> Samples:
        """Return the samples, after all journals were read."""
        attempts: list[list[SeenBatch]] = []
        offsets: list[Limit] = []
        checkpoints: list[SavedCheckpoint] = []
        for number, run in enumerate(self._attempts):
            passes = sorted(
                (one for one in self._passes if one.attempt == number), key=lambda one: one.record.at
            )
            offset = _offset_of(run, attempts, checkpoints)
            first = _first_steps(passes, offset)
            attempts.append([batch for one in passes for batch in _batches_of(one, first[id(one)])])
            offsets.append(offset)
            checkpoints += [
                _checkpoint(saved, self._digests.get(saved.id), first, offset)
                for saved in sorted(self._saved, key=lambda one: one.artifact.at)
                if saved.attempt == number
            ]
        return Samples(self._run_id, attempts, offsets, checkpoints)


class _Members:
    """Tells which records belong to a run, and to which of its attempts."""

    def __init__(self, attempts: Sequence[Run], contents: Contents) -> None:
        self._attempts = attempts
        self._tree = TaskTree(contents)
        self._order: dict[str, int] = {}  # of the tasks of one name, workflow and rank
        counts: Counter[tuple[str | None, str | None, int | None]] = Counter()
        for task in sorted(self._tree.tasks.values(), key=lambda one: one.started_at or 0):
            kind = (task.workflow_id, task.activity_id, task.rank)
            self._order[str(task.task_id)] = counts[kind]
            counts[kind] += 1

    def attempt_of(self, record: LoaderPass | Artifact, header: Header) -> int | None:
        """Return the attempt to which a record belongs, from 0; None if it is of no attempt of the run."""
        found = None
        task_id = None if record.task_id is None else header.full_id(record.task_id)
        outermost = None if task_id is None else self._tree.outermost(task_id)
        for number, run in enumerate(self._attempts):
            if run.workflow is None or run.workflow.workflow_id != record.workflow_id:
                continue
            if run.task is not None and not self._is_same(run.task, outermost):
                continue
            if found is None or (run.workflow.started_at or 0) <= record.at:
                found = number
        return found

    def _is_same(self, task: Task, other_id: str | None) -> bool:
        """Whether a task is a run, or what another rank did as a part of it."""
        other = self._tree.tasks.get(str(other_id))
        if other is None or other.activity_id != task.activity_id:
            return False
        return self._order[str(other.task_id)] == self._order[str(task.task_id)]


def _offset_of(
    run: Run, earlier: Sequence[Sequence[SeenBatch]], checkpoints: Sequence[SavedCheckpoint]
) -> Limit:
    """Return how many batches the weights had seen from which an attempt went on."""
    resume = run.resume
    if resume is None or not earlier:
        return 0
    if resume.step is not None:
        return resume.step
    for saved in checkpoints:
        if resume.generated == saved.id:
            return saved.steps
    if resume.epoch is not None:
        steps: dict[str | None, int] = {}
        for batch in earlier[-1]:
            if batch.epoch is not None and batch.epoch < resume.epoch:
                steps[batch.name] = max(steps.get(batch.name, 0), batch.step + 1)
        return steps
    return 0


def _first_steps(passes: Sequence[_Pass], offset: Limit) -> dict[int, int]:
    """Return the step of the first batch of each pass, by the id of the object."""
    done: dict[tuple[str | None, int | None], int] = {}
    first = {}
    for one in passes:
        loader = (one.record.name, one.rank)
        first[id(one)] = done.setdefault(loader, _of_loader(offset, one.record.name))
        done[loader] += len(one.batches)
    return first


def _of_loader(limit: Limit, name: str | None) -> int:
    return (limit.get(name, 0) if isinstance(limit, Mapping) else limit) or 0


def _batches_of(one: _Pass, first: int) -> Iterator[SeenBatch]:
    record = one.record
    epoch = record.epoch if record.epoch is not None else (record.loader or {}).get("sampler_epoch")
    epoch = epoch if isinstance(epoch, int) else None
    for step, batch in enumerate(one.batches, first):
        yield SeenBatch(record.name, epoch, step, one.rank, one.attempt, _indices_of(batch))


def _indices_of(batch: Batch) -> list[Any]:
    try:
        return decode_indices(batch.ix) if batch.keys is None else batch.keys
    except ValueError:  # a damaged line: `verify` says so
        return []


def _checkpoint(
    saved: _Saved, digest: Digest | None, first: Mapping[int, int], offset: Limit
) -> SavedCheckpoint:
    steps: dict[str | None, int] = dict(offset) if isinstance(offset, Mapping) else {}
    for one, count in saved.batches:
        steps[one.record.name] = max(steps.get(one.record.name, 0), first[id(one)] + count)
    return SavedCheckpoint(saved.artifact, saved.id, digest, saved.attempt, steps)
