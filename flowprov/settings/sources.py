"""The sources of settings: unchecked values, with the lines on which they stand.

Flows in: YAML text, mappings, environment variables, overrides. Flows out: ``SourceNode`` values, each with
its entries or its Python value. The reader of a node goes down one level at a time, and only as deep as the
tree of settings, so that cycles and piles of aliases cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from flowprov.settings.report import InvalidYamlValue, Problems, SourceLocation, shorten
from flowprov.settings.schema import Section, Settings

VERSION_KEY = "flowprov"
ENVIRONMENT_PREFIX = "FLOWPROV__"

# PyYAML raises more than its own errors: for escapes beyond Unicode, overlong numbers and deep nesting.
YAML_ERRORS = (yaml.YAMLError, ValueError, OverflowError, RecursionError)

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset(_TAG + name for name in ("str", "timestamp", "value", "merge"))
_CONSTRUCTORS = {
    _TAG + "null": SafeConstructor.construct_yaml_null,
    _TAG + "bool": SafeConstructor.construct_yaml_bool,
    _TAG + "int": SafeConstructor.construct_yaml_int,
    _TAG + "float": SafeConstructor.construct_yaml_float,
}
_BEGINS_WITH_VERSION_KEY = re.compile(rf"""['"]?{VERSION_KEY}['"]?\s*:""")


class SourceNode(Protocol):
    """One value of a source, unchecked."""

    @property
    def line(self) -> int | None:
        """The line on which it begins, from 1; None outside files."""

    def entries(self) -> list[MappingEntry] | None:
        """Return the entries of a mapping, duplicates included; None if it is no mapping."""

    def to_python(self) -> Any:
        """Return the Python value. In a list, a mapping or list may be returned empty."""


class MappingEntry(NamedTuple):
    """One key with its value."""

    key: Any
    line: int | None
    value: SourceNode


class PythonNode:
    """A Python value: a mapping, a section of the tree, or anything else."""

    line = None

    def __init__(self, value: Any) -> None:
        self._value = value

    def entries(self) -> list[MappingEntry] | None:
        """Return the entries of a mapping or the fields of a section."""
        if isinstance(self._value, Section):
            names = self._value.__struct_fields__
            return [MappingEntry(name, None, PythonNode(getattr(self._value, name))) for name in names]
        if isinstance(self._value, Mapping):
            return [MappingEntry(key, None, PythonNode(value)) for key, value in self._value.items()]
        return None

    def to_python(self) -> Any:
        """Return the value as it is."""
        return self._value


class OverrideNode(PythonNode):
    """A mapping of overrides. At every level, its keys may be dotted or joined by double underscores."""

    def entries(self) -> list[MappingEntry] | None:
        """Return the entries under the first part of each key; the other parts are nested below it."""
        if not isinstance(self._value, Mapping):
            return super().entries()
        entries = []
        for key, value in self._value.items():
            first, *rest = re.split(r"\.|__", key) if isinstance(key, str) else [key]
            entries.append(MappingEntry(first, None, OverrideNode(nest(rest, value))))
        return entries


class YamlNode:
    """A node of a YAML document."""

    def __init__(self, node: yaml.Node) -> None:
        self._node = node

    @property
    def line(self) -> int:
        """The line on which the node begins."""
        return int(self._node.start_mark.line) + 1

    def entries(self) -> list[MappingEntry] | None:
        """Return the pairs of a mapping node in their order."""
        if not isinstance(self._node, yaml.MappingNode):
            return None
        return [
            MappingEntry(_read_key(key), int(key.start_mark.line) + 1, YamlNode(value))
            for key, value in self._node.value
        ]

    def to_python(self) -> Any:
        """Return the value of a scalar, or a list of such values."""
        if isinstance(self._node, yaml.SequenceNode):
            return [_read_item(item) for item in self._node.value]
        return _read_item(self._node)


def _read_item(node: yaml.Node) -> Any:
    """Read a scalar. A collection is returned empty: it is an error here, and only its type is reported."""
    if isinstance(node, yaml.ScalarNode):
        return _read_scalar(node)
    return {} if isinstance(node, yaml.MappingNode) else []


def _read_key(node: yaml.Node) -> Any:
    """Read a key, which has to be a scalar."""
    return _read_scalar(node) if isinstance(node, yaml.ScalarNode) else InvalidYamlValue("a list or mapping")


def _read_scalar(node: yaml.ScalarNode) -> Any:
    if node.tag in _TEXT_TAGS:
        return node.value
    construct = _CONSTRUCTORS.get(node.tag)
    if construct is None:
        return InvalidYamlValue("a value with a YAML tag")
    try:
        return construct(SafeConstructor(), node)
    except (ValueError, KeyError, OverflowError):
        return InvalidYamlValue("a value that YAML cannot convert to its type")


def compose(text: str) -> YamlNode | None:
    """Parse a YAML document without building its values.

    Returns
    -------
    YamlNode or None
        The root; None for an empty document.

    Raises
    ------
    yaml.YAMLError, ValueError, OverflowError, RecursionError
        ``YAML_ERRORS``, which ``add_yaml_problem`` reports.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return None if node is None else YamlNode(node)


def add_yaml_problem(problems: Problems, source: str, text: str, error: BaseException) -> None:
    """Add an error of YAML with its line, without quoting the file, because it may hold credentials."""
    line: int | None = None
    reason = "it cannot be read as YAML"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = int(mark.line) + 1 if mark is not None else None
        # Quoted names of aliases, anchors and tags come from the file. What the parser itself quotes is
        # short, in <> or escaped.
        problem = re.sub(r"'(?![<\\])[^']{2,}'", "…", error.problem or "")
        reason = f"not valid YAML: {shorten(problem)}" if problem else "not valid YAML"
    elif isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        reason = "not valid YAML: a control character"
    elif isinstance(error, RecursionError):
        reason = "nested too deeply to be settings"
    problems.add(SourceLocation(source, line), (), reason)


def begins_with_version_key(text: str) -> bool:
    """Whether the first line that is no comment begins with ``flowprov:``, the version key."""
    for line in text.lstrip("\ufeff").splitlines():
        content = line.strip()
        if content and not content.startswith(("#", "%", "---")):
            return _BEGINS_WITH_VERSION_KEY.match(content) is not None
    return False


def is_flowprov_settings(text: str) -> bool:
    """Whether a ``settings.yaml`` in the current folder belongs to flowprov.

    Returns
    -------
    bool
        True if the first key is the version key, or if there are keys at the top and all of them are keys of
        flowprov's settings. The check ends at the first other key. Invalid YAML without the version key
        belongs to another program.
    """
    if begins_with_version_key(text):
        return True
    known_keys = {*Settings.__struct_fields__, VERSION_KEY}
    count = 0
    try:
        for key in _top_level_keys(text):
            if key not in known_keys:
                return False
            if not count and key == VERSION_KEY:
                return True
            count += 1
    except YAML_ERRORS:
        return False
    return count > 0


def _top_level_keys(text: str) -> Iterator[str | None]:
    """Yield the keys at the top of the first document; None for a key that is no scalar."""
    depth = 0
    is_key = True
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.NodeEvent):
            if depth == 0 and not isinstance(event, yaml.MappingStartEvent):
                return
            if depth == 1:
                if is_key:
                    yield event.value if isinstance(event, yaml.ScalarEvent) else None
                is_key = not is_key
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentEndEvent):
            return


def parse_value(text: str) -> Any:
    """Parse a value from an environment variable or the command line, by the rules of YAML.

    Parameters
    ----------
    text
        A text that begins with a bracket, a brace or a quote is parsed as YAML. Any other text is one scalar,
        so that a ``#`` or ``: `` in it has no effect.

    Returns
    -------
    Any
        The value; an ``InvalidYamlValue`` if it is not valid YAML.
    """
    text = text.strip()
    if not text.startswith(("[", "{", "'", '"')):
        tag = Resolver().resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return _read_scalar(yaml.ScalarNode(tag, text))
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return None if node is None else _build_value(node, {})
    except YAML_ERRORS:
        return InvalidYamlValue("a string that is not valid YAML")


def _build_value(node: yaml.Node, built: dict[int, Any]) -> Any:
    """Build mappings, lists and scalars. A node with several aliases is built once and shared."""
    if isinstance(node, yaml.ScalarNode):
        return _read_scalar(node)
    if id(node) not in built:
        built[id(node)] = InvalidYamlValue("a value that contains itself")
        if isinstance(node, yaml.MappingNode):
            built[id(node)] = {_read_key(k): _build_value(v, built) for k, v in node.value}
        else:
            built[id(node)] = [_build_value(item, built) for item in node.value]
    return built[id(node)]


def read_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Read the settings in the environment.

    Yields
    ------
    tuple
        The variable's name, the path of the key in lower case, the value. Shorter paths come first, so that a
        variable for a whole section does not undo one for a key in it. An empty variable counts as not set:
        that is how compose files and scripts pass on what they were not given.
    """
    names = [name for name in environ if name.upper().startswith(ENVIRONMENT_PREFIX)]
    for name in sorted(names, key=lambda name: (name.count("__"), name)):
        value = environ[name]
        if isinstance(value, str) and not value.strip():
            continue
        path = tuple(name[len(ENVIRONMENT_PREFIX) :].lower().split("__"))
        yield name, path, parse_value(value) if isinstance(value, str) else value


def nest(path: Sequence[Any], value: Any) -> Any:
    """Return a value wrapped into mappings, one for each key of its path."""
    for key in reversed(path):
        value = {key: value}
    return value
