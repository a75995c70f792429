"""Who records in the middle of an append waits for nobody that waits for this append.

A signal handler, a profiler or a finalizer may come there. Here a thread that holds the lock of the writer
plays the interrupted append, and records, while another thread holds the lock of the journal.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowprov import guard
from flowprov.journal import Identity, Journal, end, file_succession
from flowprov.journal.format import find_journals
from flowprov.records import Campaign, Footer, Task
from flowprov.runtime import runtime
from flowprov.settings import JournalSettings
from tests.journal.support import NoMaintenance, open_journal
from tests.support import PATIENCE_S, lines, lines_of, of_type, run, wait_until

LINE = b'{"type":"task","task_id":0}\n'
NESTED = b'{"type":"task","task_id":1}\n'
ADDITION = b'{"type":"correction","task_id":0}\n'


def _is_held(lock: Any) -> bool:
    """Whether another thread holds a lock."""
    if lock.acquire(blocking=False):
        lock.release()
        return False
    return True


def _roll(journal: Journal) -> None:
    with journal._lock:
        journal.roll(journal._writer, in_event=False)  # type: ignore[arg-type]


_OTHERS: dict[str, Callable[[Journal], object]] = {
    "closes it": Journal.close,
    "closes it as idle": Journal.close_if_idle,
    "goes on in a next file": _roll,
    "appends": lambda journal: journal.append_slowly(LINE, OSError(5, "refused")),
}
_NESTED: dict[str, Callable[[Journal], object]] = {
    "an event": lambda journal: journal.append(NESTED),
    "an event, the long way": lambda journal: journal.append_slowly(NESTED, OSError(5, "refused")),
    "an opening": lambda journal: journal.append_opening("w", NESTED),
    "an addition": lambda journal: journal.append_addition(ADDITION),
    "a drop": lambda journal: journal.drop("interrupted"),
    "an interrupted line": lambda journal: journal.settle(NESTED),
    "a name": lambda journal: journal.name_campaign(Campaign(campaign_id="c1", name="named", started_at=1)),
    "an end": Journal.close_if_idle,
}


@pytest.mark.parametrize("other", _OTHERS)
@pytest.mark.parametrize("nested", _NESTED)
@pytest.mark.parametrize("writer", ["write", "queued", "mapped"])
def test_what_is_recorded_in_the_middle_of_an_append_waits_for_nobody(
    tmp_path: Path, writer: str, nested: str, other: str
) -> None:
    journal = open_journal(tmp_path, writer)
    journal.append(LINE)
    held = journal._writer
    lock: Any = held._entering if writer == "queued" else getattr(held, "lock", None) or held._lock  # type: ignore[union-attr]
    inside, go_on, recorded = threading.Event(), threading.Event(), threading.Event()

    def interrupted() -> None:
        with lock:
            inside.set()
            go_on.wait(PATIENCE_S)
            _NESTED[nested](journal)
            recorded.set()

    threads = [
        threading.Thread(target=interrupted, daemon=True),
        threading.Thread(target=_OTHERS[other], args=(journal,), daemon=True),
    ]
    threads[0].start()
    assert inside.wait(PATIENCE_S)
    threads[1].start()
    if writer != "mapped" or other != "goes on in a next file":
        wait_until(lambda: _is_held(journal._lock))
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    assert recorded.is_set()
    journal.close()
    footers = [of_type(lines_of(path), Footer)[-1] for path in find_journals(tmp_path)]
    assert sum(footer.written for footer in footers) == len(of_type(lines(tmp_path), Task))
    dropped = [footer.dropped for footer in footers if footer.dropped]
    assert dropped == ([{"interrupted": 1}] if nested == "a drop" else [])


def _move(journal: Journal) -> None:
    path = Path(str(journal.path))
    path.rename(path.with_name(f"moved-{path.name}"))
    journal.check_file()


@pytest.mark.parametrize("other", [_roll, _move])
@pytest.mark.parametrize("writer", ["write", "queued", "mapped"])
def test_who_keeps_others_from_the_present_file_waits_for_no_append_to_one_that_was_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, other: Callable[[Journal], object]
) -> None:
    """What interrupted that append records in the present file."""
    settings = JournalSettings(path=str(tmp_path), writer=writer)  # type: ignore[arg-type]
    journal = Journal(settings, Identity(campaign_id="c1", hostname="node-1"), NoMaintenance())
    for _ in range(2):  # one more is too many
        journal.append(LINE)
        _roll(journal)
    journal.append(LINE)
    left = journal._left_writers()[0]
    lock: Any = left._entering if writer == "queued" else left.lock  # type: ignore[attr-defined]
    inside, go_on = threading.Event(), threading.Event()

    def interrupted() -> None:
        with lock:
            inside.set()
            go_on.wait(PATIENCE_S)
            journal.append(NESTED)

    def while_others_are_kept(function: Callable[..., Any]) -> Callable[..., Any]:
        def go_on_first(*arguments: Any, **options: Any) -> Any:
            go_on.set()
            threads[0].join(0.2)  # it comes to the present file, and may have to wait there
            return function(*arguments, **options)

        return go_on_first

    for one, name in ((journal, "_create_next"), (journal._maintenance, "forget")):
        monkeypatch.setattr(one, name, while_others_are_kept(getattr(one, name)))
    threads = [
        threading.Thread(target=interrupted, daemon=True),
        threading.Thread(target=other, args=(journal,), daemon=True),
    ]
    threads[0].start()
    assert inside.wait(PATIENCE_S)
    threads[1].start()
    go_on.wait(0.2)  # or it waits for the interrupted append before it keeps anybody
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    journal.close()
    footers = [of_type(lines_of(path), Footer)[-1] for path in find_journals(tmp_path)]
    assert sum(footer.written for footer in footers) == len(of_type(lines(tmp_path), Task))


def _footers_and_tasks(folder: Path) -> list[tuple[int, int]]:
    """Return, for each journal, how many events its footer counts, and how many it holds."""
    found = [lines_of(path) for path in sorted(find_journals(folder))]
    return [(of_type(written, Footer)[-1].written, len(of_type(written, Task))) for written in found]


@pytest.mark.parametrize("writer", ["write", "queued", "mapped"])
def test_an_event_that_is_counted_after_its_file_was_closed_as_idle_counts_there(
    tmp_path: Path, writer: str
) -> None:
    journal = open_journal(tmp_path, writer)
    journal.append(LINE)
    appended, closed = threading.Event(), threading.Event()

    def append() -> None:
        journal.fast_append(NESTED)
        appended.set()
        closed.wait(PATIENCE_S)
        journal.count()

    thread = threading.Thread(target=append)
    thread.start()
    assert appended.wait(PATIENCE_S)
    assert journal.close_if_idle()
    closed.set()
    thread.join(PATIENCE_S)
    journal.append(LINE)
    journal.close()
    assert _footers_and_tasks(tmp_path) == [(2, 2), (1, 1)]


@pytest.mark.parametrize("writer", ["write", "queued", "mapped"])
@pytest.mark.parametrize("who", ["another thread", "a signal handler"])
def test_an_event_that_comes_while_the_footer_is_written_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str, who: str
) -> None:
    journal = open_journal(tmp_path, writer)
    journal.append(LINE)
    began, counted = threading.Event(), threading.Event()

    def append() -> None:
        fast_append = journal.fast_append  # before the journal is closed
        began.set()
        counted.wait(PATIENCE_S)
        try:
            fast_append(NESTED)
            journal.count()
        except BaseException as error:  # as on the hot path
            journal.append_slowly(NESTED, error)

    def create_footer(*arguments: Any) -> Footer:
        if not counted.is_set():
            counted.set()
            if who == "a signal handler":
                journal.append(NESTED)
            else:
                thread.join(0.3)  # it may have to wait for the end
        return end.create_footer(*arguments)

    monkeypatch.setattr(file_succession, "create_footer", create_footer)
    thread = threading.Thread(target=append)
    if who == "another thread":
        thread.start()
        assert began.wait(PATIENCE_S)
    assert journal.close_if_idle()
    if who == "another thread":
        thread.join(PATIENCE_S)
    journal.close()
    assert all(written == found for written, found in _footers_and_tasks(tmp_path))
    assert len(of_type(lines(tmp_path), Task)) == 2


def test_a_journal_that_a_signal_handler_creates_meanwhile_is_the_one_that_is_used(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    active = runtime.get()
    create = active._create_journal
    handled: list[Journal] = []

    def create_and_handle(*key: str) -> Journal:
        created = create(*key)
        if not handled:
            handled.append(created)
            handled[0] = active.journal(key[0])  # as a signal handler does that records there
        return created

    monkeypatch.setattr(active, "_create_journal", create_and_handle)
    assert active.journal("c1") is handled[0]
    assert active.journals() == handled


def test_journals_that_a_signal_handler_closes_meanwhile_are_no_fault(buffer: Path) -> None:
    active = runtime.get()
    for number in range(6):
        active.journal(f"c{number}").append(LINE)
    nested: list[str] = []

    def handle(_: Journal) -> None:
        if len(nested) < 5:
            nested.append(f"nested{len(nested)}")
            active.journal(nested[-1])

    active.before_idle_close.append(handle)
    active.journal("last").append(LINE)
    runtime.shutdown()
    assert guard.internal_errors() == {}
    assert len(nested) == 5
    assert [found for written, found in _footers_and_tasks(buffer) if written != found] == []


def test_the_campaign_is_known_while_another_thread_waits_for_an_append(buffer: Path) -> None:
    active = runtime.get()
    for number in range(10):
        active.journal(f"c{number}").append(LINE)
    oldest = next(iter(active._journals.values()))
    lock: Any = oldest._writer.lock  # type: ignore[union-attr]
    found: list[object] = []

    def interrupted() -> None:
        with lock:
            other.start()
            wait_until(lambda: _is_held(oldest._lock))
            found.extend([active.campaign_id(), active.journal("further")])

    other = threading.Thread(target=active.journal, args=("last",), daemon=True)
    thread = threading.Thread(target=interrupted, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert len(found) == 2
    other.join(PATIENCE_S)
    assert not other.is_alive()


_ALARMS = """
import json, signal, sys, threading, time
import flowprov
from flowprov import guard

flowprov.configure({"journal": {"path": "buffer", "writer": sys.argv[1], "roll_bytes": 16384}})
sys.setswitchinterval(1e-5)
recorded = [0] * 5

@flowprov.task
def step(thread):
    return thread

def record(thread):
    while not over:
        step(thread)
        recorded[thread] += 1

def alarm(*_):
    step(3)
    recorded[3] += 1

over = False
with flowprov.workflow("w"):
    threads = [threading.Thread(target=flowprov.bind(record), args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        step(4)
        recorded[4] += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    over = True
    for thread in threads:
        thread.join()
print(json.dumps([recorded, guard.internal_errors()]))
"""


@pytest.mark.parametrize("writer", ["write", "mapped"])
def test_alarms_that_record_beside_threads_that_roll_lose_and_stop_nothing(
    tmp_path: Path, writer: str
) -> None:
    printed, _ = run(_ALARMS, tmp_path, writer)
    recorded, errors = json.loads(printed)
    assert recorded[3] > 5
    assert errors == {}
    steps = sum(task.activity_id == "step" for task in of_type(lines(tmp_path), Task))
    assert steps == sum(recorded)
    counts = [of_type(lines_of(path), Footer)[-1] for path in find_journals(tmp_path)]
    assert sum(footer.written for footer in counts) == steps + 2  # the workflow opened and ended
    assert not any(footer.dropped for footer in counts)


def _interrupt(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
    """Have the next call of a function interrupted before it does anything."""

    def interrupted(*_: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, name, interrupted)


def test_a_journal_whose_idle_close_was_interrupted_goes_on_in_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path, "write")
    journal.append(LINE)
    _interrupt(monkeypatch, journal, "_rotate")
    with pytest.raises(KeyboardInterrupt):
        journal.close_if_idle()
    journal.append(NESTED)
    journal.close()
    assert _footers_and_tasks(tmp_path) == [(1, 1), (1, 1)]


def test_a_close_that_was_interrupted_before_its_footer_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path, "write")
    journal.append(LINE)
    _interrupt(monkeypatch, file_succession, "create_footer")
    with pytest.raises(KeyboardInterrupt):
        journal.close_if_idle()
    journal.append(NESTED)
    journal.close()
    assert _footers_and_tasks(tmp_path) == [(2, 2)]
