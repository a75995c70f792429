"""Workers that are ended from outside when they are no longer needed leave a complete run."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowprov.read import Buffer
from flowprov.read.verify import verify
from flowprov.records import Footer, Heartbeat
from tests.cli.support import flowprov
from tests.journal.support import NS, header, step, write
from tests.support import only, run

_POOLS = """
    import os, signal, sys, time
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    import flowprov

    @flowprov.task
    def work(number):
        return number * 2

    def with_workflow(number):
        with flowprov.workflow(f"item {number}"):
            return work(number)

    def pool(method, function=work):
        with multiprocessing.get_context(method).Pool(2) as workers:
            workers.map(function, range(6), chunksize=1)

    def executor():
        with ProcessPoolExecutor(2) as workers:
            list(workers.map(work, range(6)))

    def loky():
        import joblib
        joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(work)(number) for number in range(6))
        from joblib.externals.loky import get_reusable_executor
        get_reusable_executor().shutdown(kill_workers=True)

    def loader(persistent):
        import torch
        class Data(torch.utils.data.Dataset):
            def __len__(self):
                return 6
            def __getitem__(self, index):
                return work(index)
        loader = torch.utils.data.DataLoader(Data(), num_workers=2, persistent_workers=persistent)
        for _ in range(2 if persistent else 1):
            list(loader)
        if persistent:
            for worker in loader._iterator._workers:
                worker.terminate()
                worker.join()

    def daemon():
        ready = multiprocessing.Event()
        def serve():
            work(1)
            ready.set()
            time.sleep(600)
        multiprocessing.get_context("fork").Process(target=serve, daemon=True).start()
        ready.wait()

    WAYS = {
        "fork": lambda: pool("fork"),
        "spawn": lambda: pool("spawn"),
        "forkserver": lambda: pool("forkserver"),
        "workflows": lambda: pool("fork", with_workflow),
        "executor": executor,
        "loky": loky,
        "loader": lambda: loader(False),
        "persistent loader": lambda: loader(True),
        "daemon": daemon,
    }
    if __name__ == "__main__":
        with flowprov.workflow("outer"):
            WAYS[sys.argv[1]]()
"""
_WAYS = [
    "fork",
    "spawn",
    "forkserver",
    "workflows",
    "executor",
    "loky",
    "loader",
    "persistent loader",
    "daemon",
]


@pytest.mark.parametrize("way", _WAYS)
def test_a_run_whose_workers_were_ended_is_complete(tmp_path: Path, way: str) -> None:
    for library in ("torch",) * ("loader" in way) + ("joblib",) * (way == "loky"):
        pytest.importorskip(library)
    run(_POOLS, tmp_path, way)
    folder = tmp_path / "flowprov_buffer"
    found = [row for row in Buffer(folder).records() if getattr(row, "activity_id", None) == "work"]
    assert len(found) == {"persistent loader": 12, "daemon": 1}.get(way, 6)
    verification = verify(folder)
    assert verification.verdict == "COMPLETE", verification
    result = flowprov("verify", cwd=tmp_path)
    assert (result.status, result.verdict) == (0, "COMPLETE")
    if way == "daemon":  # a pool may be faster to end its workers by a message
        assert any(check.state == "gone" and check.worker for check in verification.journals)
        assert "ended without a footer" in result.out


_KILLED_IN_A_TASK = """
    import multiprocessing, os, signal, sys, time
    import flowprov
    from flowprov.runtime import runtime

    def work(ready):
        with flowprov.task_scope("outer"):
            if sys.argv[1] == "inside":
                with flowprov.task_scope("inner"):
                    pass
            if sys.argv[1] == "heartbeat":
                flowprov.task(lambda: None)()
                for journal in runtime.get().journals():
                    journal.write_heartbeat()
            ready.set()
            time.sleep(600)

    if __name__ == "__main__":
        with flowprov.workflow("W"):
            ready = multiprocessing.Event()
            child = multiprocessing.get_context("fork").Process(target=work, args=(ready,))
            child.start()
            ready.wait()
            os.kill(child.pid, signal.SIGKILL)
            child.join()
"""


@pytest.mark.parametrize("sign", ["inside", "heartbeat"])
def test_a_worker_that_was_killed_in_a_task_leaves_an_incomplete_run(tmp_path: Path, sign: str) -> None:
    """The task itself has no record yet; a heartbeat names it, or what ran inside it does."""
    run(_KILLED_IN_A_TASK, tmp_path, sign)
    verification = verify(tmp_path / "flowprov_buffer")
    assert verification.verdict == "INCOMPLETE"
    if sign == "heartbeat":
        assert [item.name for item in verification.interrupted] == ["outer"]
    else:
        reasons = [reason for check in verification.journals for reason in check.reasons]
        assert reasons == ["1 task has something inside and no record"]


def test_a_worker_that_lost_records_is_at_fault(tmp_path: Path) -> None:
    heartbeat = Heartbeat(at=3 * NS, captured=5, written=5)
    write(tmp_path, header("w", parent_pid=1), step(0), step(1), heartbeat)
    check = only(verify(tmp_path).journals)
    assert (check.worker, check.reasons) == (True, ["3 events missing: 5 written, 2 found"])
    assert verify(tmp_path).verdict == "INCOMPLETE"


def test_a_program_that_was_ended_between_its_workflows_is_no_worker(tmp_path: Path) -> None:
    code = """
        import os, flowprov
        with flowprov.workflow("W"):
            pass
        os._exit(0)
    """
    run(code, tmp_path)
    verification = verify(tmp_path / "flowprov_buffer")
    assert verification.verdict == "INCOMPLETE", "nobody knows whether more was to come"
    assert [check.worker for check in verification.journals] == [False]


def test_workers_that_closed_their_journals_are_not_mentioned(tmp_path: Path) -> None:
    write(tmp_path, header("w", parent_pid=1), step(0), Footer(at=9 * NS, captured=1, written=1))
    assert "worker" not in flowprov("verify", str(tmp_path), cwd=tmp_path).out.partition("COMPLETE")[0]
