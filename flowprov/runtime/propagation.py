"""How a child process learns to which campaign, workflow and task it belongs.

Flows in: the current scope at the moment a child is started. Flows out: environment variables for programs,
and a passenger in what multiprocessing pickles for its children. Forked children need neither: they inherit
the memory.

Nothing is put into ``os.environ``: it is shared by all threads, and changing it while other threads read it
has crashed programs. Instead

- ``subprocess.Popen`` is wrapped once, so that the environment it gives its child holds three more variables;
- an object rides in the configuration that a ``multiprocessing.Process`` copies from its parent. It is
  pickled when a child is started by ``spawn`` or ``forkserver`` (ProcessPoolExecutor and joblib use the same
  way), in the thread that starts it, and looks up the current scope just then.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import subprocess
from typing import Any

from flowprov import guard
from flowprov.runtime import context, runtime
from flowprov.settings import settings_from_json, settings_to_json

_installed = False


def install() -> None:
    """Have child processes of this one told where they belong; does nothing the second time."""
    global _installed  # noqa: PLW0603 - a mark of this process
    if _installed:
        return
    _installed = True
    with guard.guarded("preparing to hand the campaign over to child processes"):
        multiprocessing.current_process()._config["flowprov"] = ContextCarrier()  # type: ignore[attr-defined]  # noqa: SLF001 - the one place that every way of starting a child copies
        _wrap_popen()


class ContextCarrier:
    """Rides to a child of multiprocessing, and becomes the place of the parent when it arrives."""

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            held = runtime.peek()
            given = context.carried_variables()
            settings = None if held is None else settings_to_json(held.settings)
        except Exception as error:  # the child must start whatever happens to us
            guard.report_internal_error("handing the campaign over to a child process", error)
            given, settings = {}, None
        return (restore_context, (given, settings))


def restore_context(given: dict[str, str], settings: bytes | None) -> ContextCarrier:
    """Take the place that the parent process handed over; runs while the child unpickles its task."""
    with guard.guarded("taking over the campaign of the parent process"):
        os.environ.update(given)
        if settings is not None and runtime.peek() is None:
            buffer = given.get(context.ENV_BUFFER)
            runtime.configure(settings_from_json(settings), **({"journal.path": buffer} if buffer else {}))
    return ContextCarrier()


def _wrap_popen() -> None:
    original = subprocess.Popen.__init__

    @functools.wraps(original)
    def started(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(args) <= _ENV_POSITION:
            with guard.guarded("handing the campaign over to a program"):
                kwargs["env"] = _with_variables(kwargs.get("env"))
        original(self, *args, **kwargs)

    subprocess.Popen.__init__ = started  # type: ignore[method-assign]


# Position of ``env`` among the arguments of Popen, where somebody gives so many by position.
_ENV_POSITION = 10


def _with_variables(env: Any) -> Any:
    """Add the place of this process to an environment, unless it was built from nothing on purpose."""
    given = context.carried_variables()
    if not given:
        return env
    if env is None:
        env = os.environ
    elif env.get("PATH") != os.environ.get("PATH"):
        return env
    own_buffer = {name: env[name] for name in (context.ENV_BUFFER,) if name in env}
    return {**env, **given, **own_buffer}
