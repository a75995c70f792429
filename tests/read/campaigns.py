"""Record two campaigns, in one buffer folder, with everything that readers must handle."""

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
    """A buffer folder, and the ids of its campaigns; the last one has the latest record."""

    folder: Path
    older: str
    everything: str


def record_campaigns(where: Path) -> Campaigns:
    """Record the campaigns with two processes and a forked child of one, and write journals by hand."""
    campaigns = Campaigns(where / "flowprov_buffer", f"older {uuid.uuid4()}", str(uuid.uuid4()))
    environment = {"FLOWPROV_CAMPAIGN_ID": campaigns.everything, "FLOWPROV__JOURNAL__HEARTBEAT": "0.1"}
    run(_PROGRAM, where, env=environment)
    run(_KILLED, where, env=environment, status=-9)
    _await_silence(campaigns.folder)
    _write_by_hand(campaigns)
    return campaigns


def _await_silence(folder: Path) -> None:
    """Wait until the killed process has been silent for three heartbeats."""
    while any(time.time() - path.stat().st_mtime < 3 * 0.1 for path in find_journals(folder)):
        time.sleep(0.02)


def _write_by_hand(campaigns: Campaigns) -> None:
    def fresh_header(name: str, campaign_id: str = campaigns.everything, **fields: object) -> records.Header:
        return header(f"{name}-{uuid.uuid4()}", campaign_id, **fields)

    write(
        campaigns.folder,
        fresh_header("dask", rank=3),
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
    damaged = write(campaigns.folder, fresh_header("damaged", hostname="node-2"), step(0, 5))
    with damaged.open("ab") as file:
        file.write(b'{"type":"task","task_id":1,"used":{"text":"tor\n\xff\xfe\n' + records.encode(step(2, 6)))
        file.write(b"\0" * 5_000 + records.encode(Footer(at=9 * NS, captured=3, written=3)))
    campaign = Campaign(campaign_id=campaigns.older, name="Older", started_at=NS)
    workflow = Workflow(
        workflow_id=str(uuid.uuid4()), name="W", status="FINISHED", started_at=NS, ended_at=NS
    )
    old = fresh_header("old", campaigns.older)
    path = journal_path(campaigns.folder, old.campaign_id, old.hostname, old.pid, old.journal_id)
    path.parent.mkdir(parents=True)
    content = (old, campaign, workflow, step(0, 3), step(1, 4))
    path.write_bytes(b"".join(records.encode(record) for record in content))


def journal_with_slot(folder: Path, campaign_id: str) -> tuple[Path, Footer]:
    """Write a journal with a reserved slot; return its path, and a footer that fits into the slot."""
    footer = Footer(at=9 * NS, captured=3, written=2, dropped={"no space": 1})
    path = write(folder, header(f"full-{uuid.uuid4()}", campaign_id, pid=7))
    path.write_bytes(
        path.read_bytes() + padding_line(RESERVED_SLOT) + b"".join(map(records.encode, (step(0), step(1))))
    )
    return path, footer


def write_to_slot(path: Path, footer: Footer) -> None:
    """Write a footer into the reserved slot, as a writer does when the disk is full."""
    offset = path.read_bytes().index(b"\n") + 1
    assert ReservedSlot(path, offset).write(records.encode(footer))


def run_python(code: str, *arguments: str) -> str:
    """Run code in a process of its own and return what it prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True)
    return done.stdout
