"""``workflow``: the scope that holds tasks.

Flows in: what the program opens and closes. Flows out: two records per workflow: one when it opens, written
at once, so that a process that dies leaves word of it, and one when it ends.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec

from flowprov import context, handover, host, launchers, records, runtime
from flowprov.capture import environment
from flowprov.capture.failures import close_inner, correct_left_early, describe, end_inside, lost
from flowprov.capture.site import encode
from flowprov.clock import clock, ticks
from flowprov.context import Scope
from flowprov.errors import UsageError
from flowprov.journal import Journal
from flowprov.records import Status, new_id

if TYPE_CHECKING:
    from typing_extensions import Self

F = TypeVar("F", bound=Callable[..., Any])


class workflow:  # noqa: N801 - used like a function, as contextlib's own are
    """Record a run, or a part of one, as a workflow.

    Use it as a context manager, as a decorator (each call is a workflow), or by ``start()`` and ``stop()``.

    Parameters
    ----------
    name
        Its name; the function's when used as a decorator without one.
    campaign_id
        The campaign; by default that of the enclosing workflow, else that of the process.
    workflow_id
        Its id, if it must be a given one; by default a new one.
    parent_workflow_id
        The workflow to which it belongs; by default the enclosing one.
    used
        What it uses, by name: parameters, data.
    subtype, custom_metadata
        Recorded with it.
    dask_client
        A ``distributed.Client``: what is submitted through it inside this workflow is recorded as its tasks.

    Attributes
    ----------
    workflow_id, campaign_id
        Its ids.
    """

    def __init__(
        self,
        name: str | None = None,
        *,
        campaign_id: str | None = None,
        workflow_id: str | None = None,
        parent_workflow_id: str | None = None,
        used: Mapping[str, Any] | None = None,
        subtype: str | None = None,
        custom_metadata: Mapping[str, Any] | None = None,
        dask_client: Any = None,
    ) -> None:
        if callable(name):
            raise UsageError("write @flowprov.workflow() above a function, with the parentheses")
        self.name = name
        self._options: dict[str, Any] = {
            "campaign_id": campaign_id,
            "workflow_id": workflow_id,
            "parent_workflow_id": parent_workflow_id,
            "used": used,
            "subtype": subtype,
            "custom_metadata": custom_metadata,
            "dask_client": dask_client,
        }
        self._workflow_id = workflow_id
        self._campaign_id = campaign_id
        self._scope: Scope | None = None
        self._resources = contextlib.ExitStack()
        self._generated: dict[str, Any] = {}

    @property
    def campaign_id(self) -> str:
        """Id of its campaign."""
        if self._campaign_id is None:
            enclosing = context.find()
            self._campaign_id = (
                enclosing.journal.identity.campaign_id if enclosing else runtime.get().campaign_id()
            )
        return self._campaign_id

    @property
    def workflow_id(self) -> str:
        """Id of the workflow."""
        if self._workflow_id is None:
            name = str(self.name)
            self._workflow_id = launchers.workflow_id(self.campaign_id, name, _ordinal(name)) or new_id()
        return self._workflow_id

    def set_generated(self, **values: Any) -> None:
        """Record values as generated; called again, it adds and overwrites."""
        self._generated.update(values)

    def start(self, *, current: bool = True) -> Self:
        """Open it, where a ``with`` block does not fit.

        Parameters
        ----------
        current
            Make it the current workflow of the calling context, not only of the process.
        """
        held = runtime.get()
        adapter = self._options["dask_client"]
        if self._scope is not None or runtime.disabled() or not (held.capturing or adapter is not None):
            return self
        with runtime.guarded("opening a workflow"):
            self._open(held, current=current)
        if adapter is not None and self._scope is not None:
            from flowprov.capture.dask import connect

            self._resources.enter_context(connect(adapter, self._scope))
        return self

    def _open(self, held: runtime.Runtime, *, current: bool) -> None:
        previous = context.current.get()
        parent = context.find()
        options = self._options
        scope = write_opening(
            held.journal(self.campaign_id, parent.journal.settings.path if parent else None),
            self.workflow_id,
            name=self.name,
            parent_workflow_id=options["parent_workflow_id"] or (parent.workflow_id if parent else None),
            subtype=options["subtype"],
            used=options["used"],
            custom_metadata=options["custom_metadata"],
        )
        scope.previous = previous
        scope.muted = not held.capturing
        context.open_workflows.append(scope)
        if current:
            context.current.set(scope)
        self._scope = scope

    def stop(self, error: BaseException | None = None) -> None:
        """Close it; the last one of a process that is closed waits a little for what the sinks are owed.

        Parameters
        ----------
        error
            The exception that ended it, if one did.
        """
        self._stop(error)

    def _stop(self, error: BaseException | None, *, at_exit: bool = False) -> None:
        scope, self._scope = self._scope, None
        try:
            if scope is not None:
                try:
                    self._close(scope, error)
                except Exception as fault:  # the guard
                    lost(scope, "closing a workflow", fault)
        finally:
            # After its end was written: what an adapter has to wait for is none of its time.
            with runtime.guarded("leaving a Dask client's workflow"):
                self._resources.close()
        if scope is not None and not (context.open_workflows or at_exit):
            with runtime.guarded("waiting for delivery"):
                runtime.get().delivery.settle(scope.journal)

    def _close(self, scope: Scope, error: BaseException | None) -> None:
        close_inner([inner for inner in context.leave(scope) if inner.key is not None])
        if scope in context.open_workflows:
            context.open_workflows.remove(scope)
        scope.closed = scope.muted = True
        write_ending(scope, self._generated, self._options["custom_metadata"], error)

    def stop_at_exit(self) -> None:
        """Close it at the end of the process; an exception that ended the program is its error."""
        interactive = hasattr(sys, "ps1")  # there, an exception ends a line and not the program
        error = None if interactive else getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
        self._stop(error, at_exit=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(error)

    def __call__(self, function: F) -> F:
        """Decorate a function: each call is a workflow of its own."""
        if not callable(function):
            raise UsageError(f"flowprov.workflow(...) decorates functions; it was given {function!r}")
        name = self.name or getattr(function, "__name__", None)
        return cast("F", _decorate(function, name, self._options))

    def __repr__(self) -> str:
        return f"<flowprov workflow {self.name or ''} {self.workflow_id}>"


def _decorate(function: Any, name: str | None, options: dict[str, Any]) -> Any:
    if runtime.disabled():
        return function
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with workflow(name, **options):
                return await function(*args, **kwargs)

    else:

        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with workflow(name, **options):
                return function(*args, **kwargs)

    return wrapper


def write_opening(
    journal: Journal,
    workflow_id: str,
    *,
    name: str | None,
    parent_workflow_id: str | None,
    subtype: str | None = None,
    used: Mapping[str, Any] | None = None,
    custom_metadata: Mapping[str, Any] | None = None,
) -> Scope:
    """Write that a workflow opened; it counts as open until :func:`write_ending`."""
    opening: Any = records.Workflow(
        workflow_id=workflow_id,
        parent_workflow_id=parent_workflow_id,
        name=name,
        subtype=subtype,
        used=_raw(used),
        custom_metadata=_raw(custom_metadata),
        machine_info=_raw(host.machine_info()),
        settings=_raw(runtime.get().settings.to_public_dict()),
        user=environment.user(),
        environment_id=environment.environment_id(),
        code_repository=_raw(environment.code_repository()),
        started_at=clock.now(),
        status=Status.RUNNING.value,
    )
    scope = Scope(journal, None, workflow_id, started=ticks(), wall=opening.started_at)
    journal.append(records.encode(opening))
    journal.open_scopes[workflow_id] = scope
    handover.install()
    return scope


def write_ending(
    scope: Scope,
    generated: Mapping[str, Any] | None = None,
    custom_metadata: Mapping[str, Any] | None = None,
    error: BaseException | None = None,
) -> None:
    """Write that a workflow ended, once, and only in the process that opened it."""
    ended = scope.wall + ticks() - scope.started
    if scope.journal.open_scopes.pop(scope.workflow_id, None) is None:
        return
    described = None
    if error is not None:
        described = describe(error)
        correct_left_early(scope, error, described)
    extras = scope.extra()
    end_inside(extras, error)
    # The metadata of the opening is said again only where something was added to it.
    added = _with_tags(extras)
    ending: Any = records.Workflow(
        workflow_id=scope.workflow_id,
        generated=_raw({**(generated or {}), **extras.generated} or None),
        custom_metadata=_raw({**(custom_metadata or {}), **added} if added else None),
        ended_at=ended,
        status=(Status.ERROR if error is not None else Status.FINISHED).value,
        error=described,
    )
    scope.journal.append(records.encode(ending))


def write_addition(
    journal: Journal,
    workflow_id: str,
    *,
    generated: Mapping[str, Any] | None = None,
    custom_metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write what is to be added to a workflow, of this process or another; reading joins it with the rest."""
    addition: Any = records.Workflow(
        workflow_id=workflow_id, generated=_raw(generated), custom_metadata=_raw(custom_metadata)
    )
    journal.append(records.encode(addition))


def implicit_workflow() -> Scope | None:
    """Open the workflow of a program that opened none; None if nothing is to be captured.

    It is named after the program and closed when the process ends.

    Raises
    ------
    SettingsError
        If the settings that were found cannot be used.
    """
    held = runtime.get()
    if not held.capturing:
        return None
    with _implicit_lock:
        if not context.open_workflows:
            made = workflow(_program_name(), subtype="implicit").start(current=False)
            held.at_exit.append(made.stop_at_exit)
        return context.open_workflows[-1] if context.open_workflows else None


_implicit_lock = threading.RLock()
_ordinals: Counter[str] = Counter()


def _ordinal(name: str) -> int:
    _ordinals[name] += 1
    return _ordinals[name] - 1


def _program_name() -> str:
    program = sys.argv[0] if sys.argv else ""
    return "python" if program in ("", "-c", "-m") else Path(program).stem or "python"


def _raw(mapping: Mapping[str, Any] | None) -> Any:
    """Encode a mapping by the rules for values, as a ready part of a record."""
    return None if mapping is None else msgspec.Raw(encode(mapping))


def _with_tags(extras: context.Extras) -> dict[str, Any]:
    return {**extras.custom_metadata, **({"tags": list(extras.tags)} if extras.tags else {})}
