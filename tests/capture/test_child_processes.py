"""Child processes, however they are started, know where they belong and write journals of their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flowprov import records
from tests.support import clean_environment, lines, of_type, only, run, tasks

_PARENT = """
    import asyncio, multiprocessing, os, subprocess, sys
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

    CODE = "import flowprov; flowprov.task(lambda: None)()"
    ARGUMENTS = [sys.executable, "-c", CODE]

    def by_program(env=None):
        subprocess.run(ARGUMENTS, check=True, env=env, cwd="/")

    def by_popen(*arguments):
        assert subprocess.Popen(ARGUMENTS, *arguments).wait() == 0

    SHELL = sys.executable + " -c '" + CODE + "'"

    async def by_coroutine():
        process = await asyncio.create_subprocess_exec(*ARGUMENTS)
        assert await process.wait() == 0

    def by_shell(command=SHELL):
        assert os.system(command) == 0

    def by_spawn(function, *arguments):
        assert function(os.P_WAIT, sys.executable, *arguments) == 0

    def by_posix_spawn(function, env):
        pid = function(sys.executable, ARGUMENTS, env)
        assert os.waitpid(pid, 0)[1] == 0

    def by_exec(function, *arguments):
        pid = os.fork()
        if pid == 0:
            function(sys.executable, *arguments)
        assert os.waitpid(pid, 0)[1] == 0

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
        "by_popen(-1, None, None, None, None, None, True, False, None, dict(os.environ))",
        "by_shell()",
        "by_shell('cd / && ' + SHELL + ' # why not')",
        "by_shell(os.fsencode('# first\\n' + SHELL))",
        "by_spawn(os.spawnv, ARGUMENTS)",
        "by_spawn(os.spawnve, ARGUMENTS, os.environ)",
        "by_spawn(os.spawnlp, *ARGUMENTS)",
        "by_posix_spawn(os.posix_spawn, os.environ)",
        "by_posix_spawn(os.posix_spawnp, dict(os.environ))",
        "by_exec(os.execv, ARGUMENTS)",
        "by_exec(os.execve, ARGUMENTS, dict(os.environ))",
        "by_exec(os.execlp, *ARGUMENTS)",
        "os.popen(SHELL).close()",
        "asyncio.run(by_coroutine())",
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
        before = dict(os.environ)
        import flowprov
        with flowprov.workflow("W"):
            show = [sys.executable, "-c", "import os; print(sorted(os.environ))"]
            bare = subprocess.run(show, env={"ONLY": "1"}, capture_output=True, text=True, check=True).stdout
            full = subprocess.run(show, capture_output=True, text=True, check=True).stdout
        assert "FLOWPROV" not in bare
        assert "FLOWPROV_WORKFLOW_ID" in full
        assert dict(os.environ) == before
    """
    run(code, tmp_path)


def test_what_is_no_environment_is_refused_by_the_function_alone(tmp_path: Path) -> None:
    code = """
        import os, subprocess, flowprov

        def refused(start):
            errors = []
            for env in (7, [("PATH", os.environ["PATH"])], "PATH"):
                try:
                    start(env)
                except Exception as error:
                    errors.append((type(error), str(error)))
            return errors

        starts = [
            lambda env: subprocess.run(["true"], env=env),
            lambda env: os.posix_spawn("/bin/true", ["true"], env),
            lambda env: os.execve("/bin/true", ["true"], env),
        ]
        before = [refused(start) for start in starts]
        with flowprov.workflow("W"):
            assert [refused(start) for start in starts] == before
        assert all(len(errors) == 3 for errors in before)
    """
    _, stderr = run(code, tmp_path)
    assert not stderr


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


def test_programs_that_are_started_without_a_workflow_are_started_as_before(tmp_path: Path) -> None:
    code = """
        import os, pickle, sys
        before = dict(os.environ)
        import flowprov
        flowprov.workflow("W").start().stop()

        assert os.system("exit 3") == 3 << 8
        assert os.system(b"exit 3") == 3 << 8
        assert pickle.loads(pickle.dumps(os.system)) is os.system
        assert pickle.loads(pickle.dumps(os.execv)) is os.execv
        for call, error in (
            (lambda: os.system(5), TypeError),
            (lambda: os.system("a\\0b"), ValueError),
            (lambda: os.execve(sys.executable, ["x"], None), TypeError),
            (lambda: os.execve("/no/such/program", ["x"], {}), FileNotFoundError),
            (lambda: os.execvp("no-such-program", ["x"]), FileNotFoundError),
            (lambda: os.posix_spawn("/no/such/program", ["x"], os.environ), FileNotFoundError),
            (lambda: os.execv(sys.executable), TypeError),
        ):
            for opened in (False, True):
                with flowprov.workflow("W") if opened else open(os.devnull):
                    try:
                        call()
                    except error:
                        pass
                    else:
                        raise AssertionError("it should have raised")
        with flowprov.workflow("W"):
            assert os.system("exit 3") == 3 << 8
            assert os.system("syntax ( error 2>/dev/null") >> 8 == 2
            assert os.system("test -z \\"$FLOWPROV_PARENT_TASK_ID\\"") == 0
            assert os.system("echo " + "x" * 130_000 + " > /dev/null") in (0, 127 << 8, -1)
            test = ["sh", "-c", "test -z \\"$FLOWPROV_WORKFLOW_ID\\""]
            bare = os.posix_spawn("/bin/sh", test, {"ONLY": "1"})
            assert os.waitpid(bare, 0)[1] == 0
        assert dict(os.environ) == before
    """
    run(code, tmp_path)


@pytest.mark.parametrize(
    "replace", ["os.execv(sys.executable, again)", "os.execvpe(again[0], again, os.environ)"]
)
def test_a_program_that_replaces_itself_goes_on_in_its_workflow(tmp_path: Path, replace: str) -> None:
    code = f"""
        import os, sys
        import flowprov

        @flowprov.task
        def step(name): pass

        if "again" in sys.argv:
            step("second")
        else:
            again = [sys.executable, __file__, "again"]
            with flowprov.workflow("W", workflow_id="w"), flowprov.task_scope("outer"):
                step("first")
                {replace}
    """
    run(code, tmp_path)
    steps = [task for task in tasks(tmp_path) if task.activity_id == "step"]
    assert [(task.workflow_id, task.pid) for task in steps] == [("w", steps[0].pid)] * 2
    assert steps[0].parent_task_id == steps[1].parent_task_id


def test_a_command_of_the_shell_in_a_worker_does_not_get_what_the_worker_inherited(tmp_path: Path) -> None:
    code = _PARENT.format(start="by_process('spawn')").replace(
        "        return name\n", "        with flowprov.workflow('own'):\n            by_shell()\n", 1
    )
    run(code, tmp_path)
    innermost = only([task for task in tasks(tmp_path) if task.activity_id not in ("outer", "child")])
    child = only([task for task in tasks(tmp_path) if task.activity_id == "child"])
    assert innermost.workflow_id != child.workflow_id
    assert innermost.parent_task_id is None
