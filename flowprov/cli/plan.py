"""``flowprov plan``: what a run will record, before it runs.

Flows in: the settings, and how large the program is. Flows out: a table of rows and bytes.
"""

from __future__ import annotations

import click

from flowprov.cli.completion import complete_files, complete_profiles
from flowprov.cli.durations import parse_duration
from flowprov.cli.output import print_json, print_lines, table
from flowprov.cli.tables import fit_columns
from flowprov.display import format_size
from flowprov.plan import Plan, Program
from flowprov.plan import plan as make_plan
from flowprov.settings import load_settings, parse_assignment

_Count = click.IntRange(min=0, max=10**12)


@click.command()
@click.option(
    "--settings", "path", metavar="PATH", shell_complete=complete_files, help="The settings file of the run."
)
@click.option(
    "--profile",
    metavar="NAME",
    shell_complete=complete_profiles,
    help="The profile; by default that of the settings.",
)
@click.option("--epochs", type=_Count, default=0, metavar="N", help="Epochs of a training.")
@click.option(
    "--batches",
    type=_Count,
    multiple=True,
    metavar="N",
    help="Batches of an epoch; repeat it for each loop, that of the training first.",
)
@click.option(
    "--modules",
    type=_Count,
    default=0,
    metavar="N",
    help="Modules whose forwards are recorded in one forward of the model, itself included.",
)
@click.option("--runs", type=_Count, default=1, metavar="N", show_default=True, help="How often it trains.")
@click.option("--workflows", type=_Count, default=1, metavar="N", show_default=True, help="Workflows.")
@click.option("--tasks", type=_Count, default=0, metavar="N", help="Calls of @task functions.")
@click.option("--dask-tasks", type=_Count, default=0, metavar="N", help="Tasks that Dask runs.")
@click.option("--processes", type=_Count, default=1, metavar="N", show_default=True, help="Processes.")
@click.option("--time", "duration", metavar="TIME", help="How long it runs, as in 30m or 8h: for telemetry.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def plan(
    context: click.Context,
    path: str | None,
    profile: str | None,
    epochs: int,
    batches: tuple[int, ...],
    modules: int,
    runs: int,
    workflows: int,
    tasks: int,
    dask_tasks: int,
    processes: int,
    duration: str | None,
    *,
    as_json: bool,
) -> None:
    """Say how many rows and bytes a run will record, without running it.

    Rows are exact for a program of this size whose loops are EpochLoop and BatchLoop. Bytes are about right
    for values of a few numbers and for tensors; long texts and large configurations take more.
    """
    options = context.find_root().params
    overrides = dict(map(parse_assignment, options["assignments"]))
    if profile is not None:
        overrides["profile"] = profile
    settings = load_settings(path or options["path"], overrides)
    program = Program(
        workflows=workflows,
        tasks=tasks,
        dask_tasks=dask_tasks,
        trainings=runs,
        epochs=epochs,
        batches=batches,
        modules=modules,
        processes=processes,
        seconds=None if duration is None else parse_duration(duration, "time"),
    )
    found = make_plan(settings, program)
    if as_json:
        parts = [{"kind": line.kind, "rows": line.rows, "bytes": line.size} for line in found.lines]
        print_json({"rows": found.rows, "bytes": found.size, "parts": parts})
    else:
        print_lines(*fit_columns(_lines(found)))


def _lines(found: Plan) -> list[str]:
    rows = [(line.kind, f"{line.rows:,}", format_size(line.size)) for line in found.lines]
    total = ("in all", f"{found.rows:,}", format_size(found.size))
    lines = table(("kind", "rows", "size"), [*rows, total], numbers=2)
    if found.samples_per_hour:
        lines.append(f"and {format_size(found.samples_per_hour)} of telemetry in each hour (--time adds it)")
    return lines
