"""Disks and folders that refuse: the program goes on, each loss is counted, and one warning says why."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import pytest

from flowprov import records
from flowprov.read.verify import verify
from tests.support import WITHOUT_VERSIONS, lines, of_type, only, run, tasks

_PROGRAM = """
    import sys
    import flowprov
    from flowprov.runtime import runtime

    @flowprov.task
    def step(number):
        return "y" * 500

    with flowprov.workflow("W"):
        for number in range(int(sys.argv[1])):
            assert step(number) == "y" * 500
    captured = written = 0
    dropped = {}
    for journal in runtime.get().journals():
        captured, written, dropped = journal.counts()
    print(captured, written, sorted(dropped.items()))
"""


@pytest.fixture(params=["mapped", "write"])
def writer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_full_disk_does_not_stop_the_program_and_is_counted_and_reported_once(
    small_disk: Path, tmp_path: Path, writer: str
) -> None:
    env = {"FLOWPROV__JOURNAL__PATH": str(small_disk / "buffer"), "FLOWPROV__JOURNAL__WRITER": writer}
    printed, warnings = run(_PROGRAM, tmp_path, "5000", env=env)
    recorded = lines(small_disk)
    kept = len(of_type(recorded, records.Task)) + len(of_type(recorded, records.Workflow))
    assert printed.split()[:2] == ["5002", str(kept)]
    assert kept > 1_000
    assert f"('disk_full', {5002 - kept})" in printed
    assert warnings.count("the disk is full") == 1
    footer = only(of_type(recorded, records.Footer))
    assert footer.written == kept
    assert footer.dropped == {"disk_full": 5002 - kept}


def test_a_disk_that_is_full_from_the_start_does_not_stop_the_program(
    small_disk: Path, tmp_path: Path, writer: str
) -> None:
    with (small_disk / "ballast").open("wb") as ballast:
        ballast.write(b"x" * (1 << 20))
    env = {"FLOWPROV__JOURNAL__PATH": str(small_disk), "FLOWPROV__JOURNAL__WRITER": writer}
    printed, warnings = run(_PROGRAM, tmp_path, "10", env=env)
    assert printed.split()[:2] == ["12", "0"]
    assert "('disk_full', 12)" in printed
    assert warnings.count("flowprov stops recording") == 1


def test_the_limit_on_the_size_of_a_file_is_named(tmp_path: Path, writer: str) -> None:
    limited = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
    env = {"FLOWPROV__JOURNAL__WRITER": writer, **WITHOUT_VERSIONS}
    printed, warnings = run(limited + textwrap.dedent(_PROGRAM), tmp_path, "1000", env=env)
    assert "'disk_full'" in printed
    assert "the limit of this process on the size of a file is reached (ulimit -f)" in warnings
    assert "the disk is full" not in warnings


def test_max_bytes_stops_the_journal_and_not_the_program(tmp_path: Path, writer: str) -> None:
    env = {"FLOWPROV__JOURNAL__MAX_BYTES": "200000", "FLOWPROV__JOURNAL__WRITER": writer}
    printed, warnings = run(_PROGRAM, tmp_path, "1000", env=env)
    kept = len(tasks(tmp_path)) + 1
    assert printed.split()[:2] == ["1002", str(kept)]
    assert 100 < kept < 400
    assert warnings.count("journal.max_bytes is reached") == 1


def test_a_folder_that_cannot_be_written_sends_the_buffer_to_the_temporary_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    env = {"FLOWPROV__JOURNAL__PATH": str(tmp_path / "file" / "buffer"), "TMPDIR": str(tmp_path)}
    printed, warnings = run(_PROGRAM, tmp_path, "3", env=env)
    assert printed.startswith("5 5 []")
    assert warnings.count("flowprov cannot write its buffer in") == 1
    assert len(tasks(tmp_path / f"flowprov_buffer_{os.getuid()}")) == 3


def test_where_nothing_can_be_written_capture_is_off_counted_and_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    env = {"FLOWPROV__JOURNAL__PATH": str(tmp_path / "file" / "buffer")}
    no_temporary_folder = "import tempfile; tempfile.tempdir = '/proc/nowhere'\n"
    printed, warnings = run(no_temporary_folder + textwrap.dedent(_PROGRAM), tmp_path, "3", env=env)
    assert printed.startswith("5 0 [('write_error', 5)]")
    assert warnings.count("flowprov stops recording") == 1


def test_events_after_the_end_are_recorded(tmp_path: Path) -> None:
    code = """
        import atexit
        import flowprov
        from flowprov.runtime import runtime

        @flowprov.task
        def step():
            return 1

        atexit.register(lambda: print(runtime.get().journals()[0].counts()))
        atexit.register(step)
        step()  # starts the runtime, which is registered after these callbacks, and so closes before they run
    """
    printed, warnings = run(code, tmp_path)
    assert "(4, 4, {})" in printed, "the workflow's opening and end, and both calls"
    assert not warnings
    assert verify(tmp_path / "flowprov_buffer").verdict == "COMPLETE"
    assert len(tasks(tmp_path / "flowprov_buffer")) == 2
