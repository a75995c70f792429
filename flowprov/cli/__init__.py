"""The command line: ``flowprov``.

Flows in: arguments, and the buffer that they name. Flows out: text for people, JSON for programs, and an exit
status. Each command has a module; the package ``read`` computes what the commands print.

A module is imported when its command is called, and click only then, too: ``flowprov --help`` shall take no
time.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as in flowprov/__init__.py
if TYPE_CHECKING:
    from typing import Any

    from flowprov.cli.group import main

__all__ = ["main"]


def __getattr__(name: str) -> Any:
    if name == "main":
        from flowprov.cli.group import main

        return main
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
