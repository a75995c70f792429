"""Profiles: which one is chosen, what it sets, and what goes above it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flowprov.settings import Settings, settings_from_json, settings_to_json
from flowprov.settings.profiles import PROFILES, describe_profile
from flowprov.settings.rules import findings
from tests.settings.support import error_report, load, write

PROFILES_FOLDER = Path(__file__).parents[2] / "flowprov" / "settings" / "profiles"


def test_the_default_profile_is_that_of_the_defaults_and_sets_nothing() -> None:
    assert load().origins.profile == "cpu_only"
    assert load({"profile": "cpu_only"}) == load()
    assert load({"profile": "cpu_only"}).to_public_dict() == load().to_public_dict()


def test_each_profile_is_a_file_loads_fits_together_and_is_described() -> None:
    assert {path.stem for path in PROFILES_FOLDER.glob("*.yaml")} == set(PROFILES)
    for name in PROFILES:
        settings = load({"profile": name})
        assert settings.origins.profile == name
        assert [finding for finding in findings(settings) if not finding.said_elsewhere] == []
        assert describe_profile(name)


def test_what_each_profile_switches_on() -> None:
    def kinds(name: str) -> set[str]:
        telemetry = load({"profile": name}).telemetry_capture
        names = ("cpu", "mem", "swap", "disk", "network", "process", "gpu")
        return set() if telemetry is None else {kind for kind in names if getattr(telemetry, kind)}

    assert kinds("cpu_only") == kinds("off") == set()
    assert kinds("single_gpu") == {"cpu", "mem", "process", "gpu"}
    assert kinds("multi_gpu") == kinds("cluster") == kinds("single_gpu") | {"disk", "network"}
    assert kinds("full") == kinds("cluster") | {"swap"}
    full = load({"profile": "full"}).instrumentation.torch
    assert (full.what, full.children_mode, full.depth) == (
        "parent_and_children",
        "telemetry_and_tensor_inspection",
        "all",
    )
    off = load({"profile": "off"})
    assert (off.instrumentation.enabled, off.dask.enabled) == (False, False)


@pytest.mark.parametrize("word", ["off", "'off'", "no", "false"])
def test_the_profile_off_may_be_written_as_yaml_reads_it(tmp_path: Path, word: str) -> None:
    assert load(write(tmp_path, f"profile: {word}")).instrumentation.enabled is False
    assert load(environ={"FLOWPROV_PROFILE": "off"}).instrumentation.enabled is False


def test_code_goes_above_the_environment_above_the_file_in_choosing_a_profile(tmp_path: Path) -> None:
    path = write(tmp_path, "profile: single_gpu")
    environ = {"FLOWPROV_PROFILE": "cluster"}
    assert load(path).origins.profile == "single_gpu"
    assert load(path, environ=environ).origins.profile == "cluster"
    assert load(path, {"profile": "full"}, environ=environ).origins.profile == "full"
    assert load(path, environ={"FLOWPROV_PROFILE": " "}).origins.profile == "single_gpu"
    assert load(path, environ={"FLOWPROV__PROFILE": "full"}).origins.profile == "full"


@pytest.mark.parametrize("layer", ["file", "environment", "code"])
def test_every_layer_goes_above_the_profile_wherever_that_is_chosen(tmp_path: Path, layer: str) -> None:
    source, environ, overrides = "profile: single_gpu\n", {}, {}
    if layer == "file":
        source += "telemetry_capture: {interval: 7}\n"
    elif layer == "environment":
        environ = {"FLOWPROV__TELEMETRY_CAPTURE__INTERVAL": "7"}
    else:
        overrides = {"telemetry_capture.interval": 7}
    for profile in ("multi_gpu", "cluster"):
        settings = load(
            write(tmp_path, source), overrides, environ={**environ, "FLOWPROV_PROFILE": profile}
        ).telemetry_capture
        assert settings is not None
        assert (settings.interval, settings.gpu) == (7, True)


def test_a_key_that_the_file_sets_to_its_default_goes_above_the_profile_too() -> None:
    settings = load(
        {"profile": "full", "telemetry_capture": None, "instrumentation": {"torch": {"depth": 1}}}
    )
    assert settings.telemetry_capture is None
    assert settings.instrumentation.torch.depth == 1


def test_a_profile_of_ones_own_extends_another_and_is_filled_from_it(tmp_path: Path) -> None:
    text = """
profile:
  extends: cluster
  name: ours
  telemetry_capture: {interval: 2}
journal: {heartbeat: 7}
"""
    settings = load(write(tmp_path, text))
    assert settings.origins.profile == "ours"
    assert settings.telemetry_capture is not None
    assert (settings.telemetry_capture.interval, settings.telemetry_capture.gpu) == (2, True)
    assert (settings.journal.heartbeat, settings.dask.close_timeout) == (7, 60)
    assert load({"profile": {"extends": "full"}}).origins.profile == "extends full"
    assert load({"profile": {"dask": {"internal_tasks": True}}}).dask.internal_tasks


def test_a_profile_may_be_a_file_that_is_found_beside_the_file_that_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    write(folder, "extends: ./base.yaml\ntelemetry_capture: {interval: 2}\n", "ours.yaml")
    write(folder, "description: x\nname: the base\nextends: full\njournal: {heartbeat: 7}\n", "base.yaml")
    path = write(folder, "profile: ./ours.yaml")
    for settings in (
        load(path, cwd=tmp_path),
        load(environ={"FLOWPROV_PROFILE": "shared/ours.yaml"}, cwd=tmp_path),
        load({"profile": "$HERE/ours.yaml"}, environ={"HERE": str(folder)}),
    ):
        assert settings.telemetry_capture is not None
        assert (settings.telemetry_capture.interval, settings.telemetry_capture.swap) == (2, True)
        assert settings.journal.heartbeat == 7
        assert settings.origins.profile.endswith("ours.yaml")
    assert load({"profile": str(folder / "base.yaml")}).origins.profile == "the base"


@pytest.mark.parametrize(
    ("profile", "parts"),
    [
        ("singel_gpu", ['found "singel_gpu"', 'did you mean "single_gpu"?']),
        ("single-gpu", ['did you mean "single_gpu"?']),
        ("production", ["expected one of cpu_only, single_gpu", "flowprov settings profiles lists them"]),
        (None, ["found ~ (nothing)"]),
        (3, ["found 3"]),
        ("", ['found ""']),
        (["full"], ["found a list"]),
        ({"extends": "ful"}, ['found "ful"', 'did you mean "full"?']),
        ({"extends": None}, ["found ~ (nothing)"]),
        ({"extend": "full"}, ["extend: unknown key"]),
        ({"extends": "full", "jurnal": {}}, ["jurnal: unknown key", 'did you mean "journal"?']),
        ({"extends": "full", "name": 3}, ["found 3 as its name"]),
        ({"profile": "full"}, ["profile: unknown key"]),
        ("gone.yaml", ["gone.yaml: no such file"]),
        ("a\0/b", ["not a valid path"]),
        ("~a\0/b", ["not a valid path"]),
    ],
)  # fmt: skip
def test_a_wrong_profile_is_an_error_from_every_layer(profile: Any, parts: list[str]) -> None:
    reports = [error_report({"profile": profile}), error_report(None, {"profile": profile})]
    if isinstance(profile, str) and profile and "\0" not in profile:
        reports.append(error_report(environ={"FLOWPROV_PROFILE": profile}))
        reports.append(error_report({"profile": profile}, {"profile": "full"}))
    for report in reports:
        for part in parts:
            assert part in report


def test_what_a_variable_holds_is_not_shown_as_a_part_of_a_path(tmp_path: Path) -> None:
    path = write(tmp_path, 'profile: "${TOKEN}/gone.yaml"\n', "settings.yaml")
    report = error_report(str(path), environ={"TOKEN": "battery-staple"})
    assert 'the value of "${TOKEN}/gone.yaml": no such file' in report
    assert "battery-staple" not in report


def test_a_mistake_in_the_file_of_a_profile_is_reported_with_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, "extends: full\njournal:\n  hartbeat: 3\n", "ours.yaml")
    assert f'{path}:3: journal.hartbeat: unknown key; did you mean "journal.heartbeat"?' in error_report(
        {"profile": str(path)}
    )
    for text, message in (("[", "not valid YAML"), ("", "found nothing at the top"), ("a", 'found "a" at')):
        write(tmp_path, text, "ours.yaml")
        assert message in error_report({"profile": str(path)})


def test_profiles_that_extend_each_other_in_a_circle_are_reported(tmp_path: Path) -> None:
    write(tmp_path, "extends: ./two.yaml", "one.yaml")
    write(tmp_path, "extends: ./one.yaml", "two.yaml")
    assert "more than 10 profiles extend each other" in error_report({"profile": str(tmp_path / "one.yaml")})


def test_a_profile_that_is_named_twice_in_one_layer_is_reported(tmp_path: Path) -> None:
    assert "profile: given a second time" in error_report(write(tmp_path, "profile: full\nprofile: off\n"))
    twice = {"profile.extends": "full", "profile.name": "x"}
    assert "profile: given a second time" in error_report(None, twice)


@pytest.mark.parametrize("text", ["profile: production", "profile: {level: 3}", "profile: ~"])
def test_the_file_of_another_program_with_a_profile_stops_nothing(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, text)
    assert load(cwd=tmp_path).origins.profile == "cpu_only"
    assert "flowprov does not use" in caplog.text
    write(tmp_path, f"{text}\ndebug: true")
    assert load(cwd=tmp_path).origins.profile == "cpu_only"


# -- where values come from -------------------------------------------------------------------------------


def test_the_record_says_where_each_value_comes_from_that_is_no_default(tmp_path: Path) -> None:
    path = write(tmp_path, "profile: multi_gpu\njournal:\n  heartbeat: 3\n  sync: off\n  max_wait: ${WAIT}\n")
    environ = {"FLOWPROV__SINKS__STOP_TIMEOUT": "1", "WAIT": "4"}
    public = load(path, {"dask.internal_tasks": True}, environ=environ).to_public_dict()
    assert public["profile"] == "multi_gpu"
    origins = public["origins"]
    assert origins["journal.heartbeat"] == f"{path}:3"
    assert origins["journal.max_wait"] == f"{path}:5"
    assert origins["sinks.stop_timeout"] == "FLOWPROV__SINKS__STOP_TIMEOUT"
    assert origins["dask.internal_tasks"] == "override"
    assert origins["telemetry_capture.gpu"] == "profile single_gpu"
    assert origins["telemetry_capture.interval"] == "profile multi_gpu"
    assert "journal.sync" not in origins, "it is set to its default"
    assert "journal.path" not in origins


def test_a_section_that_is_switched_off_and_on_again_has_the_origin_of_its_last_layer(tmp_path: Path) -> None:
    path = write(tmp_path, "profile: single_gpu\ntelemetry_capture: ~\n")
    assert load(path).origins.of("telemetry_capture") == f"{path}:2"
    assert load(path).origins.of("telemetry_capture.cpu") == f"{path}:2"
    again = load(path, environ={"FLOWPROV__TELEMETRY_CAPTURE__MEM": "true"}).origins
    assert again.of("telemetry_capture.mem") == "FLOWPROV__TELEMETRY_CAPTURE__MEM"
    assert again.of("telemetry_capture.cpu") == "default"


def test_origins_and_profile_travel_to_other_processes_and_do_not_count_as_values() -> None:
    settings = load({"profile": "single_gpu", "journal": {"heartbeat": 3}})
    there = settings_from_json(settings_to_json(settings))
    assert there.to_public_dict() == settings.to_public_dict()
    assert load(there).to_public_dict() == settings.to_public_dict()
    plain = Settings(**{name: getattr(settings, name) for name in Settings.key_names()})
    assert plain == settings
    assert hash(plain) == hash(settings)
    assert plain.digest() == settings.digest()
    same = load(there, {"journal.heartbeat": 3, "dask.internal_tasks": True})
    assert same.origins.of("journal.heartbeat") == "the given mapping", "the override only repeats it"
    assert same.origins.of("dask.internal_tasks") == "override"


def test_another_profile_over_loaded_settings_replaces_what_the_one_before_set_and_nothing_else() -> None:
    loaded = load({"profile": "cluster", "journal": {"heartbeat": 10}, "telemetry_capture": {"interval": 3}})
    full = load(loaded, {"profile": "full", "values.max_bytes": 5000})
    assert full.origins.profile == "full"
    assert full.telemetry_capture is not None
    assert (full.telemetry_capture.interval, full.telemetry_capture.swap) == (3, True)
    assert (full.journal, full.dask.close_timeout) == (loaded.journal, 5)
    assert full.values.max_bytes == 5000
    by_hand = Settings(telemetry_capture=None, dask=type(loaded.dask)(collect_interval=9))
    over = load(by_hand, {"profile": "cluster"})
    assert (over.dask.collect_interval, over.dask.close_timeout) == (9, 60)
    assert over.telemetry_capture is not None


def test_settings_built_by_hand_say_so() -> None:
    origins = load(Settings(values=type(load().values)(max_bytes=5000))).to_public_dict()["origins"]
    assert origins == {"values.max_bytes": "the given Settings"}
