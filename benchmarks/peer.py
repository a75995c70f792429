"""The scenarios with Flowcept 1.0.3, offline: it holds records in memory and writes at the end."""

from __future__ import annotations

from typing import Any

import scenarios
from flowcept import Flowcept, FlowceptLoop, flowcept_task


def model() -> tuple[Any, Any]:
    """Make a captured layer and its plain twin; the peer captures classes that it decorates."""
    import torch
    from flowcept import flowcept_torch

    @flowcept_torch
    class Captured(torch.nn.Linear):
        def __init__(self, **_: Any) -> None:
            super().__init__(scenarios.BATCH[1], 8)

    return Captured(), torch.nn.Linear(scenarios.BATCH[1], 8)


scenarios.run(
    scenarios.Library(
        lambda: Flowcept(workflow_name="benchmark"),
        flowcept_task,
        lambda count: FlowceptLoop(range(count)),
        model,
    )
)
