"""The scoreboard says to other processes which scopes are over, and never misleads them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from flowprov.runtime.scoreboard import Address, Scoreboard, open_view
from tests.support import run

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs anonymous files")


def test_a_view_sees_what_is_over_and_what_is_open() -> None:
    board = Scoreboard()
    first, second = board.new_slot(), board.new_slot()
    view = open_view(board.address)
    assert view is not None
    versions = [view.version()]
    board.mark_over(second)
    versions.append(view.version())
    board.publish({"workflow_id": "w"})
    versions.append(view.version())
    assert (view.is_over(first), view.is_over(second)) == (False, True)
    assert view.workflow() == {"workflow_id": "w"}
    assert len(set(versions)) == 3


def test_it_grows_with_the_scopes() -> None:
    board = Scoreboard()
    slots = [board.new_slot() for _ in range(20_000)]
    for slot in slots[::2]:
        board.mark_over(slot)
    view = open_view(board.address)
    assert view is not None
    assert [view.is_over(slot) for slot in slots] == [slot % 2 == 0 for slot in slots]


def test_a_view_stays_readable_while_its_board_grows_and_after_it_is_gone() -> None:
    board = Scoreboard()
    slot = board.new_slot()
    view = open_view(board.address)
    assert view is not None
    for _ in range(20_000):
        board.new_slot()
    board.mark_over(slot)
    assert view.is_over(slot)
    address = board.address
    os.close(board._file)
    del board
    assert view.is_over(slot)
    assert open_view(address) is None


@pytest.mark.parametrize("other", ["file", "short file", "pipe", "folder", "other board", "nothing"])
def test_a_number_that_another_file_has_by_now_is_refused(tmp_path: Path, other: str) -> None:
    if other == "other board":
        address = Address(Scoreboard().address.path, "00" * 16)
    else:
        path = tmp_path / "other"
        if other == "file":
            path.write_bytes(b"x" * 10_000)
        elif other == "short file":
            path.write_bytes(b"flowprov")
        elif other == "pipe":
            os.mkfifo(path)
        elif other == "folder":
            path.mkdir()
        address = Address(str(path), "00" * 16)
    assert open_view(address) is None


def test_a_workflow_that_does_not_fit_is_not_published() -> None:
    board = Scoreboard()
    view = open_view(board.address)
    assert view is not None
    board.publish({"workflow_id": "w" * 10_000})
    assert view.workflow() is None


def test_readers_never_see_half_a_text() -> None:
    board = Scoreboard()
    view = open_view(board.address)
    assert view is not None
    done = threading.Event()

    def write() -> None:
        for number in range(2_000):
            board.publish({"n": str(number) * (number % 50)})
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        text = view.workflow()
        assert text is None or set(text) == {"n"}
    writer.join()


def test_a_forked_child_changes_nothing_on_the_board_of_its_parent() -> None:
    board = Scoreboard()
    slot = board.new_slot()
    if (pid := os.fork()) == 0:
        board.mark_over(slot)
        board.publish({"child": True})
        os._exit(0)
    os.waitpid(pid, 0)
    view = open_view(board.address)
    assert view is not None
    assert (view.is_over(slot), view.workflow()) == (False, None)


_WITHOUT = """
    import os, subprocess, sys
    {cripple}
    import flowprov
    if __name__ == "__main__":
        with flowprov.workflow("W"), flowprov.task_scope("outer"):
            subprocess.run([sys.executable, "-c", "import flowprov; flowprov.task(lambda: 1)()"], check=True)
"""


@pytest.mark.parametrize(
    "cripple",
    [
        "del os.memfd_create",
        "os.memfd_create = lambda *_: open('/nowhere/at/all')",
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, 2**17))",
    ],
    ids=["not there", "fails", "files may not grow"],
)
def test_where_there_is_none_children_belong_to_what_they_inherited(tmp_path: Path, cripple: str) -> None:
    from tests.support import only, tasks

    run(_WITHOUT.format(cripple=cripple), tmp_path)
    outer = only([task for task in tasks(tmp_path) if task.activity_id == "outer"])
    inner = only([task for task in tasks(tmp_path) if task.activity_id != "outer"])
    assert inner.parent_task_id == outer.task_id


def test_variables_of_a_process_that_is_gone_harm_nobody(tmp_path: Path) -> None:
    code = """
        import os
        import flowprov
        from flowprov.runtime import inheritance, runtime
        with flowprov.workflow("W"):
            for name, value in inheritance.variables(runtime.peek()).items():
                print(f"{name}={value}")
    """
    printed, _ = run(code, tmp_path)
    variables = dict(line.split("=", 1) for line in printed.splitlines())
    for broken in (variables, {**variables, "FLOWPROV_SCOREBOARDS": "{nonsense"}):
        run("import flowprov\nflowprov.task(lambda: 1)()", tmp_path, env=broken)
    from tests.support import tasks

    assert [task.workflow_id for task in tasks(tmp_path)] == [variables["FLOWPROV_WORKFLOW_ID"]] * 2


def test_it_takes_two_files_of_a_process_and_no_name(tmp_path: Path) -> None:
    code = """
        import os, subprocess, sys
        import flowprov
        with flowprov.workflow("W"):
            before = len(os.listdir("/proc/self/fd"))
            for n in range(50):
                with flowprov.task_scope("start"):
                    subprocess.run(["true"], check=True)
            assert len(os.listdir("/proc/self/fd")) <= before + 3, "board, its map, and roll"
            child = "import os; print(len(os.listdir('/proc/self/fd')))"
            with_board = subprocess.check_output([sys.executable, "-c", child])
        assert int(with_board) <= 4, "the child has none of its own"
    """
    run(code, tmp_path)
    assert subprocess.run([sys.executable, "-c", ""], check=True).returncode == 0
