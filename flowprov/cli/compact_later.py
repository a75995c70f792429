"""Starts a process that makes the next answer faster, when an answer was given.

Flows in: the sources of a command. Flows out: ``flowprov compact --in-background`` for each of them that is a
folder with large journals without Parquet files. It runs at the lowest priority, and nobody waits for it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from flowprov.errors import FlowprovError
from flowprov.read.automatic_compaction import is_due
from flowprov.settings import load_settings, parse_assignment


def compact_later(sources: Sequence[str] | str | None) -> None:
    """Have the folders among the sources compacted, if the settings and the folders allow it."""
    if importlib.util.find_spec("duckdb") is None:
        return
    with contextlib.suppress(FlowprovError, OSError, ValueError):  # the answer was given: nothing else counts
        options = click.get_current_context().find_root().params
        settings = load_settings(options["path"], dict(map(parse_assignment, options["assignments"])))
        if settings.journal.compact == "off":
            return
        names = [sources] if isinstance(sources, str) else sources or [settings.journal.path]
        for name in names:
            folder = Path(name).expanduser().absolute()
            if folder.is_dir() and is_due(folder):
                _start(folder)


def _start(folder: Path) -> None:
    package = str(Path(__file__).absolute().parents[2])
    path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    subprocess.Popen(  # noqa: S603 - our own command
        [sys.executable, "-m", "flowprov", "compact", "--in-background", "--source", str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",  # no module of the present folder shadows one that is needed
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
    )
