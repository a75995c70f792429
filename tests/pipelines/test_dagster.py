"""A workflow that is opened in a step of Dagster records the step; the steps of a run share a campaign."""

from __future__ import annotations

import json

import pytest

from tests.pipelines.conftest import Tools

pytestmark = pytest.mark.soak

_PROGRAM = """
import asyncio, json
import dagster as dg
import flowprov

def work(name):
    with flowprov.workflow(name):
        flowprov.task(len)("abc")

@dg.op(config_schema={"password": str, "lr": float}, retry_policy=dg.RetryPolicy(max_retries=1))
def flaky(context):
    with flowprov.workflow("flaky"):
        if context.retry_number == 0:
            raise ValueError("the first time")
    return 1

@dg.op
async def asynchronous(number):
    await asyncio.sleep(0)
    work("asynchronous")
    return number

@dg.op
def doubled(number):
    work("doubled")

@dg.graph
def inner(number):
    asynchronous(number)

@dg.job
def pipeline():
    number = flaky()
    inner(number)
    doubled.alias("twice")(number)

@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a", "b"]))
def table():
    work("table")

@dg.multi_asset(specs=[dg.AssetSpec("left"), dg.AssetSpec(["group", "right"])])
def several():
    work("several")

CONFIG = {"ops": {"flaky": {"config": {"password": "hunter2", "lr": 0.1}}}}

if __name__ == "__main__":
    work("outside")
    runs = {"in process": pipeline.execute_in_process(run_config=CONFIG).run_id}
    runs["assets"] = dg.materialize([table, several], partition_key="b").run_id
    with flowprov.campaign("named") as named:
        pipeline.execute_in_process(run_config=CONFIG)
    runs["named"] = named.campaign_id
    job = dg.reconstructable(pipeline)
    runs["processes"] = dg.execute_job(job, instance=dg.DagsterInstance.get(), run_config=CONFIG).run_id
    print(json.dumps(runs))
"""


def test_each_kind_of_step_is_recorded_and_a_run_is_a_campaign(tools: Tools) -> None:
    runs = json.loads(tools.python(_PROGRAM).splitlines()[-1])
    rows = tools.workflows()
    outside = rows.pop(0)
    assert (outside["name"], outside["orchestrator"]) == ("outside", None)
    for kind in ("in process", "named", "processes"):
        steps = [row for row in rows if row["campaign_id"] == runs[kind]]
        assert len(steps) == 4, kind
        told = {
            (row["name"], row["orchestrator"]["retry"]): (
                row["status"],
                row["orchestrator"]["op"],
                row["orchestrator"]["handle"],
            )
            for row in steps
        }
        assert told == {
            ("flaky", 0): ("ERROR", "flaky", "flaky"),
            ("flaky", 1): ("FINISHED", "flaky", "flaky"),
            ("asynchronous", 0): ("FINISHED", "asynchronous", "inner.asynchronous"),
            ("doubled", 0): ("FINISHED", "doubled", "twice"),
        }
        for row in steps:
            known = row["orchestrator"]
            assert (known["name"], known["job"]) == ("dagster", "pipeline")
            assert known["run_config"]["ops"]["flaky"]["config"]["lr"] == 0.1
            assert "hunter2" not in json.dumps(row, default=str)
        assert len({row["pid"] for row in steps}) == (4 if kind == "processes" else 1)
    assert {row["orchestrator"]["run_id"] for row in rows if row["campaign_id"] != runs["named"]} == {
        runs["in process"],
        runs["assets"],
        runs["processes"],
    }
    assets = {row["name"]: row["orchestrator"] for row in rows if row["campaign_id"] == runs["assets"]}
    assert (assets["table"]["partition"], assets["table"]["asset"]) == ("b", "table")
    assert assets["several"]["asset"] == ["group/right", "left"]
