"""What the threads of flowprov wait for comes, whatever signals arrive meanwhile."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowprov import records
from flowprov.journal import Identity, Journal
from flowprov.journal.format import find_journals
from flowprov.journal.maintenance import JournalMaintenance
from flowprov.records import Heartbeat
from flowprov.settings import JournalSettings
from flowprov.threads import AutoResetEvent
from tests.journal.support import step
from tests.support import PATIENCE_S, lines_of, of_type, only, wait_until

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals go to no thread here")

_WAIT_S = 0.01


@pytest.fixture
def ignored() -> Iterator[None]:
    """Have a handler for a signal that does nothing: a system call is interrupted all the same."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    yield
    signal.signal(signal.SIGUSR1, before)


def send(thread: threading.Thread, seconds: float) -> None:
    """Send signals to a thread at arbitrary moments, while another one keeps the interpreter busy."""
    end = time.monotonic() + seconds

    def spin() -> None:
        while time.monotonic() < end:
            pass

    busy = threading.Thread(target=spin)
    busy.start()
    while time.monotonic() < end and thread.is_alive():
        signal.pthread_kill(thread.ident, signal.SIGUSR1)  # type: ignore[arg-type] # it was started
        time.sleep(random.random() * _WAIT_S)  # noqa: S311 - the signals are at random moments
    busy.join()


@pytest.mark.usefixtures("ignored")
def test_a_wait_ends_in_time_though_signals_interrupt_it() -> None:
    event, rounds = AutoResetEvent(), 0

    def wait() -> None:
        nonlocal rounds
        for _ in range(100):
            event.wait(_WAIT_S)
            rounds += 1

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    send(thread, 2)
    thread.join(PATIENCE_S)
    assert rounds == 100


def test_who_waits_goes_on_when_it_is_set_and_then_waits_again() -> None:
    event, rounds = AutoResetEvent(), 0

    def wait() -> None:
        nonlocal rounds
        while rounds < 3:
            event.wait(PATIENCE_S)
            rounds += 1

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    for number in (1, 2, 3):
        event.set()
        wait_until(lambda: rounds >= number)  # noqa: B023 - called at once
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_setting_it_twice_is_setting_it_once() -> None:
    event = AutoResetEvent()
    event.set()
    event.set()
    event.wait(PATIENCE_S)
    before = time.monotonic()
    event.wait(_WAIT_S)
    assert time.monotonic() - before > _WAIT_S / 2


def test_a_forked_child_sets_an_event_and_waits_for_it_whoever_waited_in_its_parent() -> None:
    event, forked = AutoResetEvent(), threading.Event()

    def wait() -> None:
        while not forked.is_set():
            event.wait(_WAIT_S)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    child = os.fork()
    if child == 0:
        signal.alarm(int(PATIENCE_S))
        for _ in range(2):
            event.set()
            event.wait(PATIENCE_S * 2)
        os._exit(0)
    forked.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join(PATIENCE_S)


@pytest.mark.parametrize("kind", [RuntimeError, RecursionError, KeyboardInterrupt])
def test_an_exception_from_outside_passes_on(kind: type[BaseException]) -> None:
    class Interrupted:
        def release(self) -> None:
            raise kind

    event = AutoResetEvent()
    event._unset = Interrupted()  # type: ignore[assignment]
    with pytest.raises(kind):
        event.set()


@pytest.mark.usefixtures("ignored")
def test_heartbeats_go_on_though_signals_interrupt_the_maintenance(tmp_path: Path) -> None:
    maintenance = JournalMaintenance()
    settings = JournalSettings(path=str(tmp_path), heartbeat=_WAIT_S)
    journal = Journal(settings, Identity(campaign_id="c1", hostname="node-1"), maintenance)
    journal.append(records.encode(step(0)))
    thread = only([one for one in threading.enumerate() if one.name == "flowprov-maintenance"])

    def beats() -> int:
        return len(of_type(lines_of(only(find_journals(tmp_path))), Heartbeat))

    send(thread, 2)
    before = beats()
    wait_until(lambda: beats() > before)
    assert maintenance.stop()
    journal.close()
