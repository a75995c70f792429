"""The command in a real terminal: its width, its colors, Ctrl-C."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.support import flowprov
from tests.cli.terminals import CTRL_C, run_in_terminal, terminal
from tests.support import run

_PROGRAM = """
    import flowprov

    @flowprov.task
    def train(lr):
        loop = flowprov.EpochLoop(3)
        for epoch in loop:
            loop.end_iter(val_loss=lr / (epoch + 1))
        if lr > 0.3:
            raise ValueError("diverged ERROR")

    with flowprov.campaign("a campaign of 中文 with a long name"), flowprov.workflow("search"):
        for lr in (0.1, 0.2, 0.4):
            try:
                train(lr)
            except ValueError:
                pass
"""
_MANY_COLUMNS = """
    import flowprov

    @flowprov.task
    def train(campaign_id, checkpoint_path, prompt, lr, size):
        loop = flowprov.EpochLoop(2)
        for epoch in loop:
            loop.end_iter(acc=0.5, train_loss=2 * lr, val_loss=lr, **{f"extra_{n}": n for n in range(size)})

    with flowprov.campaign("many"), flowprov.workflow("search"):
        for lr, size in ((0.25, 9), (0.125, 10)):
            folder = "/data/" + "folder/" * 8
            campaign_id = f"01a22cf3-e155-7526-9ff8-590d4514dff{size}"
            train(campaign_id, f"{folder}{lr}.pt", f"{'say ' * 9}{lr}", lr, size)
"""
_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_GREEN, _RED, _END = "\x1b[32m", "\x1b[31m", "\x1b[0m"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a campaign with three runs, one of which failed."""
    folder = tmp_path_factory.mktemp("recorded")
    run(_PROGRAM, folder)
    return folder


@pytest.fixture(scope="module")
def with_many_columns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two runs with thirteen metrics, and parameters that are paths, ids and long texts."""
    folder = tmp_path_factory.mktemp("many")
    run(_MANY_COLUMNS, folder)
    return folder


def columns_of(line: str) -> int:
    return sum(2 if char in "中文" else 1 for char in line)


@pytest.mark.parametrize("columns", [20, 61])
def test_no_line_of_a_table_or_tree_is_longer_than_the_terminal_is_wide(recorded: Path, columns: int) -> None:
    for command in (("ls",), ("show",), ("query", "select * from tasks")):
        status, shown = run_in_terminal(*command, cwd=recorded, columns=columns, env={"NO_COLOR": "1"})
        assert status == 0
        assert "…" in shown
        assert max(map(columns_of, shown.splitlines())) <= columns, shown


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_runs_show_what_sorts_them_and_whole_columns_of_metrics_and_parameters(
    with_many_columns: Path, columns: int
) -> None:
    status, shown = run_in_terminal(
        "runs", "--sort", "val_loss", cwd=with_many_columns, columns=columns, env={"NO_COLOR": "1"}
    )
    head, first, second, more = shown.splitlines()
    assert status == 0
    assert head.split()[:3] == ["name", "status", "val_loss"]
    assert {"acc", "extra_0", "lr", "size"} <= set(head.split())
    assert head.index("acc") < head.index("lr")
    assert "checkpoint_path" not in head
    assert (first.split()[2], second.split()[2]) == ("0.125", "0.25")
    assert "…" not in head + first + second
    assert max(map(len, shown.splitlines())) <= columns
    left_out = re.match(r"(\d+) more columns: --columns ", more)
    assert left_out is not None
    in_a_pipe = flowprov("runs", "--sort", "val_loss", cwd=with_many_columns)
    assert len(head.split()) + int(left_out[1]) == len(in_a_pipe.out.splitlines()[0].split())
    assert in_a_pipe.err == ""


def test_runs_show_a_column_that_sorts_them_and_is_not_shown_else(with_many_columns: Path) -> None:
    _, shown = run_in_terminal("runs", "--sort", "-val_loss.min", cwd=with_many_columns, columns=80)
    assert shown.split()[:3] == ["name", "status", "val_loss.min"]
    in_a_pipe = flowprov("runs", "--sort", "-val_loss.min", cwd=with_many_columns).out
    assert "val_loss.min" not in in_a_pipe


def test_columns_that_were_asked_for_are_cut_at_the_width_of_the_terminal(with_many_columns: Path) -> None:
    asked = ("runs", "--columns", "checkpoint_path,lr")
    _, shown = run_in_terminal(*asked, cwd=with_many_columns, columns=30, env={"NO_COLOR": "1"})
    assert [line[:10] for line in shown.splitlines()] == ["checkpoint", "/data/fold", "/data/fold"]
    assert shown.count("…") == 3
    assert "more column" not in shown


def test_a_comparison_names_both_runs_whole_in_a_terminal_of_eighty_columns(recorded: Path) -> None:
    runs = [json.loads(line)["run_id"] for line in flowprov("runs", "--json", cwd=recorded).out.splitlines()]
    _, shown = run_in_terminal("diff", *runs[:2], cwd=recorded, columns=80, env={"NO_COLOR": "1"})
    first, second, head, *rows = shown.splitlines()
    assert (first, second) == (f"A  run train {runs[0]}", f"B  run train {runs[1]}")
    assert head.split() == ["A", "B"]
    (lr,) = [row for row in rows if row.startswith("params.lr")]
    assert (lr.index("0.1"), lr.index("0.2")) == (head.index("A"), head.index("B"))


def test_statuses_have_colors_and_recorded_texts_have_none(recorded: Path) -> None:
    pytest.importorskip("rich")
    status, shown = run_in_terminal("show", cwd=recorded)
    assert status == 0
    assert f"train  {_GREEN}FINISHED{_END}  " in shown
    assert f"train  {_RED}ERROR{_END}  " in shown
    assert "ValueError: diverged ERROR\n" in shown
    assert _ESCAPE.sub("", shown) == flowprov("show", cwd=recorded).out


@pytest.mark.parametrize(
    "env",
    [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"PYTHONPATH": "without_rich"}],
    ids=["NO_COLOR", "a dumb terminal", "no rich"],
)
def test_without_colors_the_text_is_the_same(recorded: Path, env: dict[str, str], tmp_path: Path) -> None:
    if "PYTHONPATH" in env:
        (tmp_path / "rich.py").write_text("raise ImportError('rich')")
        env = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"}
    status, shown = run_in_terminal("show", cwd=recorded, env=env)
    assert (status, shown) == (0, flowprov("show", cwd=recorded).out)


def test_json_has_no_color_and_is_whole(recorded: Path) -> None:
    status, shown = run_in_terminal("ls", "--json", cwd=recorded, columns=20)
    assert (status, shown) == (0, flowprov("ls", "--json", cwd=recorded).out)


def test_ctrl_c_ends_a_script_as_it_ends_it_without_flowprov(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)")
    with terminal("run", "script.py", cwd=tmp_path) as shown:
        shown.wait_for("ready")
        shown.type(CTRL_C)
        status, text = shown.end()
    assert status == 130
    assert text.rstrip().endswith("KeyboardInterrupt")
    assert "  script  ERROR" in flowprov("show", cwd=tmp_path).out


def test_ctrl_c_ends_a_query_that_has_no_end(recorded: Path) -> None:
    endless = "with recursive x(n) as (select 1 union all select n + 1 from x) select count(*) from x"
    with terminal("query", endless, cwd=recorded) as shown:
        shown.wait_for("reading: ")
        shown.type(CTRL_C)
        status, text = shown.end()
    assert status == 130
    assert "Error" not in text


def test_ctrl_c_at_a_question_removes_nothing(recorded: Path) -> None:
    with terminal("rm", "--keep", "0", cwd=recorded) as shown:
        shown.wait_for("[y/N]")
        shown.type(CTRL_C)
        status, text = shown.end()
    assert status == 1
    assert "Aborted!" in text
    assert len(flowprov("ls", cwd=recorded).out.splitlines()) == 2
