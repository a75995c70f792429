"""A process that joined a workflow and left no journal is named, and no verdict is given without it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowprov.journal.files import UNWRITTEN
from flowprov.journal.format import find_journals
from flowprov.read.verify import verify
from flowprov.records import Participant
from tests.support import clean_environment, lines, of_type, only, run, tasks

# A program whose child works ten times; what the child does before is the case.
_PROGRAM = """
import concurrent.futures, multiprocessing, os, resource, subprocess, sys
import flowprov

@flowprov.task
def step(number):
    return number

def work(before):
    exec(before)
    for number in range(10):
        step(number)

def fork(before):
    if (child := os.fork()) == 0:
        try:
            work(before)
        finally:
            os._exit(0)
    os.waitpid(child, 0)

def in_process(method):
    def start(before):
        child = multiprocessing.get_context(method).Process(target=work, args=(before,))
        child.start()
        child.join()
    return start

def pool(before):
    with multiprocessing.get_context("fork").Pool(1, initializer=exec, initargs=(before,)) as workers:
        workers.map(step, range(10), chunksize=10)
        workers.close()
        workers.join()

def executor(before):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, context, exec, (before,)) as workers:
        list(workers.map(step, range(10)))

def program(before):
    subprocess.run([sys.executable, __file__, "child", before], check=True)

KINDS = {"fork": fork, "fork_process": in_process("fork"), "spawn_process": in_process("spawn"),
         "pool": pool, "executor": executor, "program": program}

if __name__ == "__main__":
    if sys.argv[1] == "child":
        work(sys.argv[2])
    else:
        with flowprov.workflow("outer"), flowprov.task_scope("around"):
            step(-1)
            KINDS[sys.argv[1]](sys.argv[2])
"""
KINDS = ["fork", "fork_process", "spawn_process", "pool", "executor", "program"]
# Nothing can be written from here on: not a byte (as on a full disk), or no file at all.
_FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))"


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_that_configures_records_all_and_in_its_campaign(tmp_path: Path, kind: str) -> None:
    run(_PROGRAM, tmp_path, kind, "import flowprov; flowprov.configure(journal={'heartbeat': 7})")
    buffer = tmp_path / "flowprov_buffer"
    assert len([task for task in tasks(buffer) if task.activity_id == "step"]) == 11
    assert len({task.workflow_id for task in tasks(buffer)}) == 1
    assert verify(buffer).verdict == "COMPLETE"


@pytest.mark.parametrize("kind", KINDS)
def test_a_child_that_can_write_nothing_is_named(tmp_path: Path, kind: str) -> None:
    run(_PROGRAM, tmp_path, kind, _FULL)
    verification = verify(tmp_path / "flowprov_buffer")
    assert verification.verdict == "INCOMPLETE"
    assert "could not write its journal" in only(verification.missing)


@pytest.mark.parametrize("kind", ["fork", "spawn_process"])
def test_a_child_that_can_write_nothing_leaves_a_name_in_the_buffer(tmp_path: Path, kind: str) -> None:
    """So it is noticed also where its parent was killed, or knows nothing of it."""
    run(_PROGRAM, tmp_path, kind, _FULL)
    buffer = tmp_path / "flowprov_buffer"
    trace = only(list(buffer.rglob(f"*{UNWRITTEN}")))
    assert trace.stat().st_size == 0
    journal = only(find_journals(buffer))
    text = journal.read_bytes()
    journal.write_bytes(b"\n".join(line for line in text.split(b"\n") if b'"participant"' not in line))
    assert any(str(trace) in sentence for sentence in verify(buffer).missing)


@pytest.mark.parametrize("kind", ["fork", "spawn_process", "program"])
def test_a_child_whose_journal_is_gone_is_named(tmp_path: Path, kind: str) -> None:
    run(_PROGRAM, tmp_path, kind, "")
    buffer = tmp_path / "flowprov_buffer"
    assert verify(buffer).verdict == "COMPLETE"
    participant = only(of_type(lines(buffer), Participant))
    (buffer / next(buffer.iterdir()).name / participant.journal).unlink()
    verification = verify(buffer)
    assert verification.verdict == "INCOMPLETE"
    assert f"process {participant.pid} on " in only(verification.missing)
    assert f" has no journal here: {participant.journal} is gone" in only(verification.missing)


def test_a_child_that_records_into_a_buffer_of_its_own_is_not_missed(tmp_path: Path) -> None:
    own = tmp_path / "own"
    before = f"import flowprov; flowprov.configure(journal={{'path': {str(own)!r}}})"
    run(_PROGRAM, tmp_path, "program", before)
    assert len(tasks(own)) == 10
    assert verify(tmp_path / "flowprov_buffer").missing == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 200 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "none", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("kind", ["fork", "spawn_process", "program"])
def test_a_child_whose_disk_is_full_from_its_start_is_named(
    tmp_path: Path, small_disk: Path, kind: str
) -> None:
    fill = f"""
try:
    with open({str(small_disk / "ballast")!r}, "wb", buffering=0) as file:
        while file.write(bytes(4096)) == 4096:
            pass
except OSError:
    pass
"""
    run(_PROGRAM, tmp_path, kind, fill, env={"FLOWPROV__JOURNAL__PATH": str(small_disk / "buffer")})
    verification = verify(small_disk / "buffer")
    assert verification.verdict == "INCOMPLETE"
    assert any("could not write its journal" in sentence for sentence in verification.missing)


@pytest.mark.parametrize("kind", ["fork", "program"])
def test_a_child_that_fell_back_to_the_temporary_folder_is_named(tmp_path: Path, kind: str) -> None:
    buffer, temporary = tmp_path / "flowprov_buffer", tmp_path / "temporary"
    temporary.mkdir()
    program = tmp_path / "program.py"
    program.write_text(_PROGRAM)
    # A mount that the child alone sees, in a namespace of its own (CLONE_NEWNS).
    before = (
        "import ctypes; assert ctypes.CDLL(None).unshare(0x20000) == 0; "
        f"subprocess.run(['mount', '-t', 'tmpfs', '-o', 'ro', 'none', {str(buffer)!r}], check=True)"
    )
    done = subprocess.run(
        ["unshare", "-m", sys.executable, str(program), kind, before],
        cwd=tmp_path,
        env=clean_environment(TMPDIR=str(temporary)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "unshare" in done.stderr:
        pytest.skip("this user cannot mount")
    assert done.returncode == 0, done.stderr
    own = only(find_journals(temporary))
    assert len(tasks(temporary)) == 10
    verification = verify(buffer)
    assert verification.verdict == "INCOMPLETE"
    assert any(str(own) in sentence for sentence in verification.missing)


def test_journals_in_the_folder_of_last_resort_are_found_by_who_verifies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(_PROGRAM, tmp_path, "program", "")
    buffer = tmp_path / "flowprov_buffer"
    last_resort = tmp_path / "last"
    monkeypatch.setattr("flowprov.read.participants.fallback_folder", lambda: last_resort)
    moved = find_journals(buffer)[-1]
    target = last_resort / moved.relative_to(buffer)
    target.parent.mkdir(parents=True)
    moved.rename(target)
    sentences = [sentence for sentence in verify(buffer).missing if str(target.parent) in sentence]
    assert f"copy it to {moved.parent}" in only(sentences)
    shutil.move(target, moved)
    assert verify(buffer).verdict == "COMPLETE"


@pytest.mark.parametrize(
    "late",
    [
        "atexit.register(step, 1); step(0)",
        "step(0); keep = Late()",
        "atexit.register(lambda: [step(n) for n in range(1, 4)]); step(0)",
        "atexit.register(step, 1)",
        "atexit.register(os.remove, 'x'); atexit.register(step, 1); flowprov.Loop(0); step(0)",
        "atexit.register(lambda: list(flowprov.Loop(2))); step(0)",
        "atexit.register(lambda: flowprov.workflow('late').start().stop()); step(0)",
    ],
)
def test_what_comes_after_the_footer_is_recorded(tmp_path: Path, late: str) -> None:
    code = f"""
import atexit, os
import flowprov

@flowprov.task
def step(number):
    return number

class Late:
    def __del__(self):
        step(1)

open("x", "w").close()
{late}
print(3)
"""
    _, stderr = run(code, tmp_path)
    buffer = tmp_path / "flowprov_buffer"
    assert "Traceback" not in stderr
    assert len(tasks(buffer)) >= 1
    assert verify(buffer).verdict == "COMPLETE"
    assert any(task.used.get("number", task.used.get("i")) == 1 for task in tasks(buffer) if task.used) or (
        "workflow" in late
    )


def test_an_event_after_the_footer_that_cannot_be_written_is_no_silent_loss(tmp_path: Path) -> None:
    code = """
        import atexit, os, resource
        import flowprov
        step = flowprov.task(lambda: 1)
        atexit.register(step)
        atexit.register(resource.setrlimit, resource.RLIMIT_FSIZE, (0, 0))
        step()
    """
    _, stderr = run(code, tmp_path)
    assert "flowprov stops recording" in stderr


@pytest.mark.parametrize("years", [1, 300])
def test_a_killed_journal_from_the_future_is_not_running(tmp_path: Path, years: int) -> None:
    from flowprov.journal import liveness
    from flowprov.records import Header
    from tests.support import lines_of

    code = "import os, flowprov\nflowprov.workflow('W').start()\nos._exit(0)"
    run(code, tmp_path)
    journal = only(find_journals(tmp_path / "flowprov_buffer"))
    header = only(of_type(lines_of(journal), Header))
    ahead = header.started_at + years * 31_556_952 * 10**9
    assert liveness.is_long_silent(header, ahead)
    mark = journal.with_suffix(".replica")
    mark.touch()
    os.utime(mark, ns=(ahead, ahead))
    assert liveness.is_writer_expected(journal), "the mark was set now, until then"
    clock = pytest.MonkeyPatch()
    clock.setattr(liveness, "wall_ns", lambda: header.started_at - 86_400 * 10**9)
    assert not liveness.is_writer_expected(journal), "the mark was set by a clock that is a day ahead"
    clock.undo()
    mark.unlink()
    assert verify(tmp_path / "flowprov_buffer").verdict == "INCOMPLETE"
