"""``flowprov export trace``: the Trace Event Format, as Perfetto and Chrome read it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from flowprov.display import printable
from flowprov.export.new_file import written_beside
from flowprov.export.tracks import Tracks
from flowprov.read import Buffer
from flowprov.records import Task
from tests.cli.support import flowprov, start_endless
from tests.export.conftest import ODD_METRIC

_Event: TypeAlias = "dict[str, Any]"


def _export(folder: Path, *arguments: str, output: Path) -> list[_Event]:
    result = flowprov("export", "trace", *arguments, "-o", output, cwd=folder)
    assert (result.status, result.err) == (0, "")
    events: list[_Event] = json.loads(output.read_text())["traceEvents"]
    return events


@pytest.fixture(scope="module")
def events(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> list[_Event]:
    """Return the events of both campaigns."""
    return _export(recorded, "nightly", "k1", output=tmp_path_factory.mktemp("trace") / "t.json")


def _complete(events: list[_Event]) -> list[_Event]:
    return [event for event in events if event["ph"] == "X"]


def test_a_trace_has_an_event_for_each_task_and_workflow(recorded: Path, events: list[_Event]) -> None:
    rows = [
        row
        for name in ("c1", "k1")
        for row in Buffer(recorded / "flowprov_buffer").records(campaign_id=name, merge=True)
    ]
    by_id = {
        (event["args"].get("task_id"), event["args"]["workflow_id"], event["args"]["attempt"]): event
        for event in _complete(events)
    }
    assert len(_complete(events)) == len(rows) == len(by_id)
    first = min(row.started_at or 0 for row in rows)
    for row in rows:
        event = by_id[row.task_id if isinstance(row, Task) else None, row.workflow_id, row.attempt]
        assert row.started_at is not None
        assert event["ts"] == (row.started_at - first) / 1000
        assert event["args"]["status"] == row.status
        if row.ended_at is not None:
            assert event["dur"] == (row.ended_at - row.started_at) / 1000
        else:
            assert (event["args"]["end"], row.status) == ("not recorded", "INTERRUPTED")


def test_events_of_a_track_lie_in_one_another_or_side_by_side(events: list[_Event]) -> None:
    tracks = defaultdict(list)
    for event in _complete(events):
        tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for track in tracks.values():
        for one in track:
            assert not [other for other in track if one[0] < other[0] < one[1] < other[1]]
    names = Counter(event["args"]["name"] for event in events if event["name"] == "thread_name")
    assert {"workflows", "MainThread", "MainThread (2)", "MainThread (3)"} <= set(names)


def test_an_arrow_leads_to_the_child_in_another_process(events: list[_Event]) -> None:
    leaving, arriving = ([e for e in events if e["ph"] == phase] for phase in "sf")
    assert len(leaving) == len(arriving) == 1
    (parent,) = (event for event in _complete(events) if event["name"] == "pool")
    (child,) = (event for event in _complete(events) if event["args"].get("used") == {"n": 7})
    assert child["args"]["parent_task_id"] == parent["args"]["task_id"]
    assert (leaving[0]["pid"], leaving[0]["tid"]) == (parent["pid"], parent["tid"])
    assert (arriving[0]["pid"], arriving[0]["ts"]) == (child["pid"], child["ts"])
    assert parent["ts"] <= leaving[0]["ts"] <= parent["ts"] + parent["dur"]


def test_what_was_logged_is_counters_by_the_name_of_the_metric(events: list[_Event]) -> None:
    found = defaultdict(list)
    for event in events:
        if event["ph"] == "C" and event.get("cat") == "metric":
            found[event["name"]].append((event["ts"], event["args"]["value"]))
    assert {name: [value for _, value in values] for name, values in found.items()} == {
        "rows": [2],
        "loss": [1.0, 0.5, 0.25],
        printable(ODD_METRIC): [0, 1],
        "score": [0, 1],
    }
    epochs = [event for event in _complete(events) if event["name"] == "epoch_iteration"]
    for epoch, (at, _) in zip(epochs, found["loss"], strict=False):
        assert epoch["ts"] <= at <= epoch["ts"] + epoch["dur"]
    (train,) = (event for event in _complete(events) if event["name"] == "train")
    assert {event["pid"] for event in events if event["name"] == "score"} == {train["pid"]}


def test_telemetry_is_counters(events: list[_Event]) -> None:
    counters = [event for event in events if event["ph"] == "C"]
    assert {"cpu.user_s", "mem.used_bytes"} <= {event["name"] for event in counters}
    assert all(isinstance(event["args"]["value"], (int, float)) for event in counters)


def test_no_secret_and_no_control_character_is_in_a_trace(recorded: Path, tmp_path: Path) -> None:
    events = _export(recorded, "c1", output=tmp_path / "t.json")
    text = (tmp_path / "t.json").read_text()
    assert "hunter2" not in text
    assert "me:secret" not in text
    assert all(event["name"].isprintable() for event in events)


def test_two_exports_are_the_same(recorded: Path, tmp_path: Path) -> None:
    _export(recorded, "c1", output=tmp_path / "a")
    _export(recorded, "c1", output=tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_campaign_that_still_runs_is_exported(tmp_path: Path) -> None:
    with start_endless(tmp_path) as process:
        try:
            events = _export(tmp_path, output=tmp_path / "t.json")
        finally:
            process.kill()
    assert {event["args"]["status"] for event in _complete(events)} >= {"RUNNING", "FINISHED"}


def test_what_cannot_be_exported_is_said_and_leaves_no_file(recorded: Path, tmp_path: Path) -> None:
    unknown = flowprov("export", "trace", "nigtly", "-o", tmp_path / "t", cwd=recorded)
    assert unknown.status == 2
    assert "Did you mean c1 (nightly)?" in unknown.err
    empty = flowprov("export", "trace", "-o", tmp_path / "t", cwd=tmp_path)
    assert empty.status == 2
    assert "There is nothing to export. Give --source" in empty.err
    nowhere = flowprov("export", "trace", "-o", tmp_path / "no" / "t", cwd=recorded)
    assert nowhere.status == 2
    assert "is no folder. Create it" in nowhere.err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("before")
    with pytest.raises(KeyboardInterrupt), written_beside(tmp_path / "t") as new:
        new.write_text("half")
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["t"]
    assert (tmp_path / "t").read_text() == "before"


def test_processes_of_one_number_have_groups_of_their_own() -> None:
    tracks = Tracks()
    pids = [tracks.pid_of(campaign, (host, 7)) for campaign in (0, 1) for host in ("a", "b", "a")]
    assert [pid for pid, _ in pids] == [7, 8, 7, 9, 10, 9]
    assert [new for _, new in pids] == [True, True, False, True, True, False]


@pytest.mark.parametrize(
    ("spans", "tids"),
    [
        ([(0, 2), (3, 5), (0, 9), (9, 12)], [1, 1, 1, 1]),
        ([(0, 5), (3, 7), (6, 9), (0, 10)], [1, 2, 1, 1]),
        ([(0, 9), (2, 5), (3, 11)], [1, 1, 2]),
        ([(4, 4), (2, 4), (4, 6)], [1, 1, 1]),
    ],
)
def test_what_overlaps_in_part_gets_a_track_of_its_own(spans: list[tuple[int, int]], tids: list[int]) -> None:
    tracks = Tracks()
    assert [tracks.tid_of(1, "Main", *span)[0] for span in spans] == tids
