"""A follower gives every message once, those of journals that appear later too."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from flowprov import records
from flowprov.journal import Journal
from flowprov.read import Buffer, Follower
from flowprov.records import Task
from tests.journal.support import open_journal, step


def add(journal: Journal, *numbers: int) -> None:
    for number in numbers:
        journal.append(records.encode(step(number)))


def available(follower: Follower) -> list[str]:
    return [str(message.task_id) for message in follower.available() if isinstance(message, Task)]


def test_what_is_written_after_the_first_look_is_given_too_and_nothing_twice(tmp_path: Path) -> None:
    follower = Buffer(tmp_path).follow()
    assert available(follower) == []
    first = open_journal(tmp_path)
    add(first, 0, 1)
    assert available(follower) == [f"{first.journal_id}-0", f"{first.journal_id}-1"]
    second, stranger = open_journal(tmp_path), open_journal(tmp_path, campaign_id="c2")
    add(first, 2)
    add(second, 0)
    add(stranger, 0)
    assert sorted(available(follower)) == sorted([f"{first.journal_id}-2", f"{second.journal_id}-0"])
    for journal in (first, second, stranger):
        journal.close()
    assert available(follower) == []


def test_another_follower_goes_on_from_a_position_that_went_through_json(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    add(journal, *range(5))
    follower = iter(Buffer(tmp_path).follow(poll=0.01))
    assert [str(getattr(next(follower), "task_id", "")).rpartition("-")[2] for _ in range(2)] == ["0", "1"]
    add(open_journal(tmp_path, campaign_id="c2"), 100)
    token = json.loads(json.dumps(follower.position))
    rest = available(Buffer(tmp_path).follow(position=token))
    assert [each.rpartition("-")[2] for each in rest] == ["2", "3", "4"]


def test_iterating_waits_for_what_comes(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    follower = Buffer(tmp_path).follow(poll=0.01)
    given: list[object] = []
    reader = threading.Thread(target=lambda: given.extend(next(follower) for _ in range(3)), daemon=True)
    reader.start()
    add(journal, 0, 1, 2)
    reader.join(timeout=30)
    journal.close()
    assert [getattr(message, "hostname", None) for message in given] == ["node-1"] * 3
