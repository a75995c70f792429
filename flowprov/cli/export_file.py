"""``flowprov export FORMAT [CAMPAIGN…] -o FILE``: the formats that are a file.

Flows in: campaigns of a buffer. Flows out: one file, and a line that says what it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import click

from flowprov.cli.completion import complete_campaigns
from flowprov.cli.output import output_option, print_lines, source_option, spare_collector
from flowprov.cli.progress import progress
from flowprov.display import count
from flowprov.export.campaigns import ExportedCampaign, exported_campaigns
from flowprov.export.crate import write_crate
from flowprov.export.croissant import write_croissant
from flowprov.export.openlineage import write_openlineage
from flowprov.export.prov_files import write_prov_json, write_prov_n
from flowprov.export.trace import write_trace

_Write: TypeAlias = Callable[[Sequence[ExportedCampaign], Path], int]

_CAMPAIGNS = """

CAMPAIGNS are ids, beginnings or ends of ids that fit only one, or names that only one has; by default the
one with the latest record."""


def _command(name: str, write: _Write, text: str, noun: str | None = None) -> click.Command:
    """Create the command of a format, which says how many of what it wrote."""

    @click.command(name, help=text + _CAMPAIGNS)
    @click.argument("campaigns", nargs=-1, shell_complete=complete_campaigns)
    @output_option("FILE")
    @source_option
    @click.pass_obj
    def command(default: str | None, campaigns: tuple[str, ...], output: Path, source: str | None) -> None:
        spare_collector()
        with progress("exporting"):
            number = write(exported_campaigns(source or default, campaigns), output)
        written = f"{number:,} tasks and workflows" if noun is None else count(number, noun)
        print_lines(f"{output}: {written}")

    return command


export_trace = _command(
    "trace",
    write_trace,
    "Write a timeline for https://ui.perfetto.dev or chrome://tracing: a track for each process and thread, "
    "and telemetry as counters.",
)

_PROV = (
    "Tasks and workflows are activities, artifacts and values are entities, users and programs are agents."
)
export_prov_json = _command("prov-json", write_prov_json, f"Write W3C PROV as PROV-JSON. {_PROV}")
export_prov_n = _command("prov-n", write_prov_n, f"Write W3C PROV as PROV-N. {_PROV}")
export_openlineage = _command(
    "openlineage",
    write_openlineage,
    "Write events of OpenLineage, one a line. Workflows and tasks are runs, artifacts are data sets; "
    "iterations and forwards are left out unless they touched an artifact.",
)
export_rocrate = _command(
    "rocrate",
    write_crate,
    "Write a Provenance Run Crate: a folder, or a zip if FILE ends with .zip. Workflows of one name are a "
    "step, their attempts are actions; all tasks are in its prov.json.",
)
export_croissant = _command(
    "croissant",
    write_croissant,
    "Write the data that a campaign used as a data set of Croissant: each file with its SHA-256 and where it "
    "lay.",
    "file",
)

__all__ = [
    "export_croissant",
    "export_openlineage",
    "export_prov_json",
    "export_prov_n",
    "export_rocrate",
    "export_trace",
]
