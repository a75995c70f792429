"""No file of the package imports itself, by whatever way round: at its top, in a function, or for types."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter

from tests.house.test_imports import SOURCES, module_name

MODULES = {module_name(path): path for path in SOURCES}


def _imported(module: str) -> set[str]:
    """Every file of the package that a file imports; of ``from package import module`` the module alone."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner if inner <= MODULES.keys() else inner | {node.module or ""}
    return found & MODULES.keys()


def test_no_file_imports_itself_by_any_way_round() -> None:
    try:
        TopologicalSorter({module: _imported(module) for module in MODULES}).prepare()
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise AssertionError(f"these import each other: {circle}") from None
