"""Only fully imported modules count as loaded, and looking for them imports nothing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from flowprov.environment import host


def test_the_versions_of_loaded_frameworks_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("lightning")
    module.__version__ = "2.6.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "lightning", module)
    monkeypatch.delitem(sys.modules, "transformers", raising=False)
    assert host.versions()["lightning"] == "2.6.0"
    assert "transformers" not in host.versions()


def test_a_module_without_a_version_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning", ModuleType("lightning"))
    assert "lightning" not in host.versions()


def test_a_lazy_module_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lightning.py").write_text("raise AssertionError('it was loaded')\n")
    spec = importlib.util.spec_from_file_location("lightning", tmp_path / "lightning.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lightning", module)
    spec.loader.exec_module(module)
    assert host.loaded("lightning") is None
    assert "lightning" not in host.versions()


def test_a_module_that_is_being_imported_does_not_count_as_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_loaded.py").write_text(
        "from flowprov.environment import host\n__version__ = '1'\nseen = host.loaded(__name__)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("half_loaded")
    try:
        assert module.seen is None
        assert host.loaded("half_loaded") is module
    finally:
        del sys.modules["half_loaded"]


def test_a_module_whose_import_is_blocked_does_not_count_as_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    assert host.loaded("lightning") is None
    assert "lightning" not in host.versions()
