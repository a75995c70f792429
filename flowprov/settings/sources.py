"""Values as they were given, before anything is checked, with the lines where they stand.

Flows in: YAML text, mappings, environment variables, overrides. Flows out: ``Given`` values, which tell their
entries or their plain value. They are opened one level at a time, as deep as the tree of settings goes, so
that cycles and piles of aliases cost nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from flowprov.settings.report import InvalidYamlValue, Problems, SourceLocation, shortened
from flowprov.settings.schema import Section, Settings

MARK = "flowprov"
ENVIRONMENT_PREFIX = "FLOWPROV__"

# PyYAML raises more than its own errors: on escapes beyond Unicode, on overlong numbers, on deep nesting.
YAML_FAULTS = (yaml.YAMLError, ValueError, OverflowError, RecursionError)

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset(_TAG + name for name in ("str", "timestamp", "value", "merge"))
_NUMBER_AND_WORD_TAGS = {
    _TAG + "null": SafeConstructor.construct_yaml_null,
    _TAG + "bool": SafeConstructor.construct_yaml_bool,
    _TAG + "int": SafeConstructor.construct_yaml_int,
    _TAG + "float": SafeConstructor.construct_yaml_float,
}
_FIRST_KEY_IS_MARK = re.compile(rf"""['"]?{MARK}['"]?\s*:""")


class SourceNode(Protocol):
    """One value that somebody gave."""

    @property
    def line(self) -> int | None:
        """The line where it stands, from 1; None outside files."""

    def entries(self) -> list[Entry] | None:
        """Give the entries of a mapping, duplicates included; None if it is no mapping."""

    def to_python(self) -> Any:
        """Give the value itself; within lists only scalars are kept as they are."""


class Entry(NamedTuple):
    """One key with its value."""

    key: Any
    line: int | None
    value: SourceNode


class PythonNode:
    """A value of Python: a mapping, a section of the tree, or anything else."""

    line = None

    def __init__(self, value: Any) -> None:
        self._value = value

    def entries(self) -> list[Entry] | None:
        """Give the entries of a mapping or the fields of a section."""
        if isinstance(self._value, Section):
            names = self._value.__struct_fields__
            return [Entry(name, None, PythonNode(getattr(self._value, name))) for name in names]
        if isinstance(self._value, Mapping):
            return [Entry(key, None, PythonNode(value)) for key, value in self._value.items()]
        return None

    def to_python(self) -> Any:
        """Give the value as it is."""
        return self._value


class OverrideNode(PythonNode):
    """A mapping of overrides: its keys may be dotted or joined by double underscores, at every level."""

    def entries(self) -> list[Entry] | None:
        """Give the entries with only the first part of each key; the rest is nested below it."""
        if not isinstance(self._value, Mapping):
            return super().entries()
        opened = []
        for key, value in self._value.items():
            first, *rest = re.split(r"\.|__", key) if isinstance(key, str) else [key]
            opened.append(Entry(first, None, OverrideNode(nested(rest, value))))
        return opened


class YamlNode:
    """A node of a YAML document."""

    def __init__(self, node: yaml.Node) -> None:
        self._node = node

    @property
    def line(self) -> int:
        """The line where the node begins."""
        return int(self._node.start_mark.line) + 1

    def entries(self) -> list[Entry] | None:
        """Give the pairs of a mapping node in their order."""
        if not isinstance(self._node, yaml.MappingNode):
            return None
        return [
            Entry(_scalar_or_unreadable(key), int(key.start_mark.line) + 1, YamlNode(value))
            for key, value in self._node.value
        ]

    def to_python(self) -> Any:
        """Give a scalar's value, or a list of those."""
        if isinstance(self._node, yaml.SequenceNode):
            return [_scalar_or_kind(item) for item in self._node.value]
        return _scalar_or_kind(self._node)


def _scalar_or_kind(node: yaml.Node) -> Any:
    """Read a scalar; of a collection inside a list only its kind matters, as none is allowed there."""
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    return {} if isinstance(node, yaml.MappingNode) else []


def _scalar_or_unreadable(node: yaml.Node) -> Any:
    """Read a key, which has to be a scalar."""
    return _scalar(node) if isinstance(node, yaml.ScalarNode) else InvalidYamlValue("a list or mapping")


def _scalar(node: yaml.ScalarNode) -> Any:
    if node.tag in _TEXT_TAGS:
        return node.value
    construct = _NUMBER_AND_WORD_TAGS.get(node.tag)
    if construct is None:
        return InvalidYamlValue("a value with a YAML tag")
    try:
        return construct(SafeConstructor(), node)
    except (ValueError, KeyError, OverflowError):
        return InvalidYamlValue("a value that is not what its form or tag promises")


def compose(text: str) -> YamlNode | None:
    """Read a YAML document without building anything from it.

    Returns
    -------
    YamlGiven or None
        Its root; None for an empty document.

    Raises
    ------
    yaml.YAMLError, ValueError, OverflowError, RecursionError
        ``YAML_FAULTS``, which ``add_yaml_fault`` can tell.
    """
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return None if node is None else YamlNode(node)


def add_yaml_fault(problems: Problems, source: str, text: str, error: BaseException) -> None:
    """Note a fault of YAML with its line and without quoting the file, which may hold credentials."""
    line: int | None = None
    reason = "it cannot be read as YAML"
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        line = int(mark.line) + 1 if mark is not None else None
        # Names of aliases, anchors and tags come from the file; the parser's own are short, in <> or escaped.
        told = re.sub(r"'(?![<\\])[^']{2,}'", "…", error.problem or "")
        reason = f"not valid YAML: {shortened(told)}" if told else "not valid YAML"
    elif isinstance(error, yaml.reader.ReaderError):
        line = text.count("\n", 0, error.position) + 1
        reason = "not valid YAML: a control character"
    elif isinstance(error, RecursionError):
        reason = "nested too deeply to be settings"
    problems.add(SourceLocation(source, line), (), reason)


def begins_with_mark(text: str) -> bool:
    """Tell whether the first line that says something begins with ``flowprov:``."""
    for line in text.lstrip("\ufeff").splitlines():
        content = line.strip()
        if content and not content.startswith(("#", "%", "---")):
            return _FIRST_KEY_IS_MARK.match(content) is not None
    return False


def belongs_to_us(text: str) -> bool:
    """Tell whether a ``settings.yaml`` that nobody named is ours.

    Returns
    -------
    bool
        True if its first key is the mark, or it has keys at the top and all of them are ours. A file of
        another program is given up at its first key, unread beyond it; unreadable YAML without the mark is
        another program's.
    """
    if begins_with_mark(text):
        return True
    ours = {*Settings.__struct_fields__, MARK}
    keys = 0
    try:
        for key in _top_level_keys(text):
            if key not in ours:
                return False
            if not keys and key == MARK:
                return True
            keys += 1
    except YAML_FAULTS:
        return False
    return keys > 0


def _top_level_keys(text: str) -> Iterator[str | None]:
    """Walk through the first document's keys at the top; None for a key that is no scalar."""
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
    """Read one value as YAML would, from a variable or a command line.

    Parameters
    ----------
    text
        A plain scalar is taken whole, so that no ``#`` or ``: `` in it cuts or breaks it. A text that begins
        with a bracket, a brace or a quote is read as YAML.

    Returns
    -------
    Any
        The value; an ``Unreadable`` where YAML refuses.
    """
    text = text.strip()
    if not text.startswith(("[", "{", "'", '"')):
        tag = Resolver().resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return _scalar(yaml.ScalarNode(tag, text))
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        return None if node is None else _python(node, {})
    except YAML_FAULTS:
        return InvalidYamlValue("a text that is not valid YAML")


def _python(node: yaml.Node, built: dict[int, Any]) -> Any:
    """Build mappings, lists and scalars; what an alias names is built once and shared."""
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if id(node) not in built:
        built[id(node)] = InvalidYamlValue("a value that contains itself")
        if isinstance(node, yaml.MappingNode):
            built[id(node)] = {_scalar_or_unreadable(k): _python(v, built) for k, v in node.value}
        else:
            built[id(node)] = [_python(item, built) for item in node.value]
    return built[id(node)]


def environment_values(environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Find the settings in the environment.

    Yields
    ------
    tuple
        The variable's name, the path that it names in lower case, its value. Shorter paths come first, so
        that a variable for a whole section does not undo one for a key in it.
    """
    names = [name for name in environ if name.upper().startswith(ENVIRONMENT_PREFIX)]
    for name in sorted(names, key=lambda name: (name.count("__"), name)):
        value = environ[name]
        path = tuple(name[len(ENVIRONMENT_PREFIX) :].lower().split("__"))
        yield name, path, parse_value(value) if isinstance(value, str) else value


def nested(path: Sequence[Any], value: Any) -> Any:
    """Wrap a value into mappings, one for each key of its path."""
    for key in reversed(path):
        value = {key: value}
    return value
