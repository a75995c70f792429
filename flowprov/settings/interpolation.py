"""Variables of the environment in values of files: ``${NAME}`` and ``${NAME:-default}``.

Flows in: nodes as they stand in a file, and an environment. Flows out: nodes with the variables replaced, or
a problem. What a variable holds may be a secret, so messages quote what stands in the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from flowprov.settings.report import describe_value, shorten
from flowprov.settings.sources import MappingEntry, PythonNode, SourceNode
from flowprov.settings.yaml_text import parse_value

_BEGIN = "${"
_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class UnresolvedError(Exception):
    """A variable has no value, or what stands for one cannot be read. ``hint`` says how to mend it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class InterpolatedNode:
    """A value in which variables were replaced.

    Attributes
    ----------
    written
        What stands in the file.
    """

    def __init__(self, line: int | None, value: Any, written: str) -> None:
        self.line = line
        self.written = written
        self._value = value

    def entries(self) -> list[MappingEntry] | None:
        """Return the entries of a variable that holds a mapping in YAML; messages quote them as little."""
        entries = PythonNode(self.parsed()).entries()
        if entries is None:
            return None
        return [
            MappingEntry(key, None, InterpolatedNode(self.line, value.to_python(), self.written))
            for key, _, value in entries
        ]

    def to_python(self) -> Any:
        """Return the text, or the list of texts."""
        return self._value

    def parsed(self) -> Any:
        """Return what the text means in YAML."""
        return parse_value(self._value) if isinstance(self._value, str) else self._value


def interpolate(node: SourceNode, environ: Mapping[str, str]) -> SourceNode:
    """Return a node with the variables in its text, or in the texts of its list, replaced once.

    Raises
    ------
    UnresolvedError
        If that is not possible.
    """
    if isinstance(node, InterpolatedNode):
        return node
    value: Any = node.to_python() if node.entries() is None else None
    if isinstance(value, str) and _BEGIN in value:
        return InterpolatedNode(node.line, replace_variables(value, environ), value)
    written = [one for one in value if isinstance(one, str)] if isinstance(value, (list, tuple)) else []
    first = next((one for one in written if _BEGIN in one), None)
    if first is not None:
        replaced = [replace_variables(one, environ) if isinstance(one, str) else one for one in value]
        return InterpolatedNode(node.line, replaced, first)
    return node


def describe_node(node: SourceNode, *, secret: bool = False) -> str:
    """Return a description of the value of a node, to be put behind "found", as ``describe_value`` does."""
    if isinstance(node, InterpolatedNode):  # what the variable holds may be a secret
        return f'the value of "{shorten(node.written)}"'
    return describe_value(node.to_python(), secret=secret)


def replace_variables(text: str, environ: Mapping[str, str]) -> str:
    """Return a text with its variables replaced; ``$${`` stands for a plain ``${``.

    Raises
    ------
    UnresolvedError
        If a variable has neither a value nor a default, or the text is not of this form. An empty variable
        counts as one that is not set.
    """

    def value_of(match: re.Match[str]) -> str:
        if match[1] is None:
            return _BEGIN
        name, has_default, default = match[1].partition(":-")
        if not match[2] or not _NAME.fullmatch(name) or _BEGIN in default:
            raise UnresolvedError(
                f'found "{shorten(match[0])}", expected ${{NAME}} or ${{NAME:-default}}',
                "write $${ for a plain ${",
            )
        value = environ.get(name)
        if not value and not has_default:
            raise UnresolvedError(
                f"the variable ${{{shorten(name)}}} is not set in this environment, or it is empty",
                f"set it, or give a default: ${{{shorten(name)}:-default}}",
            )
        return value or default

    return _REFERENCE.sub(value_of, text)
