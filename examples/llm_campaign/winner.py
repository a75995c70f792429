"""Which configuration won, where its records are, and which commands show more of them.

Flows in: the frame of one run and its buffer folder. Flows out: the text with which the ladder ends.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import textwrap
from pathlib import Path

import pandas as pd
from llm_config import PARAMETERS
from tree import Row, rows_of

_TABLE = 'groupby(["subtype", "activity_id"]).duration.agg(["count", "sum"])'  # what took how long


def find_winner(frame: pd.DataFrame) -> tuple[Row | None, int]:
    """Return the Dask task with the lowest validation loss, and how many configurations ended well.

    A loss that diverged (NaN) is the worst. The task is None where no configuration ended well.
    """
    trained = [
        row
        for row in rows_of(frame)
        if row["subtype"] == "dask_task" and "best_val_loss" in (row["generated"] or {})
    ]
    return min(trained, key=_loss, default=None), len(trained)


def _loss(row: Row) -> float:
    loss = float(row["generated"]["best_val_loss"])
    return math.inf if math.isnan(loss) else loss


def next_commands(buffer: Path) -> list[str]:
    """Return three commands, ready for a shell in the current folder: the tree, the verdict, a table."""
    script = Path(sys.executable).with_name("flowprov")
    flowprov = [_short(script)] if script.exists() else [_short(Path(sys.executable)), "-m", "flowprov"]
    source = _short(buffer)
    code = f"import flowprov; print(flowprov.read_buffer({json.dumps(source)}).{_TABLE})"
    return [
        shlex.join([*flowprov, "show", source, "--depth", "3"]),
        shlex.join([*flowprov, "verify", source]),
        shlex.join([_short(Path(sys.executable)), "-c", code]),
    ]


def _short(path: Path) -> str:
    """Return a path as a person would type it here: relative where it lies below the current folder."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative


def format_ending(frame: pd.DataFrame, buffer: Path) -> str:
    """Return what a person wants to know at the end; nothing where no configuration ended well.

    Parameters
    ----------
    frame
        What `flowprov.read_buffer` returned.
    buffer
        The folder that it was read from.
    """
    winner, configurations = find_winner(frame)
    if winner is None:
        return ""
    used, generated = winner["used"], winner["generated"]
    parameters = " ".join(f"{name}={used[name]}" for name in PARAMETERS if name in used)
    lines = [
        f"the configuration that won, of {configurations} that ended well:",
        f"  val_loss {generated['best_val_loss']} in epoch {generated['best_epoch']}",
        f"  test_loss {generated['test_loss']}",
        textwrap.fill(parameters, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False),
        f"  task_id {winner['task_id']}",
        f"  checkpoint {_short(Path(generated['checkpoint_path']))}",
        f"\nits records are in {_short(buffer)}; to see more of them, type",
        *(f"  {command}" for command in next_commands(buffer)),
    ]
    return "\n".join(lines)
