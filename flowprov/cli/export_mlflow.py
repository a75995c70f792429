"""``flowprov export mlflow``: campaigns become experiments of MLflow.

Flows in: campaigns of a buffer, and the address of MLflow. Flows out: what is new there, a line for each
experiment, and the address at which a browser shows it.
"""

from __future__ import annotations

from collections.abc import Iterator

import click
import msgspec

from flowprov.cli.completion import complete_campaigns
from flowprov.cli.output import print_json, print_lines, source_option, spare_collector, tracking_option
from flowprov.cli.progress import progress
from flowprov.display import count
from flowprov.export.mlflow.campaign_export import export_campaigns
from flowprov.export.mlflow.exporter import ExperimentReport
from flowprov.export.mlflow.store import Store

_MAX_LISTED = 8


@click.command("mlflow")
@click.argument("campaigns", nargs=-1, shell_complete=complete_campaigns)
@tracking_option
@source_option
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each experiment.")
@click.pass_obj
def export_mlflow(
    default: str | None, campaigns: tuple[str, ...], uri: str, source: str | None, *, as_json: bool
) -> None:
    """Write campaigns as experiments of MLflow.

    CAMPAIGNS are ids, beginnings of ids that fit only one, or names; by default all. A campaign is an
    experiment. A step, which is what runs of one name do, is a run of it, and has a nested run for each of
    these. A second export writes what is new; what was deleted in MLflow stays deleted.
    """
    spare_collector()
    try:
        with progress("exporting"):
            store = Store(uri)
            reports = export_campaigns(store, source or default, campaigns)
    except KeyboardInterrupt:
        print_lines(
            "interrupted: what was exported stays, and the same command writes the rest", to_stderr=True
        )
        raise
    for report in reports:
        link = None if report.experiment_id is None else store.link(report.experiment_id)
        if as_json:
            print_json({**msgspec.to_builtins(report), "link": link})
        else:
            print_lines(*_lines(report), *([] if link is None else [f"  {link}"]))
    if not as_json and reports and store.is_database:
        print_lines(f"To see it: mlflow ui --backend-store-uri {store.name}")


def _lines(report: ExperimentReport) -> Iterator[str]:
    yield (
        f"{report.name}: {count(report.steps, 'step')}, {count(report.created, 'new run')}, "
        f"{report.updated} updated, {report.unchanged} unchanged, {count(report.points, 'metric value')}"
    )
    if report.deleted:
        more = len(report.deleted) - _MAX_LISTED
        listed = "; ".join(report.deleted[:_MAX_LISTED]) + (f"; and {more} more" if more > 0 else "")
        yield f"  deleted in MLflow, and stays so: {listed}"
    if report.changed_params:
        yield (
            f"  {count(report.changed_params, 'param')} changed since the last export; MLflow keeps the "
            "first value, the tag flowprov.changed_params has the new one"
        )


__all__ = ["export_mlflow"]
