"""The extra ``amd``: the GPUs are looked for; on a machine without one a line says so."""

from __future__ import annotations

import flowprov

flowprov.configure(telemetry_capture={"gpu": True})
with flowprov.workflow("W"), flowprov.task_scope("waiting"):
    pass
assert [row["status"] for row in flowprov.read_buffer(return_df=False)] == ["FINISHED"] * 2
print("done: recorded")
