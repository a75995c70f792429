"""The extra ``mongodb``: a buffer is delivered to a server, and read there. The argument is its address."""

from __future__ import annotations

import subprocess
import sys

import flowprov

uri = sys.argv[1]
with flowprov.workflow("W"):
    flowprov.log_metrics(loss=0.5, step=0)
shipped = subprocess.run([sys.executable, "-m", "flowprov", "ship", "--to", uri], check=False)
if shipped.returncode:
    sys.exit(shipped.returncode)
rows = flowprov.read_buffer(uri, return_df=False)
assert rows == flowprov.read_buffer(return_df=False)
print(f"done: {len(rows)} rows of a server")
