"""Child processes, however they are started, know where they belong and write journals of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowprov import records
from tests.support import clean_environment, lines, of_type, only, run, tasks

_PARENT = """
    import multiprocessing, os, subprocess, sys
    from concurrent.futures import ProcessPoolExecutor
    import flowprov

    @flowprov.task
    def child(name):
        return name

    def by_fork():
        pid = os.fork()
        if pid == 0:
            child("fork")
            os._exit(0)
        os.waitpid(pid, 0)

    def by_process(method):
        process = multiprocessing.get_context(method).Process(target=child, args=(method,))
        process.start()
        process.join()
        assert process.exitcode == 0

    def by_pool():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            assert pool.submit(child, "pool").result() == "pool"

    def by_program(env=None):
        code = "import flowprov; flowprov.task(lambda: None)()"
        subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd="/")

    if __name__ == "__main__":
        with flowprov.campaign("family"), flowprov.workflow("W", workflow_id="w"):
            with flowprov.task_scope("outer"):
                {start}
"""


@pytest.mark.parametrize(
    "start",
    [
        "by_fork()",
        "by_process('fork')",
        "by_process('spawn')",
        "by_process('forkserver')",
        "by_pool()",
        "by_program()",
        "by_program(dict(os.environ))",
    ],
)
def test_a_child_inherits_campaign_workflow_and_parent_task(tmp_path: Path, start: str) -> None:
    run(_PARENT.format(start=start), tmp_path)
    outer = only([task for task in tasks(tmp_path) if task.activity_id == "outer"])
    inner = only([task for task in tasks(tmp_path) if task.activity_id != "outer"])
    assert inner.parent_task_id == outer.task_id
    assert inner.workflow_id == outer.workflow_id == "w"
    assert inner.campaign_id == outer.campaign_id
    assert inner.pid != outer.pid
    written = lines(tmp_path)
    assert len({header.journal_id for header in of_type(written, records.Header)}) == 2
    footers = len(of_type(written, records.Footer))
    assert footers == (1 if start == "by_fork()" else 2), "only os._exit leaves no footer"


def test_a_program_that_is_given_an_environment_gets_nothing_added_to_it(tmp_path: Path) -> None:
    code = """
        import os, subprocess, sys
        import flowprov
        with flowprov.workflow("W"):
            show = [sys.executable, "-c", "import os; print(sorted(os.environ))"]
            bare = subprocess.run(show, env={"ONLY": "1"}, capture_output=True, text=True, check=True).stdout
            full = subprocess.run(show, capture_output=True, text=True, check=True).stdout
        assert "FLOWPROV" not in bare
        assert "FLOWPROV_WORKFLOW_ID" in full
        assert not any(name.startswith("FLOWPROV") for name in os.environ)
    """
    run(code, tmp_path)


def test_scopes_that_were_open_at_a_fork_are_recorded_once_and_by_the_parent(tmp_path: Path) -> None:
    code = """
        import os, sys
        import flowprov

        @flowprov.task
        def outer():
            loop = flowprov.Loop(2)
            for i in loop:
                if i == 0 and os.fork() == 0:
                    inner()
                    continue
                inner()

        @flowprov.task
        def inner(): pass

        with flowprov.workflow("W"):
            outer()
    """
    run(code, tmp_path)
    recorded = tasks(tmp_path)
    assert len({task.task_id for task in recorded}) == len(recorded)
    by_activity: dict[str | None, list[records.Task]] = {}
    for task in recorded:
        by_activity.setdefault(task.activity_id, []).append(task)
    assert len(by_activity["outer"]) == 1
    iterations = {task.task_id: task for task in by_activity["loop_iteration"]}
    assert len(iterations) == 3, "the first iteration once, the second once in each process"
    assert len(by_activity["inner"]) == 4
    assert {task.parent_task_id for task in by_activity["inner"]} == set(iterations)
    workflows = of_type(lines(tmp_path), records.Workflow)
    assert [workflow.status for workflow in workflows] == ["RUNNING", "FINISHED"]


def test_a_fork_inside_a_workflow_of_replaced_settings_leaves_the_parents_journal_alone(
    tmp_path: Path,
) -> None:
    code = """
        import os
        import flowprov

        @flowprov.task
        def f(who): pass

        with flowprov.workflow("W"):
            flowprov.configure(journal={"path": "other"})
            f("before")
            pid = os.fork()
            f("child" if pid == 0 else "parent")
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
    """
    run(code, tmp_path)
    assert {task.used["who"]: task.pid for task in tasks(tmp_path) if task.used}.keys() == {
        "before",
        "child",
        "parent",
    }
    headers = of_type(lines(tmp_path), records.Header)
    assert len({header.pid for header in headers}) == len(headers) == 2


def test_forked_children_and_their_parent_write_at_the_same_time(tmp_path: Path) -> None:
    code = """
        import os
        import flowprov

        @flowprov.task
        def f(who, n): pass

        f("parent", -1)
        children = []
        for child in range(4):
            pid = os.fork()
            if pid == 0:
                for n in range(500):
                    f(f"child{child}", n)
                os._exit(0)
            children.append(pid)
        for n in range(500):
            f("parent", n)
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
    """
    run(code, tmp_path)
    counted: dict[str, list[int]] = {}
    for task in tasks(tmp_path):
        assert task.used is not None
        counted.setdefault(task.used["who"], []).append(task.used["n"])
    assert counted.pop("parent") == [-1, *range(500)]
    assert counted == {f"child{child}": list(range(500)) for child in range(4)}


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_child_whose_own_code_configures_flowprov_joins_its_parent_too(tmp_path: Path, method: str) -> None:
    code = _PARENT.format(start=f"by_process('{method}')").replace(
        "import flowprov\n", "import flowprov\n    flowprov.configure(instrumentation={'enabled': True})\n", 1
    )
    run(code, tmp_path)
    outer = only([task for task in tasks(tmp_path) if task.activity_id == "outer"])
    inner = only([task for task in tasks(tmp_path) if task.activity_id == "child"])
    assert (inner.parent_task_id, inner.campaign_id) == (outer.task_id, outer.campaign_id)


@pytest.mark.parametrize("started", ["by_program()", "by_process('spawn')"])
def test_a_child_that_is_started_outside_of_any_workflow_has_the_campaign(
    tmp_path: Path, started: str
) -> None:
    code = _PARENT.format(start="pass").replace('flowprov.campaign("family"), ', "")
    code += f"\n        {started}\n"
    run(code, tmp_path)
    assert len({header.campaign_id for header in of_type(lines(tmp_path), records.Header)}) == 1
    child = only([task for task in tasks(tmp_path) if task.activity_id != "outer"])
    assert (child.parent_task_id, child.workflow_id == "w") == (None, False)


def test_a_program_of_a_workers_own_workflow_does_not_get_the_parent_task_of_another(tmp_path: Path) -> None:
    code = _PARENT.format(start="by_process('spawn')").replace(
        "        return name\n", "        with flowprov.workflow('own'):\n            by_program()\n", 1
    )
    run(code, tmp_path)
    innermost = only([task for task in tasks(tmp_path) if task.activity_id not in ("outer", "child")])
    child = only([task for task in tasks(tmp_path) if task.activity_id == "child"])
    assert innermost.workflow_id != child.workflow_id
    assert innermost.parent_task_id is None


def test_a_child_whose_interpreter_has_no_flowprov_starts_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'spawn_main' in ' '.join(sys.orig_argv):\n    sys.modules['flowprov'] = None\n"
    )
    code = """
        import multiprocessing, operator
        from concurrent.futures import ProcessPoolExecutor

        if __name__ == "__main__":
            import flowprov

            spawn = multiprocessing.get_context("spawn")
            with flowprov.workflow("W"):
                process = spawn.Process(target=operator.neg, args=(1,))
                process.start()
                process.join()
                with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                    print(process.exitcode, pool.submit(operator.neg, 2).result())
    """
    environment = clean_environment()
    path = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    printed, errors = run(code, tmp_path, env={"PYTHONPATH": path})
    assert printed.split() == ["0", "-2"], errors
