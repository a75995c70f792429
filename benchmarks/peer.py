"""The scenarios with Flowcept 1.0.3, offline: it holds records in memory and writes at the end."""

from __future__ import annotations

from typing import Any

from flowcept import Flowcept, FlowceptLoop, flowcept_task

from benchmarks import scenarios


def model(kind: Any, _: tuple[str, str | None]) -> Any:
    """Capture a class of models; the settings say how closely."""
    from flowcept import flowcept_torch

    return flowcept_torch(kind)


scenarios.run(
    scenarios.Library(
        lambda: Flowcept(workflow_name="benchmark"),
        flowcept_task,
        lambda count: FlowceptLoop(range(count)),
        model,
        fewer=50,
    )
)
