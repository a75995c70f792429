"""Loops as steps: one record per iteration.

Flows in: any iterable, and what the program says of an iteration (``end_iter``). Flows out: one task record
per iteration that was entered, however the loop ends.

A loop is iterated by a generator: unlike an iterator of a class, a generator learns at once that its ``for``
was left by ``break``, ``return`` or an exception (it gets GeneratorExit, for all three alike).
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sized
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, cast

import msgspec

from flowprov import line_templates
from flowprov.capture.failures import close_after_fault, close_all_abandoned, count_lost_event
from flowprov.capture.function_spec import generated_field
from flowprov.capture.recorder import (
    close_task,
    enclosing_scope,
    encode_outputs_and_extras,
    end_with_error,
    no_telemetry_field,
    read_telemetry_at_start,
    thread_field,
)
from flowprov.clock import clock, ticks
from flowprov.runtime import context, runtime
from flowprov.runtime.context import CodeLocation, LeftEarly, Scope, parent_fields_of

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)  # Loop(10) says nothing of its items, and need not
else:
    from typing import TypeVar

    T = TypeVar("T")

_get = context.current.get
_set = context.current.set
_LARGE = 1 << 63  # beyond it, JSON readers lose digits


class Loop(Generic[T]):
    """Record each iteration of a loop as a task.

    Parameters
    ----------
    items
        What to iterate over: any iterable, sized, lazy or endless; an integer means ``range``. It is never
        read ahead.
    name
        Name of the loop; its iterations are the activity ``<name>_iteration``.
    item_name
        Name under which each item is recorded in ``used``, beside the position ``i``.
    total
        Length, where the items do not know it; for progress bars.
    parent_task_id, workflow_id
        Where the iterations belong, if not to what is current.
    capture_enabled
        False makes it a plain loop.

    Notes
    -----
    An iteration that ran to its end, or was left by ``break`` or ``return``, is FINISHED; the latter says
    ``custom_metadata.left_early``. One that an exception left is ERROR: the record is corrected by the
    enclosing task or workflow, which sees the exception.
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
        self._items = cast("Iterable[T]", range(items)) if isinstance(items, int) else items
        self._item_name = item_name
        self._total = total
        self._parent_task_id = parent_task_id
        self._workflow_id = workflow_id
        self._enabled = capture_enabled and not runtime.disabled()
        self._activity_id = f"{name}_iteration"
        self._scope: Scope | None = None
        self._generated: dict[str, Any] | None = None

    # Whether every iteration is recorded, and in the same way; epochs and batches choose.
    _fast = True

    def _is_lightweight(self) -> bool:
        """Whether its iterations are recorded without telemetry."""
        return False

    def __iter__(self) -> Iterator[T]:
        """Iterate; each pass over the loop is a group of its own."""
        if not self._enabled:
            return iter(self._items)
        return self._iterate(iter(self._items))

    def __len__(self) -> int:
        """Give the number of items, where it is known.

        Raises
        ------
        TypeError
            If neither the items nor ``total`` tell it.
        """
        return len(cast("Sized", self._items)) if self._total is None else self._total

    def __length_hint__(self) -> int:
        """Give the number of items where it is known, without insisting."""
        try:
            return len(self)
        except TypeError:
            return cast("int", NotImplemented)

    @property
    def current_task_id(self) -> str | None:
        """Id of the iteration that runs now, None outside of one or where it is not recorded."""
        scope = self._scope
        return None if scope is None or not scope.recorded else scope.full_task_id()

    def end_iter(self, generated: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        """Say what the iteration generated; called again, it adds and overwrites.

        Parameters
        ----------
        generated
            Values by name.
        **values
            More of them.
        """
        # A copy: the program may go on to use its dictionary for the next iteration.
        if self._generated is None and type(generated) is dict and not values:
            self._generated = generated.copy()
        else:
            self._generated = {**(self._generated or {}), **(generated or {}), **values}

    # -- the iteration -----------------------------------------------------------------------------------

    def _iterate(self, source: Iterator[T]) -> Iterator[T]:
        """Run through one pass. The common case is written out: each call saved is a tenth of its cost."""
        parent = enclosing_scope(_get())
        if parent is None:
            yield from source
            return
        parent = self._parent_of(parent)
        journal, forwards, epoch = parent.journal, parent.forwards, parent.epoch
        one_pass = LoopPass(
            parent, self._activity_id, self._item_name, fast=self._fast, lightweight=self._is_lightweight()
        )
        place, used_int, line = one_pass.line_prefix, one_pass.used_int_template, one_pass.line_template
        journal.open_scopes[one_pass.group] = one_pass
        for position, item in enumerate(source):
            try:
                if one_pass.fast and item.__class__ is int and -_LARGE < item < _LARGE:  # type: ignore[operator]
                    used = used_int % (position, item)
                    scope = Scope(
                        journal, journal.next_number(), parent.workflow_id, place, used, 0, 0, _get(), parent,
                        False, forwards, epoch,
                    )  # fmt: skip
                    _set(scope)
                    scope.started = ticks()
                else:
                    scope = self._enter(parent, one_pass, position, item)
            except Exception as error:  # the guard: the loop goes on
                count_lost_event(parent, "recording the start of an iteration", error)
                yield item
                continue
            self._scope = one_pass.scope = scope
            try:
                yield item
            except BaseException as error:  # recorded, and raised on unchanged
                self._leave(scope, error)
                journal.open_scopes.pop(one_pass.group, None)
                raise
            ended = ticks()
            self._scope = one_pass.scope = None
            try:
                generated, self._generated = self._generated, None
                if scope.extras is not None or not scope.recorded or scope.exact or _get() is not scope:
                    self._end_slowly(scope, ended, generated)
                    continue
                _set(scope.previous)
                key, offset = cast("int", scope.key), clock.offset
                if key < journal.first_number:
                    continue  # opened by the process from which this one was forked, and its to record
                part = generated_field(generated) if generated else b""
                ready = line % (key, scope.started + offset, scope.used, ended + offset, part)
                journal.count()  # journal.append, written out
                try:
                    journal.fast_append(ready)
                except Exception as error:  # whatever the disk does, the program goes on; it is counted
                    journal.append_slowly(ready, error)
            except Exception as error:  # the guard
                mark_open(scope)
                close_after_fault(scope, "recording the end of an iteration", error)
        journal.open_scopes.pop(one_pass.group, None)

    def _parent_of(self, parent: Scope) -> Scope:
        """Give the scope that iterations belong to: the current one, or the one that was named."""
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

    def _enter(self, parent: Scope, one_pass: LoopPass, position: int, item: T) -> Scope:
        """Open the scope of an iteration and make it current."""
        if item.__class__ is int and -_LARGE < item < _LARGE:  # type: ignore[operator]
            used = one_pass.used_int_template % (position, item)
        else:
            used = one_pass.used_template % (
                position,
                runtime.get().summarizer.encode(item, key=self._item_name),
            )
        scope = Scope(
            parent.journal, parent.journal.next_number(), parent.workflow_id, one_pass.line_prefix, used,
            0, 0, _get(), parent, False, parent.forwards, parent.epoch,
        )  # fmt: skip
        if one_pass.exact:
            read_telemetry_at_start(scope)
        _set(scope)
        scope.started = ticks()
        return scope

    def _end_slowly(
        self, scope: Scope, ended: int, generated: dict[str, Any] | None, **metadata: Any
    ) -> None:
        """Record the end of an iteration that has more to say than generated values."""
        if not scope.recorded:
            close_all_abandoned(context.deactivate(scope))
            return
        mark_open(scope)
        outputs, tail = encode_outputs_and_extras(scope, generated, (), metadata)
        close_task(scope, ended, outputs, tail)

    def _leave(self, scope: Scope, error: BaseException) -> None:
        """Record an iteration that its loop left, by whatever it was left."""
        ended = ticks()
        generated, self._generated = self._generated, None
        self._scope = None
        if not isinstance(error, GeneratorExit):  # somebody threw it into the generator
            if scope.recorded:
                mark_open(scope)
                end_with_error(scope, error)
            else:
                context.deactivate(scope)
            return
        try:
            parent = scope.parent
            if scope.recorded and parent is not None and scope.key is not None:
                places = _locations_of_loop(sys._getframe(2))  # noqa: SLF001 - no public way
                note = LeftEarly(scope.key, places)
                parent.left_early = [*(parent.left_early or ()), *(scope.left_early or ()), note]
            self._end_slowly(scope, ended, generated, left_early=True)
        except Exception as fault:  # the guard
            close_after_fault(scope, "recording an iteration that was left early", fault)


def mark_open(scope: Scope) -> None:
    """Make an iteration one whose record is owed, unless the process from which this was forked owes it."""
    journal, key = scope.journal, scope.key
    if isinstance(key, int) and key >= journal.first_number:
        journal.open_scopes[key] = scope


class LoopPass:
    """What all iterations of one pass over a loop share: their lines but for what differs.

    Attributes
    ----------
    line_prefix
        The part that says where the iterations belong and what they are.
    group
        The number that all of them share.
    scope
        The scope of the iteration that runs now.
    used_int_template, used_template
        Templates of what they use: position, and the item as an integer or as ready JSON.
    line_template
        Template of their lines: number, start, what is used, end, and the part on what was generated.
    exact
        Whether telemetry is read at the start and end of each.
    fast
        Whether all iterations are recorded, and nothing but themselves.
    """

    __slots__ = (
        "exact",
        "fast",
        "group",
        "line_prefix",
        "line_template",
        "scope",
        "used_int_template",
        "used_template",
    )

    def __init__(
        self, parent: Scope, activity_id: str, item_name: str, *, fast: bool, lightweight: bool
    ) -> None:
        journal = parent.journal
        self.exact = journal.exact_reader is not None and not lightweight
        self.fast = fast and not self.exact
        self.group = journal.next_number()
        self.scope: Scope | None = None
        self.line_prefix = b'%b%b,"activity_id":%b,"subtype":"iteration","group_id":%d' % (
            parent_fields_of(parent),
            b"" if threading.get_ident() == journal.main_thread else thread_field(),
            msgspec.json.encode(activity_id),
            self.group,
        )
        if lightweight:
            self.line_prefix += no_telemetry_field()
        key = line_templates.literal(msgspec.json.encode(item_name))
        self.used_int_template = b'{"i":%d,' + key + b":%d}"
        self.used_template = b'{"i":%d,' + key + b":%b}"
        self.line_template = line_templates.iteration(self.line_prefix)

    def current_scope(self) -> Scope | None:
        """Return the scope of the iteration that runs now."""
        scope = self.scope
        return scope if scope is not None and scope.recorded else None


def _locations_of_loop(frame: FrameType | None) -> list[CodeLocation]:
    """Say where in the program a loop was left: the code and line of the frame that ran its ``for``.

    Parameters
    ----------
    frame
        The frame that closed our generator. If that is a generator too, it may be a wrapper around the loop
        (a progress bar) whose own ``for`` was left: then the frame above it is a candidate as well.
    """
    places: list[CodeLocation] = []
    while frame is not None:
        places.append((frame.f_code, frame.f_lineno))
        if not frame.f_code.co_flags & inspect.CO_GENERATOR:
            break
        frame = frame.f_back
    return places
