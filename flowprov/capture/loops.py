"""Loops: one task per iteration.

Flows in: any iterable, and the values that the program reports of an iteration (``end_iter``). Flows out: one
task record per iteration that was entered, however the loop ends.

A generator iterates the loop. Unlike an iterator class, a generator learns at once that its ``for`` was left.
It gets GeneratorExit after ``break``, ``return`` and an exception alike.
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
from flowprov.capture.task_records import (
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

    T = TypeVar("T", default=Any)  # Loop(10) names no type of its items
else:
    from typing import TypeVar

    T = TypeVar("T")

_get = context.current.get
_set = context.current.set
_INT_LIMIT = 1 << 63  # JSON readers lose digits of larger integers


class Loop(Generic[T]):
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
        self._items = cast("Iterable[T]", range(items)) if isinstance(items, int) else items
        self._item_name = item_name
        self._total = total
        self._parent_task_id = parent_task_id
        self._workflow_id = workflow_id
        self._enabled = capture_enabled and not runtime.disabled()
        self._activity_id = f"{name}_iteration"
        self._scope: Scope | None = None
        self._generated: dict[str, Any] | None = None

    # Whether every iteration is recorded, and in the same way. Epochs and batches decide it for each.
    _fast = True

    def _is_lightweight(self) -> bool:
        """Whether the iterations are recorded without telemetry."""
        return False

    def __iter__(self) -> Iterator[T]:
        """Iterate over the items. Each pass over the loop is a group of its own."""
        if not self._enabled:
            return iter(self._items)
        return self._iterate(iter(self._items))

    def __len__(self) -> int:
        """Return the number of items.

        Raises
        ------
        TypeError
            If neither the items nor ``total`` tell it.
        """
        return len(cast("Sized", self._items)) if self._total is None else self._total

    def __length_hint__(self) -> int:
        """Return the number of items if it is known; used as a hint, so it never raises."""
        try:
            return len(self)
        except TypeError:
            return cast("int", NotImplemented)

    @property
    def current_task_id(self) -> str | None:
        """Id of the current iteration; None outside of one, or if the iteration is not recorded."""
        scope = self._scope
        return None if scope is None or not scope.recorded else scope.full_task_id()

    def end_iter(self, generated: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        """Record what the iteration generated. A further call adds names and overwrites earlier values.

        Parameters
        ----------
        generated
            Values by name.
        **values
            Further values.
        """
        # A copy: the program may use its dictionary again for the next iteration.
        if self._generated is None and type(generated) is dict and not values:
            self._generated = generated.copy()
        else:
            self._generated = {**(self._generated or {}), **(generated or {}), **values}

    # -- the iteration -----------------------------------------------------------------------------------

    # The common case does not call _open_iteration, open_scope, close_task and journal.append: their work is
    # written out. What calling them costs, of 1.4 µs for an iteration (Python 3.11, 200 alternating rounds of
    # 2,000 integers): _open_iteration 4 %, open_scope 9 to 12 %, close_task 16 to 18 %, the last two together
    # 15 %, journal.append 3 %. With end_iter (2.1 µs) the two together cost 10 %.

    def _iterate(self, source: Iterator[T]) -> Iterator[T]:
        """Iterate over one pass."""
        parent = enclosing_scope(_get())
        if parent is None:
            yield from source
            return
        parent = self._parent_of(parent)
        journal, forwards, epoch = parent.journal, parent.forwards, parent.epoch
        one_pass = self._open_pass(parent)
        prefix, int_template, template = one_pass.line_prefix, one_pass.int_template, one_pass.line_template
        for position, item in enumerate(source):
            try:
                if one_pass.fast and item.__class__ is int and -_INT_LIMIT < item < _INT_LIMIT:  # type: ignore[operator]
                    used = int_template % (position, item)
                    scope = Scope(
                        journal, journal.next_number(), parent.workflow_id, prefix, used, 0, 0, _get(),
                        parent, False, forwards, epoch,
                    )  # fmt: skip
                    _set(scope)
                    scope.started = ticks()
                else:
                    scope = self._open_iteration(parent, one_pass, position, item)
            except Exception as error:  # the guard: the loop goes on
                count_lost_event(parent, "recording the start of an iteration", error)
                yield item
                continue
            self._scope = one_pass.scope = scope
            try:
                yield item
            except BaseException as error:  # recorded, and raised on unchanged
                self._close_left(scope, error)
                journal.open_scopes.pop(one_pass.group, None)
                raise
            ended = ticks()
            self._scope = one_pass.scope = None
            try:
                generated, self._generated = self._generated, None
                if scope.extras is not None or not scope.recorded or scope.exact or _get() is not scope:
                    self._close_iteration(scope, ended, generated)
                    continue
                _set(scope.previous)
                key, offset = cast("int", scope.key), clock.offset
                if key < journal.first_number:
                    continue  # the process from which this one was forked opened it, and records it
                outputs = generated_field(generated) if generated else b""
                line = template % (key, scope.started + offset, scope.used, ended + offset, outputs)
                journal.count()  # journal.append, written out
                try:
                    journal.fast_append(line)
                except Exception as error:  # whatever the disk does, the program goes on; it is counted
                    journal.append_slowly(line, error)
            except Exception as error:  # the guard
                mark_open(scope)
                close_after_fault(scope, "recording the end of an iteration", error)
        journal.open_scopes.pop(one_pass.group, None)

    def _open_pass(self, parent: Scope) -> LoopPass:
        """Open a pass: its journal lists it in the place of its iterations."""
        one_pass = LoopPass(
            parent, self._activity_id, self._item_name, fast=self._fast, lightweight=self._is_lightweight()
        )
        parent.journal.open_scopes[one_pass.group] = one_pass
        return one_pass

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
        if item.__class__ is int and -_INT_LIMIT < item < _INT_LIMIT:  # type: ignore[operator]
            used = one_pass.int_template % (position, item)
        else:
            used = one_pass.json_template % (
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

    def _close_iteration(
        self, scope: Scope, ended: int, generated: dict[str, Any] | None, **metadata: Any
    ) -> None:
        """Close an iteration that has more to record than generated values."""
        if not scope.recorded:
            close_all_abandoned(context.deactivate(scope))
            return
        mark_open(scope)
        outputs, tail = encode_outputs_and_extras(scope, generated, (), metadata)
        close_task(scope, ended, outputs, tail)

    def _close_left(self, scope: Scope, error: BaseException) -> None:
        """Close an iteration that the loop left before its end, whatever the reason."""
        ended = ticks()
        generated, self._generated = self._generated, None
        self._scope = None
        if not isinstance(error, GeneratorExit):  # the program threw it into the generator
            if scope.recorded:
                mark_open(scope)
                end_with_error(scope, error)
            else:
                context.deactivate(scope)
            return
        try:
            parent = scope.parent
            if scope.recorded and parent is not None and scope.key is not None:
                locations = _locations_of_loop(sys._getframe(2))  # noqa: SLF001 - there is no public way
                left = LeftEarly(scope.key, locations)
                parent.left_early = [*(parent.left_early or ()), *(scope.left_early or ()), left]
            self._close_iteration(scope, ended, generated, left_early=True)
        except Exception as fault:  # the guard
            close_after_fault(scope, "recording an iteration that was left early", fault)


def mark_open(scope: Scope) -> None:
    """List an iteration as open, unless the process from which this one was forked opened it."""
    journal, key = scope.journal, scope.key
    if isinstance(key, int) and key >= journal.first_number:
        journal.open_scopes[key] = scope


class LoopPass:
    """What all iterations of one pass over a loop share.

    Attributes
    ----------
    line_prefix
        The fields of a line that tell where the iterations belong and what they are.
    group
        The number of the group to which all of them belong.
    scope
        The scope of the current iteration.
    int_template, json_template
        Templates of the inputs: position, and the item as an integer or as JSON.
    line_template
        Template of the lines: number, start, inputs, end, outputs.
    exact
        Whether each iteration takes an exact reading at its start and end.
    fast
        Whether the written-out code of ``_iterate`` may record the iterations.
    """

    __slots__ = (
        "exact",
        "fast",
        "group",
        "int_template",
        "json_template",
        "line_prefix",
        "line_template",
        "scope",
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
        self.int_template = b'{"i":%d,' + key + b":%d}"
        self.json_template = b'{"i":%d,' + key + b":%b}"
        self.line_template = line_templates.iteration(self.line_prefix)

    def current_scope(self) -> Scope | None:
        """Return the scope of the current iteration; None if it is not recorded."""
        scope = self.scope
        return scope if scope is not None and scope.recorded else None


def _locations_of_loop(frame: FrameType | None) -> list[CodeLocation]:
    """Return where in the program a loop was left: the code and line of the frame that ran its ``for``.

    Parameters
    ----------
    frame
        The frame that closed the loop's generator. If it is a generator too, it may be a wrapper around the
        loop (a progress bar) whose own ``for`` was left. Then the frame above it is a candidate as well.
    """
    locations: list[CodeLocation] = []
    while frame is not None:
        locations.append((frame.f_code, frame.f_lineno))
        if not frame.f_code.co_flags & inspect.CO_GENERATOR:
            break
        frame = frame.f_back
    return locations
