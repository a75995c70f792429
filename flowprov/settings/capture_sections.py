"""The sections that say what is captured: of the program, of PyTorch, of the machine.

Flows in: nothing. Flows out: structs with their defaults, and what a person is told of each key.
"""

# The annotations are evaluated at once: as texts they would be compiled at each import.
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from flowprov.settings.section import Key, Section
from flowprov.settings.value_types import Count, ExceptionNames, LoopDetail, Seconds

_LOOP_CHOICES = {
    "default": "a row, with the machine's load if telemetry_capture is on",
    "lightweight": "a row without the machine's load",
    "~": "no row",
}


class TorchSettings(Section, frozen=True, kw_only=True):
    """What is captured of PyTorch models and their loops."""

    when_null: ClassVar[Mapping[str, Any] | None] = {
        "what": None,
        "children_mode": None,
        "epoch_loop": None,
        "batch_loop": None,
        "register_workflow": False,
    }

    what: Annotated[
        Literal["parent_only", "parent_and_children"] | None,
        Key(
            "Which forward passes are recorded.",
            choices={
                "parent_only": "those of the model that you captured",
                "parent_and_children": "those of its child modules too (see children_mode and depth)",
                "~": "none",
            },
        ),
    ] = "parent_only"

    children_mode: Annotated[
        Literal["lightweight", "tensor_inspection", "telemetry", "telemetry_and_tensor_inspection"] | None,
        Key(
            "What is recorded of the forward of a child module, if what is parent_and_children.",
            choices={
                "lightweight": "that it ran, and when, with shapes and types of inputs and outputs",
                "tensor_inspection": "also layout, number of elements and requires_grad of each tensor",
                "telemetry": "also the machine's load; needs telemetry_capture",
                "telemetry_and_tensor_inspection": "both",
                "~": "the same as lightweight",
            },
        ),
    ] = None

    epoch_loop: Annotated[
        LoopDetail | None, Key("What is recorded of each iteration of EpochLoop.", choices=_LOOP_CHOICES)
    ] = "default"

    batch_loop: Annotated[
        LoopDetail | None, Key("What is recorded of each iteration of BatchLoop.", choices=_LOOP_CHOICES)
    ] = "default"

    capture_epochs_at_every: Annotated[
        Count,
        Key(
            "Only the forwards of every n-th epoch are recorded, starting with the first.",
            "10 is for long runs; 1 records all. Epochs have their rows in any case.",
        ),
    ] = 1

    capture_batches_at_every: Annotated[
        Count,
        Key(
            "Only every n-th batch is recorded, with everything inside it, starting with the first.",
            "1 records all.",
        ),
    ] = 1

    register_workflow: Annotated[
        bool,
        Key(
            "Whether each model is a workflow of its own.",
            choices={
                "true": "it is, and its forwards belong to it",
                "false": "its forwards belong to the workflow around them",
            },
        ),
    ] = True

    depth: Annotated[
        Count | Literal["all"],
        Key('How many levels of child modules are recorded: a whole number from 1, or "all".'),
    ] = 1

    include: Annotated[
        tuple[str, ...],
        Key(
            "Patterns: child modules are recorded if their path matches one of them, and none of exclude.",
            'Put patterns in quotes, as in ["encoder.*", "head"]. An empty list includes everything.',
        ),
    ] = ()

    exclude: Annotated[
        tuple[str, ...],
        Key(
            "Patterns: child modules are not recorded if their path matches one of them.",
            "An empty list excludes nothing.",
        ),
    ] = ()

    tensor_statistics: Annotated[
        bool,
        Key(
            "Whether the inputs and outputs of recorded forwards have statistics.",
            "That is minimum, maximum, mean, share of zeros, numbers of NaN and infinite elements, and a sum "
            "of all bits, which tells tensors apart. They are computed on the tensor's own device and read "
            "when they are ready, so nothing waits. They cost some reductions over each of these tensors.",
        ),
    ] = False

    backward: Annotated[
        bool, Key("Whether each backward pass through a recorded forward of the model is a task.")
    ] = False

    optimizer: Annotated[
        Literal["steps", "steps_and_gradient_norm"] | None,
        Key(
            "What is recorded of optimizers, once a model is captured.",
            choices={
                "steps": "each step, with its learning rates and the loss scale of a GradScaler",
                "steps_and_gradient_norm": "also the norm of all gradients before the step",
                "~": "nothing",
            },
        ),
    ] = None


class InstrumentationSettings(Section, frozen=True, kw_only=True):
    """Whether the program's own code is captured, and what of it."""

    # An "instrumentation:" of which every line is commented out must not silently switch recording off.
    when_null: ClassVar[Mapping[str, Any] | None] = None

    enabled: Annotated[
        bool,
        Key(
            "Whether your own code is recorded.",
            "If not, the tasks of a Dask cluster with flowprov's plugin still are: see dask.enabled.",
            off_in_words=True,
        ),
    ] = True

    control_flow_exceptions: Annotated[
        ExceptionNames,
        Key(
            "Exceptions that are no failure: classes with their modules, as in [optuna.TrialPruned].",
            "Subclasses are included. A task or workflow that such an exception leaves is FINISHED, with the "
            "exception's name as custom_metadata.ended_by.",
        ),
    ] = ()

    torch: Annotated[
        TorchSettings, Key("What is recorded of PyTorch.", '"torch: ~" switches all of it off.')
    ] = TorchSettings()


class TelemetrySettings(Section, frozen=True, kw_only=True):
    """Which kinds of telemetry are read, and how."""

    cpu: Annotated[bool, Key("Processors of the whole machine.", example=True)] = False
    mem: Annotated[bool, Key("Main memory of the whole machine.", example=True)] = False
    swap: Annotated[bool, Key("Swapped memory of the whole machine.")] = False
    disk: Annotated[bool, Key("Reads and writes of the disks of the machine.")] = False
    network: Annotated[bool, Key("What the machine sends and receives.")] = False
    process: Annotated[bool, Key("Processor time, memory and threads of this process.", example=True)] = False
    gpu: Annotated[bool, Key('GPUs: needs "flowprov[nvidia]" or "flowprov[amd]".', example=True)] = False
    interval: Annotated[Seconds, Key("Seconds between two samples, of some 300 bytes each.")] = 0.5
    mode: Annotated[
        Literal["sampled", "exact"],
        Key(
            "Who reads.",
            choices={
                "sampled": "a separate thread, at no cost to your loops",
                "exact": "each task too, at its start and end; for short tasks, at some cost to them",
            },
            expert=True,
        ),
    ] = "sampled"
