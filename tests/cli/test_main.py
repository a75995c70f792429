"""The command itself: its version, its settings, and the modules that it loads."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import flowprov as package
from flowprov.cli import answers, main
from flowprov.cli.commands import help_page
from tests.cli.support import flowprov
from tests.support import REPOSITORY, clean_environment, run, start_command

_PROGRAM = "import flowprov\nwith flowprov.workflow('Elsewhere'):\n    pass"


def test_it_prints_its_version(tmp_path: Path) -> None:
    assert flowprov("--version", cwd=tmp_path).out == f"flowprov, version {package.__version__}\n"


def test_the_installed_command_runs_this_group_of_commands() -> None:
    assert 'flowprov = "flowprov.__main__:main"' in (REPOSITORY / "pyproject.toml").read_text()
    assert isinstance(main, click.Group)
    context = click.Context(main)
    names = main.list_commands(context)
    assert names == [
        "artifacts",
        "compact",
        "digest",
        "diff",
        "export",
        "history",
        "import",
        "lineage",
        "ls",
        "migrate",
        "plan",
        "query",
        "report",
        "rm",
        "run",
        "runs",
        "settings",
        "ship",
        "show",
        "tail",
        "ui",
        "verify",
        "whence",
    ]
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


def test_the_help_needs_no_click_and_names_all_commands_and_options(tmp_path: Path) -> None:
    page = flowprov("--help", cwd=tmp_path).out
    assert flowprov("--debug", "-h", cwd=tmp_path).out == page == help_page() + "\n"
    code = (
        "import sys; sys.argv[1:] = ['-h']; from flowprov.__main__ import main; main(); print(*sys.modules)"
    )
    printed, _ = run(code, tmp_path)
    assert not {"click", "msgspec"} & set(printed.splitlines()[-1].split())
    names = [*main.list_commands(click.Context(main)), *(option.opts[-1] for option in main.params)]
    assert [name for name in names if f" {name} " not in page] == []


def test_a_fault_of_flowprov_is_one_sentence_and_a_traceback_only_with_debug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no\x1b[2Jsuch luck")

    monkeypatch.setattr(answers, "campaign_table", fail)
    result = CliRunner().invoke(main, ["ls"])
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: flowprov met a fault of its own (RuntimeError: no\\x1b[2Jsuch luck). ")
    for arguments in (["--debug", "ls"], ["ls", "--debug"]):
        *trace, line = CliRunner().invoke(main, arguments).stderr.splitlines()
        assert trace[0] == "Traceback (most recent call last):"
        assert trace[-1] == "RuntimeError: no\\x1b[2Jsuch luck"
        assert line.startswith("Error: ")


def _all_commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield each command, and the names by which a person calls it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from _all_commands(command, *path, name)


def test_debug_may_stand_behind_every_command_and_subcommand() -> None:
    found = dict(_all_commands(main))
    assert {("export", "trace"), ("import", "mlflow"), ("settings", "show")} <= set(found)
    for path, command in found.items():
        assert [option.opts for option in command.params].count(["--debug"]) == 1, path


@pytest.mark.parametrize(
    "arguments",
    [
        ("export", "trace", "--debug", "--source", "nowhere", "-o", "trace.json"),
        ("export", "--debug", "trace", "--source", "nowhere", "-o", "trace.json"),
        ("export", "mlflow", "--uri", "nonsense", "--debug"),
        ("import", "mlflow", "--uri", "nonsense", "--debug"),
        ("settings", "explain", "jornal", "--debug"),
    ],
)
def test_a_subcommand_with_debug_shows_the_traceback(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with start_command(*arguments, cwd=tmp_path) as process:
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 2
    assert stderr.startswith("Traceback (most recent call last):")
    assert stderr.splitlines()[-1].startswith("Error: ")


def test_a_mistake_of_a_person_has_a_traceback_only_with_debug(tmp_path: Path) -> None:
    for arguments in (("--debug", "show", "nowhere"), ("show", "nowhere", "--debug")):
        with start_command(*arguments, cwd=tmp_path) as process:
            _, stderr = process.communicate(timeout=60)
        assert process.returncode == 2
        assert stderr.startswith("Traceback (most recent call last):")
        assert stderr.splitlines()[-1].startswith("Error: nowhere does not exist")


def test_a_full_disk_and_no_output_at_all_are_no_tracebacks(tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path)
    command = f"{sys.executable} -m flowprov ls"
    for shell, status, said in (
        (f"{command} > /dev/full", 2, "Error: the output cannot be written: No space left on device\n"),
        (f"{command} >&-", 0, ""),
        (f"{command} 2>&- >/dev/null", 0, ""),
    ):
        done = subprocess.run(
            ["sh", "-c", shell], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (status, said), shell


def test_a_command_that_is_not_there_has_the_nearest_named() -> None:
    for typed, said in (("rusn", "Did you mean run or runs?"), ("xyz", "No such command 'xyz'.")):
        result = CliRunner().invoke(main, [typed])
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.rstrip().endswith(said)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("metrics",), 'flowprov query "select * from metrics"'),
        (("settings", "check"), "validate"),
        (("export", "trase"), "trace"),
    ],
)
def test_a_name_that_is_no_command_leads_to_what_serves_its_purpose(
    typed: tuple[str, ...], meant: str
) -> None:
    result = CliRunner().invoke(main, typed)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.rstrip().endswith(f"No such command {typed[-1]!r}. Did you mean {meant}?")


def test_a_command_that_looks_like_an_option_is_named_as_none(tmp_path: Path) -> None:
    result = flowprov("--", "-01a2", cwd=tmp_path)
    assert result.status == 2
    assert "No such command" in result.err or "No such option" in result.err
