"""The extra ``query``: journals are compacted into Parquet files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from flowprov.read.sql_query import query_rows

RECORDING = """
import flowprov
with flowprov.campaign("C"), flowprov.workflow("W"):
    flowprov.log_metrics(loss=0.5, step=0)
"""
subprocess.run([sys.executable, "-c", RECORDING], check=True)  # journals of ended programs are compacted
compacted = subprocess.run([sys.executable, "-m", "flowprov", "compact"], check=False)
if compacted.returncode:
    sys.exit(compacted.returncode)
files = list(Path("flowprov_buffer").rglob("*.parquet"))
assert files
rows = query_rows("SELECT name FROM runs")[1]
assert rows == [("W",)], rows
print(f"done: {len(files)} Parquet file")
