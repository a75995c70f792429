"""The commented ``settings.yaml`` at the root says the same as the code."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from flowprov.settings import JournalSettings, Settings
from flowprov.settings.key_tree import all_paths
from tests.settings.support import NOWHERE, load

FILE = Path(__file__).parents[2] / "settings.yaml"


def test_the_default_file_is_equal_to_the_defaults() -> None:
    defaults = Settings(journal=JournalSettings(path=str(NOWHERE / "flowprov_buffer")))
    assert load(FILE) == defaults


def test_the_default_file_begins_with_the_version_key_and_is_loaded_from_the_current_folder() -> None:
    assert next(iter(yaml.safe_load(FILE.read_text(encoding="utf-8")).items())) == ("flowprov", 1)
    assert load(cwd=FILE.parent).journal.path == str(FILE.parent / "flowprov_buffer")


def test_the_default_file_has_every_key_and_those_of_telemetry_in_an_example() -> None:
    text = FILE.read_text(encoding="utf-8")
    tree = yaml.safe_load(re.sub(r"^#((?:  )*[a-z_]+:)", r"\1", text, flags=re.MULTILINE))
    for path in all_paths():
        if path[0] == "telemetry_capture" and len(path) > 1:
            assert re.search(rf"^#  +{path[1]}: ", text, re.MULTILINE), path
            continue
        node = tree
        for key in path:
            assert key in node, path
            node = node[key]


def test_the_example_of_telemetry_loads_without_its_comment_signs() -> None:
    text = FILE.read_text(encoding="utf-8")
    example = re.search(r"^#     telemetry_capture:\n(?:#      .*\n)+", text, re.MULTILINE)
    assert example is not None
    telemetry = load(yaml.safe_load(re.sub(r"^#", "", example.group(), flags=re.MULTILINE))).telemetry_capture
    assert telemetry is not None
    assert telemetry.interval == 0.5
    assert telemetry.cpu
