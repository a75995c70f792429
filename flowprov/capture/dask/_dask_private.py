"""Every private or undocumented part of Dask that the capture uses; nothing else in the package names one.

Flows in: names of dask, distributed, zict and toolz that their documentation does not promise. Flows out: the
objects and names, with a fallback where one is missing. ``_dask_parts`` is the table of them all.

The code that runs for each task does not go through functions of this module: a call there costs each task.
It accesses attributes of Dask's objects itself, with a comment that names this module, and the table lists
them. The names of states, classes and helpers are constants here.
"""

from __future__ import annotations

import inspect
import pickle
import threading
from collections.abc import Callable, Iterable, Mapping
from types import FrameType
from typing import Any

import dask
import dask.utils
import distributed.client
import distributed.core
import distributed.protocol
import distributed.utils

# -- names -------------------------------------------------------------------------------------------------

# States of a worker's task.
EXECUTING, MEMORY, ERROR, RESCHEDULED, FORGOTTEN = "executing", "memory", "error", "rescheduled", "forgotten"
RUNNING_STATES = (EXECUTING, "long-running")
CANCELLED = "cancelled"
CANCELLED_STATES = (CANCELLED, "resumed")  # no client wants the task, or one wants it again

# Classes of graph nodes and other objects that refer to the result of a task.
ALIAS, TASK_REF, DATA_NODE, FUTURE = "Alias", "TaskRef", "DataNode", "Future"

# Functions by which Dask calls the user's function, or makes one task of a whole graph.
EXECUTE_TASK, APPLY, IDENTITY_CAST = "execute_task", "apply", "_identity_cast"
GRAPH_RUNNERS = ("_execute_subgraph", "_execute_task", "_execute_internal_graph")
METHOD_CALLER = "methodcaller"

# Operations of a worker by which the methods of an actor are called and its attributes are read.
ACTOR_OPERATIONS = ("actor_execute", "actor_attribute")
BAG_MAPPERS = frozenset({"map_chunk", "starmap_chunk"})  # their first argument is the function that is mapped


# -- objects, bound once -----------------------------------------------------------------------------------


def _cannot_load(*_: object) -> Any:
    raise NotImplementedError


thread_state: Any = getattr(distributed.utils, "thread_state", None) or threading.local()
clean_exception: Callable[..., Any] = getattr(distributed.core, "clean_exception", _cannot_load)
key_split: Callable[[Any], str] = getattr(dask.utils, "key_split", str)
dumps: Callable[[Any], bytes] = getattr(getattr(distributed.protocol, "pickle", None), "dumps", pickle.dumps)


def _has_arg(function: Any, name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # it has no signature
        return False


has_arg: Callable[[Any, str], bool] = getattr(distributed.utils, "has_arg", _has_arg)
is_coroutine_function: Callable[[Any], bool] = getattr(
    distributed.utils, "iscoroutinefunction", inspect.iscoroutinefunction
)


# -- submissions -------------------------------------------------------------------------------------------


def asks_get_annotations() -> bool:
    """Whether a client asks ``dask.get_annotations``, by that name, when tasks are submitted through it."""
    method = getattr(distributed.client.Client, "_graph_to_futures", None)
    names = getattr(getattr(method, "__code__", None), "co_names", ())
    return hasattr(dask, "get_annotations") and {"dask", "get_annotations"} <= set(names)


def replace_get_annotations(wrap: Callable[[Any], Any], mark: str) -> None:
    """Replace ``dask.get_annotations`` by its wrapper, once; the wrapper has ``mark`` as an attribute."""
    module: Any = dask
    if not hasattr(module.get_annotations, mark):
        module.get_annotations = wrap(module.get_annotations)


def replace_client_methods(names: Iterable[str], wrap: Callable[[Any], Any], mark: str) -> None:
    """Replace methods of ``distributed.Client`` by their wrappers, once."""
    client_class: Any = distributed.client.Client
    for name in names:
        if not hasattr(getattr(client_class, name), mark):
            setattr(client_class, name, wrap(getattr(client_class, name)))


def is_submission(frame: FrameType) -> bool:
    """Whether a frame that asks for annotations is that of a client that submits."""
    return frame.f_globals.get("__name__") == "distributed.client"


def submitting_client(frame: FrameType) -> Any:
    """Return the client whose method runs in a frame; None if it is none."""
    return frame.f_locals.get("self")


# -- a worker's own operations -----------------------------------------------------------------------------


def add_handler(worker: Any, operation: str, handler: Callable[..., Any]) -> None:
    """Add an operation to those that a worker answers."""
    worker.handlers[operation] = handler


def remove_handler(worker: Any, operation: str) -> None:
    """Remove an operation from those that a worker answers."""
    worker.handlers.pop(operation, None)


def is_closing(worker: Any) -> bool:
    """Whether a worker closes or has closed."""
    return getattr(worker.status, "name", "") in ("closing", "closed", "failed")


def handler_of(worker: Any, operation: str) -> Any:
    """Return what a worker calls for an operation; None if it does not know it."""
    return worker.handlers.get(operation)


def actor_executor(worker: Any) -> Any:
    """Return the executor in whose thread a worker calls the methods of actors; None if there is none."""
    return getattr(worker, "executors", {}).get("actor")


# -- a client's connection to its scheduler ----------------------------------------------------------------


def scheduler_address(client: Any) -> str | None:
    """Return the address of a client's scheduler; None if the client has none."""
    return getattr(getattr(client, "scheduler", None), "address", None)


def is_connected(client: Any) -> bool:
    """Whether a client is connected to its scheduler."""
    return bool(getattr(client, "status", "") == "running")


def event_loop(client: Any) -> Any:
    """Return the asyncio event loop of a client."""
    return client.loop.asyncio_loop


async def worker_addresses(client: Any) -> list[str]:
    """Return the addresses of the workers that the scheduler knows."""
    return list(await client.scheduler.ncores())


async def events(client: Any, topic: str) -> list[Any]:
    """Return the latest events of a topic that the scheduler keeps, oldest first."""
    return [event for _, event in await client.scheduler.events(topic=topic)]


async def broadcast(client: Any, message: Mapping[str, Any], addresses: list[str]) -> dict[str, Any]:
    """Send a message to workers, by way of the scheduler; return the replies by address.

    A worker that does not know the operation, or cannot be reached, has no reply.
    """
    replies: dict[str, Any] = await client.scheduler.broadcast(
        msg=message, workers=addresses, on_error="ignore"
    )
    return replies
