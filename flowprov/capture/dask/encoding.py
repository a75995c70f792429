"""What a Dask task used and what became of it, as a record keeps it.

Flows in: a worker's task, before and after it ran. Flows out: encoded inputs with a reference in the place of
each result of another task, the encoded result, or a description of the exception.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping
from itertools import islice
from types import CodeType
from typing import Any

import msgspec
from distributed.core import clean_exception

from flowprov.capture.dask import task_spec
from flowprov.capture.dask.callables import VarArgs, name_arguments
from flowprov.capture.failures import describe_exception, sanitize_text, was_left_at
from flowprov.records import Correction, Error, Status
from flowprov.runtime.context import Scope
from flowprov.values import Summarizer

_DEEPEST = 8
_MOST_ITEMS = 100
_ABSENT = object()
_NOTHING: Mapping[Any, Any] = {}


def encode_used(
    run_spec: Any, call: task_spec.Call | None, inputs: Mapping[Any, str], summariser: Summarizer
) -> bytes:
    """Encode what a task uses, by parameter name.

    Parameters
    ----------
    run_spec, call
        The task, and what it calls.
    inputs
        The names of its inputs, by key: see :func:`dependency`.
    summariser
        Makes values recordable.
    """
    if call is None:
        named: Mapping[str, Any] = {"value": run_spec}
    elif task_spec.is_fused(call):
        return msgspec.json.encode({"inputs": [{"$task": name} for name in inputs.values()]})
    else:
        named = name_arguments(*call)
    keys: Collection[Any] = inputs if isinstance(run_spec, tuple) else ()
    # Most tasks take scalars alone: for these nothing is searched.
    if not keys and task_spec.SCALARS.issuperset(map(type, named.values())):
        return summariser.encode_mapping(named)
    return _encode_flat(named, inputs, keys, summariser) or _Writer(keys, summariser).encode(named)


def _encode_flat(
    named: Mapping[str, Any], inputs: Mapping[Any, str], keys: Collection[Any], summariser: Summarizer
) -> bytes | None:
    """Encode arguments each of which is a reference, or holds none; None where one holds some."""
    parts: list[bytes] = []
    plain: dict[str, Any] = {}  # what was met of either kind since the last part
    marks: dict[str, Any] = {}
    for name, value in named.items():
        key = task_spec.key_behind(value, keys)
        if key is not None and name.isidentifier() and len(named) <= _MOST_ITEMS:
            if plain:
                parts.append(summariser.encode_mapping(plain)[1:-1])
                plain = {}
            marks[name] = {"$task": inputs.get(key) or dependency(key)}
        elif key is not None or _holds_references(value, keys):
            return None
        else:
            if marks:
                parts.append(msgspec.json.encode(marks)[1:-1])
                marks = {}
            plain[name] = task_spec.unwrap(value)
    parts.append((summariser.encode_mapping(plain) if plain else msgspec.json.encode(marks))[1:-1])
    return b"{%b}" % b",".join(parts)


def _holds_references(value: Any, keys: Collection[Any]) -> bool:
    if type(value) in task_spec.SCALARS:
        return False
    if type(value) is VarArgs:
        return any(
            task_spec.key_behind(item, keys) is not None or _holds_references(item, keys) for item in value
        )
    return task_spec.children_of(value, keys) is not None


class _Writer:
    """Writes values among which there are references."""

    def __init__(self, keys: Collection[Any], summariser: Summarizer) -> None:
        self._keys = keys
        self._summariser = summariser

    def encode(self, named: Mapping[str, Any]) -> bytes:
        return msgspec.json.encode(self._pairs(named, 0))

    def _form(self, value: Any, name: str | None, depth: int) -> Any:
        key = task_spec.key_behind(value, self._keys)
        if key is not None:
            return {"$task": dependency(key)}
        held = task_spec.children_of(value, self._keys)
        if held is None:
            return self._summariser.summarize(task_spec.unwrap(value), key=name)
        if depth >= _DEEPEST:
            return {"$depth": type(value).__name__}
        if isinstance(held, task_spec.Call):
            named = self._pairs(name_arguments(*held), depth + 1)
            return {"$call": task_spec.name_of(held, "graph"), "used": named}
        if isinstance(held, dict):
            return self._pairs(held, depth + 1)
        kept = [self._form(item, None, depth + 1) for item in held[:_MOST_ITEMS]]
        return kept if len(kept) == len(held) else [*kept, {"$cut": len(held)}]

    def _pairs(self, named: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, value in islice(named.items(), _MOST_ITEMS):
            name = sanitize_text(str(key))
            made["$" + name if name.startswith("$") else name] = self._form(value, name, depth)
        if len(named) > _MOST_ITEMS:
            made["$cut"] = len(named)
        return made


def dependency(key: Any) -> str:
    """Name the task that makes an input; reading finds the execution that this was."""
    return "dask:" + sanitize_text(task_spec.text_of(key))


def generated_of(worker: Any, key: Any, task_state: Any) -> dict[str, Any] | None:
    """Give what a task that finished made, by name; None if that was None.

    Only what lies in memory is looked at, and beneath what notes who was read last: reading a result that was
    spilled would load it from the disk, and keep it there rather than another.
    """
    if key in worker.state.actors:
        return {"result": worker.state.actors[key]}
    held = worker.data
    if type(held) is not dict:
        held = getattr(held, "fast", _NOTHING)  # zict.Buffer, of which Dask's own is one
        held = getattr(held, "d", held)  # zict.LRU
        if type(held) is not dict and not isinstance(held, Mapping):
            held = _NOTHING
    result = held.get(key, _ABSENT)
    if result is _ABSENT:
        kind = getattr(task_state.type, "__qualname__", "?")
        return {"result": f"<{kind} of {task_state.nbytes} bytes, spilled>"}
    if result is None:
        return None
    return result if type(result) is dict else {"result": result}


def times_of(task_state: Any) -> dict[str, float]:
    """Give the seconds that Dask measured of the latest attempt at a task, by what they went into.

    That is ``compute``, and where it applies ``transfer`` (of inputs from other workers, of those that were
    fetched for this task), ``deserialize``, ``disk-read`` and the like.
    """
    made: dict[str, float] = {}
    for span in reversed(getattr(task_state, "startstops", ())):
        action = str(span["action"])
        if action == "compute" and action in made:
            break  # what lies before belongs to an attempt before
        made[action] = made.get(action, 0.0) + max(span["stop"] - span["start"], 0.0)
    return made


def error_of(task_state: Any) -> tuple[Error, BaseException | None]:
    """Describe the exception that ended a task; with the exception itself where it could be loaded."""
    named = str(task_state.exception_text or "")
    frames = sanitize_text(str(task_state.traceback_text or "")) or None
    try:
        _, error, trace = clean_exception(_content(task_state.exception), _content(task_state.traceback))
    except Exception:  # loading it runs code of the user's
        error, trace = None, None
    kind = named.partition("(")[0]
    if error is None or (type(error) is Exception and kind != "Exception"):
        # Dask replaces an exception that cannot be pickled by a plain one that holds its repr.
        return Error(
            type=sanitize_text(kind) or "Exception", message=sanitize_text(named), traceback=frames
        ), None
    if trace is not None:
        error = error.with_traceback(trace)
    described = describe_exception(error)
    if error.__traceback__ is None:
        described = msgspec.structs.replace(described, traceback=frames)
    return described, error


def _content(serialized: Any) -> Any:
    return getattr(serialized, "data", serialized)


def correct_left_early(scope: Scope, error: BaseException | None, described: Error) -> None:
    """Say of iterations that were left early whether it was by the exception that ended the task.

    An exception that comes from another thread by way of pickle has lost its code objects: places are
    compared by file, function and line.
    """
    if error is None or not scope.left_early:
        return
    passed = [(_name(frame.f_code), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    for left in scope.left_early:
        if was_left_at([(_name(code), line) for code, line in left.locations], passed):
            scope.journal.write_control(
                Correction(task_id=left.key, status=Status.ERROR.value, error=described),
            )


def _name(code: CodeType) -> tuple[str, str]:
    return code.co_filename, code.co_name
