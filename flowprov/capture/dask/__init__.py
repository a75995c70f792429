"""The adapter for Dask: a plugin in the workers, and the client's side of a workflow.

Flows in: what a worker's state machine does with tasks, and the clients that workflows are opened with. Flows
out: two records per execution of a task, in the journal of the worker's process.
"""

from __future__ import annotations

from flowprov.errors import MissingExtraError

try:
    import distributed as _distributed  # noqa: F401 - only to say early, and in our words, what is missing
except ImportError as error:
    raise MissingExtraError("distributed", "dask", "record Dask tasks") from error

from flowprov.capture.dask.connect import connect
from flowprov.capture.dask.fetch.client import collect
from flowprov.capture.dask.plugin import DaskWorkerPlugin

__all__ = ["DaskWorkerPlugin", "collect", "connect"]
