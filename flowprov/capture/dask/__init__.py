"""The adapter for Dask: a plugin in the workers, and the client's side of a workflow.

Flows in: the changes of state of a worker's tasks, and the clients with which workflows are opened. Flows
out: two records per execution of a task, in the journal of the worker's process.
"""

from __future__ import annotations

from flowprov.errors import MissingExtraError

try:
    import distributed as _distributed  # noqa: F401 - only to name the missing extra early
except ImportError as error:
    raise MissingExtraError("distributed", "dask", "record Dask tasks") from error

from flowprov.capture.dask.connect import connect
from flowprov.capture.dask.fetch.client import collect
from flowprov.capture.dask.plugin import DaskWorkerPlugin

__all__ = ["DaskWorkerPlugin", "collect", "connect"]
