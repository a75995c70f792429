"""Ctrl-C in the middle of captured code: afterwards the current scope is what it was before."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowprov
from tests.support import lines, run

PROGRAM = """
import os, random, signal, sys, threading, time
import flowprov
from flowprov.runtime import context

@flowprov.task
def step(x):
    return x

@flowprov.task
def stream(n):
    for i in range(n):
        yield step(i)

@flowprov.workflow("inner")
def inner(n):
    yield from stream(n)

{act}

sys.setswitchinterval(0.0005)  # the thread that interrupts soon has its turn
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell ignores it
arrived = dead = 0
in_destructor = []  # what arrives while a generator that was left is closed is lost to every program
sys.unraisablehook = lambda unraisable: in_destructor.append(unraisable.exc_type)
randomness = random.Random(7)
with flowprov.workflow("w"):
    act()
    scope = context.current.get()
    wanted = threading.Event()
    pause = 0.0

    def interrupt():  # a thread, as a person at the keyboard
        while wanted.wait() and pause >= 0:
            wanted.clear()
            time.sleep(pause)
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    for _ in range({rounds}):
        try:
            pause = randomness.uniform(0, 0.004)
            wanted.set()
            last = time.monotonic() + 10.0
            while time.monotonic() < last:
                act()
                if in_destructor:
                    raise in_destructor.pop()
        except KeyboardInterrupt:
            arrived += 1
        step(-1)
        if context.current.get() is not scope:
            dead += 1
            context.current.set(scope)
    pause = -1
    wanted.set()
    thread.join()
print(arrived, dead)
"""

ACTS = {
    "tasks in loops in scopes": """
def act():
    with flowprov.task_scope("s", used={"a": 1}) as scope:
        loop = flowprov.Loop(3)
        for i in loop:
            step(i)
            loop.end_iter(i=i)
        scope.set_generated(b=2)
""",
    "tasks": """
def act():
    step(1)
    step(complex(1, 2))
""",
    "generators": """
def act():
    for i in stream(3):
        step(i)
    for i in inner(2):
        step(i)
        break
""",
    "loops in loops": """
def act():
    for epoch in flowprov.EpochLoop(2):
        for batch in flowprov.BatchLoop([[1], [2]]):
            step(batch)
""",
    "workflows": """
def act():
    with flowprov.workflow("inside"):
        with flowprov.task_scope("s"):
            step(1)
""",
    "forwards": """
import torch
torch.set_num_threads(1)
model = flowprov.torch_capture(
    torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()),
    what="parent_and_children", children_mode="tensor_inspection",
)
def act():
    for i in flowprov.Loop(2):
        model(torch.ones(1, 2))
""",
}


@pytest.mark.parametrize("kind", ACTS)
def test_afterwards_the_scope_around_is_current(tmp_path: Path, kind: str) -> None:
    if kind == "forwards":
        pytest.importorskip("torch")
    rounds = 200
    stdout, _ = run(PROGRAM.format(act=ACTS[kind], rounds=rounds), tmp_path, timeout=300)
    assert stdout.split() == [str(rounds), "0"]
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    later = [row for row in rows if row["activity_id"] == "step" and row["used"] == {"x": -1}]
    assert len(later) == rounds
    assert {row["parent_task_id"] for row in later} == {None}
    assert len({row["workflow_id"] for row in later}) == 1
    assert lines(tmp_path)
