"""``sampled``: which samples each batch of a data loader holds.

Flows in: a loader of torch, or a sampler. Flows out: the same, and a record of the indices of each batch.

A loader asks its sampler ahead of the loop, as much as its workers prefetch. So the indices that the sampler
gave wait in a queue, and are recorded when the loop is handed the batch. What was prefetched and never handed
out is not recorded.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar, cast

from flowprov import guard
from flowprov.capture import replay
from flowprov.capture.loader_passes import PassRecorder, facts_of
from flowprov.capture.log_calls import scope_of_call

T = TypeVar("T")

_MAX_WAITING = 100_000  # batches that a loader asked for ahead of the loop
_DRAWN_TOGETHER = 64  # samples of a sampler whose loader is not known
_RECORDER = "_flowprov_recorder"


@replay.compiled_as(replay.not_recorded)
def sampled(loader_or_sampler: T, /, name: str | None = None) -> T:
    """Return a loader that records which samples each batch holds, for :func:`flowprov.samples`.

    Parameters
    ----------
    loader_or_sampler
        A ``torch.utils.data.DataLoader``: it is copied, not changed, and the copy shares its data set and
        sampler. Or a sampler, to create a loader with: a flowprov loop over that loader records what it was
        handed. A plain ``for`` over such a loader records what the sampler was asked for.
    name
        What the loader is for, if several are recorded in one run.

    Returns
    -------
    The same class as it was given.
    """
    with guard.guarded("preparing to record samples"):
        if is_loader(loader_or_sampler):
            return cast("T", _sampled_loader(loader_or_sampler, name))
        if isinstance(loader_or_sampler, Iterable):
            return cast("T", RecordedSampler(loader_or_sampler, name))
    guard.warn_once(
        "sampled",
        "flowprov: sampled takes a DataLoader of torch or a sampler; it was given %s, whose samples are not "
        "recorded.",
        type(loader_or_sampler).__name__,
    )
    return loader_or_sampler


def is_loader(value: object) -> bool:
    """Whether something is a loader of torch. It imports nothing."""
    module = sys.modules.get("torch.utils.data")
    return module is not None and issubclass(type(value), module.DataLoader)


class RecordedSampler:
    """A sampler whose indices are recorded. It has the attributes of the sampler.

    Parameters
    ----------
    sampler
        The sampler: of samples, or of batches.
    name
        As for :func:`sampled`.

    Attributes
    ----------
    purpose
        The name.
    handed_out
        Whether a loader that is known records what it hands out.
    latest
        The pass that began last, then.
    """

    def __init__(self, sampler: Iterable[Any], name: str | None = None, *, handed_out: bool = False) -> None:
        self._sampler = sampler
        self.purpose = name
        self.handed_out = handed_out
        self.latest: Drawn | None = None

    def __iter__(self) -> Iterator[Any]:
        """Begin a pass."""
        if self.handed_out:
            drawn = self.latest = Drawn()
            return drawn.follow(iter(self._sampler))
        one_pass = None
        with guard.guarded("recording samples"):
            scope = scope_of_call()
            facts = {"sampler": type(self._sampler).__qualname__}
            if scope is not None:
                one_pass = PassRecorder(scope, facts, name=self.purpose, indexed=True, drawn=True)
        return iter(self._sampler) if one_pass is None else _told(iter(self._sampler), one_pass)

    def __len__(self) -> int:
        """Return the length of the sampler."""
        return len(self._sampler)  # type: ignore[arg-type]

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the sampler."""
        if name.startswith("__") or name == "_sampler":
            raise AttributeError(name)
        return getattr(self._sampler, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (self._sampler,)  # a copy records nothing


class Drawn:
    """The indices of batches that a sampler gave, and that the loop was not handed yet."""

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque(maxlen=_MAX_WAITING)

    def follow(self, source: Iterator[Any]) -> Iterator[Any]:
        """Yield what the sampler gives, and keep it."""
        for indices in source:
            self._waiting.append(indices)
            yield indices

    def next(self) -> list[Any] | None:
        """Return the indices of the batch that is handed out next; None if they are not known."""
        if not self._waiting:
            return None
        indices = self._waiting.popleft()
        return list(indices) if isinstance(indices, (list, tuple)) else [indices]


class _SampledLoader:
    """What the class of a recorded loader has above the loader's own class."""

    def __iter__(self) -> Iterator[Any]:
        recorder = self.__dict__[_RECORDER]
        iterator: Iterator[Any] = super().__iter__()  # type: ignore[misc]
        one_pass = None
        with guard.guarded("recording samples"):
            scope = scope_of_call()
            if scope is not None:
                one_pass = PassRecorder(scope, facts_of(self), name=recorder.name, indexed=True)
        if one_pass is None or recorder.sampler.latest is None:
            return iterator
        return _HandedOut(iterator, recorder.sampler.latest, one_pass)

    def __reduce__(self) -> tuple[Any, ...]:
        return _same, (self.__dict__[_RECORDER].original,)


class _Recorder:
    def __init__(self, original: Any, sampler: RecordedSampler, name: str | None) -> None:
        self.original, self.sampler, self.name = original, sampler, name


def has_indices(loader: object) -> bool:
    """Whether the batches of a loader are recorded by the loader itself."""
    return _RECORDER in getattr(loader, "__dict__", {})


def with_samples(items: Any) -> Any:
    """Return what a loop iterates over: a loader whose sampler is recorded tells what it hands out."""
    try:
        if is_loader(items) and _recorded_samplers(items):
            return sampled(items)
    except Exception as error:  # the guard: a class of the program's may raise anything
        guard.report_internal_error("preparing to record samples", error)
    return items


def _recorded_samplers(loader: Any) -> list[RecordedSampler]:
    """Return the samplers of a loader that the program gave to `sampled`."""
    known = vars(loader)
    batches = known.get("batch_sampler")
    candidates = (known.get("sampler"), batches, getattr(batches, "__dict__", {}).get("sampler"))
    return [one for one in candidates if isinstance(one, RecordedSampler)]


def _sampled_loader(loader: Any, name: str | None) -> Any:
    if has_indices(loader):
        return loader
    known = vars(loader)
    field = "sampler" if known.get("batch_sampler") is None else "batch_sampler"
    for inner in _recorded_samplers(loader):
        inner.handed_out = True
        name = name if name is not None else inner.purpose
    sampler = known.get(field)
    if sampler is None or isinstance(known.get("dataset"), sys.modules["torch.utils.data"].IterableDataset):
        guard.warn_once(
            "samples of an iterable data set",
            "flowprov: a loader over an iterable data set has no sampler, so its samples have no indices. "
            "They are not recorded.",
        )
        return loader
    if known.get("num_workers") and known.get("in_order") is False:
        guard.warn_once(
            "samples out of order",
            "flowprov: a loader with in_order=False does not tell which batch it hands out. Its samples are "
            "not recorded.",
        )
        return loader
    recorder = _Recorder(loader, RecordedSampler(sampler, handed_out=True), name)
    # A loader with persistent workers keeps the iterator of its passes.
    own = {attribute: None for attribute, value in known.items() if isinstance(value, Iterator)}
    cls: Any = type(loader)
    recorded = object.__new__(_class_above(cls))
    # Not by setattr: a loader refuses to have its sampler replaced.
    recorded.__dict__.update({**known, **own, field: recorder.sampler, _RECORDER: recorder})
    return recorded


@functools.lru_cache(maxsize=64)
def _class_above(cls: Any) -> Any:
    return type(cls.__name__, (_SampledLoader, cls), {"__module__": cls.__module__, "__doc__": cls.__doc__})


class _HandedOut:
    """The batches of a loader, each recorded. No generator: a loader may go on behind a corrupt sample."""

    def __init__(self, iterator: Iterator[Any], drawn: Drawn, one_pass: PassRecorder) -> None:
        self._iterator, self._drawn, self._pass = iterator, drawn, one_pass

    def __iter__(self) -> _HandedOut:
        return self

    def __next__(self) -> Any:
        try:
            batch = next(self._iterator)
        except StopIteration:
            raise
        except Exception:  # raised on: that batch was drawn, and is handed to nobody
            self._drawn.next()
            raise
        with guard.guarded("recording the samples of a batch"):
            indices = self._drawn.next()
            if indices is not None:
                self._pass.add(indices)
            else:
                _warn_not_known()
        return batch


def _told(source: Iterator[Any], one_pass: PassRecorder) -> Iterator[Any]:
    """Yield what a sampler gives; record it, single samples some at a time."""
    together: list[Any] = []
    try:
        for drawn in source:
            if isinstance(drawn, (list, tuple)):
                one_pass.add(drawn)
            else:
                together.append(drawn)
                if len(together) >= _DRAWN_TOGETHER:
                    one_pass.add(together)
                    together = []
            yield drawn
    finally:
        if together:
            one_pass.add(together)


def _warn_not_known() -> None:
    guard.warn_once(
        "samples not known",
        "flowprov: a loader handed out a batch without asking the sampler that sampled() gave it. Give "
        "sampled() the loader over which the program iterates, after other libraries prepared it.",
    )


def _same(value: Any) -> Any:
    return value
