"""Validation: the values of all layers, checked against the schema and put over each other.

Flows in: a ``Layer`` for each source (a profile, a file, the environment, overrides), the lowest first. Flows
out: one ``Settings``, or entries in ``Problems``. Only the struct definitions say what is valid.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from flowprov.settings.interpolation import InterpolatedNode, UnresolvedError, describe_node, interpolate
from flowprov.settings.journal_path import (
    JOURNAL_PATH,
    absolute_database_uri,
    absolute_journal_path,
    expand_journal_path,
)
from flowprov.settings.key_tree import NOT_OFF, FieldSpec, KeyPath, fields, literal_choices
from flowprov.settings.locations import Locations
from flowprov.settings.origins import DEFAULT_PROFILE, Origins
from flowprov.settings.report import Problems, SourceLocation, describe_value, join_path
from flowprov.settings.schema import Settings
from flowprov.settings.section import Section
from flowprov.settings.sources import PROFILE_KEY, VERSION_KEY, Layer, PythonNode, SourceNode
from flowprov.settings.value_types import FileMode, Patterns
from flowprov.settings.wording import describe_type, quotes_hint, unknown_key_hint, value_hint
from flowprov.values.patterns import compile_pattern

_VERSION = 1
# YAML 1.1 takes "1e-3" for a string, because it has no point.
_EXPONENT_FORM = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
_MAX_MODE = 0o7777
OVERRIDE = "override"
"""The name of the layer that code or the command line gives."""
# msgspec learns what a struct is like at its first use. It crashes if a signal handler of the program comes
# to the same struct meanwhile. So that is done here, at the import.
msgspec.json.Decoder(Settings)


class Checker:
    """Checks one layer after the other and keeps the valid values.

    Parameters
    ----------
    problems
        Receives everything that is wrong.
    environ
        The variables that may stand in values.
    given
        Where the values of the layer ``GIVEN_SETTINGS`` come from.

    Attributes
    ----------
    locations
        Where the values come from.
    """

    def __init__(self, problems: Problems, environ: Mapping[str, str], given: Origins | None = None) -> None:
        self._problems = problems
        self._environ = environ
        self._profile = DEFAULT_PROFILE if given is None else given.profile
        self._values: dict[str, Any] = {}
        self._shown_path: str | None = None  # for a journal.path in a section that is a variable
        self.locations = Locations(given)
        self._layer = Layer(PythonNode({}), "")

    def set_profile(self, name: str, named_at: SourceLocation) -> None:
        """Say which profile the lowest layers are, and where it is named."""
        self._profile = name
        self.locations.set_section((PROFILE_KEY,), named_at)

    def add_layer(self, layer: Layer) -> None:
        """Put a layer over those before."""
        self._layer = layer
        node = layer.node
        if node.entries() is not None:
            self._merge(Settings, self._values, (), node)
        elif not (layer.is_file and node.to_python() is None):
            keys = ", ".join(fields(Settings))
            message = f"found {describe_value(node.to_python())} at the top, expected a mapping of {keys}"
            self._problems.add(self._location(node.line), (), message)

    def settings(self, cwd: Path | None) -> Settings:
        """Return the settings. Variables in ``journal.path`` are replaced, and it is made absolute.

        Parameters
        ----------
        cwd
            Where a relative path starts; None if the current folder is gone.

        Raises
        ------
        SettingsError
            With every problem of all layers.
        """
        written = self._values.get("journal", {}).get("path", Settings().journal.path)
        location, was_loaded = self.locations.of(JOURNAL_PATH), self.locations.is_given(JOURNAL_PATH)
        shown = self._shown_path or written
        path = expand_journal_path(
            written, location, self._environ, self._problems, was_loaded=was_loaded, shown=shown
        )
        path = absolute_journal_path(path, location, cwd, self._problems, shown=shown)
        self._problems.raise_if_any()
        origins = self.locations.origins(self._profile, self._values)
        self._values.setdefault("journal", {})["path"] = path
        mlflow = (self._values.get("sinks") or {}).get("mlflow") or {}
        if mlflow.get("uri") is not None:
            mlflow["uri"] = absolute_database_uri(mlflow["uri"], cwd)
        return msgspec.convert({**self._values, "origins": origins}, Settings)

    def valid_part(self) -> Settings:
        """Return the settings with those values that are valid, and defaults for the others."""
        origins = self.locations.origins(self._profile, self._values)
        return msgspec.convert({**self._values, "origins": origins}, Settings)

    def _location(self, line: int | None) -> SourceLocation:
        return SourceLocation(self._layer.source, line)

    def _merge(self, section: type[Section], target: dict[str, Any], path: KeyPath, node: SourceNode) -> None:
        """Write a layer's entries for one section over those in ``target``."""
        first_lines: dict[str, int] = {}
        for key, line, value in node.entries() or ():
            location = self._location(line)
            if isinstance(node, InterpolatedNode) and key not in section.key_names():
                message = f"{describe_node(node)} has a key that is unknown here"
                hint = functools.partial(unknown_key_hint, section, path, str(key))  # it quotes none
                self._problems.add(self._location(node.line), path, message, hint=hint)
            elif not isinstance(key, str):
                hint = functools.partial(quotes_hint, key)
                message = f"found {describe_value(key)} as a key, expected a string"
                self._problems.add(location, path, message, hint=hint)
            elif line is not None and key in first_lines:
                message = f"given a second time, first on line {first_lines[key]}"
                self._problems.add(location, (*path, key), message, hint=lambda: "keep one of them")
            elif key == VERSION_KEY and not path and self._layer.is_file:
                self._check_version(value, location)
            elif key in section.key_names():
                self._set(fields(section)[key], target, (*path, str(key)), value)
            elif not (key == PROFILE_KEY and not path and not self._layer.is_profile):  # it was read before
                hint = functools.partial(unknown_key_hint, section, path, key)
                self._problems.add(location, (*path, key), "unknown key", hint=hint)
            if line is not None and isinstance(key, str):
                first_lines.setdefault(key, line)

    def _set(self, spec: FieldSpec, target: dict[str, Any], path: KeyPath, node: SourceNode) -> None:
        name = path[-1]
        if self._layer.is_file and path != JOURNAL_PATH:
            try:
                node = interpolate(node, self._environ)
            except UnresolvedError as error:
                hint = error.hint
                self._problems.add(self._location(node.line), path, str(error), hint=lambda: hint)
                return
        if spec.section is None:
            self._set_value(spec, target, path, node)
        elif node.entries() is None:
            self._set_null_section(spec.section, target, path, node, optional=spec.optional)
        else:
            if target.get(name) is None:
                self.locations.forget(path)
                target[name] = {}
            self.locations.set_section(path, self._location(node.line))
            self._merge(spec.section, target[name], path, node)

    def _set_null_section(
        self,
        section: type[Section],
        target: dict[str, Any],
        path: KeyPath,
        node: SourceNode,
        *,
        optional: bool,
    ) -> None:
        """Set a section whose value is no mapping: a null may be valid, anything else is a problem."""
        value = node.parsed() if isinstance(node, InterpolatedNode) else node.to_python()
        null_values = section.when_null
        # YAML reads "off" as false. A section that can be switched off takes it for a null.
        is_null = value is None or (value is False and (optional or bool(null_values)))
        if is_null and optional:
            target[path[-1]] = None
            self.locations.forget(path)
            self.locations.set(path, self._location(node.line), of_profile=self._layer.is_profile)
        elif is_null and null_values is not None:
            self._merge(section, target.setdefault(path[-1], {}), path, PythonNode(null_values, node.line))
        else:
            keys = ", ".join(section.key_names())
            description = describe_node(node, secret=path[0] == "sinks")
            message = f"found {description}, expected a mapping of {keys}" + (" or ~" if optional else "")
            hint = "leave the section out for its defaults"
            if "enabled" in section.key_names():
                hint += f", or write {join_path(path)}.enabled: false to switch it off"
            self._problems.add(self._location(node.line), path, message, hint=lambda: hint)

    def _set_value(self, spec: FieldSpec, target: dict[str, Any], path: KeyPath, node: SourceNode) -> None:
        secret = path[-1] == "uri"
        location = self._location(node.line)
        for candidate in _candidates(node, spec, secret=secret):
            try:
                value = _convert(candidate, spec.type_hint)
            except (msgspec.ValidationError, UnicodeError, re.error):
                continue
            repeats = self._layer.source == OVERRIDE and target.get(path[-1]) == value
            if not (repeats and self.locations.is_given(path)):
                self.locations.set(path, location, of_profile=self._layer.is_profile)
            target[path[-1]] = value
            if path == JOURNAL_PATH:
                self._shown_path = node.written if isinstance(node, InterpolatedNode) else None
            return
        expected = describe_type(spec.type_hint)
        message = f"found {describe_node(node, secret=secret)}, expected {expected}"
        hint = functools.partial(_hint, spec.type_hint, node)
        self._problems.add(location, path, message, hint=hint)

    def _check_version(self, node: SourceNode, location: SourceLocation) -> None:
        value = None if node.entries() is not None else node.to_python()
        if type(value) is int and value == _VERSION:
            return
        description = "a mapping" if node.entries() is not None else describe_value(value)
        message = f"found {description}, expected {_VERSION}, the only version of the settings so far"
        self._problems.add(location, (VERSION_KEY,), message)


def _hint(type_hint: Any, node: SourceNode) -> str:
    return "" if isinstance(node, InterpolatedNode) else value_hint(type_hint, node.to_python())


def _candidates(node: SourceNode, spec: FieldSpec, *, secret: bool) -> Iterator[Any]:
    """Yield the value of a node, and then other values that its writer may have meant."""
    yield from _meanings(node.to_python(), spec, secret=secret)
    if isinstance(node, InterpolatedNode):
        yield from _meanings(node.parsed(), spec, secret=secret)


def _meanings(value: Any, spec: FieldSpec, *, secret: bool) -> Iterator[Any]:
    type_hint = spec.type_hint
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    for base in (str, float, int):
        # Of a subclass (numpy's or an enum's) the plain value is taken.
        if isinstance(value, base) and not isinstance(value, bool):
            value = base.__str__(value) if base is str else base(value)
    if isinstance(value, tuple):
        value = list(value)
    yield value
    if value is None and spec.off_value() is not NOT_OFF:
        yield spec.off_value()
    if value is False:  # YAML 1.1 reads "off" as false
        yield "off" if "off" in literal_choices(type_hint) else None
    if type(value) is int and type_hint is FileMode and 0 <= value <= _MAX_MODE:
        yield f"{value:04o}"  # YAML reads 0640 as an octal number,
        yield f"0{value}"  # and 640 as a decimal one
    if isinstance(value, str) and _EXPONENT_FORM.fullmatch(value[:32]):
        yield float(value)
        yield int(float(value)) if float(value).is_integer() else value
    if secret and isinstance(value, str) and not value.strip():
        yield None


def _convert(value: Any, type_hint: Any) -> Any:
    if isinstance(value, (set, frozenset)):  # their order differs from run to run
        raise msgspec.ValidationError
    converted = msgspec.convert(value, type_hint)
    for text in converted if isinstance(converted, tuple) else (converted,):
        if isinstance(text, str):
            text.encode()  # raises for lone surrogates, which cannot be sent to other processes
            if type_hint == Patterns and compile_pattern(text).search(""):
                raise msgspec.ValidationError
    return converted
