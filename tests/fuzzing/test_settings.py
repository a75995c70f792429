"""Some hundreds of rounds of the fuzzer of settings; tests/soak plays for an hour."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from flowprov.errors import SettingsError
from flowprov.settings import load_settings
from flowprov.settings.yaml_text import MAX_TEXT
from tests.fuzzing.frame import fuzz
from tests.fuzzing.settings import SettingsTarget

# Each costs a parser the most that its length allows.
COSTLY = {
    "brackets": "[",
    "braces": "{",
    "sequences in flows": "[a, ",
    "block sequences": "- ",
    "complex keys": "? ",
    "pairs": "k: 1\n",
    "one pair": "a: [x, x, x, ",
    "anchors": "&a ",
    "tags": "!t ",
    "directives": "%a\n",
    "comments": "#\n",
    "blank lines": "\n",
    "spaces": " ",
    "documents": "---\n",
    "escapes": 'a: "\\x41\\x41',
    "wide characters": "é😀",
}


@pytest.mark.parametrize("seed", [15, 16, 17])
def test_settings_load_or_are_reported(seed: int) -> None:
    assert fuzz(SettingsTarget(), seed, rounds=200) == 200


@pytest.mark.parametrize("unit", COSTLY.values(), ids=COSTLY)
@pytest.mark.parametrize("start", ["", "flowprov: 1\njournal: ", "dask: ["])
@pytest.mark.parametrize("size", [MAX_TEXT - 100, 240_000, 5_000_000])
def test_no_text_costs_more_than_a_moment(tmp_path: Path, unit: str, start: str, size: int) -> None:
    text = start + unit * (size // len(unit))
    (tmp_path / "settings.yaml").write_text(text)
    before = time.process_time()
    for source in (None, tmp_path / "settings.yaml"):
        with contextlib.suppress(SettingsError):
            load_settings(source, environ={}, cwd=tmp_path)
    value = text[:MAX_TEXT]
    with pytest.raises(SettingsError):
        load_settings(environ={"FLOWPROV__JOURNAL__HEARTBEAT": f"x{value}", "FLOWPROV__DASK": f"[{value}"})
    assert time.process_time() - before < 5, "it takes a tenth of that"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 5_000, "found 17 levels, expected at most 16"),
        ("a: &a [1]\nb: [" + "*a," * 20_500 + "]", "found more values, expected at most 20000"),
        ("a: [" + "x," * 25_000 + "]", "found more values, expected at most 20000"),
        ("# " + "x" * 70_000, "too large: expected at most 64 KiB"),
        (
            "journal: {path: {a: {b: {c: {d: 1}}}}}",
            "journal.path: found a mapping, expected the path of a folder",
        ),
    ],
)
def test_a_file_that_is_too_much_is_an_error_that_says_what_and_where(
    tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "named.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as raised:
        load_settings(path, environ={}, cwd=tmp_path)
    assert str(path) in str(raised.value)
    assert problem in str(raised.value)
