"""The tasks in Parquet files, counted and chosen where they are.

Flows in: the digests of plain journals. Flows out: what is inside given tasks and workflows, as counts and
the last tasks of each kind; and whole tasks, by their ids.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from flowprov.ids import MIN_END
from flowprov.read.digest import Digest
from flowprov.read.parquet_files import connect, import_duckdb, parquet_path, raise_if_unreadable
from flowprov.read.shared_values import SharedObjects
from flowprov.read.task_ids import TaskIds
from flowprov.records import Error, Task

_NO_TIME = sys.maxsize
_LINES = "select filename, line from read_parquet($1, filename = true) where line is not null"
_GROUPS = """
    select parent, activity_id, subtype, status, count(*), sum(duration), min(rank), max(rank, {most})
    from (
        select {parent} as parent, activity_id, subtype, status,
            case when started_at <> 0 and ended_at <> 0 then ended_at - started_at else 0 end as duration,
            row(coalesce(started_at, submitted_at, ended_at, {no_time}), length(task_id), task_id) as rank
        from read_parquet($files)
        where line is null and {condition} and task_id not in (select unnest($left_out::varchar[]))
    )
    group by all
"""
# An id is a number of the journal, or a text.
_LOGGED = """
    select filename, line
    from (
        select filename, line, split_part(line, '"values":', 1) as ids,
            regexp_extract(ids, '"task_id":"?([^,"}]+)', 1) as task_id,
            regexp_extract(ids, '"workflow_id":"([^"]+)', 1) as workflow_id
        from read_parquet($files, filename = true)
        where line is not null and starts_with(line, '{"type":"metrics"')
    )
    where case task_id when '' then workflow_id else task_id end in (select unnest($keys::varchar[]))
"""
_SLOWEST = """
    select task_id, ended_at - started_at as duration
    from read_parquet($1)
    where line is null and duration is not null and subtype is distinct from 'child_forward'
        and (subtype is not distinct from 'iteration') = $2
    order by duration desc, task_id desc
    limit $3
"""
_FAILED = """
    select task_id, coalesce(ended_at, 0), count(*) over ()
    from read_parquet($1)
    where line is null and status = 'ERROR' and subtype is distinct from 'iteration'
    order by 2 desc, 1 desc
    limit $2
"""
_JSON = ("used", "generated", "custom_metadata", "tags", "dependencies")
_PLAIN = (
    *("task_id", "campaign_id", "workflow_id", "parent_task_id", "activity_id", "group_id", "subtype"),
    *("status", "submitted_at", "started_at", "ended_at", "hostname", "pid", "rank", "thread"),
)
_OF_ITERATIONS = tuple(name for name in _PLAIN if name not in ("campaign_id", "hostname", "thread"))
# What an iteration used is asked for only to find the number of its epoch.
_ITERATIONS = f"""
    select {", ".join(_OF_ITERATIONS)}, generated,
        case when activity_id in ('epoch', 'epoch_iteration') then used end
    from read_parquet($1)
    where line is null and subtype = 'iteration'
"""  # noqa: S608 - constants
_FAILED_NAMED = """
    select task_id from read_parquet($1)
    where line is null and status in (select unnest($2::varchar[])) and subtype is distinct from 'iteration'
        and activity_id in (select unnest($3::varchar[]))
"""
_FOUND = "select task_id from read_parquet($1) where line is null and ({}) limit $3"
_MATCHES = (
    "task_id = $2",
    "starts_with(task_id, $2) or activity_id = $2",
    f"ends_with(task_id, $2) and len($2) >= {MIN_END}",
)
_ROWS = f"select {', '.join((*_PLAIN, *_JSON, 'error'))} from read_parquet($1) where line is null and "  # noqa: S608


class TaskGroup(NamedTuple):
    """The tasks of one name, kind and status inside one parent.

    Attributes
    ----------
    parent
        The task or workflow in which they are; None outside of any.
    activity_id, subtype, status
        What they have in common.
    number, total_ns
        How many there are, and the sum of their durations.
    first, last
        The time and the id of the first of them, and of the last ones.
    """

    parent: str | None
    activity_id: str | None
    subtype: str | None
    status: str | None
    number: int
    total_ns: int
    first: tuple[int, str]
    last: list[tuple[int, str]]


class TaskFiles:
    """The Parquet files of some journals.

    Attributes
    ----------
    left_out
        Tasks that are in no group: another journal has more to say of them.
    """

    def __init__(self, digests: Mapping[Path, Digest]) -> None:
        self.left_out: Collection[str] = ()
        self._digests = digests
        self._names = {str(parquet_path(path)): path for path in digests}
        self._connection = connect()

    def lines(self, *, everything: bool = False) -> dict[Path, list[bytes]]:
        """Return the lines that are no columns, by the path of the journal: those of tasks, or all."""
        lines: dict[Path, list[bytes]] = {path: [] for path in self._digests}
        unusual = [
            str(parquet_path(path)) for path, digest in self._digests.items() if everything or digest.unusual
        ]
        for name, line in self._execute(_LINES, [unusual]) if unusual else ():
            lines[self._names[name]].append(line.encode())
        return lines

    def inside_tasks(self, parents: Collection[str], most: int) -> Iterator[TaskGroup]:
        """Yield what is directly inside some tasks."""
        condition = "parent_task_id in (select unnest($parents::varchar[])) and parent_task_id <> task_id"
        return self._groups("parent_task_id", condition, list(parents), most)

    def outside_tasks(self, known: TaskIds, most: int) -> Iterator[TaskGroup]:
        """Yield what is in no task that is known: it is directly in its workflow."""
        condition = (
            "(parent_task_id is null or parent_task_id = task_id or "
            "parent_task_id in (select unnest($parents::varchar[])))"
        )
        unknown = [
            task_id
            for digest in self._digests.values()
            for task_id in digest.named.ids(digest.header.journal_id)
            if task_id not in known
        ]
        return self._groups("workflow_id", condition, unknown, most)

    def tasks(self, task_ids: Collection[str]) -> Iterator[Task]:
        """Yield some tasks, with all that is recorded of them."""
        condition = "task_id in (select unnest($2::varchar[]))"
        for row in self._execute(_ROWS + condition, [list(self._names), list(task_ids)]):
            values = dict(zip(_PLAIN, row, strict=False))
            nested = zip((*_JSON, "error"), row[len(_PLAIN) :], strict=True)
            decoded = {name: msgspec.json.decode(text) for name, text in nested if text is not None}
            if "error" in decoded:
                decoded["error"] = msgspec.convert(decoded["error"], Error)
            yield Task(**values, **decoded)

    def iterations(self) -> Iterator[Task]:
        """Yield all iterations, without what those used that are no epochs."""
        values = SharedObjects()
        for *plain, generated, used in self._execute(_ITERATIONS, [list(self._names)]):
            yield Task(
                **dict(zip(_OF_ITERATIONS, plain, strict=True)),
                generated=values[(generated or "").encode()],
                used=values[(used or "").encode()],
            )

    def matching(self, wanted: str, most: int) -> list[str]:
        """Return the ids of some tasks that a person may mean by an id, its beginning, a name, or its end."""
        for condition in _MATCHES:
            if found := self._execute(_FOUND.format(condition), [list(self._names), wanted, most]):
                return [task_id for (task_id,) in found]
        return []

    def failed_named(self, names: Collection[str], statuses: Collection[str]) -> list[str]:
        """Return the ids of the tasks with some names that ended with one of some statuses; no iterations."""
        arguments = [list(self._names), list(statuses), list(names)]
        return [task_id for (task_id,) in self._execute(_FAILED_NAMED, arguments)]

    def logged(self, task_ids: Collection[str]) -> dict[Path, list[bytes]]:
        """Return the lines of what was logged in some tasks and workflows, by journal, and a few others."""
        lines: dict[Path, list[bytes]] = {path: [] for path in self._digests}
        numbers = {task_id.rpartition("-")[2] for task_id in task_ids}
        arguments = {"files": list(self._names), "keys": list(numbers.union(task_ids))}
        for name, line in self._execute(_LOGGED, arguments):
            lines[self._names[name]].append(line.encode())
        return lines

    def slowest(self, most: int, *, iterations: bool) -> list[tuple[str, int]]:
        """Return the slowest iterations, or the slowest of all others but forwards of modules inside a model.

        Returns
        -------
        list of tuple
            Their ids and durations, the slowest first.
        """
        return self._execute(_SLOWEST, [list(self._names), iterations, most])

    def failed(self, most: int) -> tuple[int, list[tuple[str, int]]]:
        """Return how many tasks failed that are no iterations, and the ids and ends of the last ones."""
        found = self._execute(_FAILED, [list(self._names), most])
        return (found[0][2] if found else 0), [(key, ended_at) for key, ended_at, _ in found]

    def _groups(self, parent: str, condition: str, parents: Sequence[str], most: int) -> Iterator[TaskGroup]:
        statement = _GROUPS.format(parent=parent, condition=condition, most=max(most, 1), no_time=_NO_TIME)
        arguments = {
            "files": list(self._names),
            "parents": list(parents),
            "left_out": list(self.left_out),
        }
        for *common, count, total, first, last in self._execute(statement, arguments):
            parent, activity, subtype, status = common
            yield TaskGroup(
                parent,
                activity,
                subtype,
                status,
                count,
                int(total),
                _placed(first),
                [_placed(one) for one in last][:most],
            )

    def _execute(self, statement: str, arguments: Any) -> list[tuple[Any, ...]]:
        try:
            rows: list[tuple[Any, ...]] = self._connection.execute(statement, arguments).fetchall()
        except import_duckdb().Error as error:
            raise_if_unreadable(self._connection, map(Path, self._names), error)
            raise
        return rows


def _placed(rank: Any) -> tuple[int, str]:
    values = tuple(rank.values()) if isinstance(rank, dict) else tuple(rank)
    return values[0], values[2]
