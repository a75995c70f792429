"""What people write into settings by habit means what they mean, or is an error that says why not."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

import flowprov
from flowprov.errors import SettingsError
from flowprov.journal.format import find_journals
from flowprov.settings import JournalSettings, Settings, disabled_by_environment, load_settings
from tests.settings.support import load
from tests.support import run

_PROGRAM = "import flowprov\nwith flowprov.workflow('W'):\n    pass"


def path_of(path: str, **environ: str) -> str:
    return load({"journal": {"path": path}}, environ=environ).journal.path


def test_variables_in_the_path_of_the_buffer_are_replaced(tmp_path: Path) -> None:
    for written, expected in (
        ("$SCRATCH/prov", "/scratch/me/prov"),
        ("${SCRATCH}/prov", "/scratch/me/prov"),
        ("$SCRATCH/$JOB_ID/${USER}_prov", "/scratch/me/42/ada_prov"),
        ("${SCRATCH:-/tmp}/x", "/scratch/me/x"),
        ("${NOWHERE:-/data}/x", "/data/x"),
    ):
        assert path_of(written, SCRATCH="/scratch/me", JOB_ID="42", USER="ada") == expected
    environ = {"FLOWPROV__JOURNAL__PATH": "$HERE/x", "HERE": str(tmp_path)}
    assert load(environ=environ).journal.path == f"{tmp_path}/x"
    assert path_of("costs$", HOME="/h").endswith("/costs$")
    assert path_of("5$/x", HOME="/h").endswith("/5$/x")


@pytest.mark.parametrize(
    "written", ["$SCRATCH/prov", "${SCRATCH}", "/data/$SCRATCH", "~/$SCRATCH", "${SCRATCH:-}"]
)
@pytest.mark.parametrize("environ", [{}, {"SCRATCH": ""}], ids=["not set", "empty"])
def test_a_variable_that_is_not_set_is_an_error_that_names_it(written: str, environ: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match=r"journal\.path.*SCRATCH.* is not set"):
        path_of(written, **environ)


def test_the_program_makes_no_folder_with_the_name_of_a_variable(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text("flowprov: 1\njournal:\n  path: $SCRATCH/prov\n")
    run(_PROGRAM, tmp_path, env={"SCRATCH": str(tmp_path / "scratch")})
    assert len(find_journals(tmp_path / "scratch" / "prov")) == 1
    run(_PROGRAM, tmp_path, env={"SCRATCH": ""}, status=None)
    assert not (tmp_path / "$SCRATCH").exists()


def test_settings_that_were_loaded_once_are_not_expanded_again(tmp_path: Path) -> None:
    folder = tmp_path / "$ODD"
    folder.mkdir()
    settings = load_settings(cwd=folder, environ={})
    assert settings.journal.path == str(folder / "flowprov_buffer")
    assert load_settings(settings, cwd=tmp_path, environ={}) == settings
    by_hand = Settings(journal=JournalSettings(path="$A/x"))
    assert load_settings(by_hand, environ={"A": "/a"}).journal.path == "/a/x"
    with pytest.raises(SettingsError, match=r"\$A is not set"):
        load_settings(by_hand, environ={})


def test_a_source_and_a_settings_file_are_found_by_their_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(_PROGRAM, tmp_path)
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(flowprov.read_buffer("$HERE/flowprov_buffer")) == 1
    assert len(flowprov.read_buffer("~/flowprov_buffer")) == 1
    (tmp_path / "mine.yaml").write_text("journal: {heartbeat: 77}")
    assert load_settings("$HERE/mine.yaml").journal.heartbeat == 77
    with pytest.raises(SettingsError, match=r"no such file; the variable \$NOWHERE is not set"):
        load_settings("$NOWHERE/mine.yaml")


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(
        "flowprov: 1\njournal: {heartbeat: 7}\nsinks: {redis: {uri: redis://host}}\n"
    )
    environ = {
        "FLOWPROV__JOURNAL__HEARTBEAT": "",
        "FLOWPROV__SINKS__REDIS__URI": " ",
        "FLOWPROV__SINKS": "",
        "FLOWPROV__NOT__A__KEY": "",
        "FLOWPROV__JOURNAL__WRITER": "write",
    }
    settings = load(environ=environ, cwd=tmp_path)
    assert (settings.journal.heartbeat, settings.sinks.redis.uri) == (7, "redis://host")
    assert settings.journal.writer == "write"


def test_empty_ids_of_the_environment_count_as_not_set(tmp_path: Path) -> None:
    empty = dict.fromkeys(("FLOWPROV_CAMPAIGN_ID", "FLOWPROV_WORKFLOW_ID", "FLOWPROV_PARENT_TASK_ID"), "")
    run(_PROGRAM, tmp_path, env={**empty, "FLOWPROV_SETTINGS_PATH": "", "FLOWPROV_DISABLED": ""})
    (row,) = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    assert row["campaign_id"]
    assert row["parent_workflow_id"] is None


@pytest.mark.parametrize("value", ["1", "y", "Y", "yes", "TRUE", "t", "on", "2", "disabled", " y "])
def test_what_people_type_to_switch_flowprov_off_does(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWPROV_DISABLED", value)
    assert disabled_by_environment()


@pytest.mark.parametrize("value", ["", " ", "0", "n", "No", "false", "F", "off", "None"])
def test_what_says_no_leaves_it_on(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWPROV_DISABLED", value)
    assert not disabled_by_environment()


@pytest.mark.parametrize("value", ["y", "True", "on"])
def test_a_program_that_is_switched_off_records_nothing(value: str, tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path, env={"FLOWPROV_DISABLED": value})
    assert not (tmp_path / "flowprov_buffer").exists()


ENCODINGS = {
    "UTF-16 with a mark": lambda text: text.encode("utf-16"),
    "big-endian UTF-16": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-16 without a mark": lambda text: text.encode("utf-16-le"),
    "UTF-32": lambda text: text.encode("utf-32"),
}


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
def test_a_file_in_utf_16_is_an_error_that_says_so(encode: object, tmp_path: Path) -> None:
    content = encode("flowprov: 1\njournal:\n  heartbeat: 7\n")  # type: ignore[operator]
    (tmp_path / "settings.yaml").write_bytes(content)
    for source in (None, tmp_path / "settings.yaml"):
        with pytest.raises(SettingsError, match=r"found UTF-(16|32).*expected UTF-8"):
            load(source, cwd=tmp_path)


@pytest.mark.parametrize("text", ["other: 1\n", "journal: {heartbeat: 7}\n", "dask: {scheduler: x}\n"])
def test_the_file_of_another_program_in_utf_16_is_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.yaml").write_bytes(text.encode("utf-16"))
    assert load(cwd=tmp_path) == load({}, cwd=tmp_path)


def test_utf_8_with_a_mark_and_any_letters_is_read(tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_bytes("flowprov: 1\njournal: {path: /实验}\n".encode("utf-8-sig"))
    assert load(cwd=tmp_path).journal.path == "/实验"
