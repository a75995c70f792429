"""The iterator of a loop: it hands out the items of its source as the source itself would.

Flows in: the source, and generators that record an iteration for each of its items. Flows out: the items, and
whatever the source raises.

A generator ends with the first exception that passes through it, and it refuses to be asked while it runs.
Iterators of the program need do neither: a data loader goes on behind a corrupt sample, threads may share a
``range``. So this is no generator, but asks one. Where that ended, a further one goes on. Where it runs (on
another thread, or below a signal handler), the item comes straight from the source, and is counted.
"""

from __future__ import annotations

import contextlib
import operator
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from types import FrameType
from typing import Any, Generic, NoReturn, Protocol, TypeVar, cast

from flowprov import guard

T = TypeVar("T")

Steps = Generator[T, None, "StopIteration | None"]
_MAX_MISSED = 100_000  # while a pass begins: the file of a journal is created meanwhile
_REFUSAL = ("generator already executing",)


class Skips(Protocol):
    """A pass over a loop, which counts the iterations that it could not record."""

    def skip(self) -> None:
        """Count an iteration that is not recorded."""


class LoopIterator(Generic[T]):
    """Hands out the items of a source, and has each recorded.

    Parameters
    ----------
    source
        Where the items come from.
    record
        Creates a generator that yields the items of the source and returns the StopIteration of the source.
        The next one goes on where an exception ended it.
    begun
        The pass that the generators record, once it has begun.
    """

    # Nothing to which the generator refers may refer to this: `for` lets go of this, and the generator must
    # learn at once that the loop was left.
    __slots__ = ("_begun", "_is_creating", "_missed", "_record", "_source", "_steps")

    def __init__(self, source: Iterator[T], record: Callable[[], Steps[T]], begun: Sequence[Skips]) -> None:
        self._source = source
        self._record = record
        self._begun = begun
        self._steps: Any = _ENDED  # a generator
        self._is_creating = False
        self._missed: deque[None] = deque(maxlen=_MAX_MISSED)  # one for each iteration not recorded

    def __iter__(self) -> LoopIterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return next(self._steps)  # type: ignore[no-any-return]
        except StopIteration as end:
            stop: StopIteration | None = end.value
        except BaseException as error:  # raised on, unless it says only that the generator runs
            if not _is_refusal(error):
                self._leave(error)
                del self  # else whoever keeps the exception would keep this, and the iteration open
                raise
            stop = None
        try:
            if stop is None:
                return self._go_on()
            raise stop  # here, where no other exception is its context
        finally:
            del self, stop  # as above

    def __length_hint__(self) -> int:
        """Return what the source says of the number of items that are left."""
        hint = operator.length_hint(self._source, -1)
        return cast("int", NotImplemented) if hint < 0 else hint

    def __reduce__(self) -> NoReturn:
        message = f"cannot copy or pickle {type(self).__name__!r} object: it holds a generator"
        raise TypeError(message)

    # What ``yield from`` looks for is there if the source has it, and does what it does there.

    @property
    def send(self) -> Any:
        """What the source has by this name; an item that it gives is not recorded."""
        return getattr(self._source, "send")  # noqa: B009 - not every iterator has it

    @property
    def throw(self) -> Any:
        """What the source has by this name, as above."""
        return getattr(self._source, "throw")  # noqa: B009 - as above

    def close(self) -> None:
        """End the iteration that is open, and close the source if it can be closed."""
        if not self._steps.gi_running:
            self._steps.close()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    def _go_on(self) -> T:
        """Return the next item where no generator has begun, or the last one has ended, or runs."""
        source, begun, missed = self._source, self._begun, self._missed
        try:
            if self._steps.gi_frame is None and not self._is_creating:
                self._create_steps()
                return next(self)
        finally:
            del self  # as above
        item = next(source)
        with guard.guarded("counting an iteration"):
            missed.append(None)
            _count(missed, begun)
        return item

    def _create_steps(self) -> None:
        self._is_creating = True
        try:
            self._steps = self._record()
        finally:
            self._is_creating = False
        with guard.guarded("counting an iteration"):
            _count(self._missed, self._begun)

    def _leave(self, error: BaseException) -> None:
        """Have the generator see an exception from outside that came just behind its step."""
        steps = self._steps
        if steps.gi_frame is not None and not steps.gi_running:
            with contextlib.suppress(type(error)):
                steps.throw(error)


def unrecorded(source: Iterator[T]) -> Steps[T]:
    """Yield the items of a source of which nothing is recorded. A source that is a generator stays open."""
    while True:
        try:
            yield next(source)
        except StopIteration as stop:  # noqa: PERF203 - the end of the source
            return stop


_ENDED: Steps[Any] = unrecorded(iter(()))
_ENDED.close()


def asking_frame(frame: FrameType | None) -> FrameType | None:
    """Return the first frame, from this one on outwards, that is none of the iterator of a loop."""
    while frame is not None and frame.f_globals is globals():
        frame = frame.f_back
    return frame


def _count(missed: deque[None], begun: Sequence[Skips]) -> None:
    """Count iterations that were not recorded, also those from before the pass had begun."""
    while begun and missed:
        with contextlib.suppress(IndexError):  # another thread took the last one
            missed.pop()
            begun[0].skip()


def _is_refusal(error: BaseException) -> bool:
    """Whether a generator raised an exception because it runs already: then no frame of it was entered."""
    trace: Any = error.__traceback__
    return type(error) is ValueError and trace.tb_next is None and error.args == _REFUSAL
