"""A public name that is first used while another thread forks, or where its files cannot be read any more."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from threading import get_ident
from types import ModuleType

import pytest

from flowprov import lazy_imports
from tests.support import REPOSITORY, WITHOUT_VERSIONS, clean_environment, only, run, tasks

PROGRAM = """
    import importlib.machinery, os, signal, sys, threading

    import flowprov, flowprov.lazy_imports

    class Slow:
        '''Holds up the import of one module until the program forks, and then a moment, or for good.'''

        def find_spec(self, name, path, target=None):
            # Python itself waits before a fork for finders, and not for the code of modules.
            if name == {module!r}:
                spec = importlib.machinery.PathFinder.find_spec(name, path, target)
                run_code = spec.loader.exec_module
                spec.loader.exec_module = lambda module: slowly(run_code, module)
                return spec

    def slowly(run_code, module):
        importing.set()
        forking.wait(60)
        forked.wait({seconds})
        run_code(module)

    sys.meta_path.insert(0, Slow())
    importing, forking, forked = threading.Event(), threading.Event(), threading.Event()
    flowprov.lazy_imports._MAX_WAIT = {max_wait}
    thread = threading.Thread(target=lambda: flowprov.{name})
    thread.start()
    importing.wait(60)
    forking.set()
    child = os.fork()
    if not child:
        if {max_wait} < {seconds}:
            os._exit(0)
        signal.alarm(60)
        print(callable(flowprov.{name}), flush=True)
        os._exit(0)
    forked.set()
    _, status = os.waitpid(child, 0)
    thread.join()
    print(status, callable(flowprov.{name}), flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("name", "module"),
    [("task", "flowprov.capture.task"), ("Loop", "flowprov.guard"), ("runs", "flowprov.read.questions")],
)
def test_a_forked_child_can_use_a_name_that_another_thread_was_loading(
    tmp_path: Path, name: str, module: str
) -> None:
    stdout, _ = run(PROGRAM.format(name=name, module=module, seconds=0.2, max_wait=60), tmp_path)
    assert stdout.splitlines() == ["True", "0 True"]


def test_a_fork_does_not_wait_for_ever_for_an_import(tmp_path: Path) -> None:
    stdout, _ = run(
        PROGRAM.format(name="task", module="flowprov.capture.task", seconds=60, max_wait=0.2), tmp_path
    )
    assert stdout.splitlines() == ["0 True"]


def test_an_import_that_a_finalizer_cut_in_two_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Python up to 3.11 ends an import during which the collector runs a finalizer that imports, too.
    errors: list[KeyError] = [KeyError(get_ident())]

    def import_module(name: str) -> ModuleType:
        if errors:
            raise errors.pop()
        return importlib.import_module(name)

    monkeypatch.setattr(lazy_imports, "import_module", import_module)
    assert lazy_imports.import_lazily("json") is json
    errors.append(KeyError("of the module"))
    with pytest.raises(KeyError, match="of the module"):
        lazy_imports.import_lazily("json")


TROUBLE = {
    "the package is gone": "shutil.rmtree(package)",
    "no descriptor is left": """
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
    """,
}
IN_TROUBLE = """
    import contextlib, os, resource, shutil, sys

    package, taken = os.path.join(os.getcwd(), "flowprov"), []
    sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in repr(finder)]

    import flowprov

    assert flowprov.__file__.startswith(package)

    @flowprov.task
    def work(x):
        return x

    with flowprov.workflow("W"):
        work(1)
{trouble}
        flowprov.log_params(a=1)
        flowprov.log_metrics(b=2)
        with flowprov.task_scope("scope") as scope:
            if (task := flowprov.current_task()) is not None:
                task.add_tags("late")
        assert list(flowprov.Loop(range(2))) == list(flowprov.EpochLoop(range(2))) == [0, 1]
        assert [flowprov.bind(work)(3)] == list(flowprov.sampled([3])) == [3]
        with flowprov.workflow("inner"), flowprov.campaign("C"):
            assert flowprov.log_config({{"c": 3}}) == {{"c": 3}}
        artifact = flowprov.log_artifact("data.bin", kind="dataset")
        assert os.fspath(artifact) == os.path.abspath("data.bin")
        assert (artifact.kind, artifact.role) == ("dataset", "generated")
        assert (artifact.wait(), artifact.digest) == (True, None)
        assert flowprov.use_artifact([1]).path is None
        flowprov.resume_from(step=1)
        for descriptor in taken:
            os.close(descriptor)
    print("goes on")
"""


@pytest.mark.parametrize("trouble", TROUBLE)
@pytest.mark.parametrize("disabled", [False, True])
def test_a_program_goes_on_where_no_file_of_the_package_can_be_read_any_more(
    tmp_path: Path, trouble: str, *, disabled: bool
) -> None:
    what = textwrap.indent(textwrap.dedent(TROUBLE[trouble]), " " * 8)
    shutil.copytree(REPOSITORY / "flowprov", tmp_path / "flowprov")
    environment = {**WITHOUT_VERSIONS, **({"FLOWPROV_DISABLED": "1"} if disabled else {})}
    stdout, stderr = run(IN_TROUBLE.format(trouble=what), tmp_path, env=environment, fresh=True)
    assert stdout.splitlines() == ["goes on"]
    assert ("a fault of its own while loading flowprov.log_artifact" in stderr) is not disabled
    if not disabled:
        scope = only([task for task in tasks(tmp_path / "flowprov_buffer") if task.activity_id == "scope"])
        assert scope.tags == ["late"]
        assert stderr.count("flowprov met a fault") == 4
    else:
        assert not stderr


def test_what_a_program_calls_while_it_runs_is_loaded_together() -> None:
    code = "import sys, flowprov; flowprov.task; print(*sys.modules); print(*vars(flowprov))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean_environment()
    )
    modules, names = (set(line.split()) for line in done.stdout.splitlines())
    assert {"Loop", "EpochLoop", "current_task", "log_params", "bind", "task_scope"} <= names
    assert not {"flowprov.read", "flowprov.contents", "torch", "distributed"} & modules
