"""``log_config``: the configuration of a run, and from where each of its leaves has its value.

Flows in: a configuration of any kind. Flows out: an addition to the current workflow.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from flowprov import guard, records
from flowprov.capture import replay
from flowprov.capture.config_origins import CUT, Origins, leaves_of
from flowprov.capture.log_calls import scope_of_call
from flowprov.runtime import runtime
from flowprov.runtime.context import Scope

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode


@replay.compiled_as(replay.not_recorded)
def log_config(values: T, *, file: Any = None, overrides: Any = None, defaults: Any = None) -> T:
    """Record a configuration as used by the current workflow, each leaf with its origin. Return it unchanged.

    Parameters
    ----------
    values
        The configuration: a mapping, a dataclass, a configuration of OmegaConf or Hydra, a namespace.
    file
        The file that was loaded, or several: of those the later ones are above the earlier. If it and
        `overrides` are left out in a program that Hydra runs, Hydra tells both.
    overrides
        What was typed to change it: ``["lr=0.1", "--seed", "3"]``, or values by name.
    defaults
        The class that declares the defaults, an instance of it, or a mapping. By default the class of
        `values` if that is a dataclass.

    Notes
    -----
    ``used.config`` of the workflow has the values, and ``custom_metadata.config`` each leaf with its
    ``value`` and ``origin``: ``override lr=0.1``, ``tiny.yaml``, ``default Params`` or ``code``. What comes
    from the environment (``${oc.env:X}``) stays unresolved, and secrets are redacted.
    """
    scope = scope_of_call()
    if scope is not None:
        with guard.guarded("recording a configuration"):
            _write(
                scope, values, Origins(file, overrides, _declared(values) if defaults is None else defaults)
            )
    return values


def _declared(values: object) -> Any:
    return type(values) if hasattr(type(values), "__dataclass_fields__") else {}


def _write(scope: Scope, values: Any, origins: Origins) -> None:
    form = runtime.get().unhurried_summarizer.summarize(values)
    used: Any = {"config": form}
    if origins.overrides:
        used["overrides"] = origins.overrides
    metadata: Any = {"config": _with_origins(form, origins, runtime.get().settings.values.max_bytes)}
    # It is encoded here: the leaves are many, and each of them is a mapping.
    for addition in (
        records.Workflow(workflow_id=scope.workflow_id, used=used),
        records.Workflow(workflow_id=scope.workflow_id, custom_metadata=metadata),
    ):
        scope.journal.append(records.encode(addition))


def _with_origins(form: Any, origins: Origins, max_bytes: int) -> dict[str, Any]:
    """Return each leaf with its value and origin, as many as fit."""
    left = max_bytes
    config: dict[str, Any] = {}
    for leaf, value in leaves_of(form):
        entry = {"value": value, "origin": origins.of(leaf)}
        left -= len(_encode(entry)) + len(leaf)
        if left < 0 or leaf.rpartition(".")[2] == CUT:
            config[CUT] = True
            break
        config[leaf] = entry
    return config
