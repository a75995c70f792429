"""``FlowprovLogger`` for torchtune: a metric logger that a configuration names.

Flows in: the calls of a recipe. Flows out: one run, with its configuration and metrics. torchtune is not
imported: its metric loggers are any objects with these methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flowprov.capture.log_config import log_config
from flowprov.capture.recipe_state import overrides_of_program
from flowprov.integrations.run import AdapterRun, callback


class FlowprovLogger:
    """Record what a recipe logs.

    In a configuration: ``metric_logger._component_=flowprov.integrations.torchtune.FlowprovLogger``.

    The run is the workflow that is open (``flowprov.recipe`` opens one), else one that ends with ``close``.

    Parameters
    ----------
    **_
        What a configuration holds for other loggers (``log_dir``); it is not used.
    """

    def __init__(self, **_: Any) -> None:
        self._run = AdapterRun()

    @callback
    def log(self, name: str, data: Any, step: int) -> None:
        """Record one metric: a number, or a tensor without a dimension."""
        self._open()
        self._run.log_metrics({name: data}, step)

    @callback
    def log_dict(self, payload: Mapping[str, Any], step: int) -> None:
        """Record metrics."""
        self._open()
        self._run.log_metrics(payload, step)

    @callback
    def log_config(self, config: Any) -> None:
        """Record the configuration, as :func:`flowprov.log_config` does."""
        self._open()
        log_config(config, **overrides_of_program())

    @callback
    def close(self) -> None:
        """Close the run, if the logger opened it."""
        self._run.close()

    def _open(self) -> None:
        self._run.open("training")
