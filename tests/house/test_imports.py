"""The house: who may import whom, and what importing flowprov loads. See docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY, clean_environment

PACKAGE = REPOSITORY / "flowprov"

# What each room may import, beside itself. A room is the first part of a module's name under flowprov, or the
# first two where a folder holds several rooms.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "values": {"errors"},
    "records": {"errors"},
    "settings": {"errors"},
    "launchers": set(),
    "clock": set(),
    "host": set(),
    "guard": {"errors", "records", "values", "settings"},
    "journal": {"clock", "errors", "records", "values", "settings", "guard", "context"},
    "context": {"clock", "errors", "records", "values", "settings", "journal"},
    "delivery": {"settings", "guard", "journal"},
    "runtime": {
        "errors",
        "records",
        "values",
        "settings",
        "launchers",
        "guard",
        "context",
        "journal",
        "delivery",
        "telemetry",
    },
    "telemetry": {"clock", "host", "errors", "records", "values", "settings", "guard", "context", "journal"},
    "handover": {"settings", "guard", "context", "runtime"},
    "capture": {
        "clock",
        "host",
        "errors",
        "records",
        "values",
        "settings",
        "launchers",
        "guard",
        "context",
        "journal",
        "runtime",
        "handover",
    },
    "sinks": {"errors", "records", "settings", "journal", "clock", "guard", "values"},
    "read": {"errors", "records", "values", "settings", "journal", "sinks"},
    "preload": {"capture"},
    "cli": {"errors", "records", "settings", "journal", "runtime", "read", "sinks"},  # runtime: the version
    "__main__": {"cli"},
}
MAY_IMPORT["capture.torch"] = MAY_IMPORT["capture"] | {"capture"}
MAY_IMPORT["capture.dask"] = MAY_IMPORT["capture"] | {"capture"}
MAY_IMPORT["preload"] = {"capture.dask"}
# The one place where the core reaches for an adapter: a workflow that was given a Dask client.
ALLOWED = {("flowprov/capture/workflow.py", "flowprov.capture.dask")}

FRAMEWORKS = {
    "torch": {"capture.torch"},
    "dask": {"capture.dask"},
    "distributed": {"capture.dask"},
    "pandas": {"read"},
    "numpy": {"read"},  # comes with pandas
    "redis": {"sinks"},
    "stamina": {"sinks"},
    "pymongo": {"sinks"},
    "bson": {"sinks"},  # comes with pymongo
    "psutil": {"telemetry"},
    "pynvml": {"telemetry"},  # comes with nvidia-ml-py
    "amdsmi": {"telemetry"},
}
CORE = {"msgspec", "yaml", "uuid_utils", "click"}


def _room(module: str) -> str:
    parts = module.split(".")[1:]
    if parts[:1] == ["capture"] and parts[1:2] and parts[1] in ("torch", "dask"):
        return ".".join(parts[:2])
    return parts[0] if parts else ""


def _module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> set[str]:
    """Every module that a file imports: at its top, in functions, for types."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room they reach for"
            module = node.module or ""
            if module in ("flowprov", "flowprov.capture"):
                found |= {f"{module}.{alias.name}" for alias in node.names}
            else:
                found.add(module)
    return found


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    room = _room(_module_name(path))
    assert room in MAY_IMPORT, f"{path} stands in no room that the house knows"
    for module in _imports(path):
        top = module.split(".")[0]
        if top == "flowprov":
            target = _room(module)
            assert target, f"{path} imports the root of the package"
            allowed = target in MAY_IMPORT[room] | {room}
            relative = str(path.relative_to(REPOSITORY))
            assert allowed or (relative, module) in ALLOWED, f"{path} may not import {module}"
        elif top in FRAMEWORKS:
            assert room in FRAMEWORKS[top], f"{path} may not import {module}"
        else:
            assert top in sys.stdlib_module_names | CORE | {"typing_extensions"}, f"{path} imports {module}"


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
