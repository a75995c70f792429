"""A follower returns every message once, including those of journals that appear later."""

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


def test_messages_written_after_the_first_look_are_returned_and_none_twice(tmp_path: Path) -> None:
    follower = Buffer(tmp_path).follow()
    assert available(follower) == []
    first = open_journal(tmp_path)
    add(first, 0, 1)
    assert available(follower) == [f"{first.journal_id}-0", f"{first.journal_id}-1"]
    second, foreign = open_journal(tmp_path), open_journal(tmp_path, campaign_id="c2")
    add(first, 2)
    add(second, 0)
    add(foreign, 0)
    assert sorted(available(follower)) == sorted([f"{first.journal_id}-2", f"{second.journal_id}-0"])
    for journal in (first, second, foreign):
        journal.close()
    assert available(follower) == []


def test_another_follower_continues_from_a_position_that_was_stored_as_json(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    add(journal, *range(5))
    follower = iter(Buffer(tmp_path).follow(poll=0.01))
    assert [str(getattr(next(follower), "task_id", "")).rpartition("-")[2] for _ in range(2)] == ["0", "1"]
    add(open_journal(tmp_path, campaign_id="c2"), 100)
    position = json.loads(json.dumps(follower.position))
    rest = available(Buffer(tmp_path).follow(position=position))
    assert [task_id.rpartition("-")[2] for task_id in rest] == ["2", "3", "4"]


def test_iterating_waits_for_new_messages(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    follower = Buffer(tmp_path).follow(poll=0.01)
    messages: list[object] = []
    reader = threading.Thread(target=lambda: messages.extend(next(follower) for _ in range(3)), daemon=True)
    reader.start()
    add(journal, 0, 1, 2)
    reader.join(timeout=30)
    journal.close()
    assert [getattr(message, "hostname", None) for message in messages] == ["node-1"] * 3
