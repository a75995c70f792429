"""What a Dask task used and generated, encoded for its records.

Flows in: a worker's task, before and after it ran. Flows out: encoded inputs, with a reference in the place
of each result of another task; the outputs, or the description of the exception.

Most attributes of a worker and its tasks that are read here are private parts of Dask: ``_dask_private``
lists them.
"""

from __future__ import annotations

import traceback
from collections.abc import Collection, Mapping
from itertools import islice
from types import CodeType
from typing import Any

import msgspec

from flowprov.capture.dask import task_spec
from flowprov.capture.dask._dask_private import clean_exception
from flowprov.capture.dask.callables import VarArgs, name_arguments
from flowprov.capture.error_description import sanitize_message, sanitize_text, sanitize_traceback
from flowprov.capture.failures import Outcome, correction_of, outcome_of, was_left_at
from flowprov.records import Error, Status
from flowprov.runtime.context import Scope
from flowprov.values import Summarizer

_MAX_DEPTH = 8
_MAX_ITEMS = 100
_MISSING = object()
_NO_RESULTS: Mapping[Any, Any] = {}


def encode_used(
    run_spec: Any, call: task_spec.Call | None, inputs: Mapping[Any, str], summarizer: Summarizer
) -> bytes:
    """Encode what a task uses, by parameter name.

    Parameters
    ----------
    run_spec, call
        The task as Dask holds it, and what it calls.
    inputs
        The names of its dependencies, by key: see :func:`dependency_name`.
    summarizer
        Encodes values.
    """
    if call is None:
        named: Mapping[str, Any] = {"value": run_spec}
    elif task_spec.is_fused(call):
        return msgspec.json.encode({"inputs": [{"$task": name} for name in inputs.values()]})
    else:
        named = name_arguments(*call)
    keys: Collection[Any] = inputs if isinstance(run_spec, tuple) else ()
    # Most tasks take only scalars, which hold no references: nothing is searched then.
    if not keys and task_spec.SCALARS.issuperset(map(type, named.values())):
        return summarizer.encode_mapping(named)
    return _encode_flat(named, inputs, keys, summarizer) or _ReferenceEncoder(keys, summarizer).encode(named)


def _encode_flat(
    named: Mapping[str, Any], inputs: Mapping[Any, str], keys: Collection[Any], summarizer: Summarizer
) -> bytes | None:
    """Encode arguments each of which is a reference or holds none; return None if one holds some."""
    parts: list[bytes] = []
    values: dict[str, Any] = {}  # one of these two holds what came since the last part
    references: dict[str, Any] = {}
    for name, value in named.items():
        key = task_spec.referenced_key(value, keys)
        if key is not None and name.isidentifier() and len(named) <= _MAX_ITEMS:
            if values:
                parts.append(summarizer.encode_mapping(values)[1:-1])
                values = {}
            references[name] = {"$task": inputs.get(key) or dependency_name(key)}
        elif key is not None or _holds_references(value, keys):
            return None
        else:
            if references:
                parts.append(msgspec.json.encode(references)[1:-1])
                references = {}
            values[name] = task_spec.unwrap(value)
    parts.append((summarizer.encode_mapping(values) if values else msgspec.json.encode(references))[1:-1])
    return b"{%b}" % b",".join(parts)


def _holds_references(value: Any, keys: Collection[Any]) -> bool:
    if type(value) in task_spec.SCALARS:
        return False
    if type(value) is VarArgs:
        return any(
            task_spec.referenced_key(item, keys) is not None or _holds_references(item, keys)
            for item in value
        )
    return task_spec.children_of(value, keys) is not None


class _ReferenceEncoder:
    """Encodes values that hold references to other tasks."""

    def __init__(self, keys: Collection[Any], summarizer: Summarizer) -> None:
        self._keys = keys
        self._summarizer = summarizer

    def encode(self, named: Mapping[str, Any]) -> bytes:
        return msgspec.json.encode(self._convert_items(named, 0))

    def _convert(self, value: Any, name: str | None, depth: int) -> Any:
        key = task_spec.referenced_key(value, self._keys)
        if key is not None:
            return {"$task": dependency_name(key)}
        children = task_spec.children_of(value, self._keys)
        if children is None:
            return self._summarizer.summarize(task_spec.unwrap(value), key=name)
        if depth >= _MAX_DEPTH:
            return {"$depth": type(value).__name__}
        if isinstance(children, task_spec.Call):
            named = self._convert_items(name_arguments(*children), depth + 1)
            return {"$call": task_spec.call_name(children, "graph"), "used": named}
        if isinstance(children, dict):
            return self._convert_items(children, depth + 1)
        items = [self._convert(item, None, depth + 1) for item in children[:_MAX_ITEMS]]
        return items if len(items) == len(children) else [*items, {"$cut": len(children)}]

    def _convert_items(self, named: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        converted: dict[str, Any] = {}
        for key, value in islice(named.items(), _MAX_ITEMS):
            name = sanitize_text(str(key))
            converted["$" + name if name.startswith("$") else name] = self._convert(value, name, depth)
        if len(named) > _MAX_ITEMS:
            converted["$cut"] = len(named)
        return converted


def dependency_name(key: Any) -> str:
    """Return the name of a dependency. Readers find the execution that made its result."""
    return "dask:" + sanitize_text(task_spec.key_text(key))


def generated_of(worker: Any, key: Any, task_state: Any) -> dict[str, Any] | None:
    """Return the outputs of a finished task by name; None if it returned None.

    Only a result that is in memory is read, and beneath the layer that orders results by their latest reader.
    To read a spilled result would load it from disk, and keep it in memory rather than another one.
    """
    if key in worker.state.actors:
        return {"result": worker.state.actors[key]}
    results = worker.data
    if type(results) is not dict:
        results = getattr(results, "fast", _NO_RESULTS)  # of zict.Buffer, the base of Dask's SpillBuffer
        results = getattr(results, "d", results)  # of zict.LRU
        if type(results) is not dict and not isinstance(results, Mapping):
            results = _NO_RESULTS
    result = results.get(key, _MISSING)
    if result is _MISSING:
        type_name = getattr(task_state.type, "__qualname__", "?")
        return {"result": f"<{type_name} of {task_state.nbytes} bytes, spilled>"}
    if result is None:
        return None
    return result if type(result) is dict else {"result": result}


def durations_of(task_state: Any) -> dict[str, float]:
    """Return how long the latest attempt at a task took, in seconds, by the names that Dask gives.

    There is ``compute``, and where it applies ``transfer`` (of inputs that came from other workers for this
    task), ``deserialize``, ``disk-read`` and the like.
    """
    durations: dict[str, float] = {}
    for span in reversed(getattr(task_state, "startstops", ())):
        action = str(span["action"])
        if action == "compute" and action in durations:
            break  # the rest belongs to an earlier attempt
        durations[action] = durations.get(action, 0.0) + max(span["stop"] - span["start"], 0.0)
    return durations


def outcome_of_failed(task_state: Any) -> tuple[Outcome, BaseException | None]:
    """Return what the record says of a task that failed, and its exception if that can be loaded."""
    text = str(task_state.exception_text or "")
    frames = sanitize_traceback(str(task_state.traceback_text or ""))
    try:
        _, error, trace = clean_exception(
            _serialized(task_state.exception), _serialized(task_state.traceback)
        )
    except Exception:  # loading it runs the user's code
        error, trace = None, None
    type_name = text.partition("(")[0]
    if error is None or (type(error) is Exception and type_name != "Exception"):
        # In the place of an exception that cannot be pickled, Dask sends a plain one with its repr.
        name = sanitize_text(type_name) or "Exception"
        description = Error(type=name, message=sanitize_message(text), traceback=frames)
        return Outcome(Status.ERROR, description, {}), None
    if trace is not None:
        error = error.with_traceback(trace)
    outcome = outcome_of(error)
    if outcome.error is not None and error.__traceback__ is None:
        outcome = outcome._replace(error=msgspec.structs.replace(outcome.error, traceback=frames))
    return outcome, error


def _serialized(wrapper: Any) -> Any:
    return getattr(wrapper, "data", wrapper)


def correct_left_early(scope: Scope, error: BaseException | None, outcome: Outcome) -> None:
    """Write a correction for each iteration in a task that was left early by the task's exception.

    The exception comes from another thread by way of pickle, which loses code objects. So locations are
    compared by file, function and line.
    """
    if error is None or not scope.left_early:
        return
    passed = [
        (_function_in_file(frame.f_code), line) for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    for left in scope.left_early:
        if was_left_at([(_function_in_file(code), line) for code, line in left.locations], passed):
            scope.journal.write_control(correction_of(left, outcome))


def _function_in_file(code: CodeType) -> tuple[str, str]:
    return code.co_filename, code.co_name
