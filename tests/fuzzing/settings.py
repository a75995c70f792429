"""The fuzzer of settings: files, variables, overrides and assignments that are nearly right, or not at all.

Settings load, or a ``SettingsError`` says what is wrong: never anything else, never without an end, and never
with a password in it.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from flowprov.errors import SettingsError
from flowprov.settings import Settings, load_settings, parse_assignment, settings_from_json, settings_to_json
from flowprov.settings.inspection import inspect_settings
from flowprov.settings.key_tree import all_paths
from flowprov.settings.ownership import ownership
from flowprov.settings.profiles import PROFILES
from flowprov.settings.rules import findings

PASSWORD = "correct-horse"  # noqa: S105 - it must never be shown
HELD = "battery-staple"
"""What a variable holds that stands in files: no report may quote it."""
_VARIABLES = {
    "HELD": HELD, "USER_INFO": f"u:{PASSWORD}", "ADDRESS": f"redis://u:{PASSWORD}@host", "NUMBER": "3",
    "KINDS": "{cpu: true}", "EMPTY": "", "KIND": "full",
}  # fmt: skip
_MAX_REPORT = 200_000  # characters: a hundred problems, each of bounded length
_MAX_CPU_S = 5.0  # the largest text takes a tenth of it
_SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 0.5, 1e309, 10**400, 2**63, "", " ", "~", "off", "on", "1e-3", "0640", 0o640,
    "default", "all", "auto", "write", "parent_only", "$HOME/x", "${NOT_SET}", "~nobody/x", "a\0b", "\ud800",
    "\u202e", "x" * 3000, "optuna.TrialPruned", "redis://host", f"redis://u:{PASSWORD}@host",
    f"mongodb://u:{PASSWORD}@h/db", "redis://u:port", "http://h", "2020-01-01", "0x1F", "1:30", "1_000",
    "${HELD}", "a${HELD}b", "${ADDRESS}", "redis://${USER_INFO}@host", "${NUMBER}", "${KINDS}", "${EMPTY}",
    "${EMPTY:-2}", "${GONE:-}", "${GONE", "${}", "$${HELD}", "${A:-${B}}", "${HELD}" * 500,
    ".inf", ".nan", "!!python/object:os.system x", "<<", "=", "\ufeff",
)  # fmt: skip
_PROFILES: tuple[Any, ...] = (
    *PROFILES, "full", "singel_gpu", "p.yaml", "./p.yaml", "gone.yaml", "~x/y", "a\0/b", "${KIND}", "${HELD}",
    "${GONE}", None, False, 3, [], {},
)  # fmt: skip
_OTHER_KEYS = {"flowprov", "profile", "extends", "other", "<<", "scheduler", "level", "pth"}
_KEYS = sorted({path[-1] for path in all_paths()} | _OTHER_KEYS)
_INSERTIONS = (
    "[", "]", "{", "}", ":", ": ", "- ", "? ", "&a ", "*a", "!!int ", "!t ", "|", ">", "#", '"', "'", "\t",
    "\r", "\n", "\n\n", "---\n", "...\n", "%YAML 1.1\n", "<<: *a\n", "\ufeff", "\0", "\x85", "\u2028",
    "flowprov: 1\n", "profile: full\n", "extends: ./p.yaml\n", "${", "${HELD}", "}", "\n  - &a [*a]\n",
    "\\", "\\x", "@", "`", ",",
)  # fmt: skip
_ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1")


class SettingsTarget:
    """Loads settings that nobody would write."""

    name = "settings"

    def play(self, rng: Random) -> None:
        """Play one round."""
        way = rng.choice((_file_in_folder, _named_file, _variables, _mapping, _overrides, _assignment))
        with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
            way(rng, Path(folder))


def _loads_or_reports(load: Callable[[], Settings], *, intact: bool = False) -> Settings | None:
    """Load settings; return None if that was reported.

    Parameters
    ----------
    load
        Loads them.
    intact
        Whether addresses are whole, so that it can be seen where their passwords are.
    """
    before = time.process_time()
    try:
        settings = load()
    except SettingsError as error:
        report = str(error)
        assert not (intact and PASSWORD in report), report
        assert HELD not in report, report
        assert len(report.encode()) < _MAX_REPORT, report[:500]
        assert all(line.isprintable() for line in report.split("\n")), report
        settings = None
    assert time.process_time() - before < _MAX_CPU_S
    if settings is not None:
        assert settings_from_json(settings_to_json(settings)) == settings
        assert not intact or PASSWORD not in json.dumps(settings.to_public_dict()) + repr(settings)
        assert len(settings.digest()) == 16
        assert {tuple(key.split(".")) for key in settings.origins.by_key} <= set(all_paths())
        assert load_settings(settings) == settings
        assert load_settings(settings, {"profile": "full"}).origins.profile == "full"
        findings(settings)
    return settings


# -- the ways in ------------------------------------------------------------------------------------------


def _file_in_folder(rng: Random, folder: Path) -> None:
    text, content = _file(rng)
    (folder / "settings.yaml").write_bytes(content)
    (folder / "p.yaml").write_bytes(_file(rng)[1])
    settings = _loads_or_reports(lambda: load_settings(environ=_VARIABLES, cwd=folder))
    if settings is None:
        assert "flowprov" in text, "a file that does not say that it is flowprov's stops nobody"
    stored = text.encode("utf-8", "replace")
    if content == stored and ownership(stored.decode()) is None and "flowprov" not in text:
        assert settings == load_settings({"journal": {"path": f"{folder}/flowprov_buffer"}}, environ={})


def _named_file(rng: Random, folder: Path) -> None:
    path = folder / "named.yaml"
    path.write_bytes(_file(rng)[1])
    (folder / "p.yaml").write_bytes(_file(rng)[1])
    if rng.random() < 0.5:
        settings = _loads_or_reports(lambda: load_settings(path, environ=_VARIABLES, cwd=folder))
        inspection = inspect_settings(path, environ=_VARIABLES, cwd=folder)
        assert inspection.settings == settings
        assert settings is not None or inspection.problems
    else:
        environ = {"FLOWPROV_SETTINGS_PATH": str(path), **_VARIABLES, **_environment(rng, 2)}
        _loads_or_reports(lambda: load_settings(environ=environ, cwd=folder))


def _variables(rng: Random, folder: Path) -> None:
    environ = _environment(rng, rng.choice((1, 3, 30)))
    _loads_or_reports(lambda: load_settings(environ=environ, cwd=folder))


def _mapping(rng: Random, folder: Path) -> None:
    tree = _tree(rng)
    _loads_or_reports(lambda: load_settings(tree, environ=_VARIABLES, cwd=folder), intact=True)


def _overrides(rng: Random, folder: Path) -> None:
    joined = {rng.choice((".", "__")).join(_path(rng)): _value(rng, 2) for _ in range(rng.randrange(5))}
    overrides = {**joined, **(_tree(rng) if rng.random() < 0.5 else {})}
    _loads_or_reports(lambda: load_settings(overrides=overrides, environ={}, cwd=folder), intact=True)


def _assignment(rng: Random, folder: Path) -> None:
    text = f"{'.'.join(_path(rng))}={_damaged(rng, _flow(_value(rng, 2), rng))}"
    with contextlib.suppress(SettingsError):
        key, value = parse_assignment(text)
        _loads_or_reports(lambda: load_settings(overrides={key: value}, environ={}, cwd=folder))


# -- what is put in ---------------------------------------------------------------------------------------


def _path(rng: Random) -> tuple[str, ...]:
    path = rng.choice(all_paths())
    return path if rng.random() < 0.8 else (*path[:-1], rng.choice(_KEYS))


def _value(rng: Random, depth: int) -> Any:
    kind = rng.random()
    if depth and kind < 0.15:
        return [_value(rng, depth - 1) for _ in range(rng.randrange(4))]
    if depth and kind < 0.3:
        return {rng.choice(_KEYS): _value(rng, depth - 1) for _ in range(rng.randrange(4))}
    return rng.choice(_SCALARS)


def _tree(rng: Random) -> dict[str, Any]:
    tree: dict[str, Any] = {"flowprov": rng.choice((1, 1, 2, "1", None, {}))} if rng.random() < 0.4 else {}
    if rng.random() < 0.3:
        tree["profile"] = rng.choice(_PROFILES)
        if rng.random() < 0.3:
            tree["profile"] = {"extends": tree["profile"], _path(rng)[0]: _value(rng, 2)}
    if rng.random() < 0.1:  # as in the file of a profile
        tree |= {"extends": rng.choice(_PROFILES), "name": rng.choice(_SCALARS)}
    for _ in range(rng.randrange(8)):
        node, path = tree, _path(rng)
        for key in path[:-1]:
            below = node.get(key)
            node[key] = node = below if isinstance(below, dict) else {}
        node[path[-1]] = _value(rng, 2)
    return tree


def _environment(rng: Random, count: int) -> dict[str, str]:
    variables = {}
    if rng.random() < 0.2:
        variables["FLOWPROV_PROFILE"] = str(rng.choice(_PROFILES)).replace("\0", "")
    for _ in range(count):
        name = "FLOWPROV__" + "__".join(_path(rng)).upper()
        name = name if rng.random() < 0.9 else name + "__" * rng.choice((1, 2, 500))
        variables[name] = _damaged(rng, _flow(_value(rng, 2), rng)).replace("\0", "")
    return variables


def _file(rng: Random) -> tuple[str, bytes]:
    """Return the text of a file, and its bytes, which may be another encoding or damaged."""
    text = _bomb(rng) if rng.random() < 0.15 else _block(_tree(rng), rng)
    text = _damaged(rng, text)
    content = text.encode(rng.choice(_ENCODINGS), "replace")
    if rng.random() < 0.1 and content:
        at = rng.randrange(len(content))
        content = content[:at] + rng.randbytes(rng.randrange(4)) + content[at + rng.randrange(4) :]
    return text, content


def _damaged(rng: Random, text: str) -> str:
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 5))):
        at = rng.randrange(len(text) + 1)
        cut = at + rng.choice((0, 0, 1, 10))
        text = text[:at] + rng.choice(_INSERTIONS) * rng.choice((1, 1, 1, 2, 50)) + text[cut:]
    return text


def _bomb(rng: Random) -> str:
    """Return a text that stands for much more than it is, or costs much to scan."""
    size = rng.choice((100, 5_000, 70_000, 240_000))
    unit = rng.choice(
        (
            "[",
            "{",
            "[[,",
            "- ",
            "? ",
            "k: 1\n",
            "a,",
            "&a ",
            "!t ",
            "#\n",
            "\n",
            " ",
            "---\n",
            "%a\n",
            "\\x41",
            "é",
        )
    )
    start = rng.choice(("", "flowprov: 1\n", "journal: ", "dask: [", "a: &a {", 'journal: {path: "'))
    if rng.random() < 0.3:  # each anchor holds the one before ten times
        lines = ["a0: &a0 [1]"]
        lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, min(size // 100, 400))]
        return start + "\n" + "\n".join(lines)
    return start + unit * (size // len(unit))


def _block(tree: Mapping[str, Any], rng: Random, indent: int = 0) -> str:
    """Write a mapping as YAML, in one of the styles."""
    lines = []
    for key, value in tree.items():
        if isinstance(value, dict) and value and rng.random() < 0.8:
            lines.append(f"{' ' * indent}{key}:\n{_block(value, rng, indent + rng.choice((1, 2, 4)))}")
        else:
            lines.append(f"{' ' * indent}{key}: {_flow(value, rng)}\n")
        if rng.random() < 0.1:
            lines.append(f"{' ' * rng.randrange(6)}# {PASSWORD}\n")
    return "".join(lines)


def _flow(value: Any, rng: Random) -> str:
    """Write a value as YAML on one line, quoted or not."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(item, rng)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(item, rng) for item in value) + "]"
    if isinstance(value, str):
        return rng.choice((json.dumps(value), value, f"'{value}'"))
    return (
        {None: "~", True: "true", False: "false"}.get(value, "")
        if value in (None, True, False)
        else repr(value)
    )
