"""``flowprov run``: the script does what it does without it, and is recorded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import flowprov as package
from tests.cli.support import flowprov
from tests.support import clean_environment, wait_until

_TRAIN = """
    import argparse, sys
    import flowprov
    from helper import scale

    @flowprov.task
    def step(number):
        return scale(number)

    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float)
    parser.add_argument("--fail", action="store_true")
    options = parser.parse_args()
    if __name__ == "__main__":
        for number in range(3):
            print("step", step(number))
        if options.fail:
            raise ValueError("diverged")
        print("done", file=sys.stderr)
"""


_SPAWN = """
import multiprocessing
if __name__ == '__main__':
    multiprocessing.set_start_method('spawn')
    with multiprocessing.Pool(1) as pool:
        print(pool.map(abs, [-1]))
"""


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A folder with a script in a folder below, which imports a file beside it."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "train.py").write_text(textwrap.dedent(_TRAIN))
    (tmp_path / "code" / "helper.py").write_text("def scale(number): return number * 2\n")
    return tmp_path


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def workflows(folder: Path) -> list[dict[str, object]]:
    rows = package.read_buffer(folder / "flowprov_buffer", return_df=False)
    return [row for row in rows if row["type"] == "workflow"]


def test_a_script_is_recorded_with_arguments_status_and_output(scripts: Path) -> None:
    result = flowprov("run", "code/train.py", "--lr", "0.1", cwd=scripts)
    assert (result.status, result.out, result.err) == (0, "step 0\nstep 2\nstep 4\n", "done\n")
    (row,) = workflows(scripts)
    assert (row["name"], row["status"], row["subtype"]) == ("train", "FINISHED", "script")
    assert row["used"] == {
        "script": "code/train.py", "arguments": ["--lr", "0.1"], "args": {"lr": 0.1},
    }  # fmt: skip
    assert row["generated"] == {"exit_status": 0, "output": ["step 0", "step 2", "step 4", "done"]}
    rows = package.read_buffer(scripts / "flowprov_buffer", return_df=False)
    assert sum(one["activity_id"] == "step" for one in rows) == 3


def test_a_script_that_fails_prints_what_python_prints_and_has_its_status(scripts: Path) -> None:
    plain = python("code/train.py", "--fail", cwd=scripts)
    result = subprocess.run(
        [sys.executable, "-m", "flowprov", "run", "code/train.py", "--fail"],
        cwd=scripts,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, plain.stderr)
    (row,) = [row for row in workflows(scripts) if row["subtype"] == "script"]
    assert row["status"] == "ERROR"
    assert row["error"]["message"] == "diverged"  # type: ignore[index]


@pytest.mark.parametrize(
    ("code", "status", "recorded"),
    [
        ("import sys; sys.exit()", 0, "FINISHED"),
        ("import sys; sys.exit(3)", 3, "ERROR"),
        ("import sys; sys.exit('no data')", 1, "ERROR"),
        ("raise KeyboardInterrupt", 130, "ERROR"),
        ("import os; print(__file__, __name__)", 0, "FINISHED"),
        (_SPAWN, 0, "FINISHED"),
        ("import atexit; x = 5; atexit.register(lambda: print('end', x))", 0, "FINISHED"),
        ("import pickle\nclass A: pass\nprint(pickle.loads(pickle.dumps(A())).__class__)", 0, "FINISHED"),
    ],
)  # fmt: skip
def test_exit_status_and_output_are_those_of_the_script(
    tmp_path: Path, code: str, status: int, recorded: str
) -> None:
    (tmp_path / "script.py").write_text(code)
    plain = python("script.py", cwd=tmp_path)
    result = subprocess.run(
        [sys.executable, "-m", "flowprov", "run", "script.py"],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (result.stdout, result.stderr) == (plain.stdout, plain.stderr)
    assert result.returncode == status
    (row,) = [row for row in workflows(tmp_path) if row["subtype"] == "script"]
    assert row["status"] == recorded
    assert row["generated"]["exit_status"] == status  # type: ignore[index]


def test_a_module_is_run_as_python_does_and_the_workflow_may_be_named(scripts: Path) -> None:
    (scripts / "package").mkdir()
    (scripts / "package" / "__init__.py").touch()
    (scripts / "package" / "tool.py").write_text("import sys; print(sys.argv[1:], __name__, __package__)")
    result = flowprov("run", "--name", "tooling", "-m", "package.tool", "--x", "1", cwd=scripts)
    assert result.out == "['--x', '1'] __main__ package\n"
    (row,) = workflows(scripts)
    assert row["name"] == "tooling"
    assert row["used"] == {"module": "package.tool", "arguments": ["--x", "1"], "args": {"x": 1}}


def test_settings_of_the_command_hold_for_the_script(scripts: Path) -> None:
    flowprov("run", "--set", "journal.path=elsewhere", "code/train.py", cwd=scripts)
    assert not (scripts / "flowprov_buffer").exists()
    assert len(package.read_buffer(scripts / "elsewhere")) == 4


def test_secrets_in_arguments_and_output_are_concealed(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("print('password=correct-horse')")
    flowprov("run", "script.py", "--password", "correct-horse", cwd=tmp_path)
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
    assert b"exit_status" in content
    assert b"correct-horse" not in content


def test_arguments_that_have_a_name_are_parameters_by_which_runs_are_compared(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("print('no word of flowprov')")
    for lr in ("0.5", "0.25"):
        flowprov("run", "plain.py", "--lr", lr, "--amp", "model.layers=2", cwd=tmp_path)
    runs = package.runs(tmp_path / "flowprov_buffer").sort_values("params.args.lr")
    assert list(runs["params.args.lr"]) == [0.25, 0.5]
    assert runs["params.args.amp"].all()
    assert list(runs["params.args.model.layers"]) == [2, 2]
    shown = flowprov("runs", "--where", "params.args.lr < 0.3", "--columns", "args.lr", cwd=tmp_path)
    assert shown.out.split() == ["args.lr", "0.25"]
    first, second = runs["run_id"]
    found = package.diff(first, second, tmp_path / "flowprov_buffer").to_dict()["params"]
    assert found["args.lr"] == [0.25, 0.5]


def test_secrets_in_named_arguments_are_concealed_by_the_rules_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "script.py").touch()
    (tmp_path / "settings.yaml").write_text("privacy:\n  names: [plan]\ninstrumentation: {}\n")
    line = "--plan hunter-1 -plan a=hunter-2 --password=hunter-3 token=hunter-4 --pin 77777 --lr 0.5"
    flowprov("run", "script.py", *line.split(), cwd=tmp_path)
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*.jsonl"))
    assert b'"lr":0.5' in content
    assert b"hunter-" not in content
    assert b"77777" not in content


@pytest.mark.parametrize(
    ("script", "said"),
    [("missing.py", "cannot be read"), ("broken.py", "is no Python"), (".", "cannot be read")],
)
def test_what_is_no_script_is_one_message(tmp_path: Path, script: str, said: str) -> None:
    (tmp_path / "broken.py").write_text("def (")
    result = flowprov("run", script, cwd=tmp_path)
    assert (result.status, result.out) == (2, "")
    assert said in result.err
    assert flowprov("run", cwd=tmp_path).status == 2


def test_ctrl_c_ends_the_script_and_its_workflow(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import signal, time\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "open('ready', 'w').close()\ntime.sleep(60)"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "flowprov", "run", "script.py"], cwd=tmp_path, env=clean_environment(),
        stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        wait_until((tmp_path / "ready").exists)
        os.kill(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.rstrip().endswith(b"KeyboardInterrupt")
    (row,) = workflows(tmp_path)
    assert row["status"] == "ERROR"


def test_a_campaign_of_the_script_names_that_of_the_run(tmp_path: Path) -> None:
    script = "import flowprov\nwith flowprov.campaign('search'), flowprov.workflow('w'):\n    pass\n"
    (tmp_path / "train.py").write_text(script)
    assert flowprov("run", "train.py", cwd=tmp_path).status == 0
    assert json.loads(flowprov("ls", "--json", cwd=tmp_path).out)["name"] == "search"
