"""Somebody removes, moves, replaces or cuts the file of a journal while the process goes on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import flowprov
from flowprov.journal.files import create_journal_file
from flowprov.journal.format import find_journals
from flowprov.journal.liveness import writer_is_gone
from flowprov.read.verify import verify
from flowprov.records import Footer, Header, Task
from tests.journal.support import open_journal
from tests.support import WITHOUT_VERSIONS, lines, lines_of, of_type, only, run

_PROGRAM = """
    import os, pathlib, shutil, sys, time
    import flowprov
    from flowprov.runtime import runtime

    @flowprov.task
    def step(number):
        return number

    def journal():
        return only(runtime.get().journals())

    def only(items):
        assert len(items) == 1
        return items[0]

    def wait_for_another_file(before):
        until = time.monotonic() + 30
        while journal().path == before and time.monotonic() < until:
            time.sleep(0.01)

    buffer, how, noticed_by = pathlib.Path("flowprov_buffer"), sys.argv[1], sys.argv[2]
    campaign = flowprov.campaign(campaign_id="c1")
    campaign.start()
    outer = flowprov.workflow("outer")
    outer.start()
    with flowprov.task_scope("long"):
        for number in range(100):
            step(number)
        path = journal().path
        if how == "removed":
            shutil.rmtree(buffer)
        elif how == "replaced":
            shutil.copy(path, "copy")
            os.replace("copy", path)
        elif how == "moved":
            buffer.rename("archive")
        elif how == "cut":
            os.truncate(path, 0)
        elif how == "cut in half":
            os.truncate(path, path.stat().st_size // 2 if sys.argv[3] == "write" else 10_000)
        if noticed_by == "heartbeat":
            wait_for_another_file(path)
            for number in range(100, 200):
                step(number)
        else:
            with flowprov.workflow("inner"):
                for number in range(100, 200):
                    step(number)
    outer.stop()
    campaign.stop()
"""


@pytest.mark.parametrize("writer", ["mapped", "write"])
@pytest.mark.parametrize("noticed_by", ["heartbeat", "workflow"])
@pytest.mark.parametrize("how", ["removed", "replaced", "moved", "cut", "cut in half"])
def test_recording_goes_on_in_another_file(tmp_path: Path, how: str, noticed_by: str, writer: str) -> None:
    env = {**WITHOUT_VERSIONS, "FLOWPROV__JOURNAL__WRITER": writer}  # what is cut has a known size
    env["FLOWPROV__JOURNAL__HEARTBEAT"] = "0.05" if noticed_by == "heartbeat" else "60"
    _, warnings = run(_PROGRAM, tmp_path, how, noticed_by, writer, env=env)
    assert warnings.count("while it was being written") == 1
    buffer = tmp_path / "flowprov_buffer"
    rows = flowprov.read_buffer(buffer, campaign_id="c1", return_df=False)
    recorded = {row["used"]["number"] for row in rows if row["activity_id"] == "step"}
    assert set(range(100, 200)) <= recorded, "all that came later is there"
    assert [row["status"] for row in rows if row["activity_id"] == "long"] == ["FINISHED"]
    assert "outer" in {row["name"] for row in rows}, "the workflow is still known by its name"
    assert {row["status"] for row in rows} == {"FINISHED"}
    verification = verify(buffer, campaign_id="c1")
    reasons = " ".join(reason for check in verification.journals for reason in check.reasons)
    if how in ("removed", "replaced"):
        lost = int(warnings.split(" records are lost with it")[0].split()[-1])
        assert lost in (101, 102)  # an open record is no event
        assert f"removed {lost}" in reasons
        assert verification.verdict == "INCOMPLETE"
    elif how == "moved":
        assert "lost" not in warnings
        assert verify(tmp_path / "archive", campaign_id="c1").journals[0].state == "closed"
    else:
        assert "missing" in reasons or "damaged" in reasons
        assert verification.verdict == "INCOMPLETE"


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_a_folder_that_is_removed_at_the_end_is_not_created_again(tmp_path: Path, writer: str) -> None:
    journal = open_journal(tmp_path / "buffer", writer)
    for number in range(10):
        journal.append(b'{"type":"task","task_id":%d}\n' % number)
    shutil.rmtree(tmp_path / "buffer")
    journal.close()
    assert not (tmp_path / "buffer").exists()


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_what_was_dropped_before_the_file_was_removed_is_not_forgotten(tmp_path: Path, writer: str) -> None:
    journal = open_journal(tmp_path / "buffer", writer)
    for number in range(10):
        journal.append(b'{"type":"task","task_id":%d}\n' % number)
    journal.drop("fault")
    for _ in range(2):
        shutil.rmtree(tmp_path / "buffer")
        journal.check_file()
        journal.append(b'{"type":"task","task_id":11}\n')
    assert journal.counts() == (13, 1, {"fault": 1, "removed": 11})
    journal.close()
    footer = only(of_type(lines(tmp_path / "buffer"), Footer))
    assert (footer.captured, footer.written) == (13, 1)


@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_threads_that_append_while_the_file_is_removed_lose_nothing_unsaid(
    tmp_path: Path, writer: str
) -> None:
    journal, done = open_journal(tmp_path / "buffer", writer), threading.Event()
    appended = [0] * 4

    def work(name: int) -> None:
        while not done.is_set():
            journal.append(b'{"type":"task","task_id":"%d-%d"}\n' % (name, appended[name]))
            appended[name] += 1

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        time.sleep(0.02)
        shutil.rmtree(tmp_path / "buffer", ignore_errors=True)
        journal.check_file()
    done.set()
    for thread in threads:
        thread.join()
    captured, written, dropped = journal.counts()
    assert written + dropped["removed"] == captured
    journal.append(b'{"type":"task","task_id":0}\n')
    journal.close()
    kept = sum(len(of_type(lines_of(path), Task)) for path in find_journals(tmp_path / "buffer"))
    assert kept == journal.counts()[1]
    assert captured == sum(appended)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="flowprov-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to become another user and back")
def test_a_mapped_file_is_not_cut_by_accident(open_folder: Path) -> None:
    uid = 65534
    os.chown(open_folder, uid, -1)
    os.seteuid(uid)
    try:
        journal = open_journal(open_folder, "mapped")
        journal.append(b'{"type":"task","task_id":0}\n')
        assert journal.path is not None
        with pytest.raises(PermissionError):
            journal.path.open("w")
        with pytest.raises(PermissionError):
            os.truncate(journal.path, 0)
        assert not writer_is_gone(journal.path, _header(journal.path), 0), "readers read it as before"
        journal.write_heartbeat()
        journal.close()
        with journal.path.open("ab"):
            pass  # it can be written again
        journal.path.unlink()
    finally:
        os.seteuid(0)


def _header(path: Path) -> Header:
    header: Header = only(of_type(lines_of(path), Header))
    return header


_REMOVES = "import shutil, sys\nwhile True: shutil.rmtree(sys.argv[1], ignore_errors=True)"


def test_a_journal_is_created_in_a_folder_that_somebody_removes_again_and_again(tmp_path: Path) -> None:
    buffer = tmp_path / "buffer"
    with subprocess.Popen([sys.executable, "-c", _REMOVES, str(buffer)]) as removing:
        try:
            for number in range(2_000):
                created = create_journal_file(buffer, "c1", "node-1", f"{number:032x}")
                created.file.close()
                assert created.path.is_relative_to(buffer)
        finally:
            removing.kill()
