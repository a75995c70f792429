"""What is known of one object of a recipe while its phases run.

Flows in: its phases, its configuration, and the checkpoints that it loaded. Flows out: the end of its
workflow, and from which attempt it went on.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from flowprov import guard
from flowprov.capture.artifacts.handle import Artifact
from flowprov.capture.config_origins import is_run_by_hydra
from flowprov.capture.resume import resume_from
from flowprov.capture.workflow import workflow

_ATTRIBUTES = (
    "epochs_run",
    "total_epochs",
    "global_step",
    "total_training_steps",
    "max_steps_per_epoch",
    "seed",
)
_MISSING = object()


class State:
    """One object of a recipe.

    Attributes
    ----------
    active
        The phases that run now, the outermost first.
    opened
        Whether a workflow was opened for it.
    workflow
        That workflow, as long as it is open.
    config
        Its configuration; None as long as it is not known.
    loaded
        The checkpoints that it loaded.
    """

    def __init__(self) -> None:
        self.active: list[str] = []
        self.opened = False
        self.workflow: workflow | None = None
        self.config: Any = None
        self.loaded: list[Artifact] = []

    def close(self, error: BaseException | None) -> None:
        """Close the workflow, if it was opened here and is open."""
        own, self.workflow = self.workflow, None
        if own is not None:
            atexit.unregister(self.close)
            own.stop(error)

    def say_where_it_goes_on(self, attributes: Mapping[str, Any]) -> None:
        """Record that this is a later attempt, if the configuration says so."""
        if self.loaded and value_of(self.config, "resume_from_checkpoint"):
            counts = {
                name: attributes[attribute]
                for name, attribute in (("epoch", "epochs_run"), ("step", "global_step"))
                if type(attributes.get(attribute)) is int and attributes[attribute] > 0
            }
            resume_from(self.loaded[0], **counts)


def attributes_of(instance: object) -> dict[str, Any]:
    """Return how far a training has come, as its object counts it."""
    own = getattr(instance, "__dict__", {})
    return {name: own[name] for name in _ATTRIBUTES if type(own.get(name)) in (int, float)}


def value_of(config: Any, *path: str) -> Any:
    """Return a value in a configuration of any kind; None where it has none."""
    for name in path:
        try:
            found = config.get(name, _MISSING) if hasattr(config, "get") else getattr(config, name, _MISSING)
        except Exception as error:  # what is missing in a configuration of OmegaConf raises
            guard.pass_on(error)
            return None
        if found is _MISSING:
            return None
        config = found
    return config


def overrides_of_program() -> dict[str, Any]:
    """Return the file and the overrides on the command line, as torchtune takes them.

    Nothing is returned where Hydra runs the program, which tells them itself.
    """
    if is_run_by_hydra():
        return {}
    arguments = [one for one in getattr(sys, "argv", [])[1:] if isinstance(one, str)]
    files = [value for option, value in pairwise(arguments) if option == "--config"]
    files += [one.partition("=")[2] for one in arguments if one.startswith("--config=")]
    overrides = [one for one in arguments if "=" in one and not one.startswith("--config=")]
    return {"file": files or None, "overrides": overrides or None}
