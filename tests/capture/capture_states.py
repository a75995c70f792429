"""The states of capture in which a loop gives its items as its source does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flowprov
from flowprov.runtime import context

STATES = ("on", "muted", "off", "not enabled", "batches off")


@contextlib.contextmanager
def capture_in(state: str, buffer: Path) -> Iterator[dict[str, Any]]:
    """Record a workflow in a state; yield the options of its loops. Nothing in it is left open at its end."""
    instrumentation: dict[str, Any] = {"enabled": state != "off"}
    if state == "batches off":
        instrumentation["torch"] = {"batch_loop": None, "epoch_loop": None}
    flowprov.configure(journal={"path": str(buffer)}, instrumentation=instrumentation)
    with flowprov.workflow("w"):
        scope = context.current.get()
        if scope is not None:
            scope.muted = state == "muted"
        yield {"capture_enabled": False} if state == "not enabled" else {}
        assert context.current.get() is scope
        if scope is not None:
            assert set(scope.journal.open_scopes) == {scope.workflow_id}
