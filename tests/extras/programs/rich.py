"""The extra ``rich``: what a command prints on a terminal has colors."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import flowprov

with flowprov.workflow("W"):
    flowprov.log_metrics(loss=0.5, step=0)

primary, secondary = pty.openpty()
command = [sys.executable, "-m", "flowprov", "show"]
subprocess.run(command, check=True, stdout=secondary, env={**os.environ, "TERM": "xterm-256color"})
os.close(secondary)
shown = os.read(primary, 65_536)
assert b"W" in shown
print("done: in colors" if b"\x1b[" in shown else "done: plain")
