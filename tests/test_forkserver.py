"""A command or program that is forked prints and ends as it does in an interpreter of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.forkserver import COMMANDS, forkserver, heavy_imports
from tests.support import clean_environment, run, start_command

_PROGRAM = """
    import flowprov
    with flowprov.campaign("nightly"), flowprov.workflow("fit"), flowprov.task_scope("step"):
        pass
"""


@pytest.mark.parametrize(
    "command", ["ls --json", "verify", "show", "show nowhere", "nonsense", "--help", "settings"]
)
def test_a_command_is_what_it_is_in_an_interpreter_of_its_own(tmp_path: Path, command: str) -> None:
    run(_PROGRAM, tmp_path)
    arguments, environment = command.split(), clean_environment(FLOWPROV__JOURNAL__LEVEL="x")
    for each in (clean_environment(), environment):
        own = {name: value for name, value in each.items() if name.startswith("FLOWPROV")}
        with start_command(*arguments, cwd=tmp_path, env=own) as process:
            out, err = process.communicate(timeout=120)
        server = forkserver(COMMANDS, each)
        assert server is not None
        given = ["-m", "flowprov", *arguments]
        assert server.run(given, tmp_path, each, 120) == (process.returncode, out, err)


def test_variables_that_may_act_before_the_first_line_have_a_server_of_their_own() -> None:
    usual = forkserver(COMMANDS, clean_environment())
    assert forkserver(COMMANDS, clean_environment(PYTHONHASHSEED="1")) is not usual
    assert forkserver(COMMANDS, clean_environment(FLOWPROV__JOURNAL__LEVEL="x", COLUMNS="80")) is usual


def test_a_program_is_forked_only_for_what_it_imports_at_its_top() -> None:
    assert heavy_imports("import json, torch\nfrom pandas import DataFrame") == ("torch", "pandas")
    assert heavy_imports("'''text'''\nimport flowprov\nflowprov.campaign()\nimport torch") == ()
    assert heavy_imports("import torch.nn as nn; from torch import nn") == ("torch",)


_SHOWS = """
    import atexit, multiprocessing, os, sys, threading
    from concurrent.futures import ProcessPoolExecutor
    import pandas
    import flowprov

    def square(number):
        return number * number

    def last():
        threading.main_thread().join()
        print("thread")

    if __name__ == "__main__":
        atexit.register(print, "at exit")
        threading.Thread(target=last).start()
        print(sys.argv, sys.orig_argv[1:], sys.path, os.getcwd(), sys.flags, __name__)
        print({name: value for name, value in vars(sys.modules["__main__"]).items() if type(value) is str})
        print(os.environ["FLOWPROV__JOURNAL__HEARTBEAT"], sorted(os.listdir("/proc/self/fd")))
        print(sorted(name for name in sys.modules if "." not in name))
        print(threading.active_count())
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            print(pool.submit(square, 7).result())
"""
_ENDS = {"sys.exit('no')": 1, "1 / 0": 1, "raise KeyboardInterrupt": -2, "os.kill(os.getpid(), 9)": -9}


def _in_both_ways(program: str, folder: Path, status: int) -> tuple[tuple[str, str], ...]:
    env = {"FLOWPROV__JOURNAL__HEARTBEAT": "7"}
    return tuple(
        run(program, folder, "a", "b c", env=env, status=status, fresh=is_fresh) for is_fresh in (True, False)
    )


def test_a_forked_program_is_what_it_is_in_an_interpreter_of_its_own(tmp_path: Path) -> None:
    fresh, forked = _in_both_ways(_SHOWS, tmp_path, 0)
    assert fresh[0].splitlines() == forked[0].splitlines()
    assert fresh[1] == forked[1]
    assert "49\nthread\nat exit\n" in fresh[0]


@pytest.mark.parametrize(("end", "status"), _ENDS.items())
def test_a_forked_program_ends_as_it_does_in_an_interpreter_of_its_own(
    tmp_path: Path, end: str, status: int
) -> None:
    fresh, forked = _in_both_ways(f"import os, sys, pandas\nprint(1, flush=True)\n{end}\n", tmp_path, status)
    assert fresh == forked
