"""What the record of the example campaign must hold at each of the nine settings.

Flows in: the frame of one run and the losses that its training printed. Flows out: sentences that say what is
wrong; an empty list if nothing is. Each step checks what the step before it checks, and more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
from tree import Row, rows_of

Losses = list[tuple[float, float]]  # training and validation loss of each epoch
Problems = Iterator[str]

EPOCHS = 4
BATCHES = (2, 4)  # of an epoch: of training, of validation
FORWARDS_OF_AN_EPOCH = sum(BATCHES)
# The modules that a forward of the model calls: its four parts, the dropout of the positions, the two layers
# of the encoder, and eight modules in each layer (out_proj and the ModuleList are never called).
PARTS = ("embedding", "pos_encoder", "encoder", "decoder")
PARTS_OF_A_LAYER = ("self_attn", "linear1", "linear2", "norm1", "norm2", "dropout", "dropout1", "dropout2")
LAYERS = tuple(f"encoder.layers.{number}" for number in range(2))
MODULES = (
    *PARTS,
    "pos_encoder.dropout",
    *LAYERS,
    *(f"{layer}.{part}" for layer in LAYERS for part in PARTS_OF_A_LAYER),
)
KINDS = ("cpu", "mem", "swap", "disk", "network", "process")
_FORWARDS = EPOCHS * FORWARDS_OF_AN_EPOCH  # 24
EXPECTED_ROWS = {
    1: 3,  # the search, and two messages of its Dask task
    2: 3 + 1,  # the data preparation
    3: 4 + EPOCHS,
    4: 8 + FORWARDS_OF_AN_EPOCH,  # of one epoch
    5: 14 + 1,  # the model
    6: 4 + EPOCHS + _FORWARDS + 1,  # 33
    7: 33 + _FORWARDS * len(PARTS),  # 33 + 24 * 4 = 129
    8: 129,  # telemetry adds columns
    9: 33 + _FORWARDS * len(MODULES),  # 33 + 24 * 23 = 585
}


class Recorded:
    """The rows of one run, sorted by kind.

    Parameters
    ----------
    frame
        What `flowprov.read_buffer` returned.
    losses
        What the training printed.
    """

    def __init__(self, frame: pd.DataFrame, losses: Losses) -> None:
        self.losses = losses
        self.rows = rows_of(frame)
        self.tasks = [row for row in self.rows if row["type"] == "task"]
        self.workflows = {str(row["name"]): row for row in self.rows if row["type"] == "workflow"}
        self.dask = self._of("dask_task")
        self.epochs = [row for row in self._of("iteration") if row["activity_id"] == "epoch_iteration"]
        self.epochs.sort(key=lambda row: int(row["used"].get("i", -1)))
        self.forwards = self._of("parent_forward")
        self.children = self._of("child_forward")

    def _of(self, subtype: str) -> list[Row]:
        return [row for row in self.tasks if row["subtype"] == subtype]


def check_step(step: int, frame: pd.DataFrame, losses: Losses) -> list[str]:
    """Return what is wrong with the record of one step; an empty list if nothing is."""
    problems: list[str] = []
    try:
        recorded = Recorded(frame, losses)
        problems += check_count(recorded, EXPECTED_ROWS[step])
        problems += STEPS[step](recorded)
        problems += check_times(recorded)
    except (KeyError, AttributeError, TypeError, IndexError) as error:  # a row lacks what the checks read
        problems.append(f"the rows cannot be checked further: {type(error).__name__}: {error}")
    return problems


def step_1(recorded: Recorded) -> Problems:
    """Check the record with recording off: two messages of the Dask task, and the workflow of the search."""
    messages = sorted(str(row["status"]) for row in recorded.dask)
    if messages != ["FINISHED", "RUNNING"]:
        yield f"the messages of the Dask task are {messages}, expected one RUNNING and one FINISHED"
    yield from all_equal(recorded.dask, "task_id", "the messages of the Dask task")
    yield from all_are(recorded.dask, "activity_id", "model_train")
    search = recorded.workflows.get("SearchWorkflow")
    if search is None:
        yield f"no workflow SearchWorkflow; found {sorted(recorded.workflows)}"
        return
    yield from all_are(recorded.dask, "workflow_id", search["workflow_id"])
    for row in recorded.dask:
        if row["used"].get("lr") is None:
            yield f"the {row['status']} message of the Dask task lacks its parameters: used is {row['used']}"
    yield from all_are(recorded.workflows.values(), "status", "FINISHED")


def step_2(recorded: Recorded) -> Problems:
    """Check the record with recording on: the data preparation too, in the same campaign."""
    yield from step_1(recorded)
    if "DataPrepWorkflow" not in recorded.workflows:
        yield f"no workflow DataPrepWorkflow; found {sorted(recorded.workflows)}"
    yield from all_equal(recorded.rows, "campaign_id", "the rows of the campaign")


def step_3(recorded: Recorded) -> Problems:
    """Check the epochs: each is under the Dask task and has the losses that the training printed."""
    yield from step_2(recorded)
    if len(recorded.epochs) != EPOCHS:
        yield f"{len(recorded.epochs)} epochs, expected {EPOCHS}"
    yield from all_are(recorded.epochs, "parent_task_id", recorded.dask[0]["task_id"])
    yield from all_are(recorded.epochs, "status", "FINISHED")
    found = [
        (row["generated"].get("train_loss"), row["generated"].get("val_loss")) for row in recorded.epochs
    ]
    if found != recorded.losses:
        yield f"losses recorded {found}, printed {recorded.losses}"
    numbers = [row["used"].get("i") for row in recorded.epochs]
    if numbers != list(range(EPOCHS)):
        yield f"epochs are numbered {numbers}, expected 0 to {EPOCHS - 1}"


def step_4(recorded: Recorded) -> Problems:
    """Check the forwards of the first epoch."""
    yield from step_3(recorded)
    yield from check_forwards(recorded, recorded.epochs[:1])


def step_5(recorded: Recorded) -> Problems:
    """Check the workflow of the model, and that the forwards of the first epoch belong to it."""
    yield from step_4(recorded)
    yield from check_model_workflow(recorded)


def step_6(recorded: Recorded) -> Problems:
    """Check the forwards of all epochs."""
    yield from step_3(recorded)
    yield from check_forwards(recorded, recorded.epochs)
    yield from check_model_workflow(recorded)


def step_7(recorded: Recorded) -> Problems:
    """Check the forwards of the four parts of the model."""
    yield from step_6(recorded)
    yield from check_children(recorded, PARTS)


def step_8(recorded: Recorded) -> Problems:
    """Check the telemetry of each row."""
    yield from step_7(recorded)
    yield from check_telemetry(recorded)


def step_9(recorded: Recorded) -> Problems:
    """Check the forwards of every module that is called."""
    yield from step_6(recorded)
    yield from check_children(recorded, MODULES)
    yield from check_telemetry(recorded)


STEPS: dict[int, Callable[[Recorded], Problems]] = {
    1: step_1,
    2: step_2,
    3: step_3,
    4: step_4,
    5: step_5,
    6: step_6,
    7: step_7,
    8: step_8,
    9: step_9,
}


def check_count(recorded: Recorded, expected: int) -> Problems:
    """Compare the number of rows, and count what they are if it differs."""
    if len(recorded.rows) != expected:
        kinds = Counter(
            str(row["name"] if row["type"] == "workflow" else row["activity_id"]) for row in recorded.rows
        )
        yield f"{len(recorded.rows)} rows, expected {expected}; found {dict(kinds)}"
    once = [row["task_id"] for row in recorded.tasks if row["subtype"] != "dask_task"]
    once += [row["workflow_id"] for row in recorded.workflows.values()]
    once += [recorded.dask[0]["task_id"]] if recorded.dask else []
    twice = [identifier for identifier, count in Counter(once).items() if count > 1]
    if twice:
        yield f"ids that stand for more than one thing: {twice}"


def check_forwards(recorded: Recorded, epochs: list[Row]) -> Problems:
    """Check that these epochs have six forwards each, and no other epoch any; check tensors and metadata."""
    parents = Counter(row["parent_task_id"] for row in recorded.forwards)
    expected = {row["task_id"]: FORWARDS_OF_AN_EPOCH for row in epochs}
    if parents != expected:
        yield f"forwards by parent task: {dict(parents)}, expected {expected}"
    yield from all_are(recorded.forwards, "activity_id", "TransformerModel")
    yield from all_are(recorded.forwards, "status", "FINISHED")
    for row in recorded.forwards:
        for side in ("used", "generated"):
            if not describes_tensor(row[side]):
                yield f"{side} of forward {row['task_id']} holds no shape, dtype and device: {row[side]}"
        missing = {"is_training", "epoch", "module_path"} - set(row["custom_metadata"])
        if missing:
            yield f"custom_metadata of forward {row['task_id']} lacks {sorted(missing)}"
    training = Counter(row["custom_metadata"].get("is_training") for row in recorded.forwards)
    if training != {True: 2 * len(epochs), False: 4 * len(epochs)}:
        yield f"forwards by is_training: {dict(training)}, expected 2 in training and 4 not in each epoch"


def check_children(recorded: Recorded, modules: tuple[str, ...]) -> Problems:
    """Check that each module is in each forward once, under the forward of the module around it."""
    paths = {row["task_id"]: row["custom_metadata"]["module_path"] for row in recorded.children}
    paths |= {row["task_id"]: "" for row in recorded.forwards}
    for row in recorded.children:
        path, above = paths[row["task_id"]], paths.get(row["parent_task_id"])
        # A ModuleList is never called. The module around the list calls its members.
        expected = path.rpartition(".")[0].removesuffix(".layers")
        if above != expected:
            yield f"the forward of {path} stands under that of {above!r}, expected {expected!r}"
        if not describes_tensor(row["used"]) or not describes_tensor(row["generated"]):
            yield f"the forward of {path} holds no tensors: {row['used']}, {row['generated']}"
    found = Counter(paths[row["task_id"]] for row in recorded.children)
    wanted = dict.fromkeys(modules, len(recorded.forwards))
    if found != wanted:
        yield f"forwards by module: {dict(found)}, expected {wanted}"
    yield from all_are(recorded.children, "status", "FINISHED")


def check_telemetry(recorded: Recorded) -> Problems:
    """Check that each row has samples of all kinds: at its start and, unless it is RUNNING, at its end."""
    for row in recorded.rows:
        name = row["name"] if row["type"] == "workflow" else row["activity_id"]
        for column in ("telemetry_at_start", "telemetry_at_end"):
            expected = row["status"] != "RUNNING" or column == "telemetry_at_start"
            found = row[column] if isinstance(row[column], dict) else {}
            if expected and not (set(KINDS) | {"distance_s"}) <= set(found):
                yield f"{column} of a row {name} holds {sorted(found)}, expected {sorted(KINDS)}"


def check_model_workflow(recorded: Recorded) -> Problems:
    """Check the workflow of the model: its profile, its parent, and the forwards in it."""
    model, search = recorded.workflows.get("TransformerModel"), recorded.workflows.get("SearchWorkflow")
    if model is None or search is None:
        yield f"no workflow TransformerModel; found {sorted(recorded.workflows)}"
        return
    if not model["custom_metadata"]["model_profile"]["params"] > 0:
        yield f"the model's profile has no parameters: {model['custom_metadata']['model_profile']}"
    yield from all_are([model], "parent_workflow_id", search["workflow_id"])
    yield from all_are(recorded.forwards, "workflow_id", model["workflow_id"])


def check_times(recorded: Recorded) -> Problems:
    """Check that each row started and ended while its parents were running."""
    ended = [row for row in recorded.rows if row["status"] != "RUNNING"]
    tasks = {row["task_id"]: row for row in ended if row["type"] == "task"}
    workflows = {row["workflow_id"]: row for row in recorded.workflows.values()}
    for row in ended:
        own = row["task_id"] if row["type"] == "task" else row["workflow_id"]
        task_id = row["parent_task_id"] if row["type"] == "task" else None
        workflow_id = row["workflow_id"] if row["type"] == "task" else row["parent_workflow_id"]
        if None in (row["started_at"], row["ended_at"]) or row["started_at"] > row["ended_at"]:
            yield f"{own} started at {row['started_at']} and ended at {row['ended_at']}"
            continue
        for parent in (tasks.get(task_id), workflows.get(workflow_id)):
            if parent is None:
                continue
            if not (parent["started_at"] <= row["started_at"] and row["ended_at"] <= parent["ended_at"]):
                child_span = f"{row['started_at']} to {row['ended_at']}"
                parent_span = f"{parent['started_at']} to {parent['ended_at']}"
                yield f"{own} ({child_span}) is not within its parent ({parent_span})"


def all_are(rows: Any, column: str, expected: Any) -> Problems:
    """Check that rows have the expected value in a column."""
    for row in rows:
        if row[column] != expected:
            name = row["name"] if row["type"] == "workflow" else row["activity_id"]
            yield f"{column} of a row {name} is {row[column]!r}, expected {expected!r}"


def all_equal(rows: list[Row], column: str, what: str) -> Problems:
    """Check that rows have the same value in a column, and that no row lacks it."""
    found = {row[column] if isinstance(row[column], str) else None for row in rows}
    if len(found) != 1 or None in found:
        yield f"{what} have {column} {sorted(map(str, found))}, expected one and the same"


def describes_tensor(value: Any) -> bool:
    """Whether a value describes a tensor somewhere: shape, dtype and device together."""
    if isinstance(value, dict):
        return {"shape", "dtype", "device"} <= set(value) or any(map(describes_tensor, value.values()))
    return isinstance(value, list) and any(map(describes_tensor, value))
