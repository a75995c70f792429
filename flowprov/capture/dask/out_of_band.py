"""What ``client.run`` and ``client.run_on_scheduler`` run: it belongs to the client's workflow.

Flows in: a function that a client sends past the scheduling of tasks ("out-of-band", as Dask says), to
workers, nannies or the scheduler. Flows out: the same function, which runs there in the workflow, or in the
task, in which ``run`` was called. Outside of any workflow the function is sent as it is.

It travels by value (``runtime.by_value``): where flowprov is not installed the function itself arrives.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from flowprov import guard
from flowprov.capture.dask import _dask_private, guest, origin, submission
from flowprov.capture.dask._dask_private import dumps
from flowprov.capture.dask.execution import Execution
from flowprov.capture.dask.fetch.worker import announce_journal
from flowprov.locks import create_lock
from flowprov.runtime import context, runtime
from flowprov.runtime.by_value import loads_or, reduce_by_value

_SERVERS = ("dask_worker", "dask_scheduler")  # parameters by which a function asks for the server it runs on
_install_lock = create_lock()


def install() -> None:
    """Have clients send the workflow along with a function that they run on workers or the scheduler."""
    with _install_lock:
        _dask_private.replace_client_methods(("run", "run_on_scheduler"), _wrap_method, mark="_flowprov")


def _wrap_method(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def run(self: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        return original(self, _with_workflow(self, function), *args, **kwargs)

    run._flowprov = original  # type: ignore[attr-defined]  # noqa: SLF001 - the mark
    return run


def _with_workflow(client: Any, function: Any) -> Any:
    """Return a function as it is sent: with the workflow to which the caller belongs, if there is one."""
    try:
        annotation = submission.annotation_for_submission(client)
        return SentFunction(function, annotation) if annotation else function
    except Exception as error:  # the guard: the function is sent as it is
        guard.report_internal_error("finding the workflow of a function for Dask workers", error)
        return function


class SentFunction:
    """A function on its way to another process. What arrives there is a function again."""

    def __init__(self, function: Callable[..., Any], annotation: Mapping[str, Any]) -> None:
        self._function = function
        self._annotation = annotation

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self._function(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        content = _Arriving(self._function, dict(self._annotation), guest.settings_to_send(), guest.sender())
        return reduce_by_value(loads_or, dumps(content), dumps(self._function))

    def __repr__(self) -> str:
        return repr(self._function)


class _Arriving:
    """What is pickled of a sent function. Loading it gives a wrapper of the function."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return (wrap_function, self._arguments)


def wrap_function(
    function: Callable[..., Any], annotation: dict[str, Any], settings: bytes | None, sent_by: str | None
) -> Callable[..., Any]:
    """Return a function that runs in a workflow, in a process of the cluster.

    Parameters
    ----------
    function
        The function.
    annotation
        Names the workflow, and the task around the call; see :mod:`origin`.
    settings
        The client's settings.
    sent_by
        The process of the client; see :mod:`guest`.
    """
    if runtime.disabled():
        return function
    takes = [name for name in _SERVERS if _dask_private.has_arg(function, name)]

    def enter(servers: list[Any], kwargs: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
        """Give the function the servers that it asks for, as Dask does, and enter the workflow."""
        kwargs.update((name, server) for name, server in zip(_SERVERS, servers, strict=True) if name in takes)
        return _in_workflow(servers[0] or servers[1], annotation, settings, sent_by)

    if _dask_private.is_coroutine_function(function):

        @functools.wraps(function)
        async def wrapper(*args: Any, dask_worker: Any = None, dask_scheduler: Any = None, **kw: Any) -> Any:
            with enter([dask_worker, dask_scheduler], kw):
                return await function(*args, **kw)

    else:

        @functools.wraps(function)
        def wrapper(*args: Any, dask_worker: Any = None, dask_scheduler: Any = None, **kw: Any) -> Any:
            with enter([dask_worker, dask_scheduler], kw):
                return function(*args, **kw)

    # Dask looks for the two parameters here, and does not see them behind a __signature__ of the function.
    vars(wrapper).pop("__signature__", None)
    return wrapper


@contextlib.contextmanager
def _in_workflow(
    server: Any, annotation: dict[str, Any], settings: bytes | None, sent_by: str | None
) -> Iterator[None]:
    execution = None
    with guard.guarded("entering the workflow of a Dask client"):
        guest.use_settings(settings)
        guest.become_guest(sent_by)
        execution = _create_execution(annotation)
    if execution is None:
        yield
        return
    before = context.current.get()
    context.current.set(execution.scope)
    try:
        yield
    finally:
        context.current.set(before)
        announce_journal(server, execution.scope.journal, execution.task_context)


def _create_execution(annotation: dict[str, Any]) -> Execution | None:
    task_context = origin.context_of_task({origin.ANNOTATION_KEY: annotation})
    if task_context is None:
        return None
    return Execution.without_record(
        origin.journal_of(task_context), task_context, task_context.parent_task_id
    )
