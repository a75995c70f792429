"""Given values checked against the tree, layer over layer.

Flows in: ``Given`` values of a file, the environment and overrides, lowest layer first. Flows out: one
``Settings``, or entries in ``Problems``. The struct definitions are the only source of what is right.
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

from flowprov.settings.report import Problems, SourceLocation, describe_value, dotted, nearest, shortened
from flowprov.settings.schema import Section, Settings
from flowprov.settings.sources import MARK, PythonNode, SourceNode

KeyPath: TypeAlias = tuple[str, ...]

_UNDERSTOOD_VERSION = 1
# YAML 1.1 takes "1e-3" for a text, because it has no point.
_EXPONENT_FORM = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
_JOURNAL_PATH = ("journal", "path")


class FieldSpec(NamedTuple):
    """One key of a section: the type of its value, and the section that it opens if it does."""

    hint: Any
    section: type[Section] | None
    optional: bool


@functools.cache
def fields(section: type[Section]) -> dict[str, FieldSpec]:
    """Read a section's keys off its definition."""
    hints = get_type_hints(section, include_extras=True)
    opened = {}
    for name in section.__struct_fields__:
        options = get_args(hints[name]) or (hints[name],)
        inner = next((o for o in options if isinstance(o, type) and issubclass(o, Section)), None)
        opened[name] = FieldSpec(hints[name], inner, types.NoneType in options)
    return opened


@functools.cache
def all_paths() -> tuple[KeyPath, ...]:
    """List the path of every key of the tree, sections included."""

    def walk(section: type[Section], prefix: KeyPath) -> Iterator[KeyPath]:
        for name, place in fields(section).items():
            yield (*prefix, name)
            if place.section is not None:
                yield from walk(place.section, (*prefix, name))

    return tuple(walk(Settings, ()))


class Checker:
    """Takes layers one after the other and keeps what is right of them.

    Parameters
    ----------
    problems
        Where everything that is wrong is noted.
    """

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._values: dict[str, Any] = {}
        self._origins: dict[KeyPath, SourceLocation] = {}
        self._source = ""
        self._takes_mark = False

    def add_layer(self, given: SourceNode, source: str, *, is_file: bool = False) -> None:
        """Put a layer over what was taken so far.

        Parameters
        ----------
        given
            A mapping from the top of the tree.
        source
            What the layer is called in reports.
        is_file
            Whether the mark ``flowprov: 1`` may stand in it, as in a file, and whether it may be empty.
        """
        self._source = source
        self._takes_mark = is_file
        if given.entries() is not None:
            self._fill(Settings, self._values, (), given)
        elif not (is_file and given.to_python() is None):
            keys = ", ".join(fields(Settings))
            what = f"found {describe_value(given.to_python())} at the top, expected a mapping of {keys}"
            self._problems.add(self._origin(given.line), (), what)

    def settings(self, cwd: Path | None) -> Settings:
        """Build the settings, with the journal's place made absolute against ``cwd``.

        Raises
        ------
        SettingsError
            With every problem that was noted.
        """
        path = self._values.get("journal", {}).get("path", Settings().journal.path)
        absolute = self._absolute(path, cwd)
        self._problems.raise_if_any()
        self._values.setdefault("journal", {})["path"] = absolute
        return msgspec.convert(self._values, Settings)

    def _origin(self, line: int | None) -> SourceLocation:
        return SourceLocation(self._source, line)

    def _fill(self, section: type[Section], target: dict[str, Any], path: KeyPath, given: SourceNode) -> None:
        """Write a layer's entries for one section over what stands in ``target``."""
        first_lines: dict[str, int] = {}
        for key, line, value in given.entries() or ():
            origin = self._origin(line)
            if not isinstance(key, str):
                hint = functools.partial(_quotes_hint, key)
                self._problems.add(
                    origin, path, f"found {describe_value(key)} as a key, expected a text", hint=hint
                )
            elif line is not None and key in first_lines:
                what = f"given a second time, first on line {first_lines[key]}"
                self._problems.add(origin, (*path, key), what, hint=lambda: "keep one of them")
            elif key == MARK and not path and self._takes_mark:
                self._check_mark(value, origin)
            elif key in section.__struct_fields__:
                self._set(fields(section)[key], target, (*path, str(key)), value)
            else:
                hint = functools.partial(_unknown_key_hint, section, path, key)
                self._problems.add(origin, (*path, key), "unknown key", hint=hint)
            if line is not None and isinstance(key, str):
                first_lines.setdefault(key, line)

    def _set(self, place: FieldSpec, target: dict[str, Any], path: KeyPath, value: SourceNode) -> None:
        name = path[-1]
        if place.section is None:
            self._set_leaf(place.hint, target, path, value)
        elif value.entries() is None:
            self._set_closed(place.section, target, path, value, optional=place.optional)
        else:
            if target.get(name) is None:
                target[name] = {}
            self._fill(place.section, target[name], path, value)

    def _set_closed(
        self,
        section: type[Section],
        target: dict[str, Any],
        path: KeyPath,
        value: SourceNode,
        *,
        optional: bool,
    ) -> None:
        """Take what stands in a section's place without being a mapping: only a null can be right."""
        plain = value.to_python()
        meaning = section.when_null
        # "off" is false to YAML; a section that can be off takes it for the null that it means.
        is_null = plain is None or (plain is False and (optional or bool(meaning)))
        if is_null and optional:
            target[path[-1]] = None
        elif is_null and meaning is not None:
            self._fill(section, target.setdefault(path[-1], {}), path, PythonNode(meaning))
        else:
            keys = ", ".join(section.__struct_fields__)
            told = describe_value(plain, secret=path[0] == "sinks")
            what = f"found {told}, expected a mapping of {keys}" + (" or ~" if optional else "")
            hint = "leave the section out for its defaults"
            if "enabled" in section.__struct_fields__:
                hint += f", or write {dotted(path)}.enabled: false to switch it off"
            self._problems.add(self._origin(value.line), path, what, hint=lambda: hint)

    def _set_leaf(self, hint: Any, target: dict[str, Any], path: KeyPath, given: SourceNode) -> None:
        secret = path[-1] == "uri"
        value = given.to_python()
        self._origins[path] = self._origin(given.line)
        for candidate in _readings(value, hint, secret=secret):
            try:
                target[path[-1]] = _converted(candidate, hint)
            except (msgspec.ValidationError, UnicodeError):
                continue
            return
        what = f"found {describe_value(value, secret=secret)}, expected {expected(hint)}"
        mend = functools.partial(_value_hint, hint, value)
        self._problems.add(self._origins[path], path, what, hint=mend)

    def _check_mark(self, value: SourceNode, origin: SourceLocation) -> None:
        plain = None if value.entries() is not None else value.to_python()
        if type(plain) is int and plain == _UNDERSTOOD_VERSION:
            return
        told = "a mapping" if value.entries() is not None else describe_value(plain)
        what = f"found {told}, expected {_UNDERSTOOD_VERSION}, the only version of settings understood here"
        self._problems.add(origin, (MARK,), what)

    def _absolute(self, path: str, cwd: Path | None) -> str:
        """Make the journal's place absolute, so that other processes find the same one."""
        origin = self._origins.get(_JOURNAL_PATH, SourceLocation("defaults"))
        expanded = os.path.expanduser(path)  # noqa: PTH111  pathlib raises where no home is known
        if "\0" in path:
            self._problems.add(origin, _JOURNAL_PATH, "found a NUL character, expected the path of a folder")
        elif expanded.startswith("~"):
            what = f"the home folder of {shortened(path.partition('/')[0])} is not known"
            self._problems.add(origin, _JOURNAL_PATH, what, hint=lambda: "write the path out")
        elif not os.path.isabs(expanded):  # noqa: PTH117  the text is joined, not a path object
            if cwd is None:
                what = "a relative path, and the current folder is gone"
                self._problems.add(origin, _JOURNAL_PATH, what, hint=lambda: "give an absolute path")
                return path
            expanded = str(cwd / expanded)
        try:
            expanded.encode()
        except UnicodeEncodeError:
            what = f"the folder {shortened(expanded)} has a name that is not UTF-8"
            self._problems.add(origin, _JOURNAL_PATH, what, hint=lambda: "give an absolute path that is")
        return expanded


def _readings(value: Any, hint: Any, *, secret: bool) -> Iterator[Any]:
    """Give a value and what else it can be meant as, in this order."""
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    for plain in (str, float, int):
        # Subclasses (of numpy, of enums) are taken by their value.
        if isinstance(value, plain) and not isinstance(value, bool):
            value = plain.__str__(value) if plain is str else plain(value)
    if isinstance(value, tuple):
        value = list(value)
    yield value
    if value is False:  # what YAML 1.1 makes of "off"
        yield "off" if "off" in _choices(hint) else None
    if isinstance(value, str):
        if _EXPONENT_FORM.fullmatch(value[:32]):
            yield float(value)
            yield int(float(value)) if float(value).is_integer() else value
        if secret and not value.strip():
            yield None


def _converted(value: Any, hint: Any) -> Any:
    if isinstance(value, (set, frozenset)):  # has no order that would be the same tomorrow
        raise msgspec.ValidationError
    converted = msgspec.convert(value, hint)
    for text in converted if isinstance(converted, tuple) else (converted,):
        if isinstance(text, str):
            text.encode()  # lone surrogates could not be handed to other processes
    return converted


def expected(hint: Any) -> str:
    """Describe a type in the words of the file."""
    if get_origin(hint) is Annotated:
        meta = next((m for m in hint.__metadata__ if isinstance(m, msgspec.Meta) and m.description), None)
        return meta.description if meta is not None and meta.description else expected(get_args(hint)[0])
    if get_origin(hint) is Literal:
        choices = [str(choice) for choice in get_args(hint)]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(expected(option) for option in get_args(hint))
    if get_origin(hint) is tuple:
        return "a list of texts, as in [first, second]"
    return {bool: "true or false", types.NoneType: "~", str: "a text"}.get(hint, str(hint))


def _choices(hint: Any) -> list[str]:
    if get_origin(hint) is Literal:
        return [str(choice) for choice in get_args(hint)]
    if get_origin(hint) in (Union, types.UnionType):
        return [choice for option in get_args(hint) for choice in _choices(option)]
    return []


def _value_hint(hint: Any, value: Any) -> str:
    if isinstance(value, str):
        near = nearest(value, _choices(hint))
        return f'did you mean "{near}"?' if near else ""
    if get_origin(hint) is tuple and isinstance(value, (list, tuple)):
        odd = next((item for item in value if not isinstance(item, str)), "")
        return "; ".join(filter(None, (f"{describe_value(odd)} in it is no text", _quotes_hint(odd))))
    return _quotes_hint(value) if "text" in expected(hint) else ""


def _quotes_hint(value: Any) -> str:
    if isinstance(value, bool):
        return "YAML reads on, off, yes and no as true and false: put the word in quotes"
    return "put it in quotes" if isinstance(value, (int, float)) else ""


def _unknown_key_hint(section: type[Section], path: KeyPath, key: str) -> str:
    known, colon, _ = key.partition(":")
    if colon and known in section.__struct_fields__:
        return f'put a blank after "{known}:"'
    near = nearest(key, section.__struct_fields__)
    if near is not None:
        return f'did you mean "{dotted((*path, near))}"?'
    by_name: Mapping[str, KeyPath] = {other[-1]: other for other in reversed(all_paths())}
    elsewhere = nearest(key, by_name, cutoff=0.8)
    if elsewhere is not None:
        return f'did you mean "{dotted(by_name[elsewhere])}"?'
    if key == "<<":
        return "merge keys are not taken here: write the keys out"
    return f"the keys here are {', '.join(section.__struct_fields__)}"
