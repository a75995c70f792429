"""The slowest and the failed tasks of a campaign, and its last metrics."""

from __future__ import annotations

from flowprov.read.attempts import AttemptIndex
from flowprov.read.highlights import Highlights, LastMetrics
from flowprov.records import Metrics
from tests.journal.support import NS, header


def test_a_few_of_many_are_kept() -> None:
    highlights = Highlights()
    for number in range(1_000):
        status = "ERROR" if number % 100 == 7 else "FINISHED"
        highlights.add(f"t{number}", None, status, 0, (number * 37 % 1_000) * NS)
    assert highlights.slowest() == ["t27", "t54", "t81"]
    assert highlights.failures == 10
    assert highlights.failed() == ["t907", "t207", "t507", "t807", "t107"], "in the order of their ends"


def test_iterations_are_named_only_where_there_is_no_task() -> None:
    highlights = Highlights()
    highlights.add("epoch", "iteration", "ERROR", 0, 9 * NS)
    assert (highlights.slowest(), highlights.failed()) == (["epoch"], [])
    highlights.add("open", None, "RUNNING", 0, None)
    highlights.add("part", "child_forward", "FINISHED", 0, 5 * NS)
    assert highlights.slowest() == ["epoch"]
    highlights.add("step", None, "FINISHED", 0, NS)
    assert highlights.slowest() == ["step"]


def test_of_each_metric_the_latest_value_is_kept_whatever_the_order() -> None:
    index: dict[str, AttemptIndex] = {}
    logged = LastMetrics(index)
    for at, values in ((3, {"loss": 0.3}), (1, {"loss": 0.1, "other": 5}), (2, {"loss": 0.2})):
        logged.add(Metrics(at=at, workflow_id="w", values=values), "j-1", header())
    assert logged.values_of("j-1") == {"loss": 0.3, "other": 5}
    assert logged.values_of("j-2") is None
