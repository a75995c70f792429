"""Loops: one task per iteration.

Flows in: any iterable, and the values that the program reports of an iteration (``end_iter``). Flows out: one
task record per iteration that was entered, however the loop ends.

A generator records the iterations. Unlike an iterator class, a generator learns at once that its ``for`` was
left. It gets GeneratorExit after ``break``, ``return`` and an exception alike. What the program gets is a
:class:`~flowprov.capture.loop_iterator.LoopIterator`, which asks that generator.
"""

from __future__ import annotations

import functools
import operator
import sys
from collections.abc import Iterable, Iterator, Sized
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, cast

import msgspec

from flowprov import guard
from flowprov.capture import metrics, replay
from flowprov.capture.additions import collect_values
from flowprov.capture.copies import InertCopies
from flowprov.capture.loop_iterator import LoopIterator, Steps, asking_frame, unrecorded
from flowprov.capture.loop_pass import LoopPass
from flowprov.capture.task_records import enclosing_scope, read_telemetry_at_start
from flowprov.clock import clock, ticks
from flowprov.runtime import context, runtime
from flowprov.runtime.context import HeldScope, Scope
from flowprov.values import as_id, as_name

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)  # Loop(10) names no type of its items
else:
    from typing import TypeVar

    T = TypeVar("T")

_get = context.current.get
_set = context.current.set
_SMALL = 1_000  # bytes of outputs that need no comparison with the budget of their record
_INT_LIMIT = 1 << 63  # JSON readers lose digits of larger integers
_LEAST_INT = -_INT_LIMIT


class Loop(InertCopies, Generic[T]):
    """Record each iteration of a loop as a task.

    Parameters
    ----------
    items
        What to iterate over: any iterable, sized, lazy or endless. An integer means ``range``. Nothing is
        read ahead.
    name
        Name of the loop. The activity of its iterations is ``<name>_iteration``.
    item_name
        Name under which each item is recorded in ``used``, beside the position ``i``.
    total
        Length, for progress bars, if the items do not know it.
    parent_task_id, workflow_id
        Parent task and workflow of the iterations. By default those of the current scope.
    capture_enabled
        False makes it a plain loop.

    Notes
    -----
    An iteration that ran to its end is FINISHED. So is one that ``break`` or ``return`` left; its record has
    ``custom_metadata.left_early``. An iteration that an exception left is ERROR: the enclosing task or
    workflow sees the exception and corrects the record.
    """

    def __init__(
        self,
        items: Iterable[T] | int,
        *,
        name: str = "loop",
        item_name: str = "item",
        total: int | None = None,
        parent_task_id: str | None = None,
        workflow_id: str | None = None,
        capture_enabled: bool = True,
    ) -> None:
        self._items: Iterable[Any] = _as_items(items)
        self._item_name = as_name(item_name, "item")
        self._total = _as_count(total)
        self._parent_task_id = as_id(parent_task_id)
        self._workflow_id = as_id(workflow_id)
        self._enabled = capture_enabled and not (replay.is_traced() or runtime.disabled())
        self._activity_id = f"{as_name(name, 'loop')}_iteration"
        self._pass: LoopPass | None = None  # the one that began last

    def _state_of_copy(self) -> dict[str, Any]:
        # A copy iterates over its items, and records nothing.
        return {"_enabled": False, "_pass": None}

    # Whether every iteration is recorded, and in the same way. Epochs and batches decide it for each.
    _fast = True

    def _is_lightweight(self) -> bool:
        """Whether the iterations are recorded without telemetry."""
        return False

    def __iter__(self) -> Iterator[T]:
        """Iterate over the items. Each pass over the loop is a group of its own.

        The iterations belong to the scope in which this is called: where loops take turns (``zip``), none of
        them belongs to an iteration of another one.
        """
        is_recomputed = self._enabled and replay.is_replayed()
        if not self._enabled or (is_recomputed and replay.is_traced()):
            return iter(self._items)
        source, begun = iter(self._items), []  # type: tuple[Iterator[T], list[Any]]
        record = functools.partial(self._record, source, _get(), begun, recomputed=is_recomputed)
        return LoopIterator(source, record, begun)

    def __len__(self) -> int:
        """Return the number of items.

        Raises
        ------
        TypeError
            If neither the items nor ``total`` tell it.
        """
        return len(cast("Sized", self._items)) if self._total is None else self._total

    def __bool__(self) -> bool:
        """Whether there are items, as the items themselves say it: what has no length counts as true."""
        return bool(self._items)

    def __length_hint__(self) -> int:
        """Return the number of items if it is known; used as a hint, so it never raises."""
        try:
            return len(self)
        except TypeError:
            return cast("int", NotImplemented)

    @property
    def current_task_id(self) -> str | None:
        """Id of the current iteration; None outside of one, or if the iteration is not recorded."""
        one_pass = self._pass
        scope = None if one_pass is None else one_pass.current_scope()
        return None if scope is None else scope.full_task_id()

    @replay.compiled_as(replay.not_recorded)
    def end_iter(self, generated: Any = None, /, **values: Any) -> None:
        """Record what the iteration generated: a mapping, keywords, or both. It is in the journal at once.

        A further call adds names and overwrites earlier values. A call behind the loop belongs to the
        iteration that ended last.

        Parameters
        ----------
        generated
            Values by name.
        **values
            Further values.
        """
        if not self._enabled or (self._pass is None and replay.is_traced()):
            return
        try:
            if generated.__class__ is not dict or values:
                generated = collect_values("end_iter", generated, values)
            encoded = metrics.encode(generated)
            one_pass = self._pass
            if one_pass is None:
                _warn_no_iteration(self._activity_id)
            else:
                if one_pass.generated is not None or len(encoded) > _SMALL:
                    encoded = metrics.encode(generated, one_pass.spent())
                one_pass.add_generated(encoded)
                if metrics.waiting:
                    metrics.settle(one_pass.scope or one_pass.last)
        except Exception as error:  # the guard: the program goes on
            guard.report_internal_error("recording what an iteration generated", error)

    # -- the iteration -----------------------------------------------------------------------------------

    def _record(
        self, source: Iterator[T], created_in: Scope | None, begun: list[LoopPass], *, recomputed: bool
    ) -> Steps[T]:
        """Return a generator that records the items of a source: in the pass that has begun, or a new one."""
        if not begun:
            parent = enclosing_scope(created_in if created_in is not None else _get())
            if parent is None:
                return unrecorded(source)
            self._pass = self._create_pass(self._parent_of(parent), recomputed=recomputed)
            begun.append(self._pass)
        return self._iterate(source, begun[0])

    # The common case does not call _open_iteration, open_scope, close_task and journal.append: their work is
    # written out. What calling them costs, of 1.4 µs for an iteration (Python 3.11, 200 alternating rounds of
    # 2,000 integers): _open_iteration 4 %, open_scope 9 to 12 %, close_task 16 to 18 %, the last two together
    # 15 %, journal.append 3 %. With end_iter (2.1 µs) the two together cost 10 %.

    def _iterate(self, source: Iterator[T], one_pass: LoopPass) -> Steps[T]:
        """Iterate over one pass, or over the rest of one that an exception of the source cut."""
        position = one_pass.position
        try:
            parent, journal, forwards, epoch, prefix, int_template, template = one_pass.begin()
            while True:
                try:
                    item: Any = next(source)
                except StopIteration as stop:
                    return stop
                position += 1
                previous = _get()
                try:
                    if one_pass.fast and type(item) is int and _LEAST_INT < item < _INT_LIMIT:
                        scope: Scope = HeldScope(
                            journal, journal.next_number(), parent.workflow_id, prefix,
                            int_template % (position, item), 0, 0, previous, parent, False, forwards, epoch,
                        )  # fmt: skip
                        one_pass.scope = scope  # before anything can be interrupted
                        _set(scope)
                        scope.started = ticks()
                    else:
                        scope = self._open_iteration(parent, one_pass, position, item)
                except BaseException as error:  # the guard: the loop goes on
                    one_pass.fail_start(previous, error)
                    yield (item, item := None)[0]
                    continue
                try:
                    yield (item, item := None)[0]  # the program alone holds it
                except BaseException as error:  # recorded, and raised on unchanged
                    one_pass.close_left(scope, error)
                    raise
                try:
                    ended = ticks()
                    key: Any = scope.key
                    if (
                        scope.extras is not None or not scope.recorded or scope.exact or _get() is not scope
                        or key < journal.own_from
                    ):  # fmt: skip
                        one_pass.close(scope, ended)
                        parent, journal, forwards, epoch, prefix, int_template, template = one_pass.shared()
                        continue
                    _set(scope.previous)
                    offset, generated = clock.offset, one_pass.generated
                    outputs = b"" if generated is None else b',"generated":' + generated
                    line = template % (key, scope.started + offset, scope.used, ended + offset, outputs)
                    try:
                        journal.fast_append(line)  # journal.append, written out
                        journal.count()
                    except BaseException as error:  # whatever the disk does, the program goes on
                        one_pass.append_refused(line, error)
                    one_pass.last, one_pass.scope, one_pass.generated = scope, None, None
                except BaseException as error:  # the guard; what came from outside passes on from there
                    one_pass.close_after_fault(scope, error)
        finally:
            one_pass.position = position
            one_pass.end()

    def _create_pass(self, parent: Scope, *, recomputed: bool) -> LoopPass:
        return LoopPass(
            parent,
            self._activity_id,
            self._item_name,
            fast=self._fast,
            lightweight=self._is_lightweight(),
            recomputed=recomputed,
        )

    def _parent_of(self, parent: Scope) -> Scope:
        """Return the scope to which the iterations belong: the current one, or the one that was named."""
        if self._parent_task_id is None and self._workflow_id is None:
            return parent
        key: Any = self._parent_task_id if self._parent_task_id is not None else parent.key
        named = msgspec.structs.replace(
            parent,
            key=key,
            workflow_id=self._workflow_id or parent.workflow_id,
            parent_fields=None,
            recorded=True,
        )
        named.parent = parent
        return named

    def _open_iteration(self, parent: Scope, one_pass: LoopPass, position: int, item: T) -> Scope:
        """Open the scope of an iteration and make it current.

        The journal lists the pass and not each iteration: that is why this does not call ``open_scope``.
        """
        # type(), as `__class__` may be code of the program
        if type(item) is int and _LEAST_INT < item < _INT_LIMIT:  # type: ignore[operator]
            used = one_pass.int_template % (position, item)
        else:
            used = one_pass.json_template % (
                position,
                runtime.get().summarizer.encode(item, key=self._item_name),
            )
        number = parent.journal.next_number()
        if one_pass.ahead is not None:
            one_pass.look_ahead(number, _asking_frame())
        scope = HeldScope(
            parent.journal, number, parent.workflow_id, one_pass.line_prefix, used,
            0, 0, _get(), parent, False, parent.forwards, parent.epoch,
        )  # fmt: skip
        one_pass.scope = scope
        _set(scope)
        if one_pass.recomputed:
            scope.ensure_extras().custom_metadata["recomputed"] = True
        if one_pass.exact:
            read_telemetry_at_start(scope)
        scope.started = ticks()
        return scope


def _asking_frame() -> FrameType | None:
    """Return the frame that asks a loop for its next item."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - there is no public way
    while frame is not None and frame.f_code is not Loop._iterate.__code__:  # noqa: SLF001 - of this module
        frame = frame.f_back
    return None if frame is None else asking_frame(frame.f_back)


def _as_items(items: Any) -> Any:
    """Return what to iterate over: an integer of any class means ``range``."""
    cls = type(items)
    is_integer = hasattr(cls, "__index__") and not hasattr(cls, "__iter__")
    return range(operator.index(items)) if is_integer else items


def _as_count(total: Any) -> int | None:
    """Return a length that ``len`` can return; None if it is none."""
    try:
        count = int(total)
    except Exception as error:  # None, or what is no number; `int` may run any code
        guard.pass_on(error)
        return None
    return count if 0 <= count <= sys.maxsize else None


def _warn_no_iteration(activity: str) -> None:
    guard.warn_once(
        f"end_iter {activity}",
        "flowprov: end_iter was called before the first iteration of %s. It has nothing to which it could "
        "belong, and is not recorded.",
        activity,
    )
