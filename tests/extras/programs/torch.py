"""The extra ``torch``: a forward is recorded."""

from __future__ import annotations

from flowprov import torch_capture  # isort: skip - says what is missing

import torch

import flowprov

with flowprov.workflow("W"):
    model = torch_capture(torch.nn.Linear(2, 1))
    model(torch.ones(3, 2))

forwards = [row for row in flowprov.read_buffer(return_df=False) if row["activity_id"] == "Linear"]
assert [row["generated"]["output"]["shape"] for row in forwards] == [[3, 1]], forwards
print(f"done: a forward with torch {torch.__version__}")
