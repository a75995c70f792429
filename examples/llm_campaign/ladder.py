"""Run the same campaign with nine settings, which record from next to nothing to the forward of every module.

Flows in: the settings files in `settings/`. Flows out: a table of how many rows each step was planned to
record and did, what is wrong with them, a recorded tree, the configuration that won, and what to type next::

    python ladder.py
    python ladder.py --only 3

Each step runs in a process and a folder of its own. The exit status is 1 if a step recorded something else
than it must, or than `flowprov plan` says before it runs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import click
import pandas as pd
from ladder_checks import BATCHES, EPOCHS, EXPECTED_ROWS, MODULES, PARTS, Losses, check_step
from tree import format_tree
from winner import format_ending

import flowprov
from flowprov.plan import Program, plan
from flowprov.settings import load_settings

HERE = Path(__file__).resolve().parent
ADDS = {
    1: "the search and its Dask task",
    2: "the data preparation",
    3: "epochs with their losses",
    4: "forwards of every fourth epoch",
    5: "the model and its profile",
    6: "forwards of every epoch",
    7: "forwards of the model's four parts",
    8: "telemetry, and no row",
    9: "forwards of every module in it",
}
CALLED_MODULES = {7: len(PARTS), 8: len(PARTS), 9: len(MODULES)}  # in each forward of the model
LAST_TREE = 6  # the trees of later steps are too long to read
PRINTED_LOSSES = re.compile(r"epoch \d+ train_loss (\S+) val_loss (\S+)")


def clean_environment(settings: Path) -> dict[str, str]:
    """Return the environment of this process with one settings file and no other setting of flowprov."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPROV_")}
    # The step runs in another folder, so relative paths become absolute. It uses the same flowprov.
    paths = [str(Path(path).resolve()) for path in kept.get("PYTHONPATH", "").split(os.pathsep) if path]
    library = str(Path(flowprov.__file__).resolve().parents[1])
    return kept | {
        "PYTHONPATH": os.pathsep.join([*paths, library]),
        "FLOWPROV_SETTINGS_PATH": str(settings),
    }


def planned_rows(step: int) -> int:
    """Return how many rows `flowprov plan` says that a step will record."""
    settings = load_settings(HERE / "settings" / f"step_{step}.yaml", environ={})
    modules = 1 + CALLED_MODULES.get(step, 0)
    program = Program(workflows=2, dask_tasks=1, epochs=EPOCHS, batches=BATCHES, modules=modules, processes=2)
    return plan(settings, program).rows


@dataclass
class Outcome:
    """What came out of one step: its record, the losses that it printed, and what is wrong."""

    step: int
    planned: int
    frame: pd.DataFrame | None = None
    losses: Losses = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Return one word for the table."""
        return "wrong" if self.problems else "ok"

    def table_row(self) -> str:
        """Return the line of the table: the planned number of rows, the number found, and the verdict."""
        found = "-" if self.frame is None else str(len(self.frame))
        return f"{self.step:<6}{ADDS[self.step]:<34}{self.planned:>9}{found:>7}  {self.verdict}"


def run_step(step: int, folder: Path) -> Outcome:
    """Run the campaign with the settings of one step in a new folder, and check what it recorded."""
    folder.mkdir(parents=True)
    planned = planned_rows(step)
    done = subprocess.run(  # noqa: S603 -- the program and its arguments are ours
        [sys.executable, HERE / "llm_train_campaign.py"],
        cwd=folder,
        env=clean_environment(HERE / "settings" / f"step_{step}.yaml"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    (folder / "output.txt").write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode != 0:
        problem = f"the campaign ended with status {done.returncode}:\n{done.stderr[-3000:]}"
        return Outcome(step, planned, problems=[problem])
    losses = [(float(train), float(val)) for train, val in PRINTED_LOSSES.findall(done.stdout)]
    try:
        frame = flowprov.read_buffer(folder / "flowprov_buffer")
    except flowprov.FlowprovError as error:
        return Outcome(step, planned, losses=losses, problems=[f"the record cannot be read: {error}"])
    problems = check_step(step, frame, losses)
    if len(frame) != planned:
        problems.append(f"{len(frame)} rows, planned {planned}")
    return Outcome(step, planned, frame, losses, problems)


def climb(steps: list[int], base: Path) -> list[Outcome]:
    """Run some steps one after the other, and print a line for each."""
    outcomes: list[Outcome] = []
    for step in steps:
        click.echo(f"step {step} of {len(EXPECTED_ROWS)}: {ADDS[step]} ...", nl=False)
        began = time.monotonic()
        outcome = run_step(step, base / f"step_{step}")
        if outcomes and outcome.losses != outcomes[0].losses:
            outcome.problems.append(
                f"recording changed the losses from {outcomes[0].losses} to {outcome.losses}"
            )
        outcomes.append(outcome)
        click.echo(f" {outcome.verdict}, {time.monotonic() - began:.1f} s")
    return outcomes


@click.command()
@click.option("--only", type=click.IntRange(min(ADDS), max(ADDS)), help="Run this step alone.")
@click.option(
    "--output-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the runs; it must not hold an earlier ladder.  [default: campaign_runs/ladder-TIME]",
)
def main(*, only: int | None, output_dir: Path | None) -> None:
    """Run the example campaign under nine settings and compare what they record with what they should."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    base = (output_dir or Path("campaign_runs") / f"ladder-{stamp}").resolve()
    steps = [only] if only else list(EXPECTED_ROWS)
    if any((base / f"step_{step}").exists() for step in steps):
        raise click.UsageError(f"{base} holds an earlier ladder; name another folder")
    outcomes = climb(steps, base)
    click.echo(f"\n{'step':<6}{'adds':<34}{'planned':>9}{'found':>7}")
    for outcome in outcomes:
        click.echo(outcome.table_row())
    shown = ([outcome for outcome in outcomes if outcome.step <= LAST_TREE] or outcomes)[-1]
    if shown.frame is not None:
        click.echo(f"\nrecorded in step {shown.step}:\n{format_tree(shown.frame)}")
    click.echo(f"\nthe runs are in {base}")
    last = outcomes[-1]
    if last.frame is not None:
        click.echo(f"\n{format_ending(last.frame, base / f'step_{last.step}' / 'flowprov_buffer')}")
    problems = [f"step {outcome.step}: {problem}" for outcome in outcomes for problem in outcome.problems]
    if problems:
        click.echo("\nnot as it should be:\n  " + "\n  ".join(problems), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
