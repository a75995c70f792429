"""The client's side of a workflow: ``connect``, which ``flowprov.workflow(dask_client=...)`` calls.

Flows in: an open workflow and its Dask client. Flows out: the plugin on the client's cluster. ``submission``
learns where the tasks belong that this client submits, and ``fetch`` which journals to fetch.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from dask.base import annotate

from flowprov import guard
from flowprov.capture.dask import origin, out_of_band, submission
from flowprov.capture.dask.fetch.client import fetching
from flowprov.capture.dask.participants import following, look_back
from flowprov.capture.dask.plugin import DaskWorkerPlugin
from flowprov.runtime.context import Scope


@contextlib.contextmanager
def connect(client: Any, scope: Scope) -> Iterator[None]:
    """Record the tasks that are submitted through a client as tasks of a workflow.

    Parameters
    ----------
    client
        A ``distributed.Client``. The plugin is registered on its cluster, if it is not there yet. An
        asynchronous client registers it in the background. To have it there before the first task, run
        ``await client.register_plugin(flowprov.DaskWorkerPlugin())`` first.
    scope
        The scope of the workflow, open.
    """
    with contextlib.ExitStack() as stack:
        with guard.guarded("connecting a workflow to a Dask client"):
            client_workflow = submission.ClientWorkflow(client, scope)
            participants = stack.enter_context(following(client, scope))
            stack.enter_context(fetching(client, client_workflow.task_context, participants))
            if not submission.install():
                annotation = origin.to_annotation(client_workflow.task_context)
                stack.enter_context(annotate(**{origin.ANNOTATION_KEY: annotation}))
            out_of_band.install()
            submission.client_workflows.append(client_workflow)
            stack.callback(_disconnect, client_workflow)
            _register_plugin(client)
            look_back(client)
        yield


def _disconnect(client_workflow: submission.ClientWorkflow) -> None:
    if client_workflow in submission.client_workflows:
        submission.client_workflows.remove(client_workflow)


def _register_plugin(client: Any) -> None:
    registration = client.register_plugin(DaskWorkerPlugin())
    if hasattr(registration, "add_done_callback"):  # of an asynchronous client
        registration.add_done_callback(_check_registration)
    elif hasattr(registration, "__await__"):
        asyncio.ensure_future(registration).add_done_callback(_check_registration)


def _check_registration(registration: Any) -> None:
    with guard.guarded("registering the plugin on a Dask cluster"):
        registration.result()
