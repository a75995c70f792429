"""Threads are started whole or not at all, whatever the handler of a signal raises meanwhile."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flowprov.threads import start_thread
from tests.support import run


def test_a_thread_runs_when_the_function_returns() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait, daemon=True)
    start_thread(thread)
    assert thread.is_alive()
    go.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_thread_that_cannot_be_started_raises_in_the_caller() -> None:
    thread = threading.Thread(target=int, daemon=True)
    start_thread(thread)
    with pytest.raises(RuntimeError, match="once"):
        start_thread(thread)


def test_an_alarm_that_raises_leaves_no_thread_that_the_library_has_forgotten(tmp_path: Path) -> None:
    printed, errors = run(
        """
        import random, signal, threading, time
        from flowprov.threads import start_thread

        class Alarm(Exception):
            pass

        def ring(*_):
            raise Alarm

        signal.signal(signal.SIGALRM, ring)
        arrived = 0
        for _ in range(2000):
            thread = threading.Thread(target=int, daemon=True)
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 2e-4))
                start_thread(thread)
                time.sleep(0.001)
            except Alarm:
                arrived += 1
        while any(other is not threading.main_thread() for other in threading.enumerate()):
            pass
        print(arrived)
        """,
        tmp_path,
    )
    assert int(printed) > 1900  # Python itself ignores those that arrive in the callback of a weak reference
    assert "in thread started by" not in errors
