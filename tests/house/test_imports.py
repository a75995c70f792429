"""The house: who may import whom, and what importing flowprov loads. See docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY, clean_environment

PACKAGE = REPOSITORY / "flowprov"

# What each room may import, beside itself: what it does import, no more. A room is a folder or file of the
# package, or a part of a folder; a module stands in the room with the longest name that fits.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "records": set(),
    "line_templates": set(),
    "clock": set(),
    "version": set(),
    "guard": set(),
    "values": set(),
    "settings": {"errors"},
    "environment": {"values"},
    "journal": {"clock", "guard", "records", "settings"},
    "telemetry": {"clock", "environment", "guard", "journal", "records", "settings", "values"},
    "sinks": {"errors", "records", "settings", "values"},
    # The side of the program knows no sink; that of the process that delivers does.
    "shipping.launcher": {"guard", "journal", "settings", "shipping.status"},
    "shipping.status": {"journal", "settings"},
    "shipping": {"errors", "journal", "records", "settings", "shipping.status", "sinks"},
    "runtime": {
        "clock",
        "environment",
        "guard",
        "journal",
        "line_templates",
        "records",
        "settings",
        "shipping.launcher",
        "telemetry",
        "values",
        "version",
    },
    "capture": {
        "capture.dask",  # the one place where the core reaches for an adapter: ALLOWED_FROM
        "clock",
        "environment",
        "errors",
        "guard",
        "journal",
        "line_templates",
        "records",
        "runtime",
        "values",
    },
    "capture.torch": {
        "capture",
        "clock",
        "environment",
        "errors",
        "guard",
        "journal",
        "records",
        "runtime",
        "settings",
        "values",
    },
    "capture.dask": {
        "capture",
        "clock",
        "errors",
        "guard",
        "journal",
        "line_templates",
        "records",
        "runtime",
        "settings",
        "values",
    },
    "read": {"errors", "journal", "records", "settings", "sinks", "values"},
    "cli": {"errors", "read", "records", "settings", "shipping", "shipping.status", "version"},
    "preload": {"capture.dask"},
    "__main__": {"cli"},
}
# Permissions of one file of a room: a workflow that was given a Dask client.
ALLOWED_FROM = {("capture", "capture.dask"): "flowprov/capture/workflow.py"}

FRAMEWORKS = {
    "torch": {"capture.torch"},
    "dask": {"capture.dask"},
    "distributed": {"capture.dask"},
    "pandas": {"read"},
    "numpy": {"read"},  # comes with pandas
    "redis": {"sinks"},
    "stamina": {"shipping"},
    "pymongo": {"sinks"},
    "bson": {"sinks"},  # comes with pymongo
    "psutil": {"telemetry"},
    "pynvml": {"telemetry"},  # comes with nvidia-ml-py
    "amdsmi": {"telemetry"},
}
CORE = {"msgspec", "yaml", "uuid_utils", "click"}


def _room(module: str) -> str:
    name = module.removeprefix("flowprov").removeprefix(".")
    fitting = [room for room in MAY_IMPORT if name == room or name.startswith(f"{room}.")]
    return max(fitting, key=len, default=name)


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_module(name: str) -> bool:
    place = REPOSITORY.joinpath(*name.split("."))
    return place.with_suffix(".py").exists() or (place / "__init__.py").exists()


def _imports(path: Path) -> set[str]:
    """Every module that a file imports: at its top, in functions, for types."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room they reach for"
            module = node.module or ""
            names = {f"{module}.{alias.name}" for alias in node.names}
            inner = {name for name in names if _is_module(name)}
            found |= inner if inner == names else inner | {module}
    return found


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def _rooms_of(path: Path) -> set[str]:
    """The rooms that a file imports, without its own."""
    found = {_room(module) for module in _imports(path) if module.split(".")[0] == "flowprov"}
    return found - {_room(module_name(path))}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    room = _room(module_name(path))
    assert room in MAY_IMPORT, f"{path} stands in no room that the house knows"
    relative = str(path.relative_to(REPOSITORY))
    for target in _rooms_of(path):
        assert target, f"{path} imports the root of the package"
        assert target in MAY_IMPORT[room], f"{path} may not import {target}"
        assert ALLOWED_FROM.get((room, target), relative) == relative, f"{path} may not import {target}"
    for top in {module.split(".")[0] for module in _imports(path)} - {"flowprov"}:
        if top in FRAMEWORKS:
            assert room in FRAMEWORKS[top], f"{path} may not import {top}"
        else:
            assert top in sys.stdlib_module_names | CORE | {"typing_extensions"}, f"{path} imports {top}"


def test_no_room_has_a_permission_that_it_does_not_use() -> None:
    used: dict[str, set[str]] = {room: set() for room in MAY_IMPORT}
    for path in SOURCES:
        used[_room(module_name(path))] |= _rooms_of(path)
    assert used == MAY_IMPORT


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean_environment()
    )
    return set(done.stdout.split())


def test_importing_flowprov_loads_nothing_but_itself() -> None:
    loaded = _loaded_by("import flowprov")
    assert {name for name in loaded if name.startswith("flowprov")} == {"flowprov"}
    assert not {name.split(".")[0] for name in loaded} & (set(FRAMEWORKS) | CORE)
    assert not {"threading", "socket", "subprocess", "logging", "asyncio"} & loaded


def test_recording_a_task_loads_no_framework() -> None:
    loaded = _loaded_by(
        "import os, tempfile; os.chdir(tempfile.mkdtemp()); import flowprov; "
        "f = flowprov.task(lambda: 1); f(); list(flowprov.Loop(2))"
    )
    assert not {name.split(".")[0] for name in loaded} & set(FRAMEWORKS)


def test_importing_flowprov_has_no_effect(tmp_path: Path) -> None:
    code = "import flowprov, threading, os; print(threading.active_count(), os.listdir('.'))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=clean_environment(FLOWPROV_SETTINGS_PATH="/nowhere.yaml"),
    )
    assert done.stdout.split() == ["1", "[]"]


def test_no_module_and_no_function_is_too_long_to_read() -> None:
    for path in SOURCES:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or 0) - node.lineno
                assert length <= 60, f"{path}: {node.name} has {length} lines"


def test_every_broad_except_says_why() -> None:
    for path in SOURCES:
        text = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(text))):
            if isinstance(node, ast.ExceptHandler):
                kind = "" if node.type is None else ast.unparse(node.type)
                if kind in ("", "Exception", "BaseException") and not _raises_again(node):
                    around = text[node.lineno - 2 : node.body[0].lineno]
                    assert any("#" in line for line in around), f"{path}:{node.lineno}"


def _raises_again(handler: ast.ExceptHandler) -> bool:
    return any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler))
