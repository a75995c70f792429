"""The scenarios with flowprov."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import flowprov
from benchmarks import scenarios
from flowprov.runtime import runtime
from flowprov.telemetry.procfs_probes import KINDS


@contextlib.contextmanager
def session() -> Iterator[None]:
    """Record into the working folder, and close everything at the end."""
    if sys.argv[1].endswith(scenarios.TELEMETRY):
        flowprov.configure(telemetry_capture=dict.fromkeys(KINDS, True))
    with flowprov.workflow("benchmark"):
        yield
    runtime.reset()


def model(kind: Any, mode: tuple[str, str | None]) -> Any:
    """Capture a class of models."""
    what, children_mode = mode
    return flowprov.torch_capture(kind, what=what, children_mode=children_mode)


scenarios.run(scenarios.Library(session, flowprov.task, lambda count: flowprov.Loop(range(count)), model))
