"""Loops as steps: one record per iteration.

Flows in: any iterable, and what the program says of an iteration (``end_iter``). Flows out: one task record
per iteration that was entered, however the loop ends.

A loop is iterated by a generator: unlike an iterator of a class, a generator learns at once that its ``for``
was left by ``break``, ``return`` or an exception (it gets GeneratorExit, for all three alike).
"""

from __future__ import annotations

import inspect
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, cast

import msgspec

from flowprov import context, runtime
from flowprov.capture.failures import close_after_fault, close_inner, lost
from flowprov.capture.lines import enclosing, thread_fragment, with_extras, write_end
from flowprov.capture.site import encode
from flowprov.context import LeftEarly, Place, Scope, links_of

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)  # Loop(10) says nothing of its items, and need not
else:
    from typing import TypeVar

    T = TypeVar("T")

_get = context.current.get
_set = context.current.set
_clock = time.perf_counter_ns
_wall = time.time_ns


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
        if self._total is not None:
            return self._total
        return len(cast("Sized", self._items))

    def __length_hint__(self) -> int:
        """Give the number of items where it is known, without insisting."""
        try:
            return len(self)
        except TypeError:
            return NotImplemented

    @property
    def current_task_id(self) -> str | None:
        """Id of the iteration that runs now, None outside of one or where it is not recorded."""
        scope = self._scope
        return None if scope is None or not scope.recorded else scope.full_key()

    def end_iter(self, generated: Mapping[str, Any] | None = None, /, **values: Any) -> None:
        """Say what the iteration generated; called again, it adds and overwrites.

        Parameters
        ----------
        generated
            Values by name.
        **values
            More of them.
        """
        if self._generated is None:
            # A copy: the program may go on to use its dictionary for the next iteration.
            self._generated = {**generated, **values} if generated else values
        else:
            self._generated.update(generated or {}, **values)

    # -- what epoch and batch loops do otherwise ----------------------------------------------------------

    def _is_recorded(self, position: int) -> bool:  # noqa: ARG002 - for those who override it
        """Whether the iteration at a position gets a record."""
        return True

    def _mark(self, scope: Scope, position: int, item: T) -> None:
        """Set what the scope of an iteration says to what is inside it."""

    # -- the iteration -----------------------------------------------------------------------------------

    def _iterate(self, source: Iterator[T]) -> Iterator[T]:
        previous = _get()
        parent = enclosing(previous)
        if parent is None:
            yield from source
            return
        parent = self._parent_of(parent)
        journal = parent.journal
        fragment = self._fragment(parent)
        for position, item in zip(itertools.count(), source, strict=False):
            try:
                scope = self._enter(parent, fragment, position, item)
            except Exception as error:  # the guard: the loop goes on
                lost(parent, "recording the start of an iteration", error)
                yield item
                continue
            try:
                yield item
            except GeneratorExit:
                self._leave_early(scope)
                raise
            except BaseException as error:
                self._leave_by(scope, error)
                raise
            # The end of an iteration, written out: a call would cost a tenth of it.
            ended = scope.wall + _clock() - scope.started
            generated, self._generated = self._generated, None
            self._scope = None
            try:
                if scope.extras is None and scope.recorded:
                    if _get() is scope:
                        _set(scope.previous)
                    else:
                        close_inner(context.leave(scope))
                    if journal.open_scopes.pop(scope.key, None) is not None:  # type: ignore[arg-type]
                        journal.append(
                            b'%b,"status":"FINISHED","ended_at":%d,"generated":%b}\n'
                            % (scope.head, ended, encode(generated))
                            if generated
                            else b'%b,"status":"FINISHED","ended_at":%d}\n' % (scope.head, ended)
                        )
                else:
                    self._end(scope, ended, generated)
            except Exception as error:  # the guard
                close_after_fault(scope, "recording the end of an iteration", error)

    def _parent_of(self, parent: Scope) -> Scope:
        """Give the scope that iterations belong to: the current one, or the one that was named."""
        if self._parent_task_id is None and self._workflow_id is None:
            return parent
        key: Any = self._parent_task_id if self._parent_task_id is not None else parent.key
        named = msgspec.structs.replace(
            parent, key=key, workflow_id=self._workflow_id or parent.workflow_id, links=None, recorded=True
        )
        named.parent = parent
        return named

    def _fragment(self, parent: Scope) -> bytes:
        """Make the part of the line that all iterations of one pass share."""
        activity = msgspec.json.encode(self._activity_id)
        return b'%b%b,"activity_id":%b,"subtype":"iteration","group_id":%d,"started_at":' % (
            links_of(parent),
            b"" if _on_main_thread(parent) else thread_fragment(),
            activity,
            parent.journal.next_number(),
        )

    def _enter(self, parent: Scope, fragment: bytes, position: int, item: T) -> Scope:
        journal = parent.journal
        previous = _get()
        if not self._is_recorded(position):
            scope = Scope(
                journal,
                None,
                parent.workflow_id,
                b"",
                0,
                0,
                previous,
                parent,
                False,
                parent.forwards,
                parent.epoch,
            )
            scope.recorded = False
            self._mark(scope, position, item)
            _set(scope)
            self._scope = scope
            return scope
        number = journal.next_number()
        wall = _wall()
        head = b'{"type":"task","task_id":%d%b%d,"used":%b' % (
            number,
            fragment,
            wall,
            b'{"i":%d,"%b":%d}' % (position, self._item_key, cast("int", item))
            if item.__class__ is int
            else encode({"i": position, self._item_name: item}),
        )
        scope = Scope(
            journal,
            number,
            parent.workflow_id,
            head,
            wall,
            0,
            previous,
            parent,
            False,
            parent.forwards,
            parent.epoch,
        )
        self._mark(scope, position, item)
        journal.open_scopes[number] = scope
        self._scope = scope
        _set(scope)
        scope.started = _clock()
        return scope

    def _end(self, scope: Scope, ended: int, generated: dict[str, Any] | None, **metadata: Any) -> None:
        """Record the end of an iteration that has more to say than generated values."""
        if not scope.recorded:
            close_inner(context.leave(scope))
            return
        outputs, tail = with_extras(scope, generated, (), metadata)
        write_end(scope, ended, outputs, tail)

    def _leave_early(self, scope: Scope) -> None:
        """Record an iteration that its loop left: by break, return, or an exception that is not seen here."""
        ended = scope.wall + _clock() - scope.started
        generated, self._generated = self._generated, None
        self._scope = None
        try:
            parent = scope.parent
            if scope.recorded and parent is not None and scope.key is not None:
                note = LeftEarly(scope.key, _places_of_the_loop(sys._getframe(2)))  # noqa: SLF001 - no public way
                parent.left_early = [*(parent.left_early or ()), *(scope.left_early or ()), note]
            self._end(scope, ended, generated, left_early=True)
        except Exception as error:  # the guard
            close_after_fault(scope, "recording an iteration that was left early", error)

    def _leave_by(self, scope: Scope, error: BaseException) -> None:
        """Record an iteration into which somebody threw an exception (``generator.throw``)."""
        from flowprov.capture.lines import fail

        self._scope, self._generated = None, None
        if scope.recorded:
            fail(scope, error)
        else:
            context.leave(scope)

    @property
    def _item_key(self) -> bytes:
        return msgspec.json.encode(self._item_name)[1:-1]


def _on_main_thread(scope: Scope) -> bool:
    import threading

    return threading.get_ident() == scope.journal.main_thread


def _places_of_the_loop(frame: FrameType | None) -> list[Place]:
    """Say where in the program a loop was left: the code and line of the frame that ran its ``for``.

    Parameters
    ----------
    frame
        The frame that closed our generator. If that is a generator too, it may be a wrapper around the loop
        (a progress bar) whose own ``for`` was left: then the frame above it is a candidate as well.
    """
    places: list[Place] = []
    while frame is not None:
        places.append((frame.f_code, frame.f_lineno))
        if not frame.f_code.co_flags & inspect.CO_GENERATOR:
            break
        frame = frame.f_back
    return places
