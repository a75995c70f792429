"""The extra ``telemetry``: host and process are sampled by psutil, as on a system without procfs."""

from __future__ import annotations

import pathlib

import flowprov
from flowprov.telemetry import registry


class _WithoutProcfs(pathlib.PosixPath):
    def exists(self, **options: bool) -> bool:
        """Whether a path exists, outside of procfs."""
        return not str(self).startswith("/proc/") and super().exists(**options)


registry.Path = _WithoutProcfs  # type: ignore[attr-defined]
flowprov.configure(telemetry_capture={"cpu": True, "mem": True, "process": True, "interval": 0.05})
with flowprov.workflow("W"), flowprov.task_scope("waiting"):
    sum(range(20_000_000))

(row,) = [row for row in flowprov.read_buffer(return_df=False) if row["activity_id"] == "waiting"]
sample = row["telemetry_at_end"]
assert {"cpu", "mem", "process"} <= set(sample or ()), sample
print("done: sampled by psutil")
