"""The import rules: who may import whom, and what ``import flowprov`` loads. See docs/architecture.md."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPOSITORY, clean_environment

FLOWPROV = REPOSITORY / "flowprov"

# What each package imports besides itself; it may import nothing else. A package is here a folder of
# flowprov, a single file beside the folders, or a part of a folder. A module belongs to the longest name that
# fits.
MAY_IMPORT: dict[str, set[str]] = {
    "display": set(),
    "errors": {"display"},
    "json_depth": set(),
    "lazy_imports": set(),
    "locks": set(),
    "records": {"ids", "json_depth"},
    "line_templates": set(),
    "clock": set(),
    "ids": set(),
    "index_codec": set(),
    "file_marks": set(),
    "regular_files": {"file_marks"},
    "folder_listing": {"regular_files"},
    "source_lines": {"regular_files"},
    "threads": set(),
    "version": set(),
    "asynchronous": set(),
    "guard": {"asynchronous", "display", "values"},
    "values": {"asynchronous"},
    "settings": {"errors", "guard", "values"},
    "environment": {"regular_files", "values"},
    "versioning": {
        "environment",
        "errors",
        "folder_listing",
        "lazy_imports",
        "regular_files",
        "settings",
        "source_lines",
        "values",
    },
    "journal": {
        "clock",
        "file_marks",
        "guard",
        "ids",
        "locks",
        "records",
        "regular_files",
        "settings",
        "threads",
        "values",
    },
    "contents": {"clock", "folder_listing", "journal", "records", "regular_files", "values"},
    "telemetry": {"clock", "environment", "guard", "journal", "records", "settings", "threads", "values"},
    "sinks": {"errors", "ids", "records", "settings", "values"},
    # The launcher runs in the program and knows no sink. The service runs in the shipper and does.
    "shipping.launcher": {"guard", "journal", "settings", "shipping.status"},
    "shipping.status": {"journal", "settings"},
    "shipping": {"errors", "journal", "records", "settings", "shipping.status", "sinks"},
    "runtime": {
        "clock",
        "environment",
        "guard",
        "ids",
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
        "contents",
        "asynchronous",
        "capture.dask",  # from one file only: ALLOWED_FROM
        "clock",
        "environment",
        "errors",
        "guard",
        "ids",
        "index_codec",
        "journal",
        "line_templates",
        "locks",
        "records",
        "regular_files",
        "runtime",
        "settings",
        "source_lines",
        "threads",
        "values",
        "versioning",
    },
    "capture.torch": {
        "capture",
        "clock",
        "environment",
        "errors",
        "guard",
        "ids",
        "journal",
        "locks",
        "records",
        "runtime",
        "settings",
        "values",
    },
    "capture.dask": {
        "asynchronous",
        "capture",
        "clock",
        "errors",
        "guard",
        "journal",
        "line_templates",
        "locks",
        "records",
        "runtime",
        "settings",
        "threads",
        "values",
        "version",
    },
    "read": {
        "contents",
        "display",
        "errors",
        "ids",
        "index_codec",
        "journal",
        "json_depth",
        "records",
        "regular_files",
        "settings",
        "sinks",
        "values",
        "versioning",
    },
    "export.mlflow": {
        "errors",
        "journal",
        "read",
        "records",
        "regular_files",
        "settings",
        "shipping",
        "versioning",
    },
    "export": {"errors", "journal", "read", "records", "version", "versioning"},
    # What other programs kept becomes records of a journal, as if it had been captured.
    "imports": {
        "contents",
        "errors",
        "export.mlflow",
        "journal",
        "read",
        "records",
        "settings",
        "values",
        "version",
    },
    "report": {"display", "errors", "journal", "read", "records", "version", "versioning"},
    "ui": {"display", "errors", "read", "records", "report"},
    "plan": {"settings"},
    "script_run": {"capture", "errors", "runtime", "values"},
    "cli": {
        "contents",
        "display",
        "errors",
        "export",
        "export.mlflow",
        "imports",
        "journal",
        "plan",
        "read",
        "records",
        "report",
        "runtime",
        "script_run",
        "settings",
        "shipping",
        "shipping.status",
        "ui",
        "version",
    },
    # What the adapters share; each of them is a package of its own, and imports its framework alone.
    "integrations": {"capture", "environment", "errors", "guard", "runtime"},
    "integrations.transformers": {"errors", "integrations"},
    "integrations.lightning": {"capture", "errors", "integrations"},
    "integrations.accelerate": {"capture", "errors", "integrations"},
    "integrations.torchtune": {"capture", "integrations"},
    "integrations.ipython": {"capture", "display", "environment", "integrations"},
    "integrations.ignite": {"errors", "integrations"},
    "integrations.skorch": {"errors", "integrations"},
    "integrations.optuna": {"capture", "errors", "guard", "integrations", "locks", "runtime"},
    "preload": {"capture.dask"},
    "__main__": {"cli"},
}
# Permissions that one file of a package has: a workflow that was given a Dask client imports the adapter.
ALLOWED_FROM = {("capture", "capture.dask"): "flowprov/capture/workflow.py"}

FRAMEWORKS = {
    "torch": {"capture.torch"},
    "dask": {"capture.dask", "read"},  # read makes a DataFrame of it, where one is asked for
    "distributed": {"capture.dask", "read"},  # read has a cluster write Parquet files, where one is named
    "pandas": {"read"},
    "numpy": {"read"},  # comes with pandas
    "duckdb": {"read"},  # writes and reads Parquet files
    "networkx": {"read"},  # makes a graph of a lineage, where one is asked for
    "pyarrow": {"read"},  # where it calls a table to convert itself
    "redis": {"sinks"},
    "stamina": {"shipping"},
    "pymongo": {"sinks"},
    "bson": {"sinks"},  # comes with pymongo
    "psutil": {"telemetry"},
    "pynvml": {"telemetry"},  # comes with nvidia-ml-py
    "amdsmi": {"telemetry"},
    "rich": {"cli"},
    "jinja2": {"report"},  # writes a report down
    "transformers": {"integrations.transformers"},
    "accelerate": {"integrations.accelerate"},
    "optuna": {"integrations.optuna"},
    "ignite": {"integrations.ignite"},
    "skorch": {"integrations.skorch"},
    "mlflow": {"export.mlflow"},
}
CORE = {"msgspec", "yaml", "uuid_utils", "click"}


def _package_of(module: str) -> str:
    name = module.removeprefix("flowprov").removeprefix(".")
    matches = [package for package in MAY_IMPORT if name == package or name.startswith(f"{package}.")]
    return max(matches, key=len, default=name)


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_module(name: str) -> bool:
    path = REPOSITORY.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def _imports(path: Path) -> set[str]:
    """Return every module that a file imports: at its top, in functions, for types."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides the package that it imports from"
            module = node.module or ""
            names = {f"{module}.{alias.name}" for alias in node.names}
            submodules = {name for name in names if _is_module(name)}
            imported |= submodules if submodules == names else submodules | {module}
    return imported


SOURCES = sorted(path for path in FLOWPROV.rglob("*.py") if path != FLOWPROV / "__init__.py")


def _packages_imported(path: Path) -> set[str]:
    """Return the packages that a file imports from, without its own."""
    packages = {_package_of(module) for module in _imports(path) if module.split(".")[0] == "flowprov"}
    return packages - {_package_of(module_name(path))}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    package = _package_of(module_name(path))
    assert package in MAY_IMPORT, f"{path} belongs to no package of MAY_IMPORT"
    relative = str(path.relative_to(REPOSITORY))
    for target in _packages_imported(path):
        assert target, f"{path} imports the root of the package"
        assert target in MAY_IMPORT[package], f"{path} may not import {target}"
        assert ALLOWED_FROM.get((package, target), relative) == relative, f"{path} may not import {target}"
    for top in {module.split(".")[0] for module in _imports(path)} - {"flowprov"}:
        if top in FRAMEWORKS:
            assert package in FRAMEWORKS[top], f"{path} may not import {top}"
        else:
            assert top in sys.stdlib_module_names | CORE | {"typing_extensions"}, f"{path} imports {top}"


def test_no_package_has_a_permission_that_it_does_not_use() -> None:
    used: dict[str, set[str]] = {package: set() for package in MAY_IMPORT}
    for path in SOURCES:
        used[_package_of(module_name(path))] |= _packages_imported(path)
    assert used == MAY_IMPORT


def _loaded_by(statement: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean_environment()
    )
    return set(done.stdout.split())


def test_importing_flowprov_loads_nothing_but_itself() -> None:
    loaded = _loaded_by("import flowprov")
    assert {name for name in loaded if name.startswith("flowprov")} == {"flowprov", "flowprov.lazy_imports"}
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
