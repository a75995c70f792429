"""The client's side of a workflow: ``connect``, which ``flowprov.workflow(dask_client=...)`` calls.

Flows in: an open workflow and its Dask client. Flows out: the plugin on the client's cluster, and word to
``submission`` of where the tasks belong that this client submits, and to ``gather`` of what it has to fetch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from dask.base import annotate

from flowprov import guard
from flowprov.capture.dask import origin, submission
from flowprov.capture.dask.fetch.client import fetching
from flowprov.capture.dask.plugin import DaskWorkerPlugin
from flowprov.runtime.context import Scope


@contextlib.contextmanager
def connect(client: Any, scope: Scope) -> Iterator[None]:
    """Have the tasks that are submitted through a client recorded as tasks of a workflow.

    Parameters
    ----------
    client
        A ``distributed.Client``. The plugin is registered on its cluster if it is not there yet. With an
        asynchronous client that happens in the background, so register it before:
        ``await client.register_plugin(flowprov.DaskWorkerPlugin())``.
    scope
        The workflow, open.
    """
    connection = submission.ClientWorkflow(client, scope)
    with contextlib.ExitStack() as stack:
        with guard.guarded("connecting a workflow to a Dask client"):
            stack.enter_context(fetching(client, connection.origin))
            if not submission.install():
                stack.enter_context(annotate(**{origin.KEY: origin.annotation(connection.origin)}))
            submission.client_workflows.append(connection)
            stack.callback(_disconnect, connection)
            _register(client)
        yield


def _disconnect(connection: submission.ClientWorkflow) -> None:
    if connection in submission.client_workflows:
        submission.client_workflows.remove(connection)


def _register(client: Any) -> None:
    plugin = DaskWorkerPlugin()
    registering = client.register_plugin(plugin)
    if hasattr(registering, "add_done_callback"):  # of an asynchronous client
        registering.add_done_callback(_registered)
    elif hasattr(registering, "__await__"):
        asyncio.ensure_future(registering).add_done_callback(_registered)


def _registered(registering: Any) -> None:
    with guard.guarded("registering the plugin on a Dask cluster"):
        registering.result()
