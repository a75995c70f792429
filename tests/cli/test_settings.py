"""``flowprov settings``, and profiles on the command line."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

import flowprov as package
from flowprov.cli import main
from flowprov.settings import load_settings
from flowprov.settings.key_tree import all_keys
from flowprov.settings.profiles import PROFILES
from tests.cli.support import flowprov
from tests.support import REPOSITORY


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the command run in an empty folder, without variables of flowprov."""
    for name in [name for name in os.environ if name.startswith("FLOWPROV")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(*arguments: str, status: int = 0) -> Result:
    """Call ``flowprov`` in this process."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == status, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def parsed(*arguments: str) -> Any:
    return json.loads(call(*arguments).stdout)


# -- init -------------------------------------------------------------------------------------------------


def test_init_writes_a_file_that_is_used_valid_and_changes_nothing(folder: Path) -> None:
    before = load_settings()
    assert call("settings", "init").stdout == "wrote settings.yaml, with the profile cpu_only\n"
    assert load_settings() == before
    assert "nothing is wrong" in call("settings", "validate").stdout
    (folder / "settings.yaml").write_text(
        (folder / "settings.yaml")
        .read_text()
        .replace("#journal:", "journal:")
        .replace("#  path: .", "  path: .")
    )
    assert load_settings().origins.of("journal.path") == f"{folder}/settings.yaml:" + str(
        (folder / "settings.yaml").read_text().split("  path:")[0].count("\n") + 1
    )


def test_init_takes_a_profile_a_name_and_all_keys(folder: Path) -> None:
    call("settings", "init", "--profile", "single_gpu", "--full", "gpu.yaml")
    text = (folder / "gpu.yaml").read_text()
    assert "profile: single_gpu\n" in text
    assert "#  gpu: true\n" in text
    assert "[expert]" in text
    assert load_settings("gpu.yaml") == load_settings({"profile": "single_gpu"})
    printed = call("settings", "init", "--profile", "single_gpu", "--full", "-").stdout
    assert printed == text


def test_init_takes_a_profile_of_ones_own_with_variables(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "ours.yaml").write_text("extends: full\njournal:\n  heartbeat: ${BEAT}\n")
    monkeypatch.setenv("BEAT", "7")
    monkeypatch.setenv("FLOWPROV__JOURNAL__HEARTBEAT", "9")
    call("settings", "init", "--profile", "./ours.yaml", "--full")
    text = (folder / "settings.yaml").read_text()
    assert "profile: ./ours.yaml\n" in text
    assert "#  heartbeat: 7\n" in text


def test_init_writes_over_no_file_unless_it_is_forced(folder: Path) -> None:
    (folder / "settings.yaml").write_text("mine: 1\n")
    assert "settings.yaml exists already" in call("settings", "init", status=2).stderr
    assert (folder / "settings.yaml").read_text() == "mine: 1\n"
    call("settings", "init", "--force")
    assert "flowprov: 1" in (folder / "settings.yaml").read_text()


@pytest.mark.parametrize("name", ["nowhere/settings.yaml", ".", "a\0b"])
def test_init_says_what_it_cannot_write(name: str) -> None:
    assert call("settings", "init", "--force", name, status=2).stderr.startswith("Error: ")


# -- show -------------------------------------------------------------------------------------------------


def test_show_prints_what_holds_as_yaml_that_loads_to_the_same(folder: Path) -> None:
    (folder / "settings.yaml").write_text("flowprov: 1\nprofile: cluster\njournal: {heartbeat: 3}\n")
    shown = call("settings", "show").stdout
    assert "profile: cluster" in shown
    (folder / "shown.yaml").write_text(shown)
    assert load_settings("shown.yaml") == load_settings()


def test_show_of_a_profile_of_ones_own_loads_too(folder: Path) -> None:
    (folder / "settings.yaml").write_text(
        "flowprov: 1\nprofile: {extends: cluster, journal: {heartbeat: 3}}\n"
    )
    shown = call("settings", "show").stdout
    assert "# profile: extends cluster\n" in shown
    (folder / "shown.yaml").write_text(shown)
    assert load_settings("shown.yaml") == load_settings()


def test_show_says_where_each_value_comes_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "settings.yaml").write_text("flowprov: 1\nprofile: cluster\njournal: {heartbeat: 3}\n")
    monkeypatch.setenv("FLOWPROV__JOURNAL__SYNC", "record")
    options = [
        "--set",
        "values.max_bytes=5000",
        "settings",
        "show",
        "--set",
        "dask.close_timeout=1",
        "--origin",
    ]
    lines = {
        line.split()[0]: line.split(maxsplit=2)[1:] for line in call(*options).stdout.splitlines() if line
    }
    assert lines["profile"] == ["cluster"]
    assert lines["journal.heartbeat"] == ["3", f"{folder}/settings.yaml:3"]
    assert lines["journal.sync"] == ["record", "FLOWPROV__JOURNAL__SYNC"]
    assert lines["values.max_bytes"] == ["5000", "override"]
    assert lines["dask.close_timeout"] == ["1", "override"]
    assert lines["telemetry_capture.interval"] == ["5", "profile cluster"]
    assert lines["journal.writer"] == ["auto", "default"]
    as_json = parsed(*options, "--json")
    assert as_json["journal"]["heartbeat"] == 3
    assert as_json["profile"] == "cluster"
    assert as_json["origins"]["journal.writer"] == "default"
    assert as_json["origins"]["telemetry_capture.gpu"] == "profile single_gpu"


def test_show_of_a_profile_and_of_what_is_off() -> None:
    assert parsed("settings", "show", "--profile", "full", "--json")["origins"]["dask.internal_tasks"] == (
        "profile full"
    )
    lines = call("settings", "show", "--profile", "off", "--origin").stdout.splitlines()
    assert "telemetry_capture ~ profile off" in [" ".join(line.split()) for line in lines]


def test_show_conceals_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWPROV__SINKS__REDIS__URI", "redis://:correct-horse@host/0")
    for more in ([], ["--origin"], ["--json"], ["--json", "--origin"]):
        shown = call("settings", "show", *more).stdout
        assert "redis://***@host/0" in shown
        assert "correct-horse" not in shown


# -- validate ---------------------------------------------------------------------------------------------


def test_validate_reports_everything_at_once_with_status_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "mine.yaml").write_text(
        "profile: singel_gpu\njournal:\n  hartbeat: 3\n"
        "instrumentation:\n  torch:\n    children_mode: telemetry\n"
    )
    monkeypatch.setenv("FLOWPROV__JOURNAL__SYNC", "maybe")
    report = call("settings", "validate", "mine.yaml", status=2).stderr
    assert report.startswith("Error: 4 problems in the settings:\n")
    for part in (
        f'{folder}/mine.yaml:1: profile: found "singel_gpu"',
        'did you mean "single_gpu"?',
        f'{folder}/mine.yaml:3: journal.hartbeat: unknown key; did you mean "journal.heartbeat"?',
        f"{folder}/mine.yaml:6: instrumentation.torch.children_mode: found telemetry, which needs telemetry",
        'FLOWPROV__JOURNAL__SYNC: journal.sync: found "maybe", expected one of off, interval, record',
    ):
        assert part in report
    result = call("settings", "validate", "mine.yaml", "--json", status=2)
    assert len(json.loads(result.stdout)["problems"]) == 4
    assert json.loads(result.stdout)["valid"] is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("settings", "validate", "--profile", "gpu"), '--profile: found "gpu", expected one of cpu_only'),
        (("settings", "show", "--set", "privacy.redact=3"), "--set privacy.redact: found 3, expected true"),
        (("--set", "journal.hartbeat=3", "ls"), "--set journal.hartbeat: unknown key"),
    ],
)
def test_what_is_wrong_with_an_option_is_reported_by_its_name(arguments: tuple[str, ...], said: str) -> None:
    report = call(*arguments, status=2).stderr
    assert report.startswith(f"Error: 1 problem in the settings:\n  {said}")


def test_validate_says_what_it_checked_and_notes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call("settings", "validate").stdout == "the defaults: nothing is wrong; the profile is cpu_only\n"
    (folder / "mine.yaml").write_text("sinks: {redis: {maxlen: 3}}\n")
    monkeypatch.setenv("FLOWPROV_SETTINGS_PATH", "mine.yaml")
    note, done = call("settings", "validate", "--profile", "off").stdout.splitlines()
    assert note.startswith("note: ")
    assert "profile is off" in done
    (found,) = parsed("settings", "validate", "--json")["notes"]
    assert "without sinks.redis.uri" in found


def test_validate_checks_the_file_of_the_folder_even_if_it_is_not_used(folder: Path) -> None:
    (folder / "settings.yaml").write_text("jurnal: {}\n")
    result = call("settings", "validate", status=2)
    assert 'did you mean "journal"?' in result.stderr
    assert "flowprov leaves it alone" in result.stdout
    assert "journal:" in call("settings", "show").stdout


@pytest.mark.parametrize("content", ["[", "\udcff", "journal: ${X}", "", "a: " + "[" * 5000, None])
def test_whatever_the_file_is_there_is_no_traceback(folder: Path, content: str | None) -> None:
    if content is not None:
        (folder / "mine.yaml").write_bytes(content.encode("utf-8", "surrogateescape"))
    result = CliRunner().invoke(main, ["settings", "validate", "mine.yaml"])
    assert result.exit_code == (0 if content == "" else 2)
    assert result.exit_code == 0 or "mine.yaml" in result.stderr


# -- explain, profiles, schema ----------------------------------------------------------------------------


def test_explain_says_what_there_is_to_know_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWPROV__JOURNAL__HEARTBEAT", "3")
    for name in ("journal.heartbeat", "heartbeat", "FLOWPROV__JOURNAL__HEARTBEAT"):
        text = call("settings", "explain", name).stdout
        assert text.startswith("journal.heartbeat  (expert)\n  Seconds between two heartbeats.")
        words = {line.split()[0]: " ".join(line.split()[1:]) for line in text.splitlines()[2:] if line}
        assert words["expected"].startswith("seconds: a number above 0")
        assert words["default"] == "10"
        assert words["now"] == "3 (FLOWPROV__JOURNAL__HEARTBEAT)"
        assert words["variable"] == "FLOWPROV__JOURNAL__HEARTBEAT"
    monkeypatch.setenv("FLOWPROV__JOURNAL__HEARTBEAT", "soon")
    assert "not known: flowprov settings validate" in call("settings", "explain", "what").stdout


def test_explain_lists_all_keys_or_those_of_a_section_and_marks_those_for_experts() -> None:
    leaves = {".".join(path): spec for path, spec in all_keys() if spec.section is None}
    rows = call("settings", "explain").stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == list(leaves)
    for row in rows:
        name, second, *_ = row.split()
        assert (second == "expert") == leaves[name].key.expert
    listed = parsed("settings", "explain", "--json")
    assert [one["key"] for one in listed] == list(leaves)
    assert all(one["meaning"] and one["expected"] for one in listed)
    assert "sinks.redis.maxlen" in call("settings", "explain", "sinks.redis").stdout


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("journal.hartbeat", '"journal.heartbeat"'),
        ("hartbeat", '"journal.heartbeat"'),
        ("mode", '"telemetry_capture.mode" or "journal.mode"'),
        ("zzz", "flowprov settings explain lists all"),
        ("", "flowprov settings explain lists all"),
    ],
)
def test_an_unknown_key_is_one_sentence_with_the_nearest_right_one(key: str, meant: str) -> None:
    report = call("settings", "explain", key, status=2).stderr
    assert report.count("\n") == 1
    assert meant in report


def test_profiles_are_listed_and_the_schema_is_json() -> None:
    rows = call("settings", "profiles").stdout.splitlines()[1:]
    assert [row.split()[0] for row in rows] == list(PROFILES)
    assert [one["name"] for one in parsed("settings", "profiles", "--json")] == list(PROFILES)
    assert parsed("settings", "schema")["properties"]["flowprov"]["const"] == 1


_PAGE = (REPOSITORY / "docs" / "how-to" / "choose-settings.md").read_text(encoding="utf-8")


def test_the_commands_of_the_page_about_settings_work_in_their_order() -> None:
    commands = re.findall(r"^flowprov (settings [^#>\n]+)", _PAGE, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        call(*command.split())


@pytest.mark.parametrize(
    ("words", "beginning", "expected"),
    [("settings explain", "journal.h", "journal.heartbeat"), ("settings show --profile", "si", "single_gpu")],
)
def test_a_shell_completes_keys_and_profiles(words: str, beginning: str, expected: str) -> None:
    completion = ShellComplete(main, {}, "flowprov", "_FLOWPROV_COMPLETE")
    assert [one.value for one in completion.get_completions(words.split(), beginning)] == [expected]


# -- profiles of programs ---------------------------------------------------------------------------------

_SCRIPT = """
import flowprov, os, subprocess, sys
with flowprov.workflow("inner"):
    pass
if len(sys.argv) == 1:
    subprocess.run([sys.executable, __file__, "child"], check=True, cwd="/")
"""


def recorded_profiles(folder: Path) -> dict[str, tuple[str, str | None]]:
    """Return by name of each workflow its profile and the origin of its telemetry of processors."""
    rows = package.read_buffer(folder / "flowprov_buffer", return_df=False)
    return {
        f"{row['name']} {index}": (
            row["settings"]["profile"],
            row["settings"]["origins"].get("telemetry_capture.cpu"),
        )
        for index, row in enumerate(rows)
        if row["type"] == "workflow"
    }


def test_run_takes_a_profile_and_settings_that_hold_in_programs_that_the_script_starts(folder: Path) -> None:
    (folder / "settings.yaml").write_text("flowprov: 1\nprofile: full\njournal: {heartbeat: 60}\n")
    (folder / "script.py").write_text(_SCRIPT)
    (folder / "ours.yaml").write_text("extends: single_gpu\ntelemetry_capture: {gpu: false}")
    command = ("run", "--profile", "ours.yaml", "--set", "values.max_bytes=5000", "script.py")
    assert flowprov(*command, cwd=folder).status == 0
    found = recorded_profiles(folder)
    assert len(found) == 3
    assert {profile.rpartition("/")[2] for profile, _ in found.values()} == {"ours.yaml"}
    assert {origin for _, origin in found.values()} == {"profile single_gpu"}


def test_run_with_the_profile_off_records_nothing(folder: Path) -> None:
    (folder / "script.py").write_text("import flowprov\n@flowprov.task\ndef f(): return 1\nprint(f())")
    result = flowprov("run", "--profile", "off", "script.py", cwd=folder)
    assert (result.status, result.out) == (0, "1\n")
    assert not (folder / "flowprov_buffer").exists()


@pytest.mark.parametrize(
    ("arguments", "env"),
    [(("--profile", "singel_gpu"), {}), ((), {"FLOWPROV_PROFILE": "singel_gpu"})],
)
def test_a_wrong_profile_ends_run_before_the_script_with_the_nearest_right_name(
    folder: Path, arguments: tuple[str, ...], env: dict[str, str]
) -> None:
    (folder / "script.py").write_text("print('ran')")
    result = flowprov("run", *arguments, "script.py", cwd=folder, env=env)
    assert (result.status, result.out) == (2, "")
    assert 'did you mean "single_gpu"?' in result.err
