"""The journals that are mutated: of real programs, and with every kind of record written by hand."""

from __future__ import annotations

from pathlib import Path

from flowprov.journal.format import RESERVED_SLOT, padding_line
from flowprov.records import (
    Campaign,
    Correction,
    DaskWorker,
    Error,
    Footer,
    Heartbeat,
    LeftOut,
    Machine,
    OpenTask,
    Sample,
    Task,
    Workflow,
    encode,
)
from tests.journal.support import NS, header, step, write
from tests.support import run

_PROGRAM = """
    import os, sys
    import flowprov

    @flowprov.task(tags=["a"])
    def step(number):
        return {"number": number, "loss": float("nan"), "big": 2 ** 80, "text": "a\\nb", "d": {"a": [1]}}

    @flowprov.task
    def failing(reason):
        raise ValueError(reason)

    with flowprov.campaign("fuzzed"), flowprov.workflow("Outer", used={"lr": 0.1}) as outer:
        with flowprov.workflow("Inner"), flowprov.task_scope("around") as scope:
            loop = flowprov.Loop(4, name="trial")
            for number in loop:
                step(number)
                loop.end_iter({"loss": 1 / (number + 1)})
                flowprov.log_metrics({"acc": number, "nan": float("nan")}, step=number)
            flowprov.use_artifact(flowprov.log_artifact(b"weights", "model"), "model").wait()
            for batch in flowprov.sampled([[1, 2], [3]], name="train"):
                step(batch)
            try:
                failing("no")
            except ValueError:
                pass
        if "fork" in sys.argv:
            child = os.fork()
            if child == 0:
                step("in the child")
                sys.exit()
            os.waitpid(child, 0)
        if "kill" in sys.argv:
            os.kill(os.getpid(), 9)
        outer.set_generated(best=1)
"""
_ENVIRONMENT = {"FLOWPROV__JOURNAL__HEARTBEAT": "0.05", "FLOWPROV__TELEMETRY_CAPTURE__INTERVAL": "0.05"}


def write_buffers(folder: Path) -> list[Path]:
    """Record campaigns, each in a buffer of its own; return the buffers."""
    buffers = []
    for kind in ("closed", "fork", "kill"):
        (folder / kind).mkdir()
        run(_PROGRAM, folder / kind, kind, env=_ENVIRONMENT, status=-9 if kind == "kill" else 0)
        buffers.append(folder / kind / "flowprov_buffer")
    return [
        *buffers,
        _write_of_dask(folder / "dask"),
        _write_of_ranks(folder / "ranks"),
        _write_full(folder / "full"),
    ]


def _gpu(joules: float, **more: object) -> dict[str, object]:
    return {
        "gpu": {"0": {"energy_j": joules, "uuid": "GPU-1", **more}},
        "cpu": {"user_s": joules, "idle_s": 1.0},
    }


def _write_of_dask(buffer: Path) -> Path:
    """Write what a client of Dask and a worker leave, with telemetry, corrections and machines."""
    key = {"dask_key": "k"}
    write(
        buffer,
        header("client", started_at=NS),
        Campaign(campaign_id="c1", name="by hand", started_at=NS),
        Workflow(workflow_id="w", name="W", status="RUNNING", started_at=NS, machine_info={"a": 1}),
        Machine(at=NS, values={"cpu": {"model": "a"}}),
        DaskWorker(
            at=NS, workflow_id="w", worker="tcp://1", journal_id="worker", journal="node-2/7-worker.jsonl"
        ),
        DaskWorker(at=NS, workflow_id="w", worker="tcp://2", hostname="node-3", reason="it has no flowprov"),
        Workflow(workflow_id="w", custom_metadata={"tags": ["late"]}, generated={"a": {"b": 1}}),
        Workflow(
            workflow_id="w", name="W", status="FINISHED", started_at=NS, ended_at=9 * NS, generated={"x": 1}
        ),
        Footer(at=9 * NS, captured=3, written=3),
    )
    write(
        buffer,
        header("worker", hostname="node-2", pid=7, started_at=NS, rank=0, world_size=1),
        step(
            "d1",
            1,
            status="RUNNING",
            ended_at=None,
            subtype="dask_task",
            workflow_id="w",
            custom_metadata=key,
        ),
        Sample(at=NS, values=_gpu(1.0)),
        step("d1", 1, subtype="dask_task", workflow_id="w", custom_metadata=key, generated={"y": 2}),
        LeftOut(workflow_id="w", dask_key="list", at=3 * NS, dependencies=["dask:k"]),
        LeftOut(workflow_id="w", dask_key="tuple", at=4 * NS, dependencies=["dask:list", "dask:k"]),
        Sample(at=4 * NS, changes=_gpu(5.0, power_w=300)),
        step("d2", 5, subtype="dask_task", workflow_id="w", dependencies=["dask:tuple"], parent_task_id="d1"),
        OpenTask(
            task_id=5, activity_id="open", started_at=6 * NS, used={"i": 1}, workflow_id="w", tags=["t"]
        ),
        OpenTask(task_id=5, generated={"j": 1}, tags=["u"]),
        Sample(at=8 * NS, changes=_gpu(9.0)),
        Correction(task_id="d1", status="ERROR", error=Error(type="E", message="late"), generated={"z": 1}),
        step(5, 6, activity_id="open", workflow_id="w", used={"i": 1}, generated={"j": 1}),
        Heartbeat(at=8 * NS, captured=6, written=6, open=[5, "d2"], internal_errors={"a: E": 1}),
        Footer(at=9 * NS, captured=6, written=6, internal_errors={"a: E": 1}),
    )
    return buffer


def _write_of_ranks(buffer: Path) -> Path:
    """Write two attempts of a workflow with two ranks each, all closed."""
    for attempt in range(2):
        at = (1 + 10 * attempt) * NS
        for rank in range(2):
            own = header(
                f"{attempt}{rank}" * 16, started_at=at, pid=10 * attempt + rank, rank=rank, world_size=2
            )
            write(
                buffer,
                own,
                Workflow(workflow_id="w", name="W", status="RUNNING", started_at=at, rank=rank),
                Task(
                    task_id=0,
                    workflow_id="w",
                    activity_id="a",
                    started_at=at,
                    ended_at=at + NS,
                    status="FINISHED",
                ),
                Task(
                    task_id=1,
                    parent_task_id=0,
                    workflow_id="w",
                    activity_id="b",
                    started_at=at,
                    status="ERROR",
                ),
                Workflow(workflow_id="w", name="W", status="FINISHED", started_at=at, ended_at=at + 5 * NS),
                Footer(at=at + 6 * NS, captured=4, written=4),
            )
    return buffer


def _write_full(buffer: Path) -> Path:
    """Write a journal whose footer lies in the reserved slot, as its disk was full."""
    path = write(buffer, header("full", started_at=NS))
    footer = encode(Footer(at=9 * NS, captured=3, written=2, dropped={"no space": 1}))
    slot = footer + padding_line(RESERVED_SLOT - len(footer))
    path.write_bytes(path.read_bytes() + slot + b"".join(map(encode, (step(0), step(1)))) + b"\0" * 3_000)
    return buffer
