"""A campaign as it is watched: what comes, what is measured, and what befalls its processes."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from flowprov.errors import JournalError, SinkUnavailableError
from flowprov.read.live import Event, LiveCampaign, Measurement, Notice
from flowprov.read.source import Source
from flowprov.records import Footer, Metrics, Task, Workflow, encode
from tests.journal.support import NS, header, step, write
from tests.read.locations import KINDS, Location


def look(live: LiveCampaign) -> list[Event]:
    return list(live.look())


def notices(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice)]


def test_each_look_returns_what_came_since_the_last(tmp_path: Path) -> None:
    opening = Workflow(workflow_id="w", name="fit", started_at=NS)
    path = write(tmp_path, header(), opening, step(0, workflow_id="w"))
    live = LiveCampaign(Source(tmp_path), "c1")
    opened, task, killed = look(live)
    assert isinstance(opened, Workflow)
    assert opened.status == "RUNNING"
    assert isinstance(task, Task)
    assert notices([killed]) == [
        "process 99 on node-1 ended without closing its journal, as after a kill; interrupted: fit"
    ]
    values = {"loss": 0.5, "text": "no", "flag": True, "n": 10**20}
    ended_at = 3 * NS
    with path.open("ab") as file:
        file.write(encode(Metrics(at=NS, workflow_id="w", task_id=1, values=values)))
        file.write(encode(Workflow(workflow_id="w", generated={"a": 1})))
        file.write(encode(Workflow(workflow_id="w", ended_at=ended_at, status="FINISHED")))
    measured, ended = look(live)
    assert measured == Measurement(NS, "w", "fit", "j1-1", None, None, {"loss": 0.5, "n": 10**20})
    assert isinstance(ended, Workflow)
    assert (ended.name, ended.started_at, ended.status) == ("fit", NS, "FINISHED")
    assert look(live) == []


def test_damage_is_said_once_and_the_rest_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0))
    path.write_bytes(path.read_bytes() + b'{"type":"task"\nnonsense\n' + encode(step(1)))
    live = LiveCampaign(Source(tmp_path), "c1")
    events = look(live)
    assert [event.task_id for event in events if isinstance(event, Task)] == ["j1-0", "j1-1"]
    damage, _ = notices(events)
    assert damage.startswith(f"14 bytes at {path}:")
    assert damage.endswith("; they are left out, and flowprov verify says what is missing")
    assert ", and 1 more places of it; " in damage
    assert look(live) == []


def test_a_closed_journal_and_a_worker_are_no_kills(tmp_path: Path) -> None:
    write(tmp_path, header("j1"), step(0), Footer(at=2 * NS, captured=1, written=1))
    write(tmp_path, header("j2", pid=98, parent_pid=1), step(0))
    assert notices(look(LiveCampaign(Source(tmp_path), "c1"))) == []


def test_a_campaign_that_is_removed_ends_it_with_one_sentence(tmp_path: Path) -> None:
    write(tmp_path, header(), step(0))
    live = LiveCampaign(Source(tmp_path), "c1")
    look(live)
    shutil.rmtree(tmp_path / "c1")
    with pytest.raises(JournalError, match=r"^campaign c1 was removed from .* while it was followed$"):
        look(live)


def test_a_server_that_is_away_is_said_once_and_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, header(), step(0), Footer(at=2 * NS, captured=1, written=1))
    live = LiveCampaign(Source(tmp_path), "c1")
    look(live)

    def away() -> NoReturn:
        raise SinkUnavailableError("refused")

    with monkeypatch.context() as patched:
        patched.setattr(live._follower, "available_records", away)
        assert notices(look(live)) == ["the server is away (refused); flowprov goes on asking"]
        assert look(live) == []
    with path.open("ab") as file:
        file.write(encode(step(1)))
    assert len(look(live)) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_source_is_watched(
    kind: str, location_of: Callable[[str], Location], tmp_path: Path
) -> None:
    location = location_of(kind)
    folder = tmp_path / "journals"
    path = write(folder, header(str(uuid.uuid4()), str(uuid.uuid4())), step(0))
    location.deliver(folder)
    live = LiveCampaign(Source(location.source), path.parent.parent.name)
    first, _ = look(live)
    with path.open("ab") as file:
        file.write(encode(step(1)))
    location.deliver(folder)
    (second,) = look(live)
    assert [str(getattr(event, "task_id", ""))[-2:] for event in (first, second)] == ["-0", "-1"]
