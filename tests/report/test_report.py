"""``flowprov report``: what the page and the card say, and that names of any kind are only names in them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from flowprov.cli.output import Failure
from flowprov.cli.report import write_whole
from flowprov.errors import JournalError, UnknownIdError, UsageError
from flowprov.read.questions import run_table
from flowprov.report.collect import collect
from flowprov.report.page import to_html, to_markdown
from flowprov.report.parts import Report
from flowprov.report.text import short_id
from tests.cli.support import flowprov, start_endless
from tests.report.buffers import IMAGE, Page, record
from tests.support import run

_RUNS = 6
_POINT = re.compile(r"([\d.]+) ([\d.e-]+)")
_SECTIONS = ("runs", "metrics", "parameters", "timeline-1", "tree-1", "time-1", "failures-1", "code-1")


@pytest.fixture(scope="module")
def buffer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def report(buffer: Path) -> Report:
    return collect(source=buffer)


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    return to_html(report)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_the_page_is_well_formed_small_and_has_every_section(html: str, page: Page) -> None:
    assert page.open == []
    assert len(html.encode()) < 130_000
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {*_SECTIONS, "lineage-1", "record-1"} <= set(ids)
    targets = {str(link["href"]) for link in page.of("a")}
    assert targets <= {f"#{name}" for name in ids}


def test_nothing_in_the_page_can_be_run_but_its_own_script(html: str, page: Page) -> None:
    scripts = page.of("script")
    assert [one.get("type") for one in scripts] == ["application/json", None]
    assert {name for name, _ in page.elements} & {"img", "iframe", "object", "link", "b2", "form"} == set()
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not [name for _, attributes in page.elements for name in attributes if name in ("src", "style")]
    policy = str(next(one["content"] for one in page.of("meta") if "http-equiv" in one))
    for tag in ("style", "script"):
        text = html.rpartition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "://" not in html.replace("http://www.w3.org/2000/svg", "")


def test_names_are_shown_as_they_are(page: Page) -> None:
    assert page.texts["h1"] == ["search <b>&amp;</b>"]
    cells = page.texts["td"] + page.texts["span"]
    assert IMAGE in cells
    assert "a\\nb" in cells
    assert any("\\u202e{{ 7 * 7 }}" in text for text in cells)
    assert max(map(len, cells)) < 400
    assert "acc <b>" in page.texts["button"]
    assert any("diverged <b>" in text for text in page.texts["pre"])


def test_the_labels_of_the_script_are_json(html: str) -> None:
    text = re.search(r'id="runs-data">(.*?)</script>', html, re.DOTALL)
    assert text is not None
    assert len(json.loads(text[1])) == _RUNS


def test_the_best_run_is_the_one_with_the_smallest_value_and_ended_well(report: Report, buffer: Path) -> None:
    assert report.best is not None
    lines = [line for line in run_table(buffer) if line["status"] == "FINISHED"]
    best = min(lines, key=lambda line: float(line["metrics.val_loss"]))
    assert report.best.run_id == best["run_id"]
    assert report.best.metric == "val_loss"
    assert {fact.label: fact.value for fact in report.best.params}["layers"] == "5"
    assert report.runs.rows[-1].status == "ERROR"


def test_a_curve_keeps_its_peak_and_has_a_gap_where_values_are_no_numbers(report: Report) -> None:
    chart = next(one for one in report.charts if one.name == "val_loss")
    assert len(chart.curves) == _RUNS
    for curve in chart.curves:
        points = re.findall(r"[\d.e-]+ [\d.e-]+", curve.path)
        assert len(points) <= 242
        if len(points) > 20:
            assert max(float(point.split()[1]) for point in points) > 5
    assert any("NaN" in note for note in chart.notes)


def test_failures_tell_where_they_began_with_their_traceback(report: Report) -> None:
    (part,) = report.campaigns
    (failure,) = part.failures
    assert (failure.error, failure.activity, failure.times) == ("ValueError", "train", 1)
    assert failure.ended > 1
    assert "diverged" in failure.traceback
    assert failure.message.startswith("diverged <b>a\\nb</b>\\nsecond line")


def test_the_timeline_has_the_tasks_and_what_the_machine_did(report: Report) -> None:
    timeline = report.campaigns[0].timeline
    assert timeline is not None
    texts = [bar.text for bar in timeline.bars]
    assert sum(text.startswith("train") for text in texts) == _RUNS
    assert sum(bar.failed for bar in timeline.bars if bar.text.startswith("train")) == 1
    assert len(timeline.lanes) == 1
    assert "memory used" in {strip.label for strip in timeline.strips}


def test_sums_lineage_and_the_check_are_those_of_the_record(report: Report) -> None:
    (part,) = report.campaigns
    calls = {row.name: row.calls for row in part.activities}
    assert calls["train"] == calls["load"] == _RUNS
    assert part.lineage is not None
    assert {node.label for node in part.lineage.nodes} == {"in </svg>", "W </title>", "out"}
    assert len(part.lineage.edges) == 2
    assert part.check.verdict == part.status == "COMPLETE"


def test_a_report_is_the_same_again_but_for_the_time(report: Report, html: str, buffer: Path) -> None:
    again = replace(collect(source=buffer), made_at=report.made_at)
    assert to_html(again) == html


def test_the_card_is_short_and_holds_no_html(report: Report) -> None:
    card = to_markdown(report)
    assert len(card.splitlines()) < 80
    assert card.startswith("# search &lt;b")
    assert not re.search(r"<[a-zA-Z/!]", card)
    tables = [line for line in card.splitlines() if line.startswith("|")]
    assert (
        len({len(re.findall(r"(?<!\\)\|", line)) for line in tables if line.startswith(("| 1 ", "| 2 "))})
        == 1
    )


def test_curves_that_duckdb_chooses_are_the_same(
    report: Report, buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowprov.report.collect.LARGE_BYTES", 0)
    large = collect(source=buffer)
    assert any("points of curves are chosen" in note for note in large.campaigns[0].notes)
    for chart, other in zip(report.charts, large.charts, strict=True):
        assert chart.name == other.name
        for curve, chosen in zip(chart.curves, other.curves, strict=True):
            found, others = (
                {value: step for step, value in _POINT.findall(one.path)} for one in (curve, chosen)
            )
            peak = max(found, key=float)
            assert peak == max(others, key=float)
            assert len(found) == 1 or found[peak] == others[peak]
            assert (curve.run, curve.path.count("M")) == (chosen.run, chosen.path.count("M"))
    assert [chart.notes for chart in large.charts] == [chart.notes for chart in report.charts]


def test_a_report_on_runs_holds_these_alone(buffer: Path) -> None:
    wanted = [str(line["run_id"]) for line in run_table(buffer)][:2]
    chosen = collect(wanted, buffer)
    assert {row.run_id for row in chosen.runs.rows} == set(wanted)
    assert {curve.run for chart in chosen.charts for curve in chart.curves} == {0, 1}


def test_without_jinja2_the_command_names_the_mend(tmp_path: Path) -> None:
    code = "import sys; sys.modules['jinja2'] = None; from flowprov.__main__ import main; main()"
    for command in ("report", "ui"):
        _, err = run(code, tmp_path, command, status=2)
        assert 'pip install "flowprov[report]"' in err


def test_what_is_not_there_is_said_with_what_is(buffer: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownIdError, match="holds no campaign or run"):
        collect(["elsewhere"], buffer)
    with pytest.raises(UnknownIdError, match="may mean run"):
        collect(["train"], buffer)
    with pytest.raises(UnknownIdError, match="is a task"):
        collect(["epoch_iteration"], buffer)
    with pytest.raises(UsageError, match="val_loss"):
        collect(source=buffer, metric="val_los")
    with pytest.raises(JournalError, match="holds no journal"):
        collect(source=tmp_path)


def test_a_run_is_found_by_the_short_id_that_the_report_shows(buffer: Path, report: Report) -> None:
    run_id = str(run_table(buffer)[1]["run_id"])
    assert short_id(run_id) in to_markdown(report)
    assert collect([short_id(run_id)], buffer).title == collect([run_id], buffer).title
    found = flowprov("diff", short_id(run_id), run_id, "--source", buffer, cwd=buffer)
    assert "nothing that is recorded of them differs" in found.out


def test_the_command_writes_a_page_or_prints_a_card(buffer: Path, tmp_path: Path) -> None:
    done = flowprov("report", "--source", buffer, "-o", "page.html", cwd=tmp_path)
    assert (done.status, done.out.partition(":")[0]) == (0, "page.html")
    assert (tmp_path / "page.html").read_text().endswith("</html>\n")
    card = flowprov("report", "--source", buffer, "--format", "md", "-o", "-", cwd=tmp_path)
    assert card.out.startswith("# search")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    page, taken = tmp_path / "page.html", tmp_path / "taken.html"
    page.write_text("before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(page, "half\udcff")
    assert page.read_text() == "before"
    write_whole(page, "whole")
    taken.mkdir()
    with pytest.raises(Failure, match="cannot be written"):
        write_whole(taken, "whole")
    assert page.read_text() == "whole"
    assert sorted(tmp_path.iterdir()) == [page, taken]


_FAILING = """
    import contextlib, sys
    import flowprov

    @flowprov.task
    def step():
        raise ValueError("in a task")

    for number in range(int(sys.argv[1])):
        with contextlib.suppress(ValueError), flowprov.campaign("d", campaign_id=f"c{number}"):
            with flowprov.workflow("w"):
                if number == 2:
                    step()
                raise ValueError("outside of tasks")
"""


@pytest.mark.parametrize(
    ("campaigns", "said", "title"),
    [
        (1, "1 workflow ended with an error, mostly ValueError", "d"),
        (2, "2 workflows ended with an error, mostly ValueError", "d (2 campaigns)"),
        (3, "1 of 1 task and 2 workflows ended with an error, mostly ValueError", "d (3 campaigns)"),
    ],
)
def test_workflows_that_failed_outside_of_tasks_are_counted_and_names_stand_once(
    tmp_path: Path, campaigns: int, said: str, title: str
) -> None:
    run(_FAILING, tmp_path, str(campaigns))
    report = collect([f"c{number}" for number in range(campaigns)], tmp_path / "flowprov_buffer")
    (failed,) = (fact for fact in report.facts if fact.label == "failed")
    assert str(failed.note).startswith(said)
    assert report.title == title


def test_a_campaign_that_runs_or_was_killed_says_so(tmp_path: Path) -> None:
    with start_endless(tmp_path) as process:
        running = collect(source=tmp_path / "flowprov_buffer")
        process.kill()
    assert running.status == "RUNNING"
    assert "still runs" in to_html(running)
    assert any(text.startswith("RUNNING: workflow Doomed") for text in running.campaigns[0].open_items)
    killed = collect(source=tmp_path / "flowprov_buffer")
    assert killed.status == "INCOMPLETE"
    assert any(text.startswith("INTERRUPTED: workflow Doomed") for text in killed.campaigns[0].open_items)
    Page(to_html(killed))
