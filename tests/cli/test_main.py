"""The command itself: its version, its settings, and the modules that it loads."""

from __future__ import annotations

from pathlib import Path

import click

import flowprov as package
from flowprov.cli import main
from tests.cli.support import flowprov
from tests.support import REPOSITORY, run

_PROGRAM = "import flowprov\nwith flowprov.workflow('Elsewhere'):\n    pass"


def test_it_prints_its_version(tmp_path: Path) -> None:
    assert flowprov("--version", cwd=tmp_path).out == f"flowprov, version {package.__version__}\n"


def test_the_installed_command_runs_this_group_of_commands() -> None:
    assert 'flowprov = "flowprov.cli:main"' in (REPOSITORY / "pyproject.toml").read_text()
    assert isinstance(main, click.Group)
    context = click.Context(main)
    names = main.list_commands(context)
    assert names == ["compact", "diff", "ls", "query", "rm", "run", "runs", "ship", "show", "verify"]
    commands = [main.get_command(context, name) for name in names]
    assert [command.name for command in commands if command] == names


def test_the_option_set_chooses_the_buffer(tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path, env={"FLOWPROV__JOURNAL__PATH": "runs"})
    result = flowprov("--set", "journal.heartbeat=3", "--set", "journal.path=runs", "show", cwd=tmp_path)
    assert "Elsewhere" in result.out


def test_a_settings_file_chooses_the_buffer(tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path, env={"FLOWPROV__JOURNAL__PATH": "runs"})
    (tmp_path / "mine.yaml").write_text("journal: {path: runs}")
    assert "Elsewhere" in flowprov("--settings", "mine.yaml", "show", cwd=tmp_path).out


def test_wrong_settings_give_one_error_message(tmp_path: Path) -> None:
    for arguments in (["--set", "jornal.path=x"], ["--set", "nonsense"], ["--settings", "missing.yaml"]):
        result = flowprov(*arguments, "verify", cwd=tmp_path)
        assert (result.status, result.out) == (2, "")
        assert result.err.startswith("Error: ")


def test_importing_it_loads_no_framework(tmp_path: Path) -> None:
    printed, _ = run("import sys, flowprov.cli; print(*sys.modules)", tmp_path)
    loaded = {name.split(".")[0] for name in printed.split()}
    assert not {"pandas", "numpy", "torch", "dask", "distributed"} & loaded
