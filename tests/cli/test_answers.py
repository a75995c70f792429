"""``flowprov ls``, ``runs`` and ``query``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.support import flowprov
from tests.support import run

_PROGRAM = """
    import sys
    import flowprov

    @flowprov.task
    def train(lr, size):
        loop = flowprov.EpochLoop(3)
        for epoch in loop:
            loop.end_iter(val_loss=lr / (epoch + 1), acc=float("nan"))
        if lr > 0.3:
            raise ValueError("diverged\\x1b[2J")

    with flowprov.campaign(sys.argv[1]), flowprov.workflow("search"):
        for lr in (0.1, 0.2, 0.4):
            try:
                train(lr, 3)
            except ValueError:
                pass
"""
_KILLED = """
    import os, signal, flowprov
    with flowprov.campaign("killed"), flowprov.workflow("fit"):
        loop = flowprov.EpochLoop(3)
        for epoch in loop:
            loop.end_iter(val_loss=7.0)
            if epoch == 1:
                os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two campaigns with three runs each; no test changes what was recorded."""
    folder = tmp_path_factory.mktemp("recorded")
    run(_PROGRAM, folder, "first")
    run(_PROGRAM, folder, "second")
    return folder


def column(out: str, name: str) -> list[str]:
    head, *rows = out.splitlines()
    begin = head.index(name)
    return [row[begin:].split("  ")[0].strip() for row in rows]


def test_campaigns_are_listed_the_latest_first(recorded: Path) -> None:
    result = flowprov("ls", cwd=recorded)
    assert (result.status, result.err) == (0, "")
    assert column(result.out, "name") == ["second", "first"]
    assert column(result.out, "errors") == ["1", "1"]
    assert column(result.out, "status") == ["COMPLETE", "COMPLETE"]
    (latest, _) = map(json.loads, flowprov("ls", "--json", cwd=recorded).out.splitlines())
    assert (latest["name"], latest["runs"], latest["tasks"]) == ("second", 3, 3)
    assert latest["started_at"].endswith("+00:00")


def test_runs_are_filtered_and_sorted_and_show_in_what_they_differ(recorded: Path) -> None:
    result = flowprov("runs", "--where", "params.lr < 0.3", "--sort", "-metrics.val_loss", cwd=recorded)
    assert (result.status, result.err) == (0, "")
    assert column(result.out, "lr") == ["0.2", "0.2", "0.1", "0.1"]
    assert "size" not in result.out.splitlines()[0]
    whole = flowprov("runs", "--columns", "lr,size,error", "--sort", "lr", cwd=recorded).out
    assert column(whole, "size") == ["3"] * 6
    assert column(whole, "error")[-1].startswith("ValueError: diverged")
    assert "\x1b" not in whole


_SEARCH = """
    from contextlib import suppress
    import flowprov

    @flowprov.task
    def train(lr, nhead):
        if 8 % nhead:
            raise ValueError(f"8 is not divisible by {nhead}")
        loop = flowprov.EpochLoop(2)
        for epoch in loop:
            loop.end_iter(val_loss=lr)

    with flowprov.campaign("search"), flowprov.workflow("search"):
        for nhead in (2, 5, 4):
            with suppress(ValueError):
                train(0.1 * nhead, nhead)
"""


def test_a_configuration_that_failed_before_its_first_epoch_is_listed_with_its_error(tmp_path: Path) -> None:
    run(_SEARCH, tmp_path)
    out = flowprov("runs", "--columns", "lr,nhead,val_loss,error", cwd=tmp_path).out
    assert column(out, "nhead") == ["2", "5", "4"]
    assert column(out, "val_loss") == ["0.2", "-", "0.4"]
    assert column(out, "error") == ["-", "ValueError: 8 is not divisible by 5", "-"]
    assert column(flowprov("runs", cwd=tmp_path).out, "status") == ["FINISHED", "ERROR", "FINISHED"]
    (campaign,) = map(json.loads, flowprov("ls", "--json", cwd=tmp_path).out.splitlines())
    assert (campaign["runs"], campaign["errors"]) == (3, 1)
    card = flowprov("report", "--format", "md", "--output", "-", cwd=tmp_path).out
    assert "The best of 3 runs" in card


def test_runs_as_json_keep_what_is_no_finite_number(recorded: Path) -> None:
    first = json.loads(flowprov("runs", "--json", cwd=recorded).out.splitlines()[0])
    assert first["metrics.acc"] == "NaN"
    assert first["params.lr"] == 0.1


def test_a_query_prints_a_table_csv_json_or_writes_parquet(recorded: Path) -> None:
    sql = 'select "params.lr" as lr, count(*) as n from runs group by lr order by lr'
    assert column(flowprov("query", sql, cwd=recorded).out, "n") == ["2", "2", "2"]
    assert flowprov("query", sql, "--csv", cwd=recorded).out.splitlines()[:2] == ["lr,n", "0.1,2"]
    rows = flowprov("query", sql, "--json", cwd=recorded).out.splitlines()
    assert json.loads(rows[-1]) == {"lr": 0.4, "n": 2}
    pytest.importorskip("pyarrow")
    assert flowprov("query", sql, "--parquet", "out.parquet", cwd=recorded).status == 0
    assert (recorded / "out.parquet").stat().st_size > 100


def test_two_runs_are_compared(recorded: Path) -> None:
    rows = flowprov("runs", "--json", "--where", "campaign = 'first'", cwd=recorded).out.splitlines()
    first, second, *_ = (json.loads(row)["run_id"] for row in rows)
    out = flowprov("diff", first, second, cwd=recorded).out
    assert any(line.split() == ["params.lr", "0.1", "0.2"] for line in out.splitlines())
    told = flowprov("diff", first, second, "--json", cwd=recorded).json
    assert told["params"] == {"lr": [0.1, 0.2]}
    assert told["metrics"]["val_loss"]["parts_at"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("diff", "search", "nowhere"), "'search' may mean"),
        (("diff", "nowhere", "nowhere"), "no run, task, workflow or campaign 'nowhere'"),
        (("runs", "--sort", "val_los"), "there is metrics.val_loss"),
        (("runs", "--columns", "run_id,x"), "there is no column x"),
        (
            ("runs", "--sort", "accuracy"),
            "there is metrics.acc, metrics.val_loss, params.lr, params.size, run_id,",
        ),
        (("runs", "--where", "params.lr <"), "flowprov cannot run this query"),
        (("runs", "--where", "val_los < 1"), "no column val_los; there is metrics.val_loss"),
        (("runs", "--where", "params.l < 1"), "no column params.l; there is params.lr"),
        (("runs", "--where", "lr/2 < 1"), "to divide, write spaces around the /"),
        (("runs", "--campaign", "nowhere"), "nowhere"),
        (("query", "drop table runs"), "it may only read"),
        (("query", "select 1 from runs", "--parquet", "no/such/file"), "no/such/file cannot be written"),
        (("query", "select 1 from runs", "--source", "missing"), "missing does not exist"),
        (("ls", "--source", "missing"), "missing does not exist"),
    ],
)
def test_a_mistake_is_one_message_and_status_2(recorded: Path, arguments: tuple[str, ...], said: str) -> None:
    result = flowprov(*arguments, cwd=recorded)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith("Error: ")
    assert said in result.err
    assert len(result.err.splitlines()) <= 6


def test_a_killed_campaign_is_listed_with_what_it_measured(tmp_path: Path) -> None:
    run(_KILLED, tmp_path, status=-9)
    assert column(flowprov("ls", cwd=tmp_path).out, "status") == ["INCOMPLETE"]
    out = flowprov("runs", cwd=tmp_path).out
    assert column(out, "status") == ["INTERRUPTED"]
    assert column(out, "val_loss") == ["7"]


_ODD_NAMES = """
    import flowprov

    @flowprov.task
    def train(campaign_id, status, at, size):
        loop = flowprov.EpochLoop(2)
        for epoch in loop:
            loop.end_iter(size=0.5)

    with flowprov.campaign("odd"), flowprov.workflow("search"):
        for number in range(2):
            train(f"param-{number}", number, 10**18 + number, number)
"""


def test_a_head_is_short_only_if_one_can_ask_for_the_column_by_it(tmp_path: Path) -> None:
    run(_ODD_NAMES, tmp_path)
    out = flowprov("runs", cwd=tmp_path).out
    assert column(out, "params.campaign_id") == ["param-0", "param-1"]
    head = out.split("\n", 1)[0].split()
    assert {"params.status", "params.size", "size", "at", "status"} <= set(head)
    assert column(flowprov("runs", "--columns", "params.size", cwd=tmp_path).out, "params.size") == ["0", "1"]
    assert column(flowprov("runs", "--columns", "size", cwd=tmp_path).out, "size") == ["0.5", "0.5"]


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("lr < 0.3", 4),
        ("val_loss.min < 0.1 and params.lr > 0.15", 2),
        ('"LR" > 0.3', 2),
        ("lr > 0.15 and campaign = 'first'", 2),
    ],
)
def test_a_condition_takes_names_without_a_prefix(recorded: Path, condition: str, rows: int) -> None:
    result = flowprov("runs", "--where", condition, "--json", cwd=recorded)
    assert (result.status, result.err) == (0, "")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert len(lines) == rows
    assert not {"lr", "val_loss.min"} & set(lines[0])


def test_a_condition_takes_no_name_that_means_two_columns_or_another_one(tmp_path: Path) -> None:
    run(_ODD_NAMES, tmp_path)
    ambiguous = flowprov("runs", "--where", "size < 1", cwd=tmp_path)
    assert (ambiguous.status, ambiguous.out) == (2, "")
    assert "there is no column size; there is metrics.size, params.size" in ambiguous.err
    assert flowprov("runs", "--where", "status = 'FINISHED'", "--json", cwd=tmp_path).out.count("\n") == 2
    assert flowprov("runs", "--where", f"params.at > {10**18}", "--json", cwd=tmp_path).out.count("\n") == 1


def test_an_empty_buffer_prints_nothing_and_says_so(tmp_path: Path) -> None:
    for command in (("ls",), ("runs",)):
        result = flowprov(*command, "--source", str(tmp_path), cwd=tmp_path)
        assert (result.status, result.out) == (0, "")
        assert "found no records" in result.err
