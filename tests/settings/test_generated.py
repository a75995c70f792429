"""What is made from the keys of the settings is what is committed, and says the same as the code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from flowprov.settings import Settings
from flowprov.settings.json_schema import settings_schema
from flowprov.settings.key_tree import all_keys, all_paths
from flowprov.settings.profiles import PROFILES
from flowprov.settings.yaml_document import starting_yaml, to_yaml
from tests.settings.generated import PAGE, generated
from tests.settings.support import load, write
from tests.support import REPOSITORY


@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_what_is_made_from_the_keys_is_what_is_committed(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == generated()[path], "python -m tests.settings.generated"


def test_every_key_has_a_meaning_in_one_sentence_and_choices_that_are_its_own() -> None:
    for path, spec in all_keys():
        assert re.fullmatch(r"[A-Z][^\n]*[.:]", spec.key.meaning), path
        if spec.key.choices and spec.type_hint is not bool:
            for choice in spec.key.choices:
                load(None, {".".join(path): None if choice == "~" else choice})


def test_the_reference_has_each_key_once() -> None:
    listed = re.findall(r"^\| `([a-z_.]+)`(?: \*\(expert\)\*)? \|", PAGE.read_text(), re.MULTILINE)
    leaves = [".".join(path) for path, spec in all_keys() if spec.section is None]
    assert sorted(listed) == sorted([*leaves, *(set(PROFILES) & set(listed))])
    assert set(PROFILES) <= set(listed)


_BLOCKS = [
    block
    for page in (PAGE, REPOSITORY / "docs" / "how-to" / "choose-settings.md")
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


@pytest.mark.parametrize("block", _BLOCKS)
def test_the_yaml_of_the_pages_loads(tmp_path: Path, block: str) -> None:
    path = write(tmp_path, block)
    is_profile = "extends" in yaml.safe_load(block)
    assert load({"profile": str(path)} if is_profile else path).origins.profile != "cpu_only"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("full", [False, True])
def test_a_file_to_start_from_changes_nothing_until_a_sign_is_taken_away(
    tmp_path: Path, profile: str, *, full: bool
) -> None:
    settings = load({"profile": profile})
    text = starting_yaml(profile, settings, full=full)
    started = load(write(tmp_path, text), cwd=tmp_path.parent)
    assert started.origins.profile == profile
    assert started.to_public_dict() == load({"profile": profile}, cwd=tmp_path.parent).to_public_dict()
    uncommented = re.sub(r"^#((?:  )*[a-z_]+:)", r"\1", text, flags=re.MULTILINE)
    assert load(write(tmp_path, uncommented)) == settings


def keys_shown(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the paths of the keys that stand in comments with a value."""
    path: tuple[str, ...] = ()
    for indent, key, value in re.findall(r"^#((?:  )*)([a-z_]+):( .*)?$", text, re.MULTILINE):
        path = (*path[: len(indent) // 2], key)
        if value:
            yield path


def test_keys_for_experts_are_in_a_file_to_start_from_only_if_it_is_full() -> None:
    settings = load({"profile": "single_gpu"})
    for full in (False, True):
        text = starting_yaml("single_gpu", settings, full=full)
        shown = list(keys_shown(text))
        expected = [
            path for path, spec in all_keys() if spec.section is None and (full or not spec.key.expert)
        ]
        assert shown == expected
        assert ("[expert]" in text) == full
        assert ("#values:" in text) == full, "all of its keys are for experts"


@pytest.mark.parametrize(
    "value",
    ["off", "~", "", "1", "0x1f", "a b", "a: b", " a", "#", "ä", "é\n", "[a]", "*", "2020-01-01"],
)
def test_a_text_is_written_so_that_yaml_reads_it_back(value: str) -> None:
    assert yaml.safe_load(f"key: {to_yaml(value)}\n") == {"key": value}
    assert yaml.safe_load(to_yaml((value,))) == [value]


def test_the_schema_for_editors_knows_every_key_its_default_and_what_it_allows() -> None:
    schema = settings_schema()
    assert json.loads(json.dumps(schema)) == schema
    for path, spec in all_keys():
        node: Any = schema
        for key in path:
            node = node.get("properties") or node["anyOf"][0]["properties"]
            node = node[key]
        assert node["description"].startswith(spec.key.meaning)
        if spec.section is None:
            assert node["default"] == json.loads(msgspec.json.encode(spec.default))
        allows_null = '{"type": "null"}' in json.dumps(node.get("anyOf"))
        assert allows_null >= spec.can_be_off(), path
    top = set(schema["properties"]) - {"flowprov", "profile"}
    assert top == {path[0] for path in all_paths() if len(path) == 1} == set(Settings.key_names())
