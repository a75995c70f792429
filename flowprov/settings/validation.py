"""Validation: the values of all layers, checked against the schema and put over each other.

Flows in: a ``SourceNode`` for each layer (a file, the environment, overrides), the lowest first. Flows out:
one ``Settings``, or entries in ``Problems``. Only the struct definitions say what is valid.
"""

from __future__ import annotations

import functools
import os
import re
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeAlias, Union, get_args, get_origin, get_type_hints

import msgspec

from flowprov import guard
from flowprov.settings.paths import expand_variables, fallback_folder
from flowprov.settings.report import Problems, SourceLocation, closest, describe_value, join_path, shorten
from flowprov.settings.schema import FileMode, Patterns, Section, Settings
from flowprov.settings.sources import VERSION_KEY, PythonNode, SourceNode

KeyPath: TypeAlias = tuple[str, ...]

_VERSION = 1
# YAML 1.1 takes "1e-3" for a string, because it has no point.
_EXPONENT_FORM = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
_MAX_MODE = 0o7777
GIVEN_SETTINGS = "the given Settings"
"""The name of the layer that is a ``Settings``."""
_JOURNAL_PATH = ("journal", "path")
# msgspec learns what a struct is like at its first use. It crashes if a signal handler of the program comes
# to the same struct meanwhile. So that is done here, at the import.
msgspec.json.Decoder(Settings)


class FieldSpec(NamedTuple):
    """One key of a section.

    Attributes
    ----------
    type_hint
        The type of its value.
    section
        The class of the section that is its value; None if the value is no section.
    optional
        Whether the value may be None.
    """

    type_hint: Any
    section: type[Section] | None
    optional: bool


@functools.cache
def fields(section: type[Section]) -> dict[str, FieldSpec]:
    """Return the keys of a section, from its class."""
    hints = get_type_hints(section, include_extras=True)
    specs = {}
    for name in section.__struct_fields__:
        options = get_args(hints[name]) or (hints[name],)
        inner = next((o for o in options if isinstance(o, type) and issubclass(o, Section)), None)
        specs[name] = FieldSpec(hints[name], inner, types.NoneType in options)
    return specs


@functools.cache
def all_paths() -> tuple[KeyPath, ...]:
    """Return the path of every key of the tree, sections included."""

    def walk(section: type[Section], prefix: KeyPath) -> Iterator[KeyPath]:
        for name, spec in fields(section).items():
            yield (*prefix, name)
            if spec.section is not None:
                yield from walk(spec.section, (*prefix, name))

    return tuple(walk(Settings, ()))


class Checker:
    """Checks one layer after the other and keeps the valid values.

    Parameters
    ----------
    problems
        Receives everything that is wrong.
    """

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._values: dict[str, Any] = {}
        self._locations: dict[KeyPath, SourceLocation] = {}
        self._source = ""
        self._allows_version_key = False

    def add_layer(self, node: SourceNode, source: str, *, is_file: bool = False) -> None:
        """Put a layer over those before.

        Parameters
        ----------
        node
            A mapping with the keys of the top level.
        source
            The name of the layer in reports.
        is_file
            Whether the layer is a file: it may have the version key ``flowprov: 1``, and it may be empty.
        """
        self._source = source
        self._allows_version_key = is_file
        if node.entries() is not None:
            self._merge(Settings, self._values, (), node)
        elif not (is_file and node.to_python() is None):
            keys = ", ".join(fields(Settings))
            message = f"found {describe_value(node.to_python())} at the top, expected a mapping of {keys}"
            self._problems.add(self._location(node.line), (), message)

    def settings(self, cwd: Path | None, environ: Mapping[str, str]) -> Settings:
        """Return the settings. Variables in ``journal.path`` are replaced, and it is made absolute.

        Parameters
        ----------
        cwd
            Where a relative path starts; None if the current folder is gone.
        environ
            The variables.

        Raises
        ------
        SettingsError
            With every problem of all layers.
        """
        path = self._values.get("journal", {}).get("path", Settings().journal.path)
        absolute = self._make_absolute(self._expand_variables(path, environ), cwd)
        self._problems.raise_if_any()
        self._values.setdefault("journal", {})["path"] = absolute
        return msgspec.convert(self._values, Settings)

    def _location(self, line: int | None) -> SourceLocation:
        return SourceLocation(self._source, line)

    def _merge(self, section: type[Section], target: dict[str, Any], path: KeyPath, node: SourceNode) -> None:
        """Write a layer's entries for one section over those in ``target``."""
        first_lines: dict[str, int] = {}
        for key, line, value in node.entries() or ():
            location = self._location(line)
            if not isinstance(key, str):
                hint = functools.partial(_quotes_hint, key)
                message = f"found {describe_value(key)} as a key, expected a string"
                self._problems.add(location, path, message, hint=hint)
            elif line is not None and key in first_lines:
                message = f"given a second time, first on line {first_lines[key]}"
                self._problems.add(location, (*path, key), message, hint=lambda: "keep one of them")
            elif key == VERSION_KEY and not path and self._allows_version_key:
                self._check_version(value, location)
            elif key in section.__struct_fields__:
                self._set(fields(section)[key], target, (*path, str(key)), value)
            else:
                hint = functools.partial(_unknown_key_hint, section, path, key)
                self._problems.add(location, (*path, key), "unknown key", hint=hint)
            if line is not None and isinstance(key, str):
                first_lines.setdefault(key, line)

    def _set(self, spec: FieldSpec, target: dict[str, Any], path: KeyPath, node: SourceNode) -> None:
        name = path[-1]
        if spec.section is None:
            self._set_value(spec.type_hint, target, path, node)
        elif node.entries() is None:
            self._set_null_section(spec.section, target, path, node, optional=spec.optional)
        else:
            if target.get(name) is None:
                target[name] = {}
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
        value = node.to_python()
        null_values = section.when_null
        # YAML reads "off" as false. A section that can be switched off takes it for a null.
        is_null = value is None or (value is False and (optional or bool(null_values)))
        if is_null and optional:
            target[path[-1]] = None
        elif is_null and null_values is not None:
            self._merge(section, target.setdefault(path[-1], {}), path, PythonNode(null_values))
        else:
            keys = ", ".join(section.__struct_fields__)
            description = describe_value(value, secret=path[0] == "sinks")
            message = f"found {description}, expected a mapping of {keys}" + (" or ~" if optional else "")
            hint = "leave the section out for its defaults"
            if "enabled" in section.__struct_fields__:
                hint += f", or write {join_path(path)}.enabled: false to switch it off"
            self._problems.add(self._location(node.line), path, message, hint=lambda: hint)

    def _set_value(self, type_hint: Any, target: dict[str, Any], path: KeyPath, node: SourceNode) -> None:
        secret = path[-1] == "uri"
        value = node.to_python()
        self._locations[path] = self._location(node.line)
        for candidate in _candidates(value, type_hint, secret=secret):
            try:
                target[path[-1]] = _convert(candidate, type_hint)
            except (msgspec.ValidationError, UnicodeError, re.error):
                continue
            return
        message = f"found {describe_value(value, secret=secret)}, expected {describe_type(type_hint)}"
        hint = functools.partial(_value_hint, type_hint, value)
        self._problems.add(self._locations[path], path, message, hint=hint)

    def _check_version(self, node: SourceNode, location: SourceLocation) -> None:
        value = None if node.entries() is not None else node.to_python()
        if type(value) is int and value == _VERSION:
            return
        description = "a mapping" if node.entries() is not None else describe_value(value)
        message = f"found {description}, expected {_VERSION}, the only version of the settings so far"
        self._problems.add(location, (VERSION_KEY,), message)

    def _expand_variables(self, path: str, environ: Mapping[str, str]) -> str:
        """Return ``journal.path`` with variables replaced; one that is not set is a problem."""
        expanded, unset = expand_variables(path, environ)
        location = self._locations.get(_JOURNAL_PATH, SourceLocation("defaults"))
        # Settings that were loaded before hold a path that is expanded: a "$" in it is part of a name.
        if unset is not None and not (location.source == GIVEN_SETTINGS and path.startswith("/")):
            message = f"the variable {shorten(unset)} is not set in this environment, or it is empty"
            self._problems.add(location, _JOURNAL_PATH, message, hint=lambda: "set it, or write the path out")
        return expanded

    def _make_absolute(self, path: str, cwd: Path | None) -> str:
        """Return ``journal.path`` as an absolute path, so that other processes find the same folder."""
        location = self._locations.get(_JOURNAL_PATH, SourceLocation("defaults"))
        add_problem = functools.partial(self._problems.add, location, _JOURNAL_PATH)
        try:
            expanded = os.path.expanduser(path)  # noqa: PTH111  pathlib raises for an unknown home folder
        except ValueError:  # no user can have that name
            expanded = path
        if "\0" in path:
            add_problem("found a NUL character, expected the path of a folder")
        elif "://" in path:  # as a folder its credentials would stand in every record
            message = "found an address, expected the path of a folder"
            add_problem(message, hint=lambda: "sinks.redis.uri and sinks.mongodb.uri take servers")
        elif expanded.startswith("~"):
            message = f"the home folder of {shorten(path.partition('/')[0])} is not known"
            add_problem(message, hint=lambda: "write the path out")
        elif not os.path.isabs(expanded):  # noqa: PTH117  the text is joined, not a path object
            if cwd is None or not _is_utf_8(str(cwd)):
                return _instead_of_relative(path, cwd)
            expanded = str(cwd / expanded)
        if not _is_utf_8(expanded):
            message = f"the folder {shorten(expanded)} has a name that is not UTF-8"
            add_problem(message, hint=lambda: "give an absolute path that is UTF-8")
        return expanded


def _is_utf_8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _instead_of_relative(path: str, cwd: Path | None) -> str:
    """Return the folder of last resort: the program's own folder is gone, or cannot be told to others."""
    instead = fallback_folder()
    guard.warn_once(
        "no current folder",
        "flowprov: journal.path is relative (%s), and the current folder %s. This run is recorded in %s "
        "instead. Give an absolute path.",
        shorten(path),
        "is gone" if cwd is None else "has a name that is not UTF-8",
        instead,
    )
    return instead


def _candidates(value: Any, type_hint: Any, *, secret: bool) -> Iterator[Any]:
    """Yield a value, and then other values that its writer may have meant."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    for base in (str, float, int):
        # Of a subclass (numpy's or an enum's) the plain value is taken.
        if isinstance(value, base) and not isinstance(value, bool):
            value = base.__str__(value) if base is str else base(value)
    if isinstance(value, tuple):
        value = list(value)
    yield value
    if value is False:  # YAML 1.1 reads "off" as false
        yield "off" if "off" in _literal_choices(type_hint) else None
    if type(value) is int and type_hint is FileMode and 0 <= value <= _MAX_MODE:
        yield f"{value:04o}"  # YAML reads 0640 as an octal number,
        yield f"0{value}"  # and 640 as a decimal one
    if isinstance(value, str):
        if _EXPONENT_FORM.fullmatch(value[:32]):
            yield float(value)
            yield int(float(value)) if float(value).is_integer() else value
        if secret and not value.strip():
            yield None


def _convert(value: Any, type_hint: Any) -> Any:
    if isinstance(value, (set, frozenset)):  # their order differs from run to run
        raise msgspec.ValidationError
    converted = msgspec.convert(value, type_hint)
    for text in converted if isinstance(converted, tuple) else (converted,):
        if isinstance(text, str):
            text.encode()  # raises for lone surrogates, which cannot be sent to other processes
            if type_hint == Patterns and re.compile(text).search(""):
                raise msgspec.ValidationError
    return converted


def describe_type(type_hint: Any) -> str:
    """Return a description of a type for a person who writes settings, to be put behind "expected"."""
    origin = get_origin(type_hint)
    if origin is Annotated:
        metas = (meta for meta in type_hint.__metadata__ if isinstance(meta, msgspec.Meta))
        description = next((meta.description for meta in metas if meta.description), None)
        return description or describe_type(get_args(type_hint)[0])
    if origin is Literal:
        choices = [str(choice) for choice in get_args(type_hint)]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if origin in (Union, types.UnionType):
        return " or ".join(describe_type(option) for option in get_args(type_hint))
    if origin is tuple:
        return "a list of strings, as in [first, second]"
    return {bool: "true or false", types.NoneType: "~", str: "a string"}.get(type_hint, str(type_hint))


def _literal_choices(type_hint: Any) -> list[str]:
    if get_origin(type_hint) is Literal:
        return [str(choice) for choice in get_args(type_hint)]
    if get_origin(type_hint) in (Union, types.UnionType):
        return [choice for option in get_args(type_hint) for choice in _literal_choices(option)]
    return []


def _value_hint(type_hint: Any, value: Any) -> str:
    if isinstance(value, str):
        choice = closest(value, _literal_choices(type_hint))
        return f'did you mean "{choice}"?' if choice else ""
    if get_origin(type_hint) is tuple and isinstance(value, (list, tuple)):
        item = next((item for item in value if not isinstance(item, str)), "")
        return "; ".join(filter(None, (f"{describe_value(item)} in it is no string", _quotes_hint(item))))
    return _quotes_hint(value) if "string" in describe_type(type_hint) else ""


def _quotes_hint(value: Any) -> str:
    if isinstance(value, bool):
        return "YAML reads on, off, yes and no as true and false: put the word in quotes"
    return "put it in quotes" if isinstance(value, (int, float)) else ""


def _unknown_key_hint(section: type[Section], path: KeyPath, key: str) -> str:
    name, colon, _ = key.partition(":")
    if colon and name in section.__struct_fields__:
        return f'put a space after "{name}:"'
    sibling = closest(key, section.__struct_fields__)
    if sibling is not None:
        return f'did you mean "{join_path((*path, sibling))}"?'
    path_of: Mapping[str, KeyPath] = {other[-1]: other for other in reversed(all_paths())}
    key_elsewhere = closest(key, path_of, cutoff=0.8)
    if key_elsewhere is not None:
        return f'did you mean "{join_path(path_of[key_elsewhere])}"?'
    if key == "<<":
        return "merge keys are not supported here: write the keys out"
    return f"the keys here are {', '.join(section.__struct_fields__)}"
