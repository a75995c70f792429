"""SQL over what was recorded: it finds, and it only reads."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flowprov
from flowprov.errors import UsageError
from flowprov.read import sql_query
from flowprov.read.answers.sql import Tables, quote_dotted

pd = pytest.importorskip("pandas")


@pytest.fixture(params=["duckdb", "sqlite"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What runs the statement: duckdb where it is installed, else SQLite."""
    if request.param == "duckdb":
        pytest.importorskip("duckdb")
    monkeypatch.setattr(sql_query, "has_duckdb", lambda: request.param == "duckdb")
    return str(request.param)


@pytest.fixture
def search(buffer: Path, engine: str) -> Path:
    """Three runs with parameters and losses."""

    @flowprov.task
    def fit(lr: float, LR: str = "other") -> dict[str, float]:  # noqa: N803 - a name that differs by capitals
        loop = flowprov.EpochLoop(2)
        for epoch in loop:
            loop.end_iter(loss=lr / (epoch + 1))
        return {"best": lr / 2}

    with flowprov.campaign("tuning"), flowprov.workflow("search"):
        for lr in (0.1, 0.2, 0.4):
            fit(lr)
    return buffer


def test_runs_are_filtered_and_sorted(search: Path) -> None:
    frame = flowprov.query(
        'select "params.lr" as lr, "metrics.loss" as loss from runs where lr > 0.15 order by loss desc'
    )
    assert frame.to_dict("records") == [{"lr": 0.4, "loss": 0.2}, {"lr": 0.2, "loss": 0.1}]


def test_what_is_no_unicode_is_refused(search: Path) -> None:
    with pytest.raises(UsageError, match="it holds bytes that are no UTF-8"):
        flowprov.query("select '\udcff' from runs")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError])
def test_a_signal_ends_a_statement_that_has_no_end(search: Path, kind: type[BaseException]) -> None:
    endless = "with recursive x(n) as (select 1 union all select n + 1 from x) select count(*) from x, runs"

    def stop(*_: object) -> None:
        raise kind

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 2)
    try:
        with pytest.raises(kind):
            flowprov.query(endless)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("best", ["generated->>'$.best'", "cast(generated->>'$.best' as double)"])
def test_values_inside_what_was_generated_are_found(search: Path, best: str) -> None:
    frame = flowprov.query(f"select max({best}) as best from tasks where activity_id like '%fit'")  # noqa: S608
    assert frame.iloc[0]["best"] == 0.2


MIXED: dict[str, list[Any]] = {
    "number": [9, 10, 1.5],
    "whole": [9, 10, 2**62],
    "truth": [True, False, True],
    "text": ["b", "a", "10"],
}


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("max(generated->>'$.number')", 10),
        ("avg(generated->>'$.number') * 2", 41 / 3),
        ("sum(t.generated ->> 'number')", 20.5),
        ("max(generated->>'$.whole')", 2**62),
        ("sum(GENERATED->>'$.truth')", 2),
        ("min(generated->>'$.text')", "10"),
        ("count(generated->>'$.nothing')", 0),
    ],
)
def test_numbers_inside_json_are_numbers_in_both(
    buffer: Path, engine: str, statement: str, expected: object
) -> None:
    with flowprov.workflow("W"):
        for position in range(3):
            with flowprov.task_scope("t") as task:
                task.set_generated({name: values[position] for name, values in MIXED.items()})
    frame = flowprov.query(f"select {statement} as found from tasks t where activity_id = 't'")  # noqa: S608
    assert frame.iloc[0]["found"] == expected


def test_every_table_can_be_counted_and_joined(search: Path) -> None:
    for name, count in {"runs": 3, "metrics": 6, "campaigns": 1, "tasks": 9, "workflows": 1}.items():
        assert flowprov.query(f"select count(*) as n from {name}").iloc[0]["n"] == count  # noqa: S608
    frame = flowprov.query(
        "select runs.run_id, count(*) as n from runs join metrics using (run_id) group by runs.run_id"
    )
    assert list(frame["n"]) == [2, 2, 2]


def test_times_are_those_of_the_functions_for_dates(search: Path, engine: str) -> None:
    recent = ["julianday('now') - julianday(started_at) < 1"]
    if engine == "duckdb":
        recent.append("started_at > now() - interval 1 day")
    for condition in recent:
        frame = flowprov.query(f"select count(*) as n from runs where {condition}")  # noqa: S608
        assert frame.iloc[0]["n"] == 3


@pytest.mark.parametrize(
    "statement",
    [
        "delete from runs",
        "create table t (a)",
        "insert into runs (run_id) values (1)",
        "attach database '{folder}/other.db' as other",
        "vacuum into '{folder}/copy.db'",
        "select load_extension('x')",
        "select writefile('{folder}/x', 'y')",
        "pragma writable_schema = 1",
        "copy runs to '{folder}/x.csv'",
        "install httpfs",
        "set enable_external_access = true",
        "select * from read_text('/etc/passwd')",
        "select * from read_csv('/etc/passwd')",
        "select * from glob('/*')",
        "select * from '/etc/passwd'",
        "select * from pd",
        "select 1; select 2",
        "select count(*) from tasks; copy runs to '{folder}/x.csv'",
        "select count(*) ; from tasks",
        "copy (select * from tasks) to '{folder}/x.csv'",
        "create table '{folder}/tasks' as select 1; from tasks",
        "attach '{folder}/other.db' as tasks; select 1",
        "select * from tasks, read_csv('{fifo}')",
        "select * from tasks, read_text('{fifo}')",
        "selec 1",
        "select nothing from runs",
        "select * from nowhere",
        "",
        "select '\0",
    ],
)
def test_what_does_not_read_is_refused_with_one_sentence(
    search: Path, tmp_path: Path, statement: str
) -> None:
    flowprov.versions()  # what is still being found out is recorded now
    os.mkfifo(fifo := tmp_path / "fifo")  # whoever opens it waits for ever
    before = sorted(tmp_path.rglob("*"))
    if statement:
        with pytest.raises(UsageError, match="flowprov cannot run this query"):
            flowprov.query(statement.format(folder=tmp_path, fifo=fifo))
    else:
        assert flowprov.query(statement).empty
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_buffer_has_empty_tables(tmp_path: Path, engine: str) -> None:
    assert flowprov.query("select run_id, name from runs", tmp_path).empty


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.text())
def test_any_text_is_a_query_or_an_error_of_ours(text: str) -> None:
    tables = Tables()
    tables.add("runs", ["run_id", "params.lr", "params.LR"], [{"run_id": text, "params.lr": 10**30}])
    for statement in (text, f"select * from runs where {quote_dotted(text)}"):  # noqa: S608
        with contextlib.suppress(UsageError):
            tables.select(statement)
    assert tables.select("select count(*) from runs")[1] == [(1,)]


def test_names_with_dots_are_quoted_outside_of_texts() -> None:
    assert quote_dotted("params.lr < 0.1 and name = 'a.b' and \"params.x\" > 1.5") == (
        '"params.lr" < 0.1 and name = \'a.b\' and "params.x" > 1.5'
    )
