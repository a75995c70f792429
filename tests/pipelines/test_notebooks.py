"""Notebooks that papermill and dagstermill run: parameters, the exception of a cell, the step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.pipelines.conftest import Tools, by_name

pytestmark = pytest.mark.soak

_IMPORT = "import flowprov\ncompute = flowprov.task(len)"
_RUN = """
import sys
import papermill
try:
    parameters = {"lr": 0.5, "layers": [1, 2], "limit": float("inf")}
    papermill.execute_notebook(sys.argv[1], "done.ipynb", parameters=parameters, progress_bar=False)
except papermill.PapermillExecutionError as error:
    print(error.ename)
"""
_DAGSTER = """
import dagster as dg
import dagstermill

@dg.op
def number():
    return 7

good = dagstermill.define_dagstermill_op(
    "good", dg.file_relative_path(__file__, "good.ipynb"), ins={"x": dg.In(int)}, config_schema={"lr": float}
)
bad = dagstermill.define_dagstermill_op(
    "bad", dg.file_relative_path(__file__, "bad.ipynb"), ins={"x": dg.In(int)}
)

@dg.job(resource_defs={"output_notebook_io_manager": dagstermill.local_output_notebook_io_manager})
def pipeline():
    x = number()
    good(x)
    bad(x)

if __name__ == "__main__":
    ran = dg.execute_job(
        dg.reconstructable(pipeline),
        instance=dg.DagsterInstance.get(),
        run_config={"ops": {"good": {"config": {"lr": 0.5}}}},
    )
    print(ran.run_id)
"""


def _write(path: Path, *cells: str, parameters: int) -> None:
    """Write a notebook; one of its cells is tagged as that of parameters."""
    made: list[dict[str, object]] = [
        {
            "cell_type": "code",
            "id": str(number),
            "metadata": {"tags": ["parameters"]} if number == parameters else {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for number, source in enumerate(cells)
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python", "language": "python"}}
    path.write_text(json.dumps({"cells": made, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))


@pytest.mark.parametrize(
    ("opening", "name"),
    [("workflow = flowprov.workflow('W').start()", "W"), ("pass", "notebook")],
    ids=["started", "implicit"],
)
def test_papermill_gives_parameters_and_a_cell_that_raises_fails_the_workflow(
    tools: Tools, opening: str, name: str
) -> None:
    _write(
        tools.folder / "n.ipynb",
        _IMPORT,
        "lr = 0.1",
        opening,
        "compute('abc')\nraise ZeroDivisionError('in the cell')",
        "workflow.stop()",
        parameters=1,
    )
    assert tools.python(_RUN, "n.ipynb").split() == ["ZeroDivisionError"]
    row = by_name(tools.workflows())[name]
    assert row["used"] == {"lr": 0.5, "layers": [1, 2], "limit": float("inf")}
    assert (row["status"], row["error"]["type"], row["error"]["message"]) == (
        "ERROR",
        "ZeroDivisionError",
        "in the cell",
    )


def test_parameters_may_come_after_the_workflow_and_a_notebook_without_a_failure_is_finished(
    tools: Tools,
) -> None:
    cells = (f"{_IMPORT}\ncompute('abc')", "lr = 0.1\nother = 1", "compute('abc')")
    _write(tools.folder / "n.ipynb", *cells, parameters=1)
    assert tools.python(_RUN, "n.ipynb", JPY_SESSION_NAME="/work/Analysis.ipynb") == ""
    row = by_name(tools.workflows())["Analysis"]
    assert row["used"] == {"lr": 0.5, "layers": [1, 2], "limit": float("inf")}
    assert (row["status"], row["error"]) == ("FINISHED", None)


def test_dagstermill_runs_a_notebook_as_a_step(tools: Tools) -> None:
    _write(
        tools.folder / "good.ipynb",
        "x = 3",
        f"{_IMPORT}\nwith flowprov.workflow('good'):\n    compute('abc')",
        parameters=0,
    )
    _write(tools.folder / "bad.ipynb", "x = 3", _IMPORT, "compute('abc')", "1 / 0", parameters=0)
    (run_id,) = tools.python(_DAGSTER).split()
    rows = by_name(tools.workflows())
    assert {row["campaign_id"] for row in rows.values()} == {run_id}
    good, bad = rows["good"], rows["notebook"]
    assert good["used"] == bad["used"] == {"x": 7}
    assert (good["status"], bad["status"]) == ("FINISHED", "ERROR")
    assert bad["error"]["type"] == "ZeroDivisionError"
    known = {
        "name": "dagster",
        "run_id": run_id,
        "job": "pipeline",
        "run_config": {"ops": {"good": {"config": {"lr": 0.5}}}},
    }
    assert good["orchestrator"] == known | {"op": "good", "handle": "good"}
    assert bad["orchestrator"] == known | {"op": "bad", "handle": "bad"}
