"""What tests of adapters need that import a vendor's package at their top."""

from __future__ import annotations

import sys

import pytest


def afresh(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Let a module be imported anew in this test, and forget what was imported then."""
    monkeypatch.setitem(
        sys.modules, module, sys
    )  # so that what is there afterwards is put back, or taken away
    monkeypatch.delitem(sys.modules, module)
