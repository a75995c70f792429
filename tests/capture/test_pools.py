"""What a worker of a pool records belongs to the workflow that uses the pool, not to its first one."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest

import flowprov
from flowprov import records
from tests.support import lines, of_type, run

_PROGRAM = """
    import atexit, multiprocessing, os, sys, time
    from concurrent.futures import ProcessPoolExecutor
    import flowprov

    @flowprov.task
    def step(name):
        return os.getpid()

    class Executor:
        def __init__(self, method, **options):
            self.pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method), **options)

        def map(self, names):
            return list(self.pool.map(step, names))

        def close(self):
            self.pool.shutdown()

    class Submitting(Executor):
        def map(self, names):
            return [future.result() for future in [self.pool.submit(step, name) for name in names]]

    class Pool:
        def __init__(self, method, **options):
            self.pool = multiprocessing.get_context(method).Pool(2, **options)

        def map(self, names):
            return self.pool.map(step, names)

    class Imap(Pool):
        def map(self, names):
            return list(self.pool.imap(step, names))

    class Chunks(Pool):
        def map(self, names):
            return list(self.pool.imap_unordered(step, names, chunksize=2))

    class Apply(Pool):
        def map(self, names):
            return [self.pool.apply(func=step, args=(name,)) for name in names]

    class Starmap(Pool):
        def map(self, names):
            return self.pool.starmap(step, [(name,) for name in names])

    class Loky:
        def __init__(self, **options):
            import joblib
            self.joblib, self.options = joblib, options

        def map(self, names):
            delayed = self.joblib.delayed(step)
            return self.joblib.Parallel(n_jobs=2, **self.options)(delayed(name) for name in names)

        def close(self):
            self.joblib.externals.loky.get_reusable_executor().shutdown()

    class Workers:
        "A pool by hand: workers that live on and take their work from a queue."

        def __init__(self, method):
            context = multiprocessing.get_context(method)
            self.names, self.results = context.Queue(), context.Queue()
            for _ in range(2):
                context.Process(target=serve, args=(self.names, self.results)).start()
            atexit.register(self.close)

        def close(self):
            for _ in range(2):
                self.names.put(None)

        def map(self, names):
            for name in names:
                self.names.put(name)
            return [self.results.get() for _ in names]

    def serve(names, results):
        while (name := names.get()) is not None:
            results.put(step(name))

    class Loader:
        def __init__(self):
            import torch.utils.data as data

            class Steps(data.Dataset):
                names = []

                def __len__(self): return 4

                def __getitem__(self, index):
                    return step(str(index))

            self.loader = data.DataLoader(Steps(), num_workers=2, persistent_workers=True)

        def map(self, names):
            return [int(pid) for pid in self.loader]
"""

POOLS = {
    "ProcessPoolExecutor.map, fork": "Executor('fork')",
    "ProcessPoolExecutor.map, spawn": "Executor('spawn')",
    "ProcessPoolExecutor.submit, forkserver": "Submitting('forkserver')",
    "Pool.map, fork": "Pool('fork')",
    "Pool.map, spawn": "Pool('spawn')",
    "Pool.imap": "Imap('fork')",
    "Pool.imap_unordered": "Chunks('fork')",
    "Pool.apply": "Apply('fork')",
    "Pool.starmap": "Starmap('fork')",
    "joblib": "Loky()",
    "joblib, one by one": "Loky(pre_dispatch=1, batch_size=1)",
    "joblib, multiprocessing": "Loky(backend='multiprocessing')",
    "workers of one's own, fork": "Workers('fork')",
    "workers of one's own, spawn": "Workers('spawn')",
    "DataLoader": "Loader()",
}
# Their items carry the scope in which they were submitted; workers of the others ask for the open workflow.
CARRYING = [name for name in POOLS if name.startswith(("ProcessPool", "Pool"))]


def _workflow_of_steps(folder: Path) -> tuple[list[str | None], list[str | None]]:
    """Return the names of the workflows and of the parent tasks of all steps, in their order."""
    rows = flowprov.read_buffer(folder / "flowprov_buffer", return_df=False, merge=True)
    names = {row["workflow_id"]: row["name"] for row in rows if row["type"] == "workflow"}
    activities = {row["task_id"]: row["activity_id"] for row in rows if row["type"] == "task"}
    steps = sorted((row for row in rows if row["activity_id"] == "step"), key=lambda row: row["started_at"])
    return (
        [names.get(row["workflow_id"]) for row in steps],
        [activities.get(row["parent_task_id"]) for row in steps],
    )


def _run(body: str, folder: Path) -> None:
    code = "\n".join("        " + line for line in body.strip().splitlines())
    run(f"{_PROGRAM}\n    if __name__ == '__main__':\n{code}\n", folder)
    footers = of_type(lines(folder), records.Footer)
    assert [footer.internal_errors for footer in footers if footer.internal_errors] == []


@pytest.mark.parametrize("pool", POOLS.values(), ids=POOLS)
def test_steps_belong_to_the_workflow_that_uses_the_pool(tmp_path: Path, pool: str) -> None:
    body = f"""
names = list("0123")
with flowprov.workflow("first"):
    with flowprov.task_scope("outer"):
        pool = {pool}
        pids = {{*pool.map(names)}}
    pids |= {{*pool.map(names)}}
with flowprov.workflow("second"):
    pids |= {{*pool.map(names)}}
with flowprov.workflow("third"):
    with flowprov.workflow("inside"):
        pids |= {{*pool.map(names)}}
assert os.getpid() not in pids, pids
"""
    _run(body, tmp_path)
    workflows, parents = _workflow_of_steps(tmp_path)
    assert workflows == ["first"] * 8 + ["second"] * 4 + ["inside"] * 4
    assert parents == ["outer"] * 4 + [None] * 12


@pytest.mark.parametrize("pool", [POOLS[name] for name in CARRYING], ids=CARRYING)
def test_each_item_belongs_to_the_task_that_handed_it_over(tmp_path: Path, pool: str) -> None:
    body = f"""
with flowprov.workflow("W"):
    pool = {pool}
    for epoch in flowprov.Loop(3, name="epoch"):
        pool.map([f"{{epoch}}", f"{{epoch}}"])
"""
    _run(body, tmp_path)
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False, merge=True)
    epochs = {row["task_id"]: row["used"]["i"] for row in rows if row["activity_id"] == "epoch_iteration"}
    steps = [row for row in rows if row["activity_id"] == "step"]
    assert len(steps) == 6
    assert all(epochs[row["parent_task_id"]] == int(row["used"]["name"]) for row in steps)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_item_that_runs_after_its_workflow_closed_still_belongs_to_it(tmp_path: Path, method: str) -> None:
    body = f"""
pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("{method}"))
with flowprov.workflow("first"):
    futures = [pool.submit(time.sleep, .5), *[pool.submit(step, "0") for _ in range(4)]]
with flowprov.workflow("second"):
    futures.append(pool.submit(step, "1"))
    for future in futures:
        future.result()
"""
    _run(body, tmp_path)
    assert _workflow_of_steps(tmp_path)[0] == ["first"] * 4 + ["second"]


@pytest.mark.parametrize(
    "pool", ["Executor('fork')", "Executor('spawn')", "Loky()", "Workers('spawn')", "Loader()"]
)
def test_a_workflow_that_is_over_is_not_joined_again(tmp_path: Path, pool: str) -> None:
    body = f"""
names = list("0123")
with flowprov.campaign(campaign_id="family"):
    with flowprov.workflow("first"):
        pool = {pool}
        pool.map(names)
    pool.map(names)
    with flowprov.workflow("second"):
        pool.map(names)
"""
    _run(body, tmp_path)
    workflows, _ = _workflow_of_steps(tmp_path)
    assert workflows == ["first"] * 4 + ["program"] * 4 + ["second"] * 4
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False, merge=True)
    assert {row["campaign_id"] for row in rows} == {"family"}
    assert {row["subtype"] for row in rows if row["name"] == "program"} == {"implicit"}


@pytest.mark.parametrize("pool", ["Executor('fork')", "Executor('spawn')", "Apply('fork')", "Imap('spawn')"])
def test_a_pool_that_is_older_than_the_first_workflow_carries_it_too(tmp_path: Path, pool: str) -> None:
    body = f"""
pool = {pool}
pool.pool.{{}}(os.getpid)
with flowprov.workflow("first"), flowprov.task_scope("outer"):
    pool.map(list("0123"))
""".format("submit" if "Executor" in pool else "apply")
    _run(body, tmp_path)
    assert _workflow_of_steps(tmp_path) == (["first"] * 4, ["outer"] * 4)


@pytest.mark.parametrize("pool", ["Loky()", "Workers('spawn')"])
def test_a_worker_of_an_older_pool_has_its_first_event_in_a_workflow_of_another_campaign(
    tmp_path: Path, pool: str
) -> None:
    """The worker creates the journal of that campaign while it looks for the workflow."""
    body = f"""
with flowprov.workflow("first"):
    pool = {pool}
    pool.map([])
with flowprov.campaign(campaign_id="second"), flowprov.workflow("second"):
    pool.map(list("01"))
"""
    _run(body, tmp_path)
    rows = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False, campaign_id="second")
    (workflow,) = {row["workflow_id"] for row in rows if row["name"] == "second"}
    assert [row["workflow_id"] for row in rows if row["activity_id"] == "step"] == [workflow] * 2


@pytest.mark.parametrize(
    "pool",
    [
        "Pool('fork', maxtasksperchild=1)",
        "Imap('spawn', maxtasksperchild=1)",
        "Apply('fork', maxtasksperchild=1)",
        pytest.param(
            "Executor('spawn', max_tasks_per_child=1)",
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="has no such option"),
        ),
    ],
)
def test_workers_that_replace_others_have_the_parent_task_too(tmp_path: Path, pool: str) -> None:
    body = f"""
with flowprov.workflow("W"), flowprov.task_scope("outer"):
    pool = {pool}
    assert len(set(pool.map(list("012345")))) > 2
"""
    _run(body, tmp_path)
    assert _workflow_of_steps(tmp_path) == (["W"] * 6, ["outer"] * 6)


@pytest.mark.parametrize("pool", ["Executor('fork')", "Executor('spawn')", "Loky()", "Workers('fork')"])
def test_a_pool_inside_a_worker_follows_the_outermost_program(tmp_path: Path, pool: str) -> None:
    code = (
        textwrap.dedent(_PROGRAM)
        + f"""
nested = []

def deep(name):
    if not nested:
        nested.append({pool})
    return nested[0].map([name]) if name else nested[0].close()

if __name__ == "__main__":
    outer = ProcessPoolExecutor(1)
    for name in ("first", "second"):
        with flowprov.workflow(name):
            outer.submit(deep, name).result()
            outer.submit(deep, name).result()
    outer.submit(deep, None).result()
"""
    )
    run(code, tmp_path)
    assert _workflow_of_steps(tmp_path)[0] == ["first"] * 2 + ["second"] * 2


def test_errors_of_items_and_threads_in_pools_are_left_alone(tmp_path: Path) -> None:
    body = """
from multiprocessing.pool import ThreadPool
import threading

def fails(name):
    raise KeyError(name)

with flowprov.workflow("W"), flowprov.task_scope("outer"):
    with ProcessPoolExecutor(1) as executor, ThreadPool(1) as threads, multiprocessing.Pool(1) as pool:
        for call in (executor.submit(fails, "a").result, lambda: pool.apply(fails, ("a",))):
            try:
                call()
            except KeyError as error:
                assert error.args == ("a",)
            else:
                raise AssertionError
        assert executor.submit(len, "ab").result() == 2
        assert list(executor.map(len, ["a"], chunksize=5)) == [1]
        try:
            executor.submit()
        except TypeError as error:
            assert "fn" in str(error)
        threads.map(step, ["thread"])
"""
    _run(body.replace("def fails", "global fails\ndef fails"), tmp_path)
    assert _workflow_of_steps(tmp_path) == (["W"], [None])
