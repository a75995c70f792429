"""An LLM hyperparameter search over Wikidata with Dask, recorded by flowprov.

Flows in: a corpus and hyperparameters from the command line, or their defaults. Flows out: a checkpoint for
each configuration, the best configuration on the screen, and the records in ``./flowprov_buffer``::

    python llm_train_campaign.py
    python llm_train_campaign.py --grid --workers 2
    python llm_train_campaign.py --corpus text:my_notes.txt --full lr=0.001,0.01 epochs=10

The campaign has two workflows. `dataprep_workflow` turns a corpus into tensors. `search_workflow` trains one
model for each configuration, each in a Dask task.
"""

from __future__ import annotations

import logging
import math
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
from dask.distributed import Client, Future, LocalCluster, as_completed
from llm_config import (
    PARAMETERS,
    SMALL_GRID,
    ConfigError,
    Configuration,
    Grid,
    describe_parameters,
    expand,
    full_grid,
    parse_overrides,
)
from llm_corpora import SPECS, CorpusError, check_spec
from llm_dataprep import PreparedData, dataprep_workflow
from llm_model import model_train

import flowprov

Result = dict[str, Any]
# The parameters of the data preparation that the training does not need.
DATAPREP_ONLY = {name for name, parameter in PARAMETERS.items() if parameter.for_data} - {"bptt"}


def start_cluster(workers: int) -> LocalCluster:
    """Start Dask workers as processes of this machine, one thread each."""
    here = str(Path(__file__).resolve().parent)
    # The workers import llm_model by name, wherever they are started.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=None,
        silence_logs=logging.CRITICAL,  # `collect` reports the tasks that failed
    )


def search_workflow(
    client: Client,
    grid: Grid,
    prepared: PreparedData,
    output_dir: Path,
    campaign_id: str | None = None,
    **options: Any,
) -> list[Result]:
    """Train one model for each configuration of a grid, recorded as ``SearchWorkflow``.

    Parameters
    ----------
    client
        The Dask client; each configuration is one task.
    grid
        Each parameter with its values.
    prepared
        What `dataprep_workflow` returned.
    output_dir
        The folder for the checkpoints.
    campaign_id
        The campaign to which the workflow belongs.
    options
        ``threads`` and ``capture_test`` of `llm_model.model_train`.

    Returns
    -------
    list of dict
        One for each configuration that finished, the best first: its ``config``, a ``label`` for people, and
        what `model_train` returned. A configuration that failed is reported, and the others go on.
    """
    configurations = expand({name: values for name, values in grid.items() if name not in DATAPREP_ONLY})
    data = {name: prepared[name] for name in ("ntokens", "train_path", "valid_path", "test_path")}
    used = {**grid, "dataset_ref": prepared["dataset_ref"], "configurations": len(configurations)}
    with flowprov.workflow(
        "SearchWorkflow", campaign_id=campaign_id, used=used, dask_client=client
    ) as workflow:
        futures = {}
        for number, config in enumerate(configurations):
            future = client.submit(
                model_train,
                **config,
                **data,
                **options,
                checkpoint_path=str(output_dir.resolve() / f"run_{number}.pt"),
                workflow_id=workflow.workflow_id,
                campaign_id=campaign_id,
                pure=False,
            )
            futures[future] = config
        results = collect(futures, grid)
        if results:
            best = results[0]
            workflow.set_generated(best_task_id=best["task_id"], best_val_loss=best["best_val_loss"])
    return results


def collect(futures: dict[Future[Any], Configuration], grid: Grid) -> list[Result]:
    """Wait for the tasks, report those that failed, and return the others, the best first."""
    results = []
    for future in with_progress(as_completed(futures), len(futures)):
        label = describe(futures[future], grid)
        if future.status == "finished":
            results.append({"label": label, "config": futures[future], **future.result()})
        else:
            failed = future.status == "error"
            reason = future.exception() if failed else future.status
            click.echo(f"failed: {label}: {reason!r}", err=True)

    def quality(result: Result) -> float:
        loss = float(result["best_val_loss"])
        return math.inf if math.isnan(loss) else loss  # a loss that diverged is the worst

    return sorted(results, key=quality)


def with_progress(items: Iterable[Future[Any]], total: int) -> Iterable[Future[Any]]:
    """Return the items, with a progress bar if a person waits and tqdm is installed."""
    if not sys.stderr.isatty():
        return items
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    bar: Iterable[Future[Any]] = tqdm(items, total=total, desc="configurations")
    return bar


def describe(config: Configuration, grid: Grid) -> str:
    """Return the chosen parameters of a configuration, as words for the command line."""
    chosen = [name for name in config if grid[name] != [PARAMETERS[name].default]]
    return " ".join(f"{name}={config[name]}" for name in chosen) or "the default configuration"


def report(results: list[Result], campaign_id: str | None) -> None:
    """Print the best configuration, what was recorded, and how to read it."""
    if results:
        best = results[0]
        click.echo(f"\nbest of {len(results)}: {best['label']}")
        click.echo(
            f"  val_loss {best['best_val_loss']} in epoch {best['best_epoch']}, test_loss {best['test_loss']}"
        )
        click.echo(f"  task_id {best['task_id']}")
        click.echo(f"  checkpoint {best['checkpoint_path']}")
    try:
        rows = flowprov.read_buffer(campaign_id=campaign_id, return_df=False)
    except flowprov.FlowprovError as error:  # recording may be off
        click.echo(f"\nnothing was recorded: {error}")
        return
    click.echo(f"\nrecorded: {len(rows)} rows")
    counts = Counter(
        (
            row["type"],
            str(row["name"] if row["type"] == "workflow" else row["activity_id"]),
            str(row["status"]),
        )
        for row in rows
    )
    for (kind, name, status), count in sorted(counts.items()):
        click.echo(f"  {count:>5}  {kind:<8}  {name:<24}  {status}")
    buffer = Path("flowprov_buffer").resolve()
    source = repr(str(buffer)) if buffer.is_dir() else ""  # the settings may name another folder
    click.echo("\nread it with:\n  import flowprov")
    click.echo(f"  frame = flowprov.read_buffer({source})")


def run_campaign(
    corpus: str, grid: Grid, workers: int, output_dir: Path, **options: Any
) -> tuple[list[Result], str | None]:
    """Run both workflows in one campaign; return the results, the best first, and the id of the campaign."""
    with flowprov.campaign("llm_hyperparameter_search") as campaign:
        folder = output_dir / str(campaign.campaign_id)
        data_config = {name: grid[name][0] for name, parameter in PARAMETERS.items() if parameter.for_data}
        prepared = dataprep_workflow(corpus, data_config, folder / "data", campaign.campaign_id)
        with start_cluster(workers) as cluster, Client(cluster) as client:
            client.register_plugin(flowprov.DaskWorkerPlugin())
            results = search_workflow(
                client, grid, prepared, folder / "checkpoints", campaign.campaign_id, **options
            )
    return results, campaign.campaign_id


def use_settings(path: Path) -> None:
    """Use a settings file in this process, and in the workers that it will start."""
    os.environ["FLOWPROV_SETTINGS_PATH"] = str(path.resolve())
    try:
        flowprov.configure(path)
    except flowprov.FlowprovError as error:
        raise click.UsageError(str(error)) from error


@click.command(
    context_settings={"show_default": True, "help_option_names": ["-h", "--help"]},
    epilog="\b\nKEY=VALUE sets one of these; KEY=A,B searches over both:\n" + describe_parameters(),
)
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--corpus", default="wikidata", help=f"One of: {SPECS}.")
@click.option("--grid", "search_grid", is_flag=True, help="Search over a small grid of configurations.")
@click.option("--workers", type=click.IntRange(min=1), help="Dask workers.  [default: 1; 2 with --grid]")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="Threads of torch in each worker.")
@click.option("--epochs", type=click.IntRange(min=1), help="Epochs; the same as epochs=N.")
@click.option(
    "--full", is_flag=True, help="Use the whole corpus; the same as train_batches=0 eval_batches=0."
)
@click.option(
    "--output-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default="campaign_runs",
    help="Folder for tensors and checkpoints; each campaign creates its own folder in it.",
)
@click.option(
    "--settings",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A settings file of flowprov, such as settings/step_6.yaml.",
)
@click.option("--capture-test", is_flag=True, help="Also record the test of the best checkpoint.")
def main(
    *,
    overrides: tuple[str, ...],
    corpus: str,
    search_grid: bool,
    workers: int | None,
    threads: int,
    epochs: int | None,
    full: bool,
    output_dir: Path,
    settings: Path | None,
    capture_test: bool,
) -> None:
    """Search for the best small language model on a corpus, and record how it was found."""
    chosen: Grid = dict(SMALL_GRID) if search_grid else {}
    if epochs is not None:
        chosen["epochs"] = [epochs]
    if full:
        chosen |= {"train_batches": [0], "eval_batches": [0]}
    try:
        check_spec(corpus)
        grid = full_grid(chosen | parse_overrides(overrides))
    except (ConfigError, CorpusError) as error:
        raise click.UsageError(str(error)) from error
    if settings is not None:
        use_settings(settings)
    try:
        results, campaign_id = run_campaign(
            corpus,
            grid,
            workers or (2 if search_grid else 1),
            output_dir,
            threads=threads,
            capture_test=capture_test,
        )
    except CorpusError as error:
        raise click.UsageError(str(error)) from error
    report(results, campaign_id)
    if not results:
        raise click.ClickException("no configuration finished")


if __name__ == "__main__":  # the workers import this file too, when they start
    main()
