"""Two campaigns with all that readers have to get right, in one buffer folder."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from flowprov import records
from flowprov.journal.files import ReservedSlot
from flowprov.journal.format import RESERVED_SLOT, find_journals, journal_path, padding_line
from flowprov.records import Campaign, Correction, Footer, Heartbeat, Machine, Sample, Workflow
from tests.journal.support import NS, header, step, write
from tests.support import clean_environment, run

_PROGRAM = """
    import os, sys
    import flowprov

    @flowprov.task
    def step(number):
        return {"number": number, "odd.name$": float("nan"), "$float": "inf", "": None, "big": 2 ** 80,
                "text": "\\u00e9\\u4e16\\U0001f30d\\0", "nested": {"a.b": [{"$c": -0.0}, [float("-inf")]]}}

    @flowprov.task
    def failing(reason):
        raise ValueError(reason)

    with flowprov.campaign("everything"), flowprov.workflow("Outer", used={"a.b": {"$c": 1}}) as outer:
        with flowprov.workflow("Inner"), flowprov.task_scope("around"):
            loop = flowprov.Loop(20, name="trial")
            for number in loop:
                step(number)
                loop.end_iter({"loss": 1 / (number + 1)})
            try:
                failing("caf\\u00e9")
            except ValueError:
                pass
            child = os.fork()
            if child == 0:
                step("in the child")
                sys.exit()
            os.waitpid(child, 0)
        outer.set_generated(best=1)
"""
_KILLED = """
    import os
    import flowprov

    with flowprov.campaign(), flowprov.workflow("Killed"):
        for number in flowprov.Loop(5, name="doomed"):
            if number == 3:
                os.kill(os.getpid(), 9)
"""


class Campaigns(NamedTuple):
    """A buffer folder and the ids of its campaigns, the one with the latest record last."""

    folder: Path
    older: str
    everything: str


def record(where: Path) -> Campaigns:
    """Record them: two processes, a forked child of one, and journals written by hand."""
    made = Campaigns(where / "flowprov_buffer", f"older {uuid.uuid4()}", str(uuid.uuid4()))
    environment = {"FLOWPROV_CAMPAIGN_ID": made.everything, "FLOWPROV__JOURNAL__HEARTBEAT": "0.1"}
    run(_PROGRAM, where, env=environment)
    run(_KILLED, where, env=environment, status=-9)
    _await_silence(made.folder)
    _write_by_hand(made)
    return made


def _await_silence(folder: Path) -> None:
    """Wait until whoever was killed has been silent for three heartbeats, by the clock of its records."""
    while any(time.time() - path.stat().st_mtime < 3 * 0.1 for path in find_journals(folder)):
        time.sleep(0.02)


def _write_by_hand(made: Campaigns) -> None:
    def first(name: str, campaign_id: str = made.everything, **fields: object) -> records.Header:
        return header(f"{name}-{uuid.uuid4()}", campaign_id, **fields)

    write(
        made.folder,
        first("dask", rank=3),
        step("dask-1", 1, status="RUNNING", ended_at=None, used={"x": 1}, subtype="dask_task"),
        step("dask-1", 1, generated={"y": 2}, subtype="dask_task", dependencies=["dask-0"]),
        step("dask-2", 2, status="RUNNING", ended_at=None, subtype="dask_task"),
        Machine(at=NS, values={"cpu": {"model": "a", "odd.name$": {"$float": "NaN"}}}),
        Sample(at=2 * NS, values={"cpu": {"percent": 12.5}, "odd.name": {"$x": 1}, "gone": {"a": 1}}),
        Sample(at=3 * NS, changes={"cpu": {"percent": {"$float": "Infinity"}, "a.b": 1}, "gone": None}),
        Heartbeat(at=3 * NS, captured=3, written=3, open=["dask-2"]),
        Correction(task_id="dask-1", status="ERROR", error=records.Error(type="E", message="late")),
        Footer(at=4 * NS, captured=3, written=3),
    )
    damaged = write(made.folder, first("damaged", hostname="node-2"), step(0, 5))
    with damaged.open("ab") as file:
        file.write(b'{"type":"task","task_id":1,"used":{"text":"tor\n\xff\xfe\n' + records.encode(step(2, 6)))
        file.write(b"\0" * 5_000 + records.encode(Footer(at=9 * NS, captured=3, written=3)))
    named = Campaign(campaign_id=made.older, name="Older", started_at=NS)
    opened = Workflow(workflow_id=str(uuid.uuid4()), name="W", status="FINISHED", started_at=NS, ended_at=NS)
    old = first("old", made.older)
    path = journal_path(made.folder, old.campaign_id, old.hostname, old.pid, old.journal_id)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"".join(records.encode(each) for each in (old, named, opened, step(0, 3), step(1, 4))))


def journal_with_room(folder: Path, campaign_id: str) -> tuple[Path, Footer]:
    """Write a journal with room behind its header, and give a footer that fits there."""
    footer = Footer(at=9 * NS, captured=3, written=2, dropped={"no space": 1})
    path = write(folder, header(f"full-{uuid.uuid4()}", campaign_id, pid=7))
    path.write_bytes(
        path.read_bytes() + padding_line(RESERVED_SLOT) + b"".join(map(records.encode, (step(0), step(1))))
    )
    return path, footer


def drive_in(path: Path, footer: Footer) -> None:
    """Write a footer into the room behind the header, as a writer does when the disk is full."""
    offset = path.read_bytes().index(b"\n") + 1
    assert ReservedSlot(path, offset).write(records.encode(footer))


def python(code: str, *arguments: str) -> str:
    """Run a few lines in a process of their own and give what they print."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True)
    return done.stdout
