"""Propagation: how a child process learns to which campaign, workflow and task it belongs.

Flows in: the current scope at the moment a child is started. Flows out: environment variables for programs,
and a carrier in what multiprocessing pickles for its children. Forked children need neither: they inherit the
memory.

- ``programs`` wraps the functions of Python that start a program, ``work_items`` those that hand a function
  to a pool of processes.
- This module puts a carrier into the configuration that a ``multiprocessing.Process`` copies from its parent.
  The carrier is pickled when a child is started by ``spawn`` or ``forkserver`` (ProcessPoolExecutor and
  joblib do the same), in the thread that starts the child, and looks up the current scope at that moment.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
from typing import Any

from flowprov import guard
from flowprov.runtime import inheritance, programs, runtime, work_items
from flowprov.runtime.by_value import loads_or, reduce_by_value
from flowprov.settings import settings_from_json, settings_to_json

_installed = False


def install() -> None:
    """Install both ways in this process; a second call does nothing."""
    global _installed  # noqa: PLW0603 - once per process
    if _installed:
        return
    _installed = True
    with guard.guarded("preparing to propagate the campaign to child processes"):
        multiprocessing.current_process()._config["flowprov"] = ContextCarrier()  # type: ignore[attr-defined]  # noqa: SLF001 - every way of starting a child copies this dictionary
        programs.wrap_all()
        work_items.wrap_pools()
        os.register_at_fork(before=work_items.wrap_pools)  # a pool that is used for the first time forks


class ContextCarrier:
    """Travels to a child of multiprocessing, and restores the context of the parent there."""

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            work_items.wrap_pools()  # a pool that is used for the first time starts its workers
            active = runtime.peek()
            variables = inheritance.variables(active)
            settings = None if active is None else settings_to_json(active.settings)
        except Exception as error:  # the child must start, whatever fails here
            guard.report_internal_error("propagating the campaign to a child process", error)
            variables, settings = {}, None
        # Children may run an interpreter without flowprov (multiprocessing.set_executable, PYTHONPATH).
        pickled = pickle.dumps(_Sent(variables, settings))
        return reduce_by_value(loads_or, pickled, pickle.dumps(None))


class _Sent:
    """What is pickled of a carrier. Loading it restores the context, and gives the carrier of the child."""

    def __init__(self, *arguments: Any) -> None:
        self._arguments = arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return (restore_context, self._arguments)


def restore_context(variables: dict[str, str], settings: bytes | None) -> ContextCarrier:
    """Join the campaign, workflow and task of the parent; runs while the child unpickles its task."""
    with guard.guarded("restoring the context of the parent process"):
        os.environ.update(variables)
        inheritance.follow()
        active = runtime.peek()
        if active is not None:  # the child's own code configured flowprov when it was imported
            inheritance.join(active)
        elif settings is not None:
            buffer = variables.get(inheritance.ENV_BUFFER)
            runtime.configure(settings_from_json(settings), **({"journal.path": buffer} if buffer else {}))
    return ContextCarrier()
