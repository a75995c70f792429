"""Propagation: how a child process learns to which campaign, workflow and task it belongs.

Flows in: the current scope at the moment a child is started. Flows out: environment variables for programs,
and a carrier in what multiprocessing pickles for its children. Forked children need neither: they inherit the
memory.

This module does not write to ``os.environ``: all threads share it, and changing it while another thread reads
it has crashed programs. It does two things instead:

- It wraps ``subprocess.Popen`` once, so that the environment of a child holds up to four more variables.
- It puts a carrier into the configuration that a ``multiprocessing.Process`` copies from its parent. The
  carrier is pickled when a child is started by ``spawn`` or ``forkserver`` (ProcessPoolExecutor and joblib do
  the same), in the thread that starts the child, and looks up the current scope at that moment.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import pickle
import subprocess
from typing import Any

from flowprov import guard
from flowprov.runtime import inheritance, runtime, work_items
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
        _wrap_popen()
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


def _wrap_popen() -> None:
    original = subprocess.Popen.__init__

    @functools.wraps(original)
    def init_with_variables(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) <= _ENV_POSITION:
            with guard.guarded("propagating the campaign to a program"):
                kwargs["env"] = _with_variables(kwargs.get("env"))
        original(self, *args, **kwargs)

    subprocess.Popen.__init__ = init_with_variables  # type: ignore[method-assign]


# Position of ``env`` among the arguments of Popen, for callers that pass so many by position.
_ENV_POSITION = 10


def _with_variables(env: Any) -> Any:
    """Return an environment with the propagated variables added.

    An environment whose ``PATH`` is not that of this process was built from nothing on purpose: it stays as
    it is.
    """
    variables = inheritance.variables(runtime.peek())
    if not variables:
        return env
    if env is None:
        env = os.environ
    elif env.get("PATH") != os.environ.get("PATH"):
        return env
    # What this process inherited may be over: a child gets all of it from here, or nothing.
    others = {name: value for name, value in env.items() if name not in inheritance.NAMES}
    own_buffer = {name: env[name] for name in (inheritance.ENV_BUFFER,) if name in env}
    return {**others, **variables, **own_buffer}
