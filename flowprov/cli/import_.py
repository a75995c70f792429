"""``flowprov import``: what other programs kept becomes campaigns of a buffer.

Flows in: the address of MLflow. Flows out: journals in a buffer, and a line for each experiment.
"""

from __future__ import annotations

import click
import msgspec

from flowprov.cli.completion import complete_files
from flowprov.cli.output import print_json, print_lines, tracking_option
from flowprov.cli.progress import progress
from flowprov.display import count
from flowprov.export.mlflow.store import Store
from flowprov.imports.mlflow.experiment_import import ImportReport, import_experiments
from flowprov.runtime.encoders import create_summarizer
from flowprov.settings import load_settings


@click.group("import")
def import_() -> None:
    """Record what another program kept."""


@import_.command()
@tracking_option
@click.option("--experiment", metavar="NAME", help="Only this experiment, by its name or id; by default all.")
@click.option(
    "-o",
    "--output",
    "buffer",
    metavar="BUFFER",
    shell_complete=complete_files,
    help="The buffer folder; by default that of the settings.",
)
@click.option("--running", is_flag=True, help="Also runs that still run for MLflow, as interrupted ones.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each experiment.")
@click.pass_obj
def mlflow(
    default: str | None, uri: str, experiment: str | None, buffer: str | None, *, running: bool, as_json: bool
) -> None:
    """Record experiments of MLflow: each as a campaign, its runs as workflows.

    Params, metrics with their steps and times, tags, artifacts and data sets are recorded. A second import
    records the runs that are new.
    """
    settings = load_settings()
    journal = msgspec.structs.replace(settings.journal, path=buffer or default or settings.journal.path)
    summarizer = create_summarizer(settings)
    with progress("importing"):
        store = Store(uri)
        reports = list(import_experiments(store, journal, summarizer, experiment=experiment, running=running))
    for report in reports:
        if as_json:
            print_json(msgspec.to_builtins(report))
        else:
            print_lines(*_lines(report))
    if not as_json and not reports:
        print_lines("there are no runs")


def _lines(report: ImportReport) -> list[str]:
    counts = (
        f"{count(report.imported, 'new run')}, {report.known} known, {count(report.values, 'metric value')}"
    )
    lines = [f"{report.name}: {counts}; campaign {report.campaign_id}"]
    if report.running:
        lines.append(f"  {report.running} still run and were left: import again later, or with --running")
    return lines


__all__ = ["import_"]
