"""YAML text, of files and of variables: read within limits, so that no text costs more than a moment.

Flows in: text. Flows out: nodes and values, unchecked, or a problem with its line. What stands for a pile of
values (aliases, nests) is never built: the events of the parser are counted first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from flowprov.settings.report import InvalidYamlValue, Problems, SourceLocation, shorten
from flowprov.settings.sources import MappingEntry

MAX_TEXT = 64 * 1024
"""The largest text of settings, in bytes or characters: far more than any need."""
_MAX_EVENTS = 20_000  # all settings together are some hundred
_MAX_DEPTH = 16  # the tree of settings has four levels


class ExcessiveYaml(yaml.YAMLError):
    """YAML that is valid, and more than settings can be."""

    def __init__(self, line: int, reason: str, found: str, expected: str) -> None:
        super().__init__(f"found {found}, expected {expected}")
        self.line = line
        self.reason = reason


# PyYAML raises more than its own errors: for escapes beyond Unicode and overlong numbers.
YAML_ERRORS = (yaml.YAMLError, ValueError, OverflowError, RecursionError)

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = frozenset(_TAG + name for name in ("str", "timestamp", "value", "merge"))
_CONSTRUCTORS = {
    _TAG + "null": SafeConstructor.construct_yaml_null,
    _TAG + "bool": SafeConstructor.construct_yaml_bool,
    _TAG + "int": SafeConstructor.construct_yaml_int,
    _TAG + "float": SafeConstructor.construct_yaml_float,
}


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
    except (ValueError, LookupError, OverflowError):  # LookupError: "!!int" before nothing, "!!bool x"
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
    node = _compose(text)
    return None if node is None else YamlNode(node)


def _compose(text: str) -> yaml.Node | None:
    for _ in parse_within_limits(text):
        pass
    return yaml.compose(text, Loader=yaml.SafeLoader)


def parse_within_limits(text: str) -> Iterator[yaml.Event]:
    """Yield the events of a YAML text; each costs little time, whatever the text is.

    Raises
    ------
    ExcessiveYaml
        If there are more events, or deeper nests, than settings can have.
    yaml.YAMLError, ValueError, OverflowError, RecursionError
        ``YAML_ERRORS``.
    """
    if len(text) > MAX_TEXT:
        raise ExcessiveYaml(1, "too long to be settings", f"{len(text)} characters", f"at most {MAX_TEXT}")
    depth = 0
    for number, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _MAX_DEPTH or number > _MAX_EVENTS:
            line = int(event.start_mark.line) + 1 if event.start_mark else 1
            if depth > _MAX_DEPTH:
                raise ExcessiveYaml(
                    line, "nested too deeply to be settings", f"{depth} levels", f"at most {_MAX_DEPTH}"
                )
            raise ExcessiveYaml(line, "too much to be settings", "more values", f"at most {_MAX_EVENTS}")
        yield event


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
    elif isinstance(error, ExcessiveYaml):
        line, reason = error.line, f"{error.reason}: {error}"
    beginning = "" if line is None else "".join(text.splitlines()[line - 1 : line])
    hint = 'put "${…}" in quotes where it stands between braces or brackets' if "${" in beginning else ""
    problems.add(SourceLocation(source, line), (), reason, hint=lambda: hint)


def parse_document(text: str) -> Any:
    """Return the values of a YAML document; None for an empty one.

    Raises
    ------
    yaml.YAMLError, ValueError, OverflowError, RecursionError
        As for :func:`compose`.
    """
    node = _compose(text)
    return None if node is None else _build_value(node, {})


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
    if len(text) > MAX_TEXT:
        return InvalidYamlValue(f"a string of {len(text)} characters, too long for a setting")
    if not text.startswith(("[", "{", "'", '"')):
        tag = Resolver().resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
        return _read_scalar(yaml.ScalarNode(tag, text))
    try:
        node = _compose(text)
        return None if node is None else _build_value(node, {})
    except ExcessiveYaml as error:
        return InvalidYamlValue(f"a string that is {error.reason} ({error})")
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
