"""Profiles: small files of settings for a kind of campaign, above the defaults and below all else.

Flows in: what the layers of settings name as their profile: one of the files in this folder, a file of the
user's, or a mapping that extends one of them. Flows out: the layers of that profile, the lowest first.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from flowprov.settings.interpolation import InterpolatedNode, UnresolvedError, describe_node, interpolate
from flowprov.settings.origins import DEFAULT, DEFAULT_PROFILE, is_of_profile
from flowprov.settings.paths import expand_variables
from flowprov.settings.report import Problems, SourceLocation, closest, describe_value, shorten
from flowprov.settings.schema import Settings
from flowprov.settings.section import Section
from flowprov.settings.settings_file import describe_read_error, node_of_content, read_file
from flowprov.settings.sources import PROFILE_KEY, Layer, MappingEntry, PythonNode, SourceNode

PROFILES = ("cpu_only", "single_gpu", "multi_gpu", "cluster", "full", "off")
"""The profiles that flowprov brings."""
_EXTENDS, _NAME, _DESCRIPTION = "extends", "name", "description"
_OWN_KEYS = (_EXTENDS, _NAME, _DESCRIPTION)
_MAX_CHAIN = 10  # profiles that extend each other


class Profile(NamedTuple):
    """A profile: its name, its layers, the lowest first, and where it is named."""

    name: str
    layers: tuple[Layer, ...]
    named_at: SourceLocation = SourceLocation("defaults")


class PartNode:
    """A mapping without some of its keys."""

    def __init__(self, node: SourceNode, without: Sequence[str]) -> None:
        self.line = node.line
        self._node = node
        self._without = without

    def entries(self) -> list[MappingEntry]:
        """Return the other entries."""
        entries = self._node.entries() or []
        return [entry for entry in entries if not _is_one_of(entry.key, self._without)]

    def to_python(self) -> Any:
        """Return the whole mapping."""
        return self._node.to_python()


def chosen_profile(
    layers: Sequence[Layer], problems: Problems, environ: Mapping[str, str], folder: Path | None
) -> Profile:
    """Return the profile that the highest layer names; all that are named must be right.

    Parameters
    ----------
    layers
        The layers, the lowest first.
    problems
        Receives what is wrong.
    environ
        The variables that may stand in the path of a profile.
    folder
        Where a relative path starts.
    """
    profile = Profile(DEFAULT_PROFILE, ())
    for layer in layers:
        # A file may be named by another folder; a variable and code speak of the current one.
        beside = Path(layer.source).parent if os.path.isabs(layer.source) else folder  # noqa: PTH117  no Path yet
        entries = [entry for entry in layer.node.entries() or () if entry.key == PROFILE_KEY]
        for entry in entries[:1]:
            location = SourceLocation(layer.source, entry.value.line)
            found = _resolve(entry.value, _Site(layer.source, layer.is_file, beside, environ, problems))
            profile = profile if found is None else found._replace(named_at=location)
        if len(entries) > 1 and entries[1].line is None:
            location = SourceLocation(layer.source)
            problems.add(location, (PROFILE_KEY,), "given a second time", hint=lambda: "keep one of them")
    return profile


def names_profile(layers: Sequence[Layer]) -> bool:
    """Whether one of the layers names a profile."""
    return any(entry.key == PROFILE_KEY for layer in layers for entry in layer.node.entries() or ())


def set_by_hand(settings: Settings) -> dict[str, Any]:
    """Return the values of settings that are neither defaults nor of a profile, nested as in a file."""

    def walk(section: Section, usual: Section, prefix: str) -> Iterator[tuple[str, Any]]:
        for name in section.key_names():
            value, usual_value = getattr(section, name), getattr(usual, name)
            origin = settings.origins.of(prefix + name)
            if isinstance(value, Section):
                inner = usual_value if isinstance(usual_value, Section) else type(value)()
                if kept := dict(walk(value, inner, f"{prefix}{name}.")):
                    yield name, kept
            elif value != usual_value if origin == DEFAULT else not is_of_profile(origin):
                yield name, value

    return dict(walk(settings, Settings(), ""))


def describe_profile(name: str) -> str:
    """Return the description of a profile that flowprov brings."""
    entries = _packaged_node(name).entries() or ()
    return next(str(entry.value.to_python()) for entry in entries if entry.key == _DESCRIPTION)


class _Site(NamedTuple):
    """Where a profile is named, and what is needed to find it."""

    source: str
    is_file: bool
    folder: Path | None
    environ: Mapping[str, str]
    problems: Problems
    depth: int = 0

    def report(self, node: SourceNode, message: str, hint: Callable[[], str] | None = None) -> None:
        """Add a problem of the profile that a node is or names."""
        self.problems.add(SourceLocation(self.source, node.line), (PROFILE_KEY,), message, hint=hint)


def _resolve(node: SourceNode, site: _Site) -> Profile | None:
    """Return the profile that a node is or names; None if that is a problem."""
    if node.entries() is not None:
        return _extended(node, site)
    if site.is_file:
        try:
            node = interpolate(node, site.environ)
        except UnresolvedError as error:
            hint = error.hint
            site.report(node, str(error), lambda: hint)
            return None
    value = node.to_python()
    name = "off" if value is False else value  # YAML reads "off" as false
    if isinstance(name, str) and (name := name.strip()):
        if name in PROFILES:
            return _packaged(name, site)
        if os.sep in name or name.endswith((".yaml", ".yml")):
            return _in_file(node, name, site)
    choice = closest(name, PROFILES) if isinstance(name, str) else None
    hint = f'did you mean "{choice}"?' if choice else "flowprov settings profiles lists them"
    site.report(node, f"found {describe_node(node)}, expected {_EXPECTED}", lambda: hint)
    return None


def _packaged(name: str, site: _Site) -> Profile | None:
    if name == DEFAULT_PROFILE:  # its file has no keys
        return Profile(name, ())
    profile = _extended(_packaged_node(name), site._replace(source=name))
    return None if profile is None else profile._replace(name=name)


def _in_file(node: SourceNode, name: str, site: _Site) -> Profile | None:
    """Return the profile of a file; a relative path starts beside the file that names it."""
    expanded, unset = expand_variables(name, site.environ)
    path = expanded
    try:
        path = os.path.expanduser(path)  # noqa: PTH111  pathlib raises for an unknown home folder
        if site.folder is not None:
            path = os.path.join(site.folder, path)  # noqa: PTH118  leaves a NUL to `open`
        content = read_file(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        if isinstance(node, InterpolatedNode):  # what a variable holds may be a secret, in a path, too
            shown, missing = describe_node(node), "; a variable in it is not set" if unset else ""
        else:
            shown, missing = shorten(path), f"; the variable {shorten(unset)} is not set" if unset else ""
        site.report(node, f"{shown}: {describe_read_error(error)}{missing}")
        return None
    top = node_of_content(content, path, site.problems)
    if top is None or top.entries() is None:
        found = "found nothing" if top is None else f"found {describe_value(top.to_python())}"
        site.problems.add(SourceLocation(path), (), f"{found} at the top, expected the keys of a profile")
        return None
    profile = _extended(top, site._replace(source=path, is_file=True, folder=Path(path).parent))
    is_unnamed = profile is not None and profile.name.startswith(_EXTENDS)
    return profile._replace(name=name) if profile is not None and is_unnamed else profile


def _extended(node: SourceNode, site: _Site) -> Profile | None:
    """Return the profile of a mapping: its own keys over those of the profile that it extends."""
    own = {entry.key: entry.value for entry in node.entries() or () if _is_one_of(entry.key, _OWN_KEYS)}
    if site.depth == _MAX_CHAIN:
        message = f"more than {_MAX_CHAIN} profiles extend each other"
        site.report(node, message, lambda: "one of them may extend itself")
        return None
    base: Profile | None = Profile(DEFAULT_PROFILE, ())
    if _EXTENDS in own:
        base = _resolve(own[_EXTENDS], site._replace(depth=site.depth + 1))
    if base is None:
        return None
    name = own[_NAME].to_python() if _NAME in own else f"{_EXTENDS} {base.name}"
    if not isinstance(name, str):
        site.report(own[_NAME], f"found {describe_value(name)} as its name, expected a string")
        return None
    layer = Layer(PartNode(node, _OWN_KEYS), site.source, is_file=True, is_profile=True)
    return Profile(name, (*base.layers, layer))


_EXPECTED = f"one of {', '.join(PROFILES)}, the path of a YAML file, or a mapping that extends one of them"


@functools.cache
def _packaged_node(name: str) -> SourceNode:
    text = Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8")
    return PythonNode(yaml.safe_load(text))


def _is_one_of(key: Any, names: Sequence[str]) -> bool:
    return isinstance(key, str) and key in names
