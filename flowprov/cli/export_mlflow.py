"""``flowprov export mlflow``: campaigns become experiments of MLflow.

Flows in: campaigns of a buffer, and the address of MLflow. Flows out: what is new there, a line for each
experiment, and the address at which a browser shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
import msgspec

from flowprov.cli.completion import complete_campaigns
from flowprov.cli.output import print_json, print_lines, source_option, spare_collector, tracking_option
from flowprov.cli.progress import progress
from flowprov.cli.sizes import parse_size
from flowprov.display import count
from flowprov.export.mlflow.campaign_export import export_campaigns
from flowprov.export.mlflow.exporter import ExperimentReport
from flowprov.export.mlflow.store import Store
from flowprov.settings import load_settings, parse_assignment

_MAX_LISTED = 8


@click.command("mlflow")
@click.argument("campaigns", nargs=-1, shell_complete=complete_campaigns)
@tracking_option
@source_option
@click.option(
    "--upload-bytes",
    "largest",
    metavar="N",
    help="Upload files of at most this size that runs generated and that are unchanged, as in 10MB; by "
    "default sinks.mlflow.upload_bytes, which is 0: none.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each experiment.")
@click.pass_context
def export_mlflow(
    context: click.Context,
    campaigns: tuple[str, ...],
    uri: str,
    source: str | None,
    largest: str | None,
    *,
    as_json: bool,
) -> None:
    """Write campaigns as experiments of MLflow.

    CAMPAIGNS are ids, beginnings or ends of ids that fit only one, or names; by default all. A campaign is an
    experiment. A step, which is what runs of one name do, is a run of it, and has a nested run for each of
    these. A second export writes what is new; what was deleted in MLflow stays deleted.
    """
    spare_collector()
    upload_bytes = _configured_size(context) if largest is None else parse_size(largest)
    try:
        with progress("exporting"):
            store = Store(uri)
            reports = export_campaigns(store, source or context.obj, campaigns, upload_bytes=upload_bytes)
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


def _configured_size(context: click.Context) -> int:
    options = context.find_root().params
    settings = load_settings(options["path"], dict(map(parse_assignment, options["assignments"])))
    return settings.sinks.mlflow.upload_bytes


def _lines(report: ExperimentReport) -> Iterator[str]:
    yield (
        f"{report.name}: {count(report.steps, 'step')}, {count(report.created, 'new run')}, "
        f"{report.updated} updated, {report.unchanged} unchanged, {count(report.points, 'metric value')}"
    )
    if report.deleted:
        yield f"  deleted in MLflow, and stays so: {_listed(report.deleted)}"
    if report.uploaded:
        yield f"  {count(report.uploaded, 'file')} uploaded"
    if report.not_uploaded:
        yield f"  not uploaded; the next export tries again: {_listed(report.not_uploaded)}"
    if report.changed_params:
        yield (
            f"  {count(report.changed_params, 'param')} changed since the last export; MLflow keeps the "
            "first value, the tag flowprov.changed_params has the new one"
        )


def _listed(items: Sequence[str]) -> str:
    more = len(items) - _MAX_LISTED
    return "; ".join(items[:_MAX_LISTED]) + (f"; and {more} more" if more > 0 else "")


__all__ = ["export_mlflow"]
