"""In a notebook, cells end by exceptions and interrupts while workflows and the process go on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager, start_new_kernel

import flowprov
from tests.support import program_environment, run

_SETUP = """
import threading, time
import flowprov

@flowprov.task
def step(name):
    return name

def train(epochs, fail=None, wait=None):
    for epoch in flowprov.EpochLoop(epochs):
        for batch in flowprov.BatchLoop(2):
            step(f"{epoch}.{batch}")
            if epoch == wait:
                print("waiting", flush=True)
                # A signal that arrives while Python is on its way to sleep is seen behind it.
                for _ in range(1200):
                    time.sleep(0.05)
            if epoch == fail:
                raise ValueError("diverged")
"""

_LOOPS = """
for epoch in flowprov.EpochLoop(3):
    for batch in flowprov.BatchLoop(1):
        if epoch == 1:
            raise ValueError
"""


class Notebook:
    """A real kernel, cell by cell."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.manager: KernelManager
        self.manager, self.client = start_new_kernel(
            cwd=str(folder), env=program_environment(**environment), startup_timeout=60
        )
        # Jupyter waits 5 s before it ends a kernel, which a busy machine may need to stop by itself.
        self.manager.shutdown_wait_time = 60
        self.cell(_SETUP)

    def cell(self, code: str, *, interrupt_at: str | None = None) -> str | None:
        """Run a cell; return the name of the exception that ended it, if one did."""
        sent = self.client.execute(code)
        error = None
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != sent:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream" and interrupt_at is not None and interrupt_at in content["text"]:
                self.manager.interrupt_kernel()
            elif kind == "error":
                error = content["ename"]
            elif kind == "status" and content["execution_state"] == "idle":
                break
        self.client.get_shell_msg(timeout=60)
        return error

    def close(self) -> None:
        """Shut the kernel down as Jupyter does; a second call does nothing."""
        if self.manager.has_kernel:
            self.client.stop_channels()
            self.manager.shutdown_kernel()


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[Callable[..., Notebook]]:
    with contextlib.ExitStack() as stack:

        def start(**environment: str) -> Notebook:
            started = Notebook(tmp_path, **environment)
            stack.callback(started.close)
            return started

        yield start


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = flowprov.read_buffer(folder / "flowprov_buffer", return_df=False, merge=True)
    return rows


def _statuses(rows: list[dict[str, Any]], activity: str) -> list[tuple[Any, Any]]:
    return [
        (row["status"], row["error"] and row["error"]["type"])
        for row in rows
        if row["activity_id"] == activity
    ]


@pytest.mark.parametrize(
    "opening", ["workflow = flowprov.workflow('W').start()", "pass"], ids=["W", "implicit"]
)
@pytest.mark.parametrize(
    ("code", "interrupted", "error"),
    [
        ("train(3, wait=1)", True, "KeyboardInterrupt"),
        ("train(3, fail=1)", False, "ValueError"),
        (_LOOPS, False, "ValueError"),
    ],
    ids=["interrupted", "failed in a function", "failed in the cell"],
)
def test_the_iterations_that_an_exception_left_in_a_cell_are_errors(
    tmp_path: Path,
    notebook: Callable[..., Notebook],
    opening: str,
    code: str,
    interrupted: bool,  # noqa: FBT001 - a parameter of the test
    error: str,
) -> None:
    cells = notebook()
    cells.cell(opening)
    assert cells.cell(code, interrupt_at="waiting" if interrupted else None) == error
    assert cells.cell("train(2)") is None
    cells.cell("workflow.stop()" if "start" in opening else "pass")
    cells.close()
    rows = _rows(tmp_path)
    epochs = _statuses(rows, "epoch_iteration")
    assert epochs == [("FINISHED", None), ("ERROR", error), ("FINISHED", None), ("FINISHED", None)]
    batches = _statuses(rows, "train_batch_iteration")
    assert batches.count(("ERROR", error)) == 1
    assert {status for status, _ in batches} == {"FINISHED", "ERROR"}
    workflow = next(row for row in rows if row["type"] == "workflow")
    assert workflow["status"] == "FINISHED"
    assert {row["workflow_id"] for row in rows} == {workflow["workflow_id"]}


def test_what_goes_on_after_a_failed_cell_is_not_ended_by_it(
    tmp_path: Path, notebook: Callable[..., Notebook]
) -> None:
    cells = notebook()
    cells.cell("workflow = flowprov.workflow('W').start()")
    started = (
        "def background():\n"
        "    for i in flowprov.Loop(2, name='background'):\n"
        "        go.wait(60)\n"
        "go = threading.Event()\n"
        "thread = threading.Thread(target=background, daemon=True)\n"
        "thread.start()\n"
        "scope = flowprov.task_scope('scope')\n"
        "scope.__enter__()\n"
        "raise ValueError"
    )
    assert cells.cell(started) == "ValueError"
    ended = "step('inside')\nscope.__exit__(None, None, None)\ngo.set()\nthread.join()\nworkflow.stop()"
    assert cells.cell(ended) is None
    cells.close()
    rows = _rows(tmp_path)
    assert {row["status"] for row in rows} == {"FINISHED"}
    assert len([row for row in rows if row["activity_id"] == "background_iteration"]) == 2


@pytest.mark.parametrize(
    ("environment", "first_cell", "name"),
    [
        ({"JPY_SESSION_NAME": "/home/me/My analysis.ipynb"}, "pass", "My analysis"),
        ({"JPY_SESSION_NAME": "console-1-8f0b"}, "pass", "notebook"),
        ({}, "__vsc_ipynb_file__ = '/work/From VS Code.ipynb'", "From VS Code"),
        ({}, "__vsc_ipynb_file__ = 5", "notebook"),
    ],
    ids=["jupyter", "console", "vs code", "unknown"],
)
def test_work_outside_of_a_workflow_goes_to_one_that_is_named_after_the_notebook(
    tmp_path: Path,
    notebook: Callable[..., Notebook],
    environment: dict[str, str],
    first_cell: str,
    name: str,
) -> None:
    cells = notebook(**environment)
    cells.cell(first_cell)
    cells.cell("workflow = flowprov.workflow('W').start()\nstep('in W')")
    cells.cell("step('in W too')\nworkflow.stop()")
    cells.cell("step('after')")
    cells.close()
    rows = _rows(tmp_path)
    names = {row["workflow_id"]: row["name"] for row in rows if row["type"] == "workflow"}
    steps = {row["used"]["name"]: names[row["workflow_id"]] for row in rows if row["activity_id"] == "step"}
    assert steps == {"in W": "W", "in W too": "W", "after": name}


@pytest.mark.parametrize("opening", ["workflow = flowprov.workflow('W', used={'a': 1}).start()", "pass"])
def test_the_last_cell_fails_the_workflow_that_it_leaves_open(
    tmp_path: Path, notebook: Callable[..., Notebook], opening: str
) -> None:
    cells = notebook()
    cells.cell("# Parameters\nlr = 0.1\na, b = 1, 2\npassword = 'hunter2'\nlimit: float = float('inf')\n")
    cells.cell(opening)
    cells.cell("step('x')")
    cells.cell("# Parameters\nlate = 0.2")
    assert cells.cell("raise ValueError('of the cell')") == "ValueError"
    cells.close()
    rows = _rows(tmp_path)
    workflow = next(row for row in rows if row["type"] == "workflow")
    assert (workflow["status"], workflow["error"]["message"]) == ("ERROR", "of the cell")
    used = {"lr": 0.1, "late": 0.2, "password": {"$redacted": True}, "limit": float("inf")}
    assert workflow["used"] == used | ({"a": 1} if "start" in opening else {})
    assert [row["status"] for row in rows if row["activity_id"] == "step"] == ["FINISHED"]


def test_the_shell_of_ipython_tells_of_failed_lines_too(tmp_path: Path) -> None:
    code = f"""
        import sys
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        shell.run_cell({_SETUP!r})
        shell.run_cell("train(2, fail=0)")
        shell.run_cell("train(1)")
    """
    run(code, tmp_path)
    rows = _rows(tmp_path)
    assert _statuses(rows, "epoch_iteration") == [("ERROR", "ValueError"), ("FINISHED", None)]
    assert {row["name"] for row in rows if row["type"] == "workflow"} == {"program"}


def test_ipython_is_not_imported_where_the_program_does_not(tmp_path: Path) -> None:
    code = """
        import sys
        import flowprov
        with flowprov.workflow("W"):
            flowprov.task(lambda: None)()
        assert "IPython" not in sys.modules
    """
    run(code, tmp_path)
