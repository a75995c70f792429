"""``trace``: the timeline of campaigns, as Perfetto and the tracing page of Chrome read it.

Flows in: campaigns. Flows out: a JSON file in the Trace Event Format. Each process has a group of tracks: one
for its workflows, one for each thread, and one for each value of its telemetry and each metric that it
logged. Arrows lead from a task to
those that used its result, and to its children in other processes.

https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU describes the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO, TypeAlias

from flowprov.export.campaigns import ExportedCampaign, ProcessKey
from flowprov.export.logged_metrics import logged_metrics
from flowprov.export.new_file import written_beside
from flowprov.export.plain_values import plain, plain_text, to_json
from flowprov.export.tracks import Tracks
from flowprov.read.frames import as_datetime, flat_readings
from flowprov.read.labels import titled
from flowprov.read.rows import Row
from flowprov.read.telemetry_join import process_readings
from flowprov.read.value_paths import is_number
from flowprov.records import Error, Task, Workflow
from flowprov.version import __version__

Event: TypeAlias = "dict[str, Any]"

_WORKFLOWS = "workflows"  # the track of those of a process
_SHOWN = ("status", "attempt", "workflow_id", "used", "generated", "custom_metadata", "tags", "dependencies")


class _Place(NamedTuple):
    """Where an event is drawn, and from when to when, in nanoseconds."""

    pid: int
    tid: int
    started: int
    ended: int


class _Arrow(NamedTuple):
    """From a task to one that depends on it."""

    source: str
    name: str
    target: _Place


def write_trace(campaigns: Sequence[ExportedCampaign], path: Path) -> int:
    """Write campaigns as one trace; return how many tasks and workflows it has.

    Times in it are microseconds since the first of all starts.
    """
    begin = min((at for one in campaigns if (at := one.stream.started_at)), default=0)
    with written_beside(path) as new, new.open("w", encoding="utf-8") as file:
        return _TraceWriter(file, begin).write(campaigns)


class _TraceWriter:
    """Writes events as they come."""

    def __init__(self, file: TextIO, begin: int) -> None:
        self._file = file
        self._begin = begin
        self._tracks = Tracks()
        self._separator = "\n"
        self._written = 0
        self._arrows: list[_Arrow] = []
        self._sources: dict[str, _Place] = {}

    def write(self, campaigns: Sequence[ExportedCampaign]) -> int:
        began = as_datetime(self._begin)
        about = {
            "flowprov": __version__,
            "campaigns": [plain_text(one.name) for one in campaigns],
            "campaign_ids": [plain_text(one.campaign.campaign_id) for one in campaigns],
            "started_at": None if began is None else began.isoformat(),
        }
        self._file.write(f'{{"displayTimeUnit":"ms","otherData":{to_json(about)},"traceEvents":[')
        for number, campaign in enumerate(campaigns):
            self._write_campaign(number, campaign)
        self._file.write("\n]}\n")
        return self._written

    def _write_campaign(self, number: int, campaign: ExportedCampaign) -> None:
        for workflow in campaign.stream.workflows:
            self._write_row(number, campaign, workflow, _WORKFLOWS)
        for task in campaign.stream.tasks():
            self._write_row(number, campaign, task, task.thread or "tasks")
        self._write_arrows()
        for readings, hostname, pid in process_readings(campaign.journals):
            self._write_counters(self._pid(number, campaign, (hostname, pid)), flat_readings(readings, {}))
        for logged in logged_metrics(campaign.journals):
            pid = self._pid(number, campaign, (logged.header.hostname, logged.header.pid))
            for name, value in logged.values.items():
                self._write_counter(pid, name, value, logged.at, cat="metric")

    def _write_row(self, number: int, campaign: ExportedCampaign, row: Row, thread: str) -> None:
        started = row.started_at
        if started is None:
            return  # submitted, and never started: it has no place in a timeline
        ended = max(campaign.end_of(row) or started, started)
        pid = self._pid(number, campaign, (row.hostname, row.pid))
        tid, new = self._tracks.tid_of(pid, thread, started, ended)
        if new is not None:
            self._event("M", pid, tid, name="thread_name", args={"name": plain_text(new)})
            self._event("M", pid, tid, name="thread_sort_index", args={"sort_index": tid})
        place = _Place(pid, tid, started, ended)
        self._complete_event(row, place)
        if isinstance(row, Task):
            self._note_arrows(row, place, campaign.stream.sources)

    def _complete_event(self, row: Row, place: _Place) -> None:
        name = row.name if isinstance(row, Workflow) else row.activity_id
        args = {key: plain(value) for key in _SHOWN if (value := getattr(row, key, None))}
        if isinstance(row, Task):
            args |= {"task_id": row.task_id, "parent_task_id": row.parent_task_id}
        if isinstance(row.error, Error):
            args["error"] = plain(f"{row.error.type}: {row.error.message}")
        if row.ended_at is None:
            args["end"] = "not recorded"
        kind = row.subtype or ("workflow" if isinstance(row, Workflow) else "task")
        self._event(
            "X",
            place.pid,
            place.tid,
            name=titled(name, row.subtype),
            cat=plain_text(kind),
            ts=self._microseconds(place.started),
            dur=(place.ended - place.started) / 1000,
            args={key: value for key, value in args.items() if value is not None},
        )
        self._written += 1

    def _note_arrows(self, task: Task, place: _Place, sources: set[str]) -> None:
        task_id = str(task.task_id)
        if task_id in sources:
            self._sources[task_id] = place
        self._arrows += [_Arrow(one, "dependency", place) for one in task.dependencies or ()]
        if task.parent_task_id in sources:
            self._arrows.append(_Arrow(str(task.parent_task_id), "parent", place))

    def _write_arrows(self) -> None:
        """Write an arrow for each dependency, and for each parent that is drawn on another track."""
        for number, arrow in enumerate(self._arrows, 1):
            source, target = self._sources.get(arrow.source), arrow.target
            if source is None or (source.pid, source.tid) == (target.pid, target.tid):
                continue
            leaves = min(max(target.started, source.started), max(source.ended - 1, source.started))
            for phase, place, at, more in (
                ("s", source, leaves, {}),
                ("f", target, target.started, {"bp": "e"}),
            ):
                self._event(
                    phase,
                    place.pid,
                    place.tid,
                    name=arrow.name,
                    cat="flow",
                    id=number,
                    ts=self._microseconds(at),
                    **more,
                )
        self._arrows.clear()
        self._sources.clear()

    def _write_counters(self, pid: int, readings: Iterator[tuple[int, dict[str, Any]]]) -> None:
        """Write a counter for each number among the readings of a process, each time that it changed."""
        last: dict[str, float] = {}
        for at, values in readings:
            for name, value in values.items():
                if is_number(value) and last.get(name) != value:
                    last[name] = value
                    self._write_counter(pid, name, value, at)

    def _write_counter(self, pid: int, name: str, value: float, at: int, **more: str) -> None:
        """Write a value of a counter; what is no number for each reader has no place in a curve."""
        shown = plain(value)
        if is_number(shown):
            title = titled(name, None)
            self._event("C", pid, 0, name=title, **more, ts=self._microseconds(at), args={"value": shown})

    def _pid(self, number: int, campaign: ExportedCampaign, key: ProcessKey) -> int:
        pid, new = self._tracks.pid_of(number, key)
        if new:
            process = campaign.processes.get(key)
            rank = None if process is None else process.header.rank
            words = [str(key[0]), f"pid {key[1]}", *([] if rank is None else [f"rank {rank}"])]
            self._event("M", pid, 0, name="process_name", args={"name": plain_text(" ".join(words))})
        return pid

    def _microseconds(self, at: int) -> float:
        return (at - self._begin) / 1000

    def _event(self, phase: str, pid: int, tid: int, **fields: Any) -> None:
        event: Event = {"ph": phase, "pid": pid, "tid": tid, **fields}
        self._file.write(f"{self._separator}{to_json(event)}")
        self._separator = ",\n"


__all__ = ["write_trace"]
