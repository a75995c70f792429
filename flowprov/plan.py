"""What a program will record: how many rows of which kind, and about how many bytes.

Flows in: the settings, and how large the program is. Flows out: a line for each kind of row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from flowprov.settings import Settings

# Bytes of the records behind one row, measured with examples/llm_campaign and with small programs: values of
# a few numbers, tensors of two dimensions. Larger values cost more, up to values.max_bytes for each record.
_PROCESS = 1_000  # header, heartbeats, footer of a journal; the names of its campaign and its machine
_WORKFLOW = 2_500
_MODEL = 3_500
_DASK_MESSAGE = 1_300
_TASK = 300
_ITERATION = 300
_MEASURED = 650  # an iteration with numbers: it is written when they come, and at its end
_FORWARD = 675
_INSPECTED = 150  # more, of a forward
_STATISTICS = 300  # more, of a forward
_BACKWARD = 350
_OPTIMIZER = 300
_SAMPLE = 400
_KINDS = ("cpu", "mem", "swap", "disk", "network", "process", "gpu")


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """How large a program is.

    Attributes
    ----------
    workflows
        Workflows that it opens.
    tasks
        Calls of its ``@task`` functions.
    dask_tasks
        Tasks that it submits to Dask, inside a workflow that was opened with the client.
    trainings
        How often it trains a model: runs.
    epochs
        Epochs of a training.
    batches
        Batches of an epoch: of the loop that trains, then of those that only evaluate.
    modules
        Modules of which one forward is recorded, the model itself included; 0: the model is not captured.
    processes
        Processes that record.
    seconds
        How long they run; None: unknown.
    """

    workflows: int = 1
    tasks: int = 0
    dask_tasks: int = 0
    trainings: int = 1
    epochs: int = 0
    batches: tuple[int, ...] = ()
    modules: int = 0
    processes: int = 1
    seconds: float | None = None


class PlanLine(NamedTuple):
    """How many rows of a kind will be recorded, and in about how many bytes."""

    kind: str
    rows: int
    size: int


class Plan(NamedTuple):
    """What a program will record.

    Attributes
    ----------
    lines
        The kinds of rows, and what is no row.
    samples_per_hour
        Bytes of telemetry in an hour, if the program's time is not known.
    """

    lines: list[PlanLine]
    samples_per_hour: int

    @property
    def rows(self) -> int:
        """The rows of ``read_buffer()``."""
        return sum(line.rows for line in self.lines)

    @property
    def size(self) -> int:
        """The bytes of the journals."""
        return sum(line.size for line in self.lines)


def plan(settings: Settings, program: Program) -> Plan:
    """Return what a program will record."""
    enabled = settings.instrumentation.enabled
    lines = [PlanLine("processes", 0, program.processes * _PROCESS)]
    if not enabled:  # then only what the Dask plugin does, and the workflow of its client
        lines.append(_line("workflows", min(program.workflows, program.dask_tasks, 1), _WORKFLOW))
    else:
        lines.append(_line("workflows", program.workflows, _WORKFLOW))
        lines.append(_line("tasks", program.tasks, _TASK))
    lines.append(_line("messages of Dask tasks", 2 * program.dask_tasks, _DASK_MESSAGE))
    if enabled:
        lines += _training_lines(settings, program)
    samples = _bytes_of_samples(settings, 3_600) * program.processes
    if samples and program.seconds is not None:
        lines.append(PlanLine("telemetry", 0, math.ceil(samples * program.seconds / 3_600)))
        samples = 0
    return Plan([line for line in lines if line.size], samples)


def _training_lines(settings: Settings, program: Program) -> Iterator[PlanLine]:
    torch, trainings = settings.instrumentation.torch, program.trainings
    kept = [math.ceil(count / torch.capture_batches_at_every) for count in program.batches]
    epochs_with_forwards = math.ceil(program.epochs / torch.capture_epochs_at_every)
    steps = trainings * epochs_with_forwards * (kept[0] if kept else 0)
    if program.modules and torch.register_workflow:
        yield _line("models", trainings, _MODEL)
    if torch.epoch_loop is not None:
        yield _line("epochs", trainings * program.epochs, _MEASURED)
    if torch.batch_loop is not None:
        yield _line("batches", trainings * program.epochs * sum(kept), _ITERATION)
    if program.modules and torch.what is not None:
        modules = program.modules if torch.what == "parent_and_children" else 1
        forwards = trainings * epochs_with_forwards * sum(kept)
        yield _line("forwards", forwards * modules, _bytes_of_forward(settings))
        if torch.backward:
            yield _line("backward passes", steps, _BACKWARD)
    if torch.optimizer is not None:
        yield _line("optimizer steps", steps, _OPTIMIZER)


def _line(kind: str, rows: int, size: int) -> PlanLine:
    return PlanLine(kind, rows, rows * size)


def _bytes_of_forward(settings: Settings) -> int:
    torch = settings.instrumentation.torch
    inspected = "tensor_inspection" in (torch.children_mode or "")
    return _FORWARD + _INSPECTED * inspected + _STATISTICS * torch.tensor_statistics


def _bytes_of_samples(settings: Settings, seconds: float) -> int:
    telemetry = settings.telemetry_capture
    if telemetry is None or not any(getattr(telemetry, kind) for kind in _KINDS):
        return 0
    return math.ceil(seconds / telemetry.interval) * _SAMPLE
