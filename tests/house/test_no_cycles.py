"""No file of flowprov imports itself through others: at its top, in a function, or for types."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter

from tests.house.test_imports import SOURCES, module_name

MODULES = {module_name(path): path for path in SOURCES}


def _imported(module: str) -> set[str]:
    """Return the files of flowprov that a file imports; of ``from package import module`` only the module."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            imported |= names if names <= MODULES.keys() else names | {node.module or ""}
    return imported & MODULES.keys()


def test_no_file_imports_itself_through_others() -> None:
    try:
        TopologicalSorter({module: _imported(module) for module in MODULES}).prepare()
    except CycleError as error:
        cycle = " -> ".join(reversed(error.args[1]))
        raise AssertionError(f"these import each other: {cycle}") from None
