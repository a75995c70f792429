"""Threads that record while a journal is closed: each event is before the last footer, which counts it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from flowprov import records
from flowprov.journal import Journal
from flowprov.journal.format import find_journals
from tests.journal.support import open_journal
from tests.support import lines_of, of_type, only, run

LINE = b'{"type":"task","task_id":%d}\n'


def _append_in_thread(journal: Journal, number: int) -> threading.Thread:
    """Append an event in another thread, which may have to wait until the journal is closed."""
    thread = threading.Thread(target=journal.append, args=(LINE % number,))
    thread.start()
    thread.join(0.2)
    return thread


@pytest.mark.parametrize("sync", ["off", "interval"])
@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_an_event_that_comes_while_the_footer_is_written_is_counted(
    tmp_path: Path, writer: str, sync: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = open_journal(tmp_path, writer, sync=sync)
    journal.append(LINE % 0)
    threads = []
    for number, name in enumerate(("sync", "close"), 1):
        function = getattr(journal._writer, name)

        def recorded_meanwhile(function: object = function, number: int = number) -> object:
            threads.append(_append_in_thread(journal, number))
            return function()  # type: ignore[operator]

        monkeypatch.setattr(journal._writer, name, recorded_meanwhile, raising=False)
    journal.close()
    for thread in threads:
        thread.join()
    written = lines_of(only(find_journals(tmp_path)))
    assert len(of_type(written, records.Task)) == 1 + len(threads)
    assert isinstance(written[-1], records.Footer)
    assert (written[-1].captured, written[-1].written) == (1 + len(threads), 1 + len(threads))


def test_an_event_that_a_thread_has_appended_and_not_counted_yet_is_counted(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.append(LINE % 0)
    appended, go_on, count = threading.Event(), threading.Event(), journal.count

    def wait_before_it_is_counted() -> int:
        if threading.current_thread() is thread:
            appended.set()
            go_on.wait(60)
        return count()

    journal.count = wait_before_it_is_counted
    thread = threading.Thread(target=journal.append, args=(LINE % 1,))
    thread.start()
    assert appended.wait(60)
    journal.close()
    go_on.set()
    thread.join()
    written = lines_of(only(find_journals(tmp_path)))
    assert only(of_type(written, records.Footer)).written == 2


def test_the_last_footer_counts_all_that_daemon_threads_recorded_until_the_end(
    tmp_path: Path,
) -> None:
    code = """
        import threading, time, flowprov

        @flowprov.task
        def function():
            time.sleep(0.0005)

        def record():
            while True:
                function()

        with flowprov.workflow("w"):
            for _ in range(4):
                threading.Thread(target=record, daemon=True).start()
            time.sleep(0.2)
    """
    for number in range(5):
        (folder := tmp_path / str(number)).mkdir()
        run(code, folder)
        written = lines_of(only(find_journals(folder)))
        events = [record for record in written if isinstance(record, (records.Task, records.Workflow))]
        assert isinstance(written[-1], records.Footer)
        assert (written[-1].written, written[-1].dropped) == (len(events), None)
