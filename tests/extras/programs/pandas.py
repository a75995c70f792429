"""The extra ``pandas``: answers are frames."""

from __future__ import annotations

import flowprov

with flowprov.workflow("W"):
    flowprov.log_metrics(loss=0.5, step=0)

frame = flowprov.runs()
assert frame["metrics.loss"].tolist() == [0.5], frame
print(f"done: {flowprov.read_buffer().shape[0]} rows of a frame")
