"""``%load_ext flowprov`` in a shell of IPython."""

from __future__ import annotations

from pathlib import Path

import pytest

import flowprov
from tests.support import run

pytest.importorskip("IPython")

_PROGRAM = """
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    for cell in (
        "%load_ext flowprov",
        "import flowprov; flowprov.log_params(a=1)",
        "%flowprov cells",
        "double = flowprov.task(lambda x: 2 * x); double(1)",
        "list(flowprov.Loop(2)); 1 / 0",
        "raise KeyboardInterrupt",
        "%flowprov off",
        "double(2)",
        "%flowprov",
        "%unload_ext flowprov",
    ):
        shell.run_cell(cell)
"""


def test_each_cell_is_a_task_if_that_is_asked_for(tmp_path: Path) -> None:
    printed, _ = run(_PROGRAM, tmp_path, env={"IPYTHONDIR": str(tmp_path)})
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    (workflow,) = [row for row in rows if row["type"] == "workflow"]
    assert (workflow["name"], workflow["status"], workflow["used"]) == ("ipython", "FINISHED", {"a": 1})
    assert f"workflow {workflow['workflow_id']}" in printed
    cells = {row["task_id"]: row for row in rows if row["activity_id"] == "cell"}
    errors = [(row["error"] or {}).get("type") for row in cells.values()]
    assert errors == [None, "ZeroDivisionError", "KeyboardInterrupt", None]
    inside = [row["parent_task_id"] for row in rows if row["activity_id"] in ("<lambda>", "loop_iteration")]
    assert [parent in cells for parent in inside] == [True, True, True, False]
