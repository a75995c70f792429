"""Ancestors, children and trees follow the parent links of rows in any form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.read import Buffer, ancestors, children, read_buffer, tree
from flowprov.records import Task, Workflow


@pytest.fixture
def recorded(buffer: Path) -> dict[str, str]:
    """The ids of two nested workflows, of a task, and of two tasks in it; ten iterations are recorded too."""
    ids: dict[str, str] = {}
    with flowprov.workflow("campaign") as outer, flowprov.workflow("training") as inner:
        ids.update(outer=outer.workflow_id, inner=inner.workflow_id)
        with flowprov.task_scope("fit") as fit:
            for name in ("first", "second"):
                with flowprov.task_scope(name) as handle:
                    ids[name] = str(handle.task_id)
        ids["fit"] = str(fit.task_id)
        for _ in flowprov.Loop(10, name="batch"):
            pass
    return ids


@pytest.mark.parametrize("form", ["frame", "dicts", "records"])
def test_ancestors_and_children_follow_the_parent_links(recorded: dict[str, str], form: str) -> None:
    rows: Any = list(Buffer().records()) if form == "records" else read_buffer(return_df=form == "frame")
    assert ancestors(rows, recorded["second"]) == [recorded["fit"], recorded["inner"], recorded["outer"]]
    assert ancestors(rows, recorded["outer"]) == []
    assert children(rows, recorded["fit"]) == [recorded["first"], recorded["second"]]
    assert children(rows, recorded["outer"]) == [recorded["inner"]]


def test_a_tree_indents_what_is_inside_and_counts_surplus_siblings(recorded: dict[str, str]) -> None:
    lines = tree(read_buffer(), most=3).splitlines()
    names = [line.split("  F")[0].rstrip() for line in lines]
    start = ["campaign", "  training", "    fit", "      first", "      second"]
    assert names[:5] == start
    assert names[5:] == ["    ... 7 earlier batch_iteration"] + ["    batch_iteration"] * 3
    assert [line.rpartition("  ")[2] for line in lines[6:]] == ["item=7", "item=8", "item=9"]
    assert all("FINISHED" in line for line in lines[:5])


def test_a_tree_takes_its_lines_from_the_label_function(recorded: dict[str, str]) -> None:
    names = {key: name for name, key in recorded.items()}
    text = tree(read_buffer(), most=2, label=lambda key: names.get(key, "other"))
    assert text.splitlines()[:4] == ["outer", "  inner", "    fit", "      first"]


def test_links_to_missing_rows_and_cycles_do_no_harm() -> None:
    rows: list[Task | Workflow] = [
        Task(task_id="a", parent_task_id="b"),
        Task(task_id="b", parent_task_id="a"),
        Task(task_id="c", parent_task_id="missing", workflow_id="w"),
        Workflow(workflow_id="w", parent_workflow_id="elsewhere"),
    ]
    assert ancestors(rows, "a") == ["b"]
    assert ancestors(rows, "c") == ["w"]
    assert "(unnamed)" in tree(rows)
