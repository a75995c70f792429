"""Processes that programs of the tests have started: all that are left, and shippers."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import psutil


def processes_of(folder: Path) -> list[psutil.Process]:
    """Return the processes that run in a folder or name it in their command lines."""
    found, text = [], str(folder)
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        info = process.info
        words = [*(info["cmdline"] or []), info["cwd"] or ""]
        if info["status"] != psutil.STATUS_ZOMBIE and any(word.startswith(text) for word in words):
            found.append(process)
    return found


def shippers(folder: Path) -> list[psutil.Process]:
    """Return the shippers of the buffers below a folder that programs have started."""
    return [process for process in processes_of(folder) if "--handed-over" in (process.info["cmdline"] or [])]


def has_delivery_error(buffer: Path) -> bool:
    """Whether the shipper of a buffer reports an error."""
    for path in buffer.glob(".ship-*.json"):
        with contextlib.suppress(OSError, ValueError):
            report = json.loads(path.read_bytes())
            return any(sink.get("last_error") for sink in report["sinks"].values())
    return False
