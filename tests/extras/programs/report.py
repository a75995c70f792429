"""The extra ``report``: a page that one can send."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import flowprov

with flowprov.campaign("C"), flowprov.workflow("W"):
    flowprov.log_metrics(loss=0.5, step=0)
written = subprocess.run([sys.executable, "-m", "flowprov", "report", "-o", "r.html"], check=False)
if written.returncode:
    sys.exit(written.returncode)
assert "</html>" in Path("r.html").read_text(encoding="utf-8")
print(f"done: a report of {Path('r.html').stat().st_size} bytes")
