"""Arbitrary buffers: journals whose records name tasks of one another, as those of processes do and worse."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import msgspec
from hypothesis import strategies as st

from flowprov.records import (
    Artifact,
    Correction,
    DaskWorker,
    Digest,
    Error,
    Footer,
    LeftOut,
    Metrics,
    OpenTask,
    Participant,
    Record,
    Task,
    Workflow,
)
from tests.journal.support import NS, header, payloads, write

_JOURNALS = 3
_numbers = st.integers(0, 5)
_times = st.none() | st.integers(1, 12).map(NS.__mul__)
_ids = st.one_of(
    _numbers,
    _numbers,
    st.builds("{:032x}-{}".format, st.integers(0, _JOURNALS - 1), _numbers),
    st.sampled_from(["mine", "00", "4"]),
)
_workflows = st.sampled_from(["w0", "w1", "w2"])
_value = st.one_of(
    st.floats(-4, 4).map(lambda number: round(number, 1)),
    st.sampled_from([{"$float": "nan"}, {"$float": "inf"}, True, "text", None, [1.0]]),
)
_values = st.none() | st.dictionaries(st.sampled_from(["loss", "x", "a/loss"]), _value, max_size=2)
_statuses = st.sampled_from([*["FINISHED"] * 3, "ERROR", "INTERRUPTED", "RUNNING", "SUBMITTED", None, "odd"])
_error = st.none() | st.just(Error(type="ValueError", message="no"))


def _task(kind: type[Task]) -> st.SearchStrategy[Task]:
    return st.builds(
        kind,
        task_id=_ids,
        workflow_id=st.none() | _workflows,
        parent_task_id=st.none() | _ids,
        activity_id=st.sampled_from(["a_iteration", "epoch_iteration", "step", None]),
        subtype=st.sampled_from(["iteration", "iteration", None, "dask_task"]),
        status=_statuses,
        started_at=_times,
        submitted_at=_times,
        ended_at=_times,
        used=st.none() | st.just({"lr": 0.5, "i": 1}),
        generated=_values,
        tags=st.none() | st.just(["one"]),
        error=_error,
    )


records: st.SearchStrategy[Record] = st.one_of(
    _task(Task),
    _task(Task),
    _task(Task),
    _task(OpenTask),
    st.builds(
        Workflow,
        workflow_id=_workflows,
        parent_workflow_id=st.none() | _workflows,
        name=st.sampled_from(["train", None]),
        subtype=st.sampled_from([None, "torch_model"]),
        used=_values,
        status=st.sampled_from(["RUNNING", "FINISHED", "ERROR", None]),
        started_at=_times,
        ended_at=_times,
    ),
    st.builds(Correction, task_id=_ids, status=st.none() | st.just("ERROR"), generated=_values, error=_error),
    st.builds(
        Metrics,
        at=st.integers(1, 12).map(NS.__mul__),
        workflow_id=_workflows,
        task_id=st.none() | _ids,
        step=st.none() | st.integers(0, 3),
        values=_values.map(lambda values: values or {}),
    ),
    st.builds(
        Artifact,
        number=_numbers,
        workflow_id=_workflows,
        task_id=st.none() | _ids,
        role=st.sampled_from(["used", "generated"]),
        kind=st.just("file"),
        at=st.just(NS),
    ),
    st.builds(Digest, number=_ids, state=st.just("digested"), at=st.just(NS)),
    st.builds(LeftOut, workflow_id=_workflows, dask_key=st.just("key"), at=st.just(NS)),
    st.builds(
        Participant, at=st.just(NS), pid=_numbers, hostname=st.just("node-1"), journal_id=st.just(f"{1:032x}")
    ),
    st.builds(
        DaskWorker, at=st.just(NS), workflow_id=_workflows, worker=st.just("w"), journal_id=st.just("x")
    ),
)

Journals: TypeAlias = list[tuple[list[Record], bool, "int | None"]]
"""The journals of a campaign: their records, whether each is closed, and the rank of its process."""


def _plain(journals: Journals) -> Journals:
    """Return journals whose tasks stand by themselves, as far as each record can tell."""
    return [
        ([_of_one(record, number) for record in written if _stands_alone(record)], closed, rank)
        for number, (written, closed, rank) in enumerate(journals)
    ]


def _stands_alone(record: Record) -> bool:
    task_id = getattr(record, "task_id", None)
    return not isinstance(task_id, str) and getattr(record, "subtype", None) != "dask_task"


def _of_one(record: Record, number: int) -> Record:
    """Return a record of a workflow that only one journal has."""
    if isinstance(record, (Task, Workflow)) and record.workflow_id is not None:
        return msgspec.structs.replace(record, workflow_id=f"{record.workflow_id}-{number}")
    return record


_arbitrary: st.SearchStrategy[Journals] = st.lists(
    st.tuples(st.lists(records, max_size=12), st.booleans(), st.sampled_from([None, None, 0, 1])),
    min_size=1,
    max_size=_JOURNALS,
)
campaigns = _arbitrary | _arbitrary.map(_plain)


_json = st.recursive(
    payloads
    | st.sampled_from([{"$float": "nan"}, {"$float": "x"}, {"$$a": 1}, {"$int": "9" * 99}, {"$": []}]),
    lambda inner: st.dictionaries(st.sampled_from(["a", "$b", "é"]), inner, max_size=2),
    max_leaves=4,
)
hostile_values: st.SearchStrategy[bytes] = st.one_of(
    _json.map(msgspec.json.encode),
    st.sampled_from(
        [
            b"null",
            b"5",
            b"[]",
            b"{}",
            b'{"a":1e999}',
            b'{"a":"\xff"}',
            b"{",
            b'{"a":' * 300 + b"1" + b"}" * 300,
        ]
    ),
)
"""What may stand in a line as the JSON of an object."""


first_numbers: st.SearchStrategy[list[int] | None] = st.none() | st.lists(
    st.integers(1, 5), min_size=_JOURNALS, max_size=_JOURNALS
).map(sorted)
"""None, or the first numbers of journals that are the files of one process, one after the other."""


def write_campaign(
    folder: Path, journals: Journals, campaign_id: str = "c1", firsts: list[int] | None = None
) -> None:
    """Write the journals of a campaign: of as many processes, or of one that rolled."""
    ancestors: list[tuple[str, int]] = []
    for number, (written, closed, rank) in enumerate(journals):
        events = sum(type(record) in (Task, Workflow, LeftOut, Artifact) for record in written)
        end = [Footer(at=20 * NS, captured=events, written=events)] if closed else []
        journal_id = f"{number:032x}"
        first = header(journal_id, campaign_id, pid=100 + number, rank=rank, started_at=NS)
        if firsts is not None and ancestors:
            names = {"ancestors": ancestors[:], "first_number": firsts[number], "previous": ancestors[-1][0]}
            first = msgspec.structs.replace(first, pid=100, rank=journals[0][2], **names)
        ancestors.append((journal_id, first.first_number))
        write(folder, first, *written, *end)
