"""What the system knows of a process.

Flows in: the id of a process. Flows out: its name and the fields of ``/proc/<pid>/stat``.
"""

from __future__ import annotations

from pathlib import Path


def process_fields(pid: int) -> list[str]:
    """Return the fields of ``/proc/<pid>/stat`` behind the name; empty if it cannot be read.

    Number 1 is the parent, number 4 the terminal, 0 if the process has none; number 19 is the start. Source:
    ``proc_pid_stat(5)``.
    """
    return _stat(pid).rpartition(")")[2].split()


def process_name(pid: int) -> str:
    """Return the name of a process, at most 15 characters; empty if it cannot be read."""
    return _stat(pid).partition("(")[2].rpartition(")")[0]


def _stat(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
