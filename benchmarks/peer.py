"""The scenarios with Flowcept 1.0.3 in its offline mode: it holds records in memory and writes at the end."""

from __future__ import annotations

import scenarios
import torch
from flowcept import Flowcept, FlowceptLoop, flowcept_task, flowcept_torch

torch.set_num_threads(1)
task = flowcept_task(scenarios.work)
model = torch.nn.Sequential(torch.nn.Linear(8, 8))
batch = torch.zeros(4, 8)


@flowcept_torch
class Captured(torch.nn.Module):
    """The same model, captured; the peer cannot wrap one that it did not decorate."""

    def __init__(self, **_: object) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pass through."""
        result: torch.Tensor = self.inner(x)
        return result


with Flowcept(workflow_name="benchmark"), torch.no_grad():
    captured = Captured()
    scenarios.report(
        scenarios.measure(
            {
                "task": (
                    lambda n: scenarios.run_task(scenarios.work, n),
                    lambda n: scenarios.run_task(task, n),
                ),
                "loop": (
                    lambda n: scenarios.run_loop(range(n)),
                    lambda n: scenarios.run_loop(FlowceptLoop(range(n))),
                ),
                "loop with two scalars": (
                    lambda n: scenarios.run_loop_with_scalars(scenarios.PlainLoop(n)),
                    lambda n: scenarios.run_loop_with_scalars(FlowceptLoop(range(n))),
                ),
                "parent forward": (
                    lambda n: scenarios.run_forwards(model, batch, n),
                    lambda n: scenarios.run_forwards(captured, batch, n),
                ),
            }
        )
    )
