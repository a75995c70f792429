"""How tasks and workflows hang together, from rows of any form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.read import Buffer, ancestors, children, read_buffer, tree
from flowprov.records import Task, Workflow


@pytest.fixture
def recorded(buffer: Path) -> dict[str, str]:
    """Record two steps inside an outer one, ten loop items, in a workflow inside a workflow; gives ids."""
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
def test_ancestors_and_children_follow_the_links(recorded: dict[str, str], form: str) -> None:
    rows: Any = list(Buffer().records()) if form == "records" else read_buffer(return_df=form == "frame")
    assert ancestors(rows, recorded["second"]) == [recorded["fit"], recorded["inner"], recorded["outer"]]
    assert ancestors(rows, recorded["outer"]) == []
    assert children(rows, recorded["fit"]) == [recorded["first"], recorded["second"]]
    assert children(rows, recorded["outer"]) == [recorded["inner"]]


def test_a_tree_shows_what_is_inside_what_and_counts_the_many(recorded: dict[str, str]) -> None:
    drawn = tree(read_buffer(), most=3).splitlines()
    names = [line.split("  F")[0].rstrip() for line in drawn]
    start = ["campaign", "  training", "    fit", "      first", "      second"]
    assert names[:5] == start
    assert names[-1] == "    ... 7 more batch_iteration"
    assert all("FINISHED" in line for line in drawn[:5])


def test_a_tree_takes_its_lines_from_who_knows_better(recorded: dict[str, str]) -> None:
    names = {each: name for name, each in recorded.items()}
    drawn = tree(read_buffer(), most=2, label=lambda key: names.get(key, "other"))
    assert drawn.splitlines()[:4] == ["outer", "  inner", "    fit", "      first"]


def test_links_that_lead_nowhere_or_in_a_circle_do_no_harm() -> None:
    rows: list[Task | Workflow] = [
        Task(task_id="a", parent_task_id="b"),
        Task(task_id="b", parent_task_id="a"),
        Task(task_id="c", parent_task_id="missing", workflow_id="w"),
        Workflow(workflow_id="w", parent_workflow_id="elsewhere"),
    ]
    assert ancestors(rows, "a") == ["b"]
    assert ancestors(rows, "c") == ["w"]
    assert ancestors(rows, "nobody") == []
    assert "(unnamed)" in tree(rows)
