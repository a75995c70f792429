"""The plugin that Dask runs in each worker.

Flows in: the settings of the client, and every change of state of a task in the worker. Flows out: calls to
``task_recorder``, which records them.
"""

from __future__ import annotations

from typing import Any

from distributed.diagnostics.plugin import WorkerPlugin

from flowprov import guard
from flowprov.capture.dask import arrival, current_task, guest, out_of_band, submission
from flowprov.capture.dask._dask_private import ERROR, EXECUTING, dumps, is_closing
from flowprov.capture.dask.actors import follow_actors, stop_following_actors
from flowprov.capture.dask.fetch.protocol import OPERATION
from flowprov.capture.dask.fetch.worker import serve_journals, stop_serving_journals
from flowprov.capture.dask.task_recorder import Executions
from flowprov.errors import UsageError
from flowprov.runtime import runtime
from flowprov.runtime.by_value import reduce_by_value
from flowprov.settings import settings_from_json
from flowprov.values.reading import exception_text
from flowprov.version import __version__

PROTOCOL = 1
"""The version of what clients and workers send each other: a plugin, annotations, events."""


class DaskWorkerPlugin(WorkerPlugin):
    """Record the tasks of a Dask cluster: ``client.register_plugin(flowprov.DaskWorkerPlugin())``.

    ``flowprov.workflow(dask_client=client)`` registers it by itself. The plugin carries the settings of the
    process that created it. A worker process that has settings already keeps them. It also keeps the buffer
    folder that its environment names (``FLOWPROV__JOURNAL__PATH``). A task is recorded if it belongs to a
    workflow: one that was opened with a Dask client, or one that the environment of the worker names
    (``FLOWPROV_WORKFLOW_ID``).

    A worker on which flowprov is not installed, or is a version that does not fit, works without a recording.
    Its log and the client's say so, and ``flowprov verify`` does not call such a run complete.

    Raises
    ------
    SettingsError
        If the settings cannot be used.
    """

    name = "flowprov"
    idempotent = True

    def __init__(self) -> None:
        self._settings = guest.settings_to_send()
        self._sent_by: str | None = None
        self._executions: Executions | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        pickled = dumps(_Sent(type(self), self._settings))
        return reduce_by_value(arrival.load_plugin, pickled, __version__, OPERATION)

    def setup(self, worker: Any) -> None:
        """Prepare the worker's process, when the plugin is registered or a worker starts."""
        if runtime.disabled():
            return
        try:
            self._set_up(worker)
        except Exception as error:  # the guard: the worker must join its cluster
            guard.report_internal_error("setting up on a Dask worker", error)
            with guard.guarded("saying that a Dask worker records nothing"):
                arrival.announce_silence(worker, exception_text(error))

    def _set_up(self, worker: Any) -> None:
        guest.use_settings(self._settings)
        if not runtime.get().settings.dask.enabled:
            return
        guest.become_guest(self._sent_by)
        submission.install()  # for tasks that are submitted inside tasks
        out_of_band.install()
        current_task.install()
        executions = current_task.executions_of(worker)
        executions.owner = self
        self._executions = executions
        serve_journals(worker)
        with guard.guarded("following the actors of a Dask worker"):
            follow_actors(worker, executions)
        executions.adopt_running()

    def teardown(self, worker: Any) -> None:
        """Leave the worker. It closes, or the plugin is unregistered or replaced."""
        executions, self._executions = self._executions, None
        if executions is None or executions.owner is not self:
            return
        executions.owner = None
        with guard.guarded("leaving a Dask worker"):
            stop_serving_journals(worker)
            stop_following_actors(worker)
            if is_closing(worker):
                executions.interrupt_running()

    def transition(self, key: Any, start: str, finish: str, **kwargs: Any) -> None:  # noqa: ARG002 - Dask's signature
        """Record a task that changed its state, if that starts or ends it. It never raises."""
        executions = self._executions
        if executions is None or executions.owner is not self:
            return
        try:
            if finish == EXECUTING:
                executions.start(key)
            elif key in executions.running:
                executions.end_if_done(key, finish)
            elif finish == ERROR:
                executions.record_failed(key)
        except Exception as error:  # the guard: a plugin that raises can freeze a cluster
            guard.report_internal_error("recording a Dask task", error)


class _Sent:
    """What is pickled of a plugin. Loading it gives the plugin."""

    def __init__(self, cls: type[DaskWorkerPlugin], settings: bytes | None) -> None:
        self._arguments = (cls, settings, PROTOCOL, guest.sender())

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore_plugin, self._arguments)


def _restore_plugin(
    cls: type[DaskWorkerPlugin],
    settings: bytes | None,
    protocol: int = PROTOCOL,
    sent_by: str | None = None,
) -> DaskWorkerPlugin:
    """Return the plugin that a client sent. Clients before protocol numbers do not give one.

    Raises
    ------
    UsageError
        If the client speaks another protocol.
    SettingsError
        If the client's settings are not those of this version.
    """
    if protocol != PROTOCOL:
        raise UsageError(f"it speaks protocol {PROTOCOL}, and the client {protocol}")
    if settings is not None and runtime.peek() is None:
        settings_from_json(settings)
    plugin = cls.__new__(cls)
    plugin._settings = settings  # noqa: SLF001 - what __init__ set on the client
    plugin._sent_by = sent_by  # noqa: SLF001 - as above
    plugin._executions = None  # noqa: SLF001 - as above
    return plugin
