"""The scenarios with flowprov."""

from __future__ import annotations

import sys

import scenarios
import torch

import flowprov

torch.set_num_threads(1)
flowprov.configure(journal={"path": sys.argv[1]})
task = flowprov.task(scenarios.work)
model = torch.nn.Sequential(torch.nn.Linear(8, 8))
batch = torch.zeros(4, 8)


class Captured(torch.nn.Sequential):
    """The same model, captured."""


with flowprov.workflow("benchmark"), torch.no_grad():
    captured = flowprov.torch_capture(Captured)(torch.nn.Linear(8, 8))
    scenarios.report(
        scenarios.measure(
            {
                "task": (
                    lambda n: scenarios.run_task(scenarios.work, n),
                    lambda n: scenarios.run_task(task, n),
                ),
                "loop": (
                    lambda n: scenarios.run_loop(range(n)),
                    lambda n: scenarios.run_loop(flowprov.Loop(range(n))),
                ),
                "loop with two scalars": (
                    lambda n: scenarios.run_loop_with_scalars(scenarios.PlainLoop(n)),
                    lambda n: scenarios.run_loop_with_scalars(flowprov.Loop(range(n))),
                ),
                "parent forward": (
                    lambda n: scenarios.run_forwards(model, batch, n),
                    lambda n: scenarios.run_forwards(captured, batch, n),
                ),
            }
        )
    )
