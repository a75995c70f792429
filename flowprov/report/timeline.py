"""Tasks over the processes in which they ran, with telemetry beneath.

Flows in: the longest tasks, workflows, and telemetry. Flows out: places of bars and lines in a drawing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TypeAlias

from flowprov.display import count, format_size
from flowprov.records import Status, Workflow
from flowprov.report.parts import Bar, Lane, Strip, Timeline
from flowprov.report.scales import Axis
from flowprov.report.task_answers import MAX_BARS, LongTask
from flowprov.report.telemetry import STRETCHES, Series
from flowprov.report.text import format_duration, format_number, shown

WIDTH, LEFT, RIGHT = 960, 150, 12
_MAX_LANES, _MAX_DEPTH, _MAX_STRIPS = 32, 5, 12
_ROW, _GAP, _STRIP, _BETWEEN = 11, 8, 34, 12
_COLORS = 5
_MODEL = "torch_model"

_Process: TypeAlias = tuple[str, int, int]
_TITLES = {
    "cpu.utilization_percent": "CPU, all cores",
    "mem.used_bytes": "memory used",
    "process.cpu_percent": "CPU of processes",
    "process.rss_bytes": "memory of processes",
}
_GPU_TITLES = {"utilization_percent": "busy", "memory_used_bytes": "memory", "power_w": "power"}


def timeline_of(
    tasks: Sequence[LongTask],
    workflows: Sequence[Workflow],
    series: dict[tuple[str, str], Series],
    start: float,
    end: float,
) -> Timeline | None:
    """Return the timeline of a campaign between two moments, in seconds; None if there is nothing to draw."""
    chosen = [*map(_as_task, _of_program(workflows)), *tasks]
    if not chosen or end <= start:
        return None
    axis = Axis(0, end - start, LEFT, WIDTH - RIGHT)
    by_process: dict[_Process, list[LongTask]] = {}
    for task in chosen:
        by_process.setdefault(_process(task), []).append(task)
    colors = _colors(chosen)
    lanes, bars, hidden, y = [], [], 0, 18.0
    processes = sorted(by_process, key=lambda one: min(task.started for task in by_process[one]))
    for process in processes[:_MAX_LANES]:
        rows, left_out = _rows(by_process[process], end)
        hidden += left_out
        for depth, row in enumerate(rows):
            bars += [_bar(task, axis, y + depth * _ROW, colors, start, end) for task in row]
        height = len(rows) * _ROW
        lanes.append(Lane(_label(process), y, height))
        y += height + _GAP
    strips, bottom = _strips(series, axis, y + _BETWEEN, start, end)
    notes = []
    if len(tasks) >= MAX_BARS:
        notes.append(f"the {MAX_BARS} longest tasks are drawn")
    if len(processes) > _MAX_LANES:
        notes.append(f"{count(len(processes) - _MAX_LANES, 'process')} more are not drawn")
    if hidden:
        notes.append(f"{count(hidden, 'task')} inside of others are not drawn")
    legend = [(color, shown(name, 30)) for name, color in colors.items()]
    return Timeline(lanes, bars, strips, axis.time_ticks(), legend, bottom, y, notes)


def _of_program(workflows: Sequence[Workflow]) -> list[Workflow]:
    return [row for row in workflows if row.subtype != _MODEL and row.started_at is not None][:MAX_BARS]


def _as_task(workflow: Workflow) -> LongTask:
    started, ended = workflow.started_at or 0, workflow.ended_at
    return LongTask(
        workflow.name or "workflow",
        "workflow",
        workflow.status,
        started / 1e9,
        None if ended is None else ended / 1e9,
        workflow.hostname,
        workflow.pid,
        None,
    )


def _process(task: LongTask) -> _Process:
    return str(task.hostname or ""), task.pid or 0, -1 if task.rank is None else task.rank


def _label(process: _Process) -> str:
    hostname, pid, rank = process
    return f"{shown(hostname, 12)} · {f'rank {rank}' if rank >= 0 else f'pid {pid}'}"


def _colors(tasks: Sequence[LongTask]) -> dict[str, int]:
    """Return the colors of the activities that took the most time."""
    spent: Counter[str] = Counter()
    for task in tasks:
        if task.subtype != "workflow":
            spent[task.activity] += int(1e6 * ((task.ended or task.started) - task.started)) + 1
    names = sorted(spent, key=lambda name: (-spent[name], name))
    return {name: color for color, name in enumerate(names[:_COLORS], 1)}


def _rows(tasks: Sequence[LongTask], end: float) -> tuple[list[list[LongTask]], int]:
    """Return tasks in rows in which none overlaps the next; a task lies below what it is in."""
    rows: list[list[LongTask]] = []
    free: list[float] = []
    left_out = 0
    for task in sorted(tasks, key=lambda one: (one.started, -(one.ended or end))):
        row = next((number for number, until in enumerate(free) if until <= task.started), len(rows))
        if row >= _MAX_DEPTH:
            left_out += 1
            continue
        if row == len(rows):
            rows.append([])
            free.append(0.0)
        rows[row].append(task)
        free[row] = task.ended or end
    return rows, left_out


def _bar(task: LongTask, axis: Axis, y: float, colors: dict[str, int], start: float, end: float) -> Bar:
    left = axis.place(max(task.started - start, 0.0))
    right = axis.place(min((task.ended or end) - start, end - start))
    failed = task.status == Status.ERROR.value
    seconds = None if task.ended is None else task.ended - task.started
    said = "" if task.status == Status.FINISHED.value else f" · {shown(str(task.status), 20)}"
    kind = " (workflow)" if task.subtype == "workflow" else ""
    text = f"{shown(task.activity, 40)}{kind} · {format_duration(seconds)}{said}"
    color = 0 if task.subtype == "workflow" else colors.get(task.activity, 0)
    return Bar(left, y, max(round(right - left, 2), 0.8), color, failed, text)


def _strips(
    series: dict[tuple[str, str], Series], axis: Axis, y: float, start: float, end: float
) -> tuple[list[Strip], float]:
    """Return the lines of telemetry, and where the drawing ends."""
    strips = []
    several = len({hostname for hostname, _ in series}) > 1
    for (hostname, kind), values in [item for item in series.items() if len(item[1]) > 1][:_MAX_STRIPS]:
        top = 100.0 if kind.endswith("utilization_percent") else max(values.values()) or 1.0
        points = (
            (axis.place((stretch + 0.5) * (end - start) / STRETCHES), y + _STRIP - value / top * (_STRIP - 2))
            for stretch, value in values.items()
        )
        line = " ".join(f"{x:.1f},{place:.1f}" for x, place in points)
        title = _TITLES.get(kind) or _gpu_title(kind)
        label = f"{title} · {shown(hostname, 12)}" if several else title
        strips.append(Strip(label, _top(kind, top), round(y, 1), line))
        y += _STRIP + _BETWEEN
    return strips, y


def _gpu_title(kind: str) -> str:
    _, number, name = kind.split(".", 2)
    return f"GPU {shown(number, 8)} {_GPU_TITLES.get(name, name)}"


def _top(kind: str, value: float) -> str:
    if kind.endswith("percent"):
        return f"{value:.0f} %"
    return format_size(value) if kind.endswith("bytes") else f"{format_number(round(value, 1))} W"
