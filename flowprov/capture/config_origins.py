"""From where each leaf of a configuration has its value: an override, a file, a default, or the code.

Flows in: what a program says of its configuration, and what Hydra knows if it runs the program. Flows out: a
few words for each leaf. Nothing of a file is run, and no value is compared with what a file says.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from flowprov import guard
from flowprov.environment.small_files import read_file
from flowprov.settings.sources import SourceNode
from flowprov.settings.yaml_text import YAML_ERRORS, compose
from flowprov.values import as_name
from flowprov.values.arguments import redact_arguments
from flowprov.values.redaction import redactor

_MAX_BYTES = 1 << 20
_MAX_FILES = 100
_MAX_LEVELS = 20
CUT = "$cut"
# "+a.b=1" of Hydra, "--a-b=1" and "--a-b 1" of other command lines, "a.b=1" of OmegaConf and of torchtune.
_OVERRIDE = re.compile(r"(?:\+\+|\+|~|--?)?([^=\s]+)")
_HYDRA = "hydra.core.hydra_config"


class _File(NamedTuple):
    """A configuration file: how it is called, where its leaves belong, and which it has."""

    name: str
    prefix: str
    leaves: frozenset[str]


class Origins:
    """From where the leaves of a configuration come.

    Parameters
    ----------
    file
        The file that was loaded, or several: the later ones are above the earlier.
    overrides
        What was typed to change it, as texts or by name.
    defaults
        The class that declares the defaults, an instance of it, or a mapping.

    Attributes
    ----------
    overrides
        The overrides as they were typed, without secrets.
    """

    def __init__(self, file: Any, overrides: Any, defaults: Any) -> None:
        hydra = _of_hydra() if file is None and overrides is None else None
        groups: frozenset[str] = frozenset()
        if hydra is not None:
            self.overrides, self._files, groups = hydra
        else:
            self.overrides = redact_arguments(_joined(_override_texts(overrides)))
            self._files = [_read(path, str(path)) for path in _paths(file)]
        self._by_key = {key: text for text in self.overrides if (key := _key_of(text)) not in groups}
        self._default_names = _names_of(defaults)
        kind = defaults if isinstance(defaults, type) else type(defaults)
        self._default_origin = f"default {as_name(kind.__qualname__)}"

    def of(self, leaf: str) -> str:
        """Return the origin of a leaf: ``override …``, the name of a file, ``default …`` or ``code``."""
        parts = leaf.split(".")
        for count in range(len(parts), 0, -1):
            text = self._by_key.get(".".join(parts[:count]))
            if text is not None:
                return f"override {text}"
        for file in reversed(self._files):
            if leaf.startswith(file.prefix) and leaf.removeprefix(file.prefix) in file.leaves:
                return file.name
        return self._default_origin if parts[0] in self._default_names else "code"


def _override_texts(overrides: Any) -> list[str]:
    if overrides is None:
        return []
    if isinstance(overrides, str):
        return overrides.split()
    if isinstance(overrides, Mapping):
        return [f"{name}={value}" for name, value in islice(overrides.items(), 1_000)]
    return [as_name(text, "") for text in islice(overrides, 1_000)]


def _joined(texts: Sequence[str]) -> list[str]:
    """Join an option and the value behind it: ``--lr`` and ``0.1``."""
    joined: list[str] = []
    for text in texts:
        if joined and joined[-1].startswith("--") and not {"=", " "} & {*joined[-1]} and text[:2] != "--":
            joined[-1] += f"={text}"
        else:
            joined.append(text)
    return joined


def _key_of(text: str) -> str:
    found = _OVERRIDE.match(text)
    key = found[1].replace("/", ".") if found else ""
    return key.replace("-", "_") if text.startswith("--") else key


def _paths(file: Any) -> list[Any]:
    several = isinstance(file, Iterable) and not isinstance(file, (str, bytes, os.PathLike))
    paths = list(islice(file, _MAX_FILES)) if several else [] if file is None else [file]
    return [os.fsdecode(path) for path in paths if isinstance(path, (str, bytes, os.PathLike))]


def _read(path: str | Path, name: str, prefix: str = "") -> _File:
    """Return the leaves of a configuration file; none of one that cannot be read, which is said once."""
    shown = redactor().text(as_name(name, "a file"))
    leaves: frozenset[str] = frozenset()
    reason = None if os.path.isfile(path) else "there is no such file"  # noqa: PTH113 - it may be no text
    try:
        if reason is None:
            leaves = frozenset(_leaves_of_node(compose(read_file(Path(path), _MAX_BYTES))))
    except YAML_ERRORS as error:
        reason = f"it is no YAML: {type(error).__name__}"
    if reason is not None:
        guard.warn_once(
            "configuration file",
            "flowprov cannot read %s (%s): the origin of what stands in it is not recorded.",
            shown,
            reason,
        )
    return _File(shown, prefix, leaves)


def _leaves_of_node(node: SourceNode | None, path: str = "", level: int = 0) -> Iterator[str]:
    entries = None if node is None or level > _MAX_LEVELS else node.entries()
    if entries:
        for key, _, value in entries:
            yield from _leaves_of_node(value, f"{path}.{key}" if path else str(key), level + 1)
    elif path:
        yield path


def leaves_of(values: Any, path: str = "", level: int = 0) -> Iterable[tuple[str, Any]]:
    """Yield the leaves of nested mappings by their path; a list is a leaf."""
    # A marker begins with its "$name"; "$cut" stands behind what is left of a mapping.
    first = str(next(iter(values), "$")) if isinstance(values, dict) else "$"
    if level < _MAX_LEVELS and (first[:1] != "$" or first[1:2] == "$"):
        for key, value in values.items():
            yield from leaves_of(value, f"{path}.{key}" if path else str(key), level + 1)
    elif path:
        yield path, values


def _names_of(defaults: Any) -> frozenset[str]:
    """Return the names that have a default, without running code of the program."""
    if isinstance(defaults, Mapping):
        return frozenset(map(str, islice(defaults, 10_000)))
    kind = defaults if isinstance(defaults, type) else type(defaults)
    if dataclasses.is_dataclass(kind):
        return frozenset(field.name for field in dataclasses.fields(kind))
    own = {} if isinstance(defaults, type) else getattr(defaults, "__dict__", {})
    return frozenset(map(str, (*inspect.get_annotations(kind), *own)))


def is_run_by_hydra() -> bool:
    """Whether Hydra runs the program. It imports nothing."""
    config_class = getattr(sys.modules.get(_HYDRA), "HydraConfig", None)
    return config_class is not None and bool(config_class.initialized())


def _of_hydra() -> tuple[list[str], list[_File], frozenset[str]] | None:
    """Return the overrides, the files and the groups of a program that Hydra runs; None of another."""
    if not is_run_by_hydra():
        return None
    config = sys.modules[_HYDRA].HydraConfig.get()
    folders = [
        Path(source.path)
        for source in config.runtime.config_sources
        if source.schema == "file" and source.path
    ]
    files = [_hydra_file(folders, str(config.job.config_name), "", None, config.runtime.cwd)]
    for group, choice in config.runtime.choices.items():
        if "hydra" not in str(group) and "@" not in str(group) and choice is not None:
            files.append(
                _hydra_file(folders, f"{group}/{choice}", str(group), str(choice), config.runtime.cwd)
            )
    overrides = redact_arguments(map(str, config.overrides.task))
    groups = frozenset(str(group).replace("/", ".") for group in config.runtime.choices)
    return overrides, [file for file in files if file is not None], groups


def _hydra_file(folders: Sequence[Path], name: str, group: str, choice: str | None, cwd: str) -> _File | None:
    name = name if name.endswith(".yaml") else f"{name}.yaml"
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        return None
    shown = os.path.relpath(path, cwd)
    text = read_file(path, _MAX_BYTES)
    is_global = "@package _global_" in text.partition("\n")[0]
    prefix = "" if is_global or not group else group.replace("/", ".") + "."
    return _read(path, shown if choice is None else f"{shown} ({group}={choice})", prefix)
