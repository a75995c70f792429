"""How the plugin arrives on a worker, also where flowprov is not installed or is another version.

Flows in: the pickle of a plugin. Flows out: the plugin, or one that records nothing and says so.

This file's source travels with each plugin (``runtime.by_value``). So it imports nothing of flowprov, and
runs on every Python that Dask runs on.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import pickle
import socket
from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

SILENT_TOPIC = "flowprov-silent-workers"
"""The topic of events by which workers say that they record nothing."""


def load_plugin(pickled: bytes, version: str, operation: str) -> Any:
    """Return the plugin of a pickle; a silent one if it cannot be loaded here. It never raises.

    Parameters
    ----------
    pickled
        The pickle. Loading it imports flowprov.
    version
        The version of flowprov in the client's process.
    operation
        The operation by which clients ask a worker for its journals.
    """
    try:
        return pickle.loads(pickled)  # noqa: S301 - from the client, as every task
    except Exception as error:  # whatever it is: the worker must join its cluster
        return SilentPlugin(_reason(error, version), operation)


class SilentPlugin(WorkerPlugin):
    """The plugin of a worker that records nothing. It says why: in the worker's log, and to each client."""

    name = "flowprov"
    idempotent = True

    def __init__(self, reason: str, operation: str) -> None:
        self._reason = reason
        self._operation = operation

    def setup(self, worker: Any) -> None:
        """Say that the worker records nothing."""
        announce_silence(worker, self._reason)
        worker.handlers[self._operation] = self.respond

    def teardown(self, worker: Any) -> None:
        """Leave the worker."""
        worker.handlers.pop(self._operation, None)

    async def respond(self, request: bytes) -> dict[str, str]:  # noqa: ARG002 - the operation's signature
        """Respond to a client that asks for journals."""
        return {"silent": self._reason, "hostname": _host_name()}


def announce_silence(worker: Any, reason: str) -> None:
    """Say why a worker records nothing, in its log and to the clients of its cluster."""
    logging.getLogger("flowprov").warning("flowprov records nothing on this Dask worker: %s", reason)
    notice = {"worker": worker.address, "hostname": _host_name(), "reason": reason}
    worker.log_event(SILENT_TOPIC, json.dumps(notice))


def _host_name() -> str:
    """Return the name of this host; UTF-8 may not hold it as the system has it."""
    return socket.gethostname().encode("utf-8", "backslashreplace").decode()


def _reason(error: Exception, version: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "flowprov":
        return f"flowprov is not installed there; the client has version {version}"
    try:
        there = importlib.metadata.version("flowprov")
    except importlib.metadata.PackageNotFoundError:
        there = "of unknown version"
    text = f"{type(error).__name__}: {error}"[:300]
    return f"flowprov {there} there cannot load what version {version} sends ({text})"
