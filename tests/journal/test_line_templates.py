"""Every line template, filled with any values, is the record that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprov import line_templates, records
from flowprov.records import Error, OpenTask, Status, Task
from tests.journal.support import payloads, texts

task_numbers = st.integers(0, 2**63 - 1)
ids = task_numbers | texts
times = st.integers(0, 2**63 - 1)
errors = st.builds(Error, type=texts, message=texts, traceback=st.none() | texts)

Fields = Mapping[str, st.SearchStrategy[Any]]

START: Fields = {"task_id": task_numbers, "started_at": times, "used": payloads}
END: Fields = {"status": st.sampled_from([status.value for status in Status]), "ended_at": times}
# The fields of which a template holds only those that a task has.
PREFIX: Fields = {
    "workflow_id": texts,
    "parent_task_id": ids,
    "activity_id": texts,
    "group_id": ids,
    "subtype": texts,
    "submitted_at": times,
    "telemetry_at_start": payloads,
    "thread": texts,
    "dependencies": st.lists(texts, max_size=3),
    "telemetry": st.just(False),
}
TAIL: Fields = {
    "tags": st.lists(texts, max_size=3),
    "custom_metadata": payloads,
    "error": errors,
    "telemetry_at_end": payloads,
}
GENERATED: Fields = {"generated": payloads}
# Dask's records have the same fields in another order, and more of them may be missing.
DASK_START: Fields = {
    "task_id": task_numbers,
    "started_at": times,
    "status": END["status"],
    "custom_metadata": payloads,
}
DASK_PREFIX: Fields = {**PREFIX, "used": payloads}
DASK_TAIL: Fields = {
    "ended_at": times,
    "generated": payloads,
    "error": errors,
    "tags": TAIL["tags"],
    "telemetry_at_end": payloads,
}

encode = msgspec.json.encode


class Case(NamedTuple):
    """How one template is filled.

    Attributes
    ----------
    record
        The struct that the template names.
    required, optional
        Values of the fields that a record from this template always has, and of those that it may have.
    fill
        Returns the line of a record.
    """

    record: type[Task]
    required: Fields
    optional: Fields
    fill: Callable[[Any], bytes]


def fields(task: Task, names: Iterable[str]) -> bytes:
    """Return those of the named fields that the task has, each with a comma before it."""
    present = [(name, getattr(task, name)) for name in names if getattr(task, name) is not None]
    return b"".join(b',"%b":%b' % (name.encode(), encode(value)) for name, value in present)


def start_fields(task: Any) -> bytes:
    values = (task.task_id, fields(task, PREFIX), task.started_at, encode(task.used))
    return line_templates.START_FIELDS % values


def fill_start_fields(task: Any) -> bytes:
    return b'{"type":"task",%b}\n' % start_fields(task)


def fill_open_task(task: Any) -> bytes:
    return line_templates.OPEN_TASK % (start_fields(task), fields(task, GENERATED) + fields(task, TAIL))


def fill_task(task: Any) -> bytes:
    return line_templates.TASK % (
        task.task_id,
        fields(task, PREFIX),
        task.started_at,
        encode(task.used),
        task.status.encode(),
        task.ended_at,
        fields(task, GENERATED),
        fields(task, TAIL),
    )


def fill_addition(task: Any) -> bytes:
    return line_templates.ADDITION % (task.task_id, fields(task, GENERATED) + fields(task, TAIL))


def fill_unfinished_task(task: Any) -> bytes:
    further = fields(task, GENERATED) + fields(task, TAIL)
    return line_templates.UNFINISHED_TASK % (
        start_fields(task),
        task.status.encode(),
        task.ended_at,
        further,
    )


def fill_dask_task(task: Any) -> bytes:
    return line_templates.DASK_TASK % (
        task.task_id,
        fields(task, DASK_PREFIX),
        task.started_at,
        task.status.encode(),
        encode(task.custom_metadata),
        fields(task, DASK_TAIL),
    )


def fill_iteration(task: Any) -> bytes:
    template = line_templates.iteration(fields(task, PREFIX))
    return template % (
        task.task_id,
        task.started_at,
        encode(task.used),
        task.ended_at,
        fields(task, GENERATED),
    )


def fill_open_iteration(task: Any) -> bytes:
    template = line_templates.open_iteration(fields(task, PREFIX))
    return template % (task.task_id, task.started_at, encode(task.used), encode(task.generated))


CASES = {
    "START_FIELDS": Case(Task, START, PREFIX, fill_start_fields),
    "OPEN_TASK": Case(
        OpenTask, {**START, "status": st.just("RUNNING")}, {**PREFIX, **GENERATED, **TAIL}, fill_open_task
    ),
    "ADDITION": Case(OpenTask, {"task_id": task_numbers}, {**GENERATED, **TAIL}, fill_addition),
    "TASK": Case(Task, {**START, **END}, {**PREFIX, **GENERATED, **TAIL}, fill_task),
    "UNFINISHED_TASK": Case(Task, {**START, **END}, {**PREFIX, **GENERATED, **TAIL}, fill_unfinished_task),
    "DASK_TASK": Case(Task, DASK_START, {**DASK_PREFIX, **DASK_TAIL}, fill_dask_task),
    "iteration": Case(
        Task, {**START, **END, "status": st.just("FINISHED")}, {**PREFIX, **GENERATED}, fill_iteration
    ),
    "open_iteration": Case(
        OpenTask, {**START, **GENERATED, "status": st.just("RUNNING")}, PREFIX, fill_open_iteration
    ),
}


def test_every_template_has_a_case() -> None:
    public = {name for name in vars(line_templates) if not name.startswith("_")}
    assert public - {"annotations", "literal"} == CASES.keys()


@pytest.mark.parametrize("name", sorted(CASES))
@given(data=st.data())
def test_a_filled_template_is_the_record_that_it_names(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    values = data.draw(st.fixed_dictionaries(dict(case.required), optional=dict(case.optional)))
    task = case.record(**values)
    line = case.fill(task)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    decoded = records.decode(line)
    assert type(decoded) is case.record
    assert decoded == task


@given(st.binary())
def test_a_literal_in_a_template_stays_as_it_is(text: bytes) -> None:
    assert line_templates.literal(text) % () == text
