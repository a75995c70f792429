"""``workflow``: the scope that holds tasks.

Flows in: the workflows that the program opens and closes. Flows out: two records per workflow. The first is
written at once when the workflow opens, so it is there if the process dies. The second is written at its end.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from flowprov import guard
from flowprov.capture import replay
from flowprov.capture.additions import collect_values
from flowprov.capture.copies import InertCopies
from flowprov.capture.failures import as_exception
from flowprov.capture.generators import wrap_async_generator, wrap_generator
from flowprov.capture.handles import WorkflowHandle
from flowprov.capture.suspended_scope import SuspendedScope
from flowprov.capture.task_records import close_with_holder
from flowprov.capture.workflow_records import (
    add_to_workflow,
    close_workflow,
    new_workflow_id,
    write_opening,
)
from flowprov.capture.wrapping import attribute_of, is_kind, is_no_function, wraps
from flowprov.errors import UsageError
from flowprov.ids import new_id
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope
from flowprov.values import as_dict, as_id, as_mapping, as_name, as_names

if TYPE_CHECKING:
    from typing_extensions import Self

F = TypeVar("F", bound=Callable[..., Any])

_DECORATED = (FunctionType, BuiltinFunctionType, MethodType, type, staticmethod, classmethod)


class workflow(InertCopies):  # noqa: N801 - used like a function, as contextlib's own are
    """Record a run, or a part of one, as a workflow.

    Use it as a context manager, as a decorator (each call is a workflow), or with ``start()`` and ``stop()``.

    Parameters
    ----------
    name
        Name of the workflow. For a decorator without one, the function's name.
    campaign_id
        The campaign. By default that of the enclosing workflow, else that of the process.
    workflow_id
        Id of the workflow. By default a new one.
    parent_workflow_id
        The workflow to which it belongs. By default the enclosing one.
    used
        What the workflow uses, by name: parameters, data.
    subtype, custom_metadata
        Recorded with the workflow.
    dask_client
        A ``distributed.Client``. Tasks that are submitted through it inside this workflow are recorded.

    Attributes
    ----------
    workflow_id, campaign_id
        Ids of the workflow and of its campaign.

    Notes
    -----
    A decorated generator is a workflow from its first step to its last. The workflow is current only while
    the body runs: what the program does between two steps does not belong to it.

    An exception makes the workflow ERROR, unless it is control flow: ``sys.exit()`` with the status of a
    success, or a class in ``instrumentation.control_flow_exceptions``.
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
        if issubclass(type(name), _DECORATED):
            raise UsageError("write @flowprov.workflow() above a function, with the parentheses")
        self.name = as_name(name)
        self._options: dict[str, Any] = {
            "campaign_id": as_id(campaign_id),
            "workflow_id": as_id(workflow_id),
            "parent_workflow_id": as_id(parent_workflow_id),
            "used": used,
            "subtype": as_name(subtype),
            "custom_metadata": as_dict(custom_metadata, "custom_metadata") or None,
            "dask_client": dask_client,
        }
        self._workflow_id: str | None = self._options["workflow_id"]
        self._campaign_id: str | None = self._options["campaign_id"]
        self._scope: Scope | None = None
        self._ended: Scope | None = None
        self._resources = contextlib.ExitStack()
        self._generated: dict[str, Any] = {}
        self._tags: list[str] = []

    def _state_of_copy(self) -> dict[str, Any]:
        # A copy has the name and the ids.
        resources = contextlib.ExitStack()
        return {
            "_options": {"custom_metadata": None},
            "_scope": None,
            "_ended": None,
            "_resources": resources,
            "_generated": {},
            "_tags": [],
        }

    @property
    def campaign_id(self) -> str:
        """Id of the campaign."""
        if self._campaign_id is None and self._is_copy:
            self._campaign_id = new_id()
        if self._campaign_id is None:
            enclosing = context.current_scope()
            self._campaign_id = (
                enclosing.journal.identity.campaign_id if enclosing else runtime.get().campaign_id()
            )
        return self._campaign_id

    @property
    def workflow_id(self) -> str:
        """Id of the workflow."""
        if self._workflow_id is None and self._is_copy:
            self._workflow_id = new_id()  # not an ordinal: copies do not count
        if self._workflow_id is None:
            self._workflow_id = new_workflow_id(self.campaign_id, str(self.name))
        return self._workflow_id

    @replay.compiled_as(replay.not_recorded)
    def set_generated(self, generated: Any = None, /, **values: Any) -> None:
        """Record values as generated: a mapping, keywords, or both. They are in the journal at once.

        A further call adds names and overwrites earlier values. What is given before the workflow opens is
        written when it opens.
        """
        with guard.guarded("recording what a workflow generated"):
            given = collect_values("set_generated", generated, values)
            scope = self._scope or self._ended
            if scope is None:
                self._generated.update(given)
            else:
                add_to_workflow(scope, generated=given)

    @replay.compiled_as(replay.not_recorded)
    def add_tags(self, *tags: str) -> None:
        """Add tags. They are in the journal at once, or as soon as the workflow opens."""
        scope = self._scope or self._ended
        if scope is not None:
            WorkflowHandle(scope).add_tags(*tags)
            return
        with guard.guarded("adding tags"):
            names = [name for tag in tags for name in as_names(tag)]
            self._tags.extend(name for name in names if name not in self._tags)

    def start(self) -> Self:
        """Open the workflow, where a ``with`` block does not fit."""
        if self._is_copy:
            return self
        active = runtime.get()
        client = self._options["dask_client"]
        if client is not None and not active.settings.dask.enabled:
            client = None
        if self._scope is not None or runtime.disabled() or not (active.capturing or client is not None):
            return self
        try:
            with guard.guarded("opening a workflow"):
                self._open(active)
        except BaseException as error:  # from outside, and raised on: nobody would close the workflow
            self.stop(error)
            raise
        if client is not None and self._scope is not None:
            from flowprov.capture.dask import connect

            self._resources.enter_context(connect(client, self._scope))
        return self

    def _open(self, active: runtime.Runtime) -> None:
        parent = context.current_scope()
        options = self._options
        scope = write_opening(
            active.journal(self.campaign_id, parent.journal.settings.path if parent else None),
            self.workflow_id,
            name=self.name,
            parent_workflow_id=options["parent_workflow_id"] or (parent.workflow_id if parent else None),
            subtype=options["subtype"],
            used=None if options["used"] is None else as_mapping(options["used"], "used"),
            custom_metadata=options["custom_metadata"],
            keep=self._make_current,
        )
        if self._generated:
            add_to_workflow(scope, generated=self._generated)
        WorkflowHandle(scope).add_tags(*self._tags)

    def _make_current(self, scope: Scope) -> None:
        scope.previous = context.current.get()
        scope.muted = not runtime.get().capturing
        self._scope = scope
        context.open_workflows.add(scope)
        context.current.set(scope)

    def stop(self, error: BaseException | None = None) -> None:
        """Close the workflow. The last open one of a process waits a little for delivery to the sinks.

        Parameters
        ----------
        error
            The exception that ended the workflow, if one did.
        """
        error = as_exception(error)
        scope = self._scope
        self._ended = scope or self._ended
        try:
            if scope is not None:
                self._close(scope, error)
                self._scope = scope.opener = (
                    None  # not before: what comes from outside may arrive on the way in
                )
        finally:
            # After the end was written: the time that an adapter waits is not the workflow's.
            with guard.guarded("leaving a Dask client's workflow"):
                self._resources.close()
        if scope is not None and not context.open_workflows:
            with guard.guarded("waiting for delivery"):
                runtime.get().shipper.wait_for_delivery(scope.journal)

    def _close(self, scope: Scope, error: BaseException | None) -> None:
        try:
            close_workflow(scope, self._options["custom_metadata"], error)
        except BaseException:  # from outside, at any place in there: the workflow ends all the same
            close_workflow(scope, self._options["custom_metadata"], error)
            raise

    def __enter__(self) -> Self:
        try:
            self.start()
            if self._scope is not None:
                close_with_holder(self._scope, self)
        except BaseException as error:  # from outside, raised on: no __exit__ follows
            self.stop(error)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop(error)
        except BaseException as arrived:  # from outside, maybe before anything was done; raised on
            if self._scope is not None:
                self.stop(error or arrived)
            raise

    def __call__(self, function: F) -> F:
        """Decorate a function. Each call is a workflow of its own.

        Raises
        ------
        UsageError
            For what is no function, as a class is none.
        """
        if is_no_function(function):
            hint = ". Decorate the methods of a class" if isinstance(function, type) else ""
            raise UsageError(f"flowprov.workflow(...) decorates functions; it was given {function!r}{hint}")
        if self._is_copy:
            return function
        name = self.name or as_name(attribute_of(function, "__name__"))
        return cast("F", _decorate(function, name, self._options))

    def __repr__(self) -> str:
        return f"<flowprov workflow {self.name or ''} {self.workflow_id}>"


def _decorate(function: Any, name: str | None, options: dict[str, Any]) -> Any:
    if runtime.disabled():
        return function
    if isinstance(function, (staticmethod, classmethod)):
        return type(function)(_decorate(function.__func__, name, options))
    if is_kind(inspect.isasyncgenfunction, function):
        return wrap_async_generator(function, functools.partial(_GeneratorWorkflow, name, options))
    if is_kind(inspect.isgeneratorfunction, function):
        return wrap_generator(function, functools.partial(_GeneratorWorkflow, name, options))
    if is_kind(inspect.iscoroutinefunction, function):

        @wraps(function)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            with workflow(name, **options):
                return await function(*args, **kwargs)

    else:

        @wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with workflow(name, **options):
                return function(*args, **kwargs)

    return wrapper


class _GeneratorWorkflow(SuspendedScope):
    """The scope of a generator that is a workflow.

    Between two steps the workflow is not open for others: what runs meanwhile does not belong to it.

    Parameters
    ----------
    name, options
        Those of the workflow.
    """

    def __init__(self, name: str | None, options: dict[str, Any]) -> None:
        super().__init__()
        self._workflow = workflow(name, **options)

    def suspend(self) -> None:
        """Take the workflow out of the context, and from among the open ones of the process."""
        super().suspend()
        if self.scope is not None:
            context.open_workflows.remove(self.scope)

    def resume(self) -> None:
        """Make the workflow current again."""
        super().resume()
        if self.scope is not None:
            context.open_workflows.add(self.scope)

    def end(self, result: Any, *, left_early: bool = False) -> None:  # noqa: ARG002 - as for a task
        """Close the workflow. It records no result."""
        if self.scope is not None and left_early:
            self.scope.ensure_extras().custom_metadata["left_early"] = True
        self._workflow.stop()

    def fail(self, error: BaseException) -> None:
        """Close the workflow with the exception that ended the body, unless it is closed."""
        self._workflow.stop(error)

    def _open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:  # noqa: ARG002 - as for a task
        self.scope = self._workflow.start()._scope  # noqa: SLF001 - its own class
