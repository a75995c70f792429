"""The table of every private or undocumented part of Dask that the capture uses.

Flows in: the names that ``_dask_private`` defines. Flows out: :data:`PRIVATE_PARTS`.

``tests/dask/test_private_parts.py`` has a case for each entry of the table. It fails by name when a new
version of Dask moves one.
"""

from __future__ import annotations

from typing import NamedTuple

from flowprov.capture.dask._dask_private import (
    ACTOR_OPERATIONS,
    BAG_MAPPERS,
    CANCELLED,
    ERROR,
    EXECUTING,
    FORGOTTEN,
    MEMORY,
    RESCHEDULED,
)

VERIFIED = ("2024.10.0", "2024.11.2", "2025.1.0", "2025.7.0", "2026.8.0")
"""The versions of dask and distributed on which the table was checked."""


class DaskPart(NamedTuple):
    """A name of another library that its documentation does not promise.

    Attributes
    ----------
    name
        What it is called there.
    library
        The library that has it: dask, distributed, zict or toolz.
    purpose
        What flowprov uses it for.
    fallback
        What happens where it is missing.
    versions
        The versions of dask and distributed among :data:`VERIFIED` that have it.
    """

    name: str
    library: str
    purpose: str
    fallback: str
    versions: tuple[str, ...] = VERIFIED


_NOT_RECORDED = "no Dask task is recorded; each is counted as an internal error"
_START_LOST = "no Dask task is recorded; each is counted as dropped"
_END_LOST = "the end of each task is counted as dropped; the task reads as RUNNING, then as INTERRUPTED"
_BY_TEXT = "errors are recorded by their text, and iterations that they ended are not corrected"
_FAILURE_LOST = "the end of a failed task is counted as dropped"
_SPILL_LOST = "the end of a task whose result is spilled at once is counted as dropped"
_CANCEL_LOST = "the end of a cancelled task is not recorded; it is counted as an internal error"
_NO_FETCHING = "journals of workers that do not see the client's buffer stay where they are, with a warning"
_NO_REFERENCE = "arguments hold the summary of a Dask object in the place of a reference; dependencies stay"
_FUSED = "the record of a fused task holds the arguments of Dask's own function"
_HELPER = "records hold the arguments of the helper in the place of those of the user's function"
_FUNCTION_LOST = "a task whose functions stand only in there is left out as an internal task"
_AS_CALL = "a container with references is recorded as a call"


def _since(version: str) -> tuple[str, ...]:
    return VERIFIED[VERIFIED.index(version) :]


def _until(version: str) -> tuple[str, ...]:
    return VERIFIED[: VERIFIED.index(version) + 1]


def _states(*names: str) -> list[DaskPart]:
    purpose, fallback = "to know when a task starts and how it ended", "its records are missing or wrong"
    return [DaskPart(f"task state {name!r}", "distributed", purpose, fallback) for name in names]


PRIVATE_PARTS: tuple[DaskPart, ...] = (
    # A client that submits
    DaskPart(
        "distributed.client.Client._graph_to_futures",
        "distributed",
        "to learn from the names in its code whether it looks up dask.get_annotations at each submission",
        "dask.annotate carries the workflow: tasks that are submitted from threads or from inside tasks are "
        "not recorded, with a warning",
    ),
    DaskPart(
        "dask.get_annotations",
        "dask",
        "to add the workflow of the caller to the annotations of each submission, by replacing it",
        "dask.annotate carries the workflow, as above",
    ),
    DaskPart(
        "the frame of distributed.client that asks for annotations",
        "distributed",
        "to answer only to a client that submits, and to know which: self in its local variables",
        "submissions carry no workflow, and their tasks are not recorded",
    ),
    # Which task runs here
    DaskPart(
        "distributed.utils.thread_state",
        "distributed",
        "to find the key of the task that a thread runs",
        "what runs inside a task belongs to its workflow, and not to the task",
    ),
    DaskPart(
        "thread_state.execution_state['worker']",
        "distributed",
        "to find the worker for which a thread runs a task",
        "what runs inside a task belongs to its workflow, and not to the task",
    ),
    DaskPart(
        "the asyncio task name execute('<key>')",
        "distributed",
        "to find the key of the task that a coroutine runs",
        "what runs inside a coroutine belongs to its workflow, and not to the task",
    ),
    # A worker and its tasks
    DaskPart("Worker.state.tasks", "distributed", "to find the state of a task by its key", _NOT_RECORDED),
    *_states(EXECUTING, "long-running", CANCELLED, "resumed", MEMORY, ERROR, RESCHEDULED, FORGOTTEN),
    DaskPart(
        "TaskState.state",
        "distributed",
        "to know whether a task runs or how it ended",
        "each task is recorded as CANCELLED when its state changes",
    ),
    DaskPart(
        "TaskState.previous", "distributed", "to know whether a cancelled task still runs", _CANCEL_LOST
    ),
    DaskPart(
        "TaskState.done", "distributed", "to know whether a cancelled task's function returned", _CANCEL_LOST
    ),
    DaskPart("TaskState.annotations", "distributed", "to read the workflow of a task", _NOT_RECORDED),
    DaskPart("TaskState.key", "distributed", "to record the key of a task", _START_LOST),
    DaskPart("TaskState.run_spec", "distributed", "to read what a task calls", _START_LOST),
    DaskPart("TaskState.dependencies", "distributed", "to record the inputs of a task", _START_LOST),
    DaskPart(
        "TaskState.resource_restrictions", "distributed", "to record what a task asked for", _START_LOST
    ),
    DaskPart(
        "TaskState.run_id", "distributed", "to record which attempt a task is", "run_id is null in records"
    ),
    DaskPart(
        "TaskState.startstops",
        "distributed",
        "to record how long a task computed, transferred and read from disk",
        "records hold no such durations",
    ),
    DaskPart("TaskState.exception", "distributed", "to describe why a task failed", _BY_TEXT),
    DaskPart("TaskState.traceback", "distributed", "to describe where a task failed", _BY_TEXT),
    DaskPart(
        "TaskState.exception_text", "distributed", "to describe an error without unpickling it", _FAILURE_LOST
    ),
    DaskPart("TaskState.traceback_text", "distributed", "to describe where, as above", _FAILURE_LOST),
    DaskPart("TaskState.type", "distributed", "to describe a spilled result", _SPILL_LOST),
    DaskPart("TaskState.nbytes", "distributed", "to describe a spilled result", _SPILL_LOST),
    DaskPart(
        "distributed.core.clean_exception",
        "distributed",
        "to unpickle the exception of a task",
        _BY_TEXT,
    ),
    DaskPart("Worker.state.threads", "distributed", "to name the thread that ran a task", _END_LOST),
    DaskPart("Worker.state.actors", "distributed", "to find the result of an actor's task", _END_LOST),
    DaskPart("Worker.data", "distributed", "to find the result of a task", _END_LOST),
    DaskPart(
        "zict.Buffer.fast", "zict", "to find a result that is in memory", "every result counts as spilled"
    ),
    DaskPart(
        "zict.LRU.d",
        "zict",
        "to read a result without counting as its latest reader",
        "the worker spills other results first than without flowprov",
    ),
    DaskPart(
        "Worker.status.name",
        "distributed",
        "to know whether a worker closes",
        "tasks that run in a worker that closes have no end, and read as INTERRUPTED",
    ),
    # What a task calls
    DaskPart(
        "TaskState.run_spec as a tuple",
        "distributed",
        "to read function and arguments: (function, args, kwargs)",
        "the form of later versions is read",
        _until("2024.10.0"),
    ),
    DaskPart(
        "Task.func, Task.args, Task.kwargs",
        "dask",
        "to read function and arguments",
        "each task is left out as an internal task",
        _since("2024.11.2"),
    ),
    DaskPart("dask._task_spec.Alias.target", "dask", "to find references to tasks", _NO_REFERENCE),
    DaskPart("dask._task_spec.TaskRef.key", "dask", "to find references to tasks", _NO_REFERENCE),
    DaskPart(
        "dask._task_spec.DataNode.value",
        "dask",
        "to record the value that a node holds",
        "records hold the summary of a node of another class",
    ),
    DaskPart(
        "dask._task_spec.NestedContainer.klass",
        "dask",
        "to find references in lists and dictionaries",
        _AS_CALL,
        _since("2025.1.0"),
    ),
    DaskPart("dask._task_spec._identity_cast", "dask", "to find references in lists", _AS_CALL),
    DaskPart("dask._task_spec._execute_subgraph", "dask", "to know a fused task", _FUSED),
    DaskPart("Fused._execute_task", "dask", "to know a fused task", _FUSED, _until("2024.10.0")),
    DaskPart("Fused._execute_internal_graph", "dask", "to know a fused task", _FUSED, _since("2024.11.2")),
    DaskPart(
        "dask.optimization.SubgraphCallable.dsk",
        "dask",
        "to know a fused task, and to find the user's functions in it",
        _FUNCTION_LOST,
        _until("2024.11.2"),
    ),
    DaskPart(
        "distributed.worker.execute_task",
        "distributed",
        "to find the user's function behind it, in tasks of client.map",
        _HELPER,
        _until("2024.10.0"),
    ),
    DaskPart("dask.utils.apply", "dask", "to find the user's function behind it", _HELPER),
    DaskPart(
        "dask.utils.methodcaller",
        "dask",
        "to know a method call of something delayed",
        "method calls of delayed objects are left out as internal tasks",
    ),
    *(
        DaskPart(
            f"dask.bag.core.{name}",
            "dask",
            "to find the function that a bag maps",
            "functions of Python and numpy that are mapped over a bag are left out as internal tasks",
        )
        for name in sorted(BAG_MAPPERS)
    ),
    DaskPart("toolz Compose.first, Compose.funcs", "toolz", "to find the user's functions", _FUNCTION_LOST),
    DaskPart(
        "dask.utils.key_split",
        "dask",
        "to name the activity of a task without a function",
        "its activity is the whole key",
    ),
    # What runs outside of tasks
    *(
        DaskPart(
            f"the worker's operation {operation!r}, with the key as actor=",
            "distributed",
            "to know which actor's method or attribute is used",
            "what it records belongs to no task, and is not recorded",
        )
        for operation in ACTOR_OPERATIONS
    ),
    DaskPart(
        "Worker.executors['actor'], whose submit() is called",
        "distributed",
        "to carry the actor's task into the thread of its methods",
        "what methods record belongs to no task, and is not recorded",
    ),
    DaskPart(
        "distributed.utils.has_arg",
        "distributed",
        "to give a function the worker or scheduler if it asks, as Dask does",
        "the signature of the function decides",
    ),
    DaskPart(
        "distributed.utils.iscoroutinefunction",
        "distributed",
        "to await a function that client.run sends, as Dask does",
        "inspect.iscoroutinefunction decides",
    ),
    # What a client sends to its workers
    DaskPart(
        "distributed.protocol.pickle.dumps",
        "distributed",
        "to pickle what a worker may not be able to import as Dask does",
        "a plugin of a class that is defined in a script cannot be sent",
    ),
    # The scheduler, asked by a client, and what a worker answers
    DaskPart("Worker.handlers", "distributed", "to answer a client that fetches journals", _NO_FETCHING),
    DaskPart(
        "Worker.log_event",
        "distributed",
        "to tell clients of a journal, or that the worker records nothing",
        "a journal that is not there is not missed; each is counted as an internal error of the worker",
    ),
    DaskPart("scheduler.broadcast", "distributed", "to send a request to workers", _NO_FETCHING),
    DaskPart("scheduler.ncores", "distributed", "to list the workers", _NO_FETCHING),
    DaskPart(
        "scheduler.events",
        "distributed",
        "to read which journals workers announced, and which workers record nothing",
        "a journal of which nothing was fetched is not missed; a warning names the workers",
    ),
    DaskPart(
        "client.scheduler.address",
        "distributed",
        "to know which clients share a cluster, and which share the process of their workers",
        "a submission through a second client of a cluster may belong to no workflow",
    ),
    DaskPart("client.status", "distributed", "to know whether a client is connected", _NO_FETCHING),
    DaskPart("client.loop.asyncio_loop", "distributed", "to ask from another thread", _NO_FETCHING),
)
"""All private parts. The comments in the code that accesses one refer to this table."""
