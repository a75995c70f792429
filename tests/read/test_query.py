"""SQL over what was recorded: it finds, and it only reads."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flowprov
from flowprov.errors import UsageError
from flowprov.read.answers.sql import Tables, quote_dotted

pd = pytest.importorskip("pandas")


@pytest.fixture
def search(buffer: Path) -> Path:
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


def test_values_inside_what_was_generated_are_found(search: Path) -> None:
    frame = flowprov.query(
        "select max(generated->>'$.best') as best from tasks where activity_id like '%fit'"
    )
    assert frame.iloc[0]["best"] == 0.2


def test_every_table_can_be_counted_and_joined(search: Path) -> None:
    for name, count in {"runs": 3, "metrics": 6, "campaigns": 1, "tasks": 9, "workflows": 1}.items():
        assert flowprov.query(f"select count(*) as n from {name}").iloc[0]["n"] == count  # noqa: S608
    frame = flowprov.query(
        "select runs.run_id, count(*) as n from runs join metrics using (run_id) group by runs.run_id"
    )
    assert list(frame["n"]) == [2, 2, 2]


def test_times_are_those_of_the_functions_for_dates(search: Path) -> None:
    frame = flowprov.query(
        "select count(*) as n from runs where julianday('now') - julianday(started_at) < 1"
    )
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
        "select 1; select 2",
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
    before = sorted(tmp_path.rglob("*"))
    if statement:
        with pytest.raises(UsageError, match="flowprov cannot run this query"):
            flowprov.query(statement.format(folder=tmp_path))
    else:
        assert flowprov.query(statement).empty
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_buffer_has_empty_tables(tmp_path: Path) -> None:
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
