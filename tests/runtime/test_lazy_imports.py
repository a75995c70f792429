"""A public name that is first used while another thread forks."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from threading import get_ident
from types import ModuleType

import pytest

from flowprov import lazy_imports
from tests.support import run

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
