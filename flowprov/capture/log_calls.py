"""``log_params`` and ``log_metrics``: what a program says of a run while it goes on.

Flows in: values. Flows out: inputs of the current task or workflow, and records of metrics. Both are in the
journal when the call returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from flowprov import guard, records
from flowprov.capture import additions, replay
from flowprov.capture.additions import collect_values
from flowprov.capture.metrics import decode_fields, encode, settle, waiting
from flowprov.capture.task_records import enclosing_scope
from flowprov.capture.workflow_records import write_addition
from flowprov.clock import clock
from flowprov.records import Metrics
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope

_ITERATION = b',"subtype":"iteration"'
_NUMBER = (b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8", b"9", b"-", b'{"$float"', b'{"$int')


@replay.compiled_as(replay.not_recorded)
def log_params(params: Any = None, /, **more: Any) -> None:
    """Record parameters: a mapping, keywords, or both. They are in the journal at once.

    They are added to what the current task used, else the workflow. Inside an iteration of a loop that is the
    task or workflow around the loop.

    Parameters
    ----------
    params
        Values by name.
    **more
        Further values.
    """
    scope = scope_of_call()
    if scope is not None:
        with guard.guarded("recording parameters"):
            values = collect_values("log_params", params, more)
            holder = _around_loops(scope)
            if holder.key is None:
                write_addition(holder.journal, holder.workflow_id, used=values)
            else:
                additions.add_used(holder, values)


@replay.compiled_as(replay.not_recorded)
def log_metrics(metrics: Any = None, /, *, step: int | None = None, **more: Any) -> None:
    """Record numbers that were measured: a mapping, keywords, or both. They are in the journal at once.

    It is one small line, and no task. ``flowprov.metrics()`` reads it.

    Parameters
    ----------
    metrics
        Numbers by name; tensors and arrays without a dimension are numbers, too. Anything else is left out,
        and said once.
    step
        The step to which they belong. By default the values of a name are counted.
    **more
        Further numbers.
    """
    scope = scope_of_call()
    if scope is not None:
        with guard.guarded("recording metrics"):
            _write(scope, collect_values("log_metrics", metrics, more), _as_step(step))


def log_many_params(params: Mapping[str, Any]) -> None:
    """Record the parameters of a framework: hundreds, once in a run, so they may take longer than others."""
    scope = scope_of_call()
    if scope is not None:
        with guard.guarded("recording parameters"):
            form: Any = runtime.get().unhurried_summarizer.summarize(params)
            holder = _around_loops(scope)
            if holder.key is None:
                addition = records.Workflow(workflow_id=holder.workflow_id, used=form)
                holder.journal.append(records.encode(addition))
            else:
                additions.add_encoded_used(holder, msgspec.json.encode(form))


def log_metrics_of(scope: Scope, metrics: Mapping[str, Any], step: int | None) -> None:
    """Record numbers that were measured in a scope, which may have ended."""
    with guard.guarded("recording metrics"):
        _write(scope, collect_values("log_metrics", metrics, {}), _as_step(step))


def scope_of_call() -> Scope | None:
    """Return the scope to which a call belongs; None if nothing is recorded."""
    if replay.is_traced() or runtime.disabled():
        return None
    return enclosing_scope(context.current.get())


def _around_loops(scope: Scope) -> Scope:
    while scope.parent is not None and (not scope.recorded or _ITERATION in scope.line_prefix):
        scope = scope.parent
    return scope


def _as_step(step: Any) -> int | None:
    try:
        return None if step is None else int(step)
    except (TypeError, ValueError, OverflowError):
        guard.warn_once(
            "step of metrics",
            "flowprov: log_metrics takes an integer as step; it was given %s. The values are counted.",
            type(step).__name__,
        )
        return None


def _write(scope: Scope, values: Mapping[str, Any], step: int | None) -> None:
    at, task = clock.now(), context.recorded_task(scope)
    key = None if task is None else task.key
    numbers = decode_fields(encode(values))

    def record(numbers: dict[str, msgspec.Raw]) -> Metrics | None:
        values: Any = {name: number for name, number in numbers.items() if _is_number(number)}
        if not values:
            return None
        return Metrics(at=at, workflow_id=scope.workflow_id, task_id=key, step=step, values=values)

    def complete(
        _: Scope, described: dict[str, msgspec.Raw], whole: dict[str, msgspec.Raw]
    ) -> Metrics | None:
        return record({name: raw for name, raw in whole.items() if bytes(raw) != bytes(described[name])})

    if waiting:
        settle(scope, complete)
    elif left_out := [name for name, number in numbers.items() if not _is_number(number)]:
        _warn_no_numbers(left_out)
    if (known := record(numbers)) is not None:
        scope.journal.append_addition(records.encode(known))


def _is_number(encoded: msgspec.Raw) -> bool:
    return bytes(encoded).startswith(_NUMBER)


def _warn_no_numbers(names: list[str]) -> None:
    guard.warn_once(
        "no numbers",
        "flowprov: log_metrics records numbers. Left out here: %s. Use log_params or set_generated for "
        "anything else.",
        ", ".join(names[:5]),
    )
