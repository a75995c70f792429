"""The parts of a report by themselves: thinned curves, goals, axes, numbers, failures."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from flowprov.display import format_size
from flowprov.read.source import Source
from flowprov.records import Workflow
from flowprov.report.activities import failures_of
from flowprov.report.downsampling import path_of, thin
from flowprov.report.goals import Goal, choose_goal
from flowprov.report.page import escape_markdown
from flowprov.report.run_table import differing_params, run_table
from flowprov.report.scales import Axis, round_values
from flowprov.report.task_answers import FailedTask
from flowprov.report.telemetry import Telemetry
from flowprov.report.text import UNKNOWN, format_duration, format_number, shown, shown_apart
from flowprov.report.timeline import timeline_of
from tests.journal.support import header, write
from tests.read.samples import gpu, ns, sample


def _line(number: int, **values: Any) -> dict[str, Any]:
    own = dict.fromkeys(("campaign_id", "campaign", "started_at", "duration", "error"), None)
    return {"run_id": f"r-{number}", "name": "train", "status": "FINISHED", **own, **values}


def test_two_values_that_differ_are_never_shown_alike() -> None:
    assert shown_apart(0.123456, 0.123457) == ("0.123456", "0.123457")
    assert shown_apart("x" * 100 + "a", "x" * 100 + "b", 40) == (f"…{'x' * 13}a", f"…{'x' * 13}b")
    assert shown_apart(1, 2) == ("1", "2")
    assert shown_apart(None, "text") == (UNKNOWN, "text")


def test_a_thinned_curve_keeps_its_ends_and_its_extremes() -> None:
    points = [(float(step), math.sin(step / 7)) for step in range(10_000)]
    points[4_321] = (4_321.0, 99.0)
    points[8_765] = (8_765.0, -99.0)
    kept = thin(points, 50)
    assert len(kept) <= 50
    assert kept == sorted(kept)
    assert {points[0], points[4_321], points[8_765], points[-1]} <= set(kept)


def test_a_path_has_a_gap_where_a_value_is_no_number() -> None:
    points = [(0, 1.0), (1, 2.0), (2, math.nan), (3, math.inf), (4, 5e-7)]
    assert path_of(points) == "M0 1L1 2M4 5e-7L4 5e-7"
    assert path_of([(0, math.nan)]) == ""


@pytest.mark.parametrize(
    ("names", "goal"),
    [
        (["train_loss", "val_loss"], Goal("val_loss", minimize=True)),
        (["loss", "eval/accuracy"], Goal("eval/accuracy", minimize=False)),
        (["valLoss", "steps"], Goal("valLoss", minimize=True)),
        (["loss_scale", "temperature", "f1"], Goal("f1", minimize=False)),
        (["velocity"], None),
    ],
)
def test_the_name_of_a_metric_says_what_is_good(names: list[str], goal: Goal | None) -> None:
    lines = [_line(0, **{f"metrics.{name}{end}": 1.0 for name in names for end in ("", ".min", ".max")})]
    assert choose_goal(lines) == goal


def test_parameters_that_are_the_names_of_runs_come_last() -> None:
    lines = [
        _line(number, **{"params.path": f"/data/{number}", "params.lr": number / 10, "params.same": 1})
        for number in range(5)
    ]
    assert differing_params(lines) == ["params.lr", "params.path"]


def test_a_number_of_any_size_has_a_cell() -> None:
    values = [10**400, -(10**18), 1e-300, math.nan, -math.inf, True, None, "x" * 10_000, [1, {"a": 2}]]
    lines = [_line(number, **{"params.x": value}) for number, value in enumerate(values)]
    cells = [row.cells[2] for row in run_table(lines, None).rows]
    assert max(len(cell.text) for cell in cells) <= 40
    assert [cell.text for cell in cells][3:7] == ["NaN", "\N{MINUS SIGN}∞", "true", "\N{EN DASH}"]


def test_numbers_times_and_sizes_are_short() -> None:
    assert [format_number(one) for one in (1234567, 0.123456, 12345.6, 1e-9, 2.5e9)] == [
        "1,234,567",
        "0.1235",
        "12,346",
        "1e\N{MINUS SIGN}09",
        "2.500e+09",
    ]
    assert [format_duration(one) for one in (2e-6, 0.5, 59, 61, 7260, 90_000, None)] == [
        "2 µs",
        "500 ms",
        "59 s",
        "1 min 1 s",
        "2 h 1 min",
        "1 d 1 h",
        "\N{EN DASH}",
    ]
    assert format_size(1_234_567) == "1.23 MB"
    assert shown("a\n\u202eb" + "c" * 99, 10) == "a\\n\\u202ebccccc…"


def test_ticks_are_round_and_inside() -> None:
    assert round_values(0.13, 0.97, 5) == [0.2, 0.4, 0.6, 0.8]
    assert [tick.text for tick in Axis(1e-4, 0.1, 0, 100, logarithmic=True).ticks()] == [
        "0.0001",
        "0.001",
        "0.01",
        "0.1",
    ]


def test_an_error_that_ended_several_tasks_is_named_where_it_began() -> None:
    def failed(activity: str, started: float, subtype: str | None = None) -> FailedTask:
        error = {"type": "ValueError", "message": "run 7 diverged", "traceback": "T"}
        return FailedTask(
            activity, subtype, started, started + 1, "node", 1, None, "w", f"t-{started}", error
        )

    tasks = [failed("outer", 1), failed("inner", 2), failed("batch_iteration", 3, "iteration")]
    (group,) = failures_of(tasks, [])
    assert (group.activity, group.times, group.ended) == ("inner", 1, 3)


def test_telemetry_is_joined_by_host_and_the_energy_of_a_device_counts_once(tmp_path: Path) -> None:
    busy = [sample(10 + n, gpu=gpu(a=100 * n), process={"rss_bytes": 1000}) for n in range(11)]
    idle = [sample(10.5 + n, gpu=gpu(a=100 * n + 50), process={"rss_bytes": 500}) for n in range(10)]
    for number, samples in enumerate((busy, idle)):
        write(tmp_path, header(f"{number:032x}", pid=number), *samples)
    found = Telemetry(Source(tmp_path).campaign(), ns(10), ns(20))
    assert found.energy == pytest.approx(1000)
    series = found.series()
    assert set(series["node-1", "gpu.0.utilization_percent"].values()) == {50}
    memory = series["node-1", "process.rss_bytes"]
    assert (memory[0], memory[80]) == (1000, 1500)
    timeline = timeline_of(
        [], [Workflow(workflow_id="w", started_at=ns(10), ended_at=ns(20))], series, 10, 20
    )
    assert timeline is not None
    assert [strip.label for strip in timeline.strips] == ["GPU 0 busy", "memory of processes"]
    assert [strip.top for strip in timeline.strips] == ["100 %", "1.5 kB"]


def test_nothing_has_a_meaning_in_markdown() -> None:
    assert escape_markdown("<b>|`x`* [a](b) & \\") == r"&lt;b\>\|\`x\`\* \[a\](b) &amp; \\"
