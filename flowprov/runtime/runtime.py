"""The runtime of this process, in one slot: when it begins, and what forks and the end of the process do.

Flows in: settings, from ``configure`` or found at the first use. Flows out: the runtime. Nothing here runs at
import. The first call that needs a runtime creates it, a forked child opens new journals, and the end of the
process closes everything.
"""

from __future__ import annotations

import atexit
import multiprocessing.util
import os
import threading
import weakref
from collections.abc import Mapping
from typing import Any

from flowprov import guard
from flowprov.runtime import context, finalizers, inheritance, participants
from flowprov.runtime.process_runtime import Runtime
from flowprov.settings import (
    Settings,
    disabled_by_environment,
    load_settings,
    set_active_settings,
    warn_of_findings,
)

__all__ = ["Runtime", "configure", "disabled", "get", "peek", "reset", "shutdown"]

_slot: Runtime | None = None
_slot_lock = threading.RLock()
_hooks_registered = False


def get() -> Runtime:
    """Return the runtime of this process; the first call creates it.

    Raises
    ------
    SettingsError
        If the settings that were found are invalid.
    """
    return _slot or _start(None)


def peek() -> Runtime | None:
    """Return the runtime of this process; None if there is none yet."""
    return _slot


def configure(
    settings_or_path: Settings | str | os.PathLike[str] | Mapping[str, Any] | None = None, **overrides: Any
) -> None:
    """Set the settings of this process.

    Without this call the first event finds them: in the file that ``FLOWPROV_SETTINGS_PATH`` names, else in
    ``./settings.yaml`` if that file is flowprov's, else the defaults apply.

    Parameters
    ----------
    settings_or_path
        A settings file, a mapping of the same form, or a ``Settings`` object.
    **overrides
        Single settings, as a layer above those: ``journal={"path": "here"}``, ``journal__path="here"`` or
        ``**{"journal.path": "here"}``. ``profile="full"`` chooses a profile; it goes below the file and the
        environment.

    Raises
    ------
    SettingsError
        If the settings are invalid; the message lists every problem, with its file and line.

    Notes
    -----
    Scopes that are open stay in the journal in which they began; later ones follow the new settings. What was
    recorded of a campaign fixes its folder: another ``journal.path`` holds from the next campaign on, and a
    warning says so.
    """
    settings = load_settings(settings_or_path, overrides or None)
    if not (
        isinstance(settings_or_path, Settings) or disabled()
    ):  # those were checked where they were loaded
        warn_of_findings(settings)
    _start(settings)


def disabled() -> bool:
    """Whether ``FLOWPROV_DISABLED`` turns flowprov off for this process."""
    return disabled_by_environment()


def _start(settings: Settings | None) -> Runtime:
    global _slot
    with _slot_lock:
        if settings is None:
            if _slot is not None:
                return _slot
            settings = load_settings()
            if not disabled():
                warn_of_findings(settings)
        _register_hooks()
        before, _slot = _slot, Runtime(settings)
        set_active_settings(settings)
        if before is None:
            inheritance.join(_slot)
        else:
            _slot.take_campaign(before)
            _slot.buffers = before.buffers.followed_by(
                settings.journal.path, before.journals(), _slot.known_campaign_id()
            )
            _slot.at_exit, _slot.before_close = before.at_exit, before.before_close
            _slot.before_idle_close = before.before_idle_close
            inheritance.serve(_slot)
            _retire(before)
        return _slot


def _retire(before: Runtime) -> None:
    """Close the journals of a runtime that was replaced; keep it if a scope in any of them goes on."""
    used = context.journals_in_use()
    if any(journal.open_scopes or journal in used for journal in before.journals()):
        _retired.append(before)
    else:
        before.close()


_retired: list[Runtime] = []


def _register_hooks() -> None:
    """Register the callbacks for fork and exit; forked children inherit them."""
    global _hooks_registered  # noqa: PLW0603 - once per process
    if _hooks_registered:
        return
    _hooks_registered = True
    finalizers.protect_contexts()
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
    atexit.register(shutdown)
    _register_finalizer()
    multiprocessing.util.register_after_fork(_anchor, lambda _: _enter_forked_child())


def _register_finalizer() -> None:
    # Children of multiprocessing leave through os._exit and skip atexit, but they run finalizers.
    multiprocessing.util.Finalize(None, shutdown, exitpriority=0)


def _enter_forked_child() -> None:
    """Begin as a child of multiprocessing that was forked; any other forked child goes on as it is."""
    _register_finalizer()  # multiprocessing cleared the finalizers that this process inherited
    if _slot is not None:
        with guard.guarded("joining the workflow of the parent process"):
            inheritance.enter_forked_child(_slot)


def _before_fork() -> None:
    if not disabled():
        with guard.guarded("propagating the campaign to a forked child"):
            inheritance.before_fork()
    # A lock that one of our threads held at the fork would stay locked in the child: stop the threads first.
    for runtime in _runtimes():
        runtime.maintenance.stop(timeout=0.2)
        if runtime.sampler is not None:
            runtime.sampler.stop(timeout=0.2)


def _after_fork_in_parent() -> None:
    for runtime in _runtimes():
        runtime.maintenance.resume()
        if runtime.sampler is not None:
            runtime.sampler.resume()


def _after_fork_in_child() -> None:
    global _slot_lock  # noqa: PLW0603 - another thread may have held it at the fork
    _slot_lock = threading.RLock()
    guard.reset()
    inheritance.after_fork_in_child()
    participants.reset()
    for runtime in _runtimes():
        with guard.guarded("opening new journals in a forked child"):
            runtime.reopen_after_fork()


def _runtimes() -> list[Runtime]:
    """Return the active runtime and those that were replaced while a scope was open in them."""
    return [*_retired, *filter(None, [_slot])]


_anchor: weakref.WeakSet[Any] = weakref.WeakSet()  # multiprocessing keeps our callback as long as this


def shutdown() -> None:
    """Close all journals at the end of the process; a second call does nothing more."""
    active = _slot
    if active is None:
        return
    workflows = context.open_workflows
    inherits = workflows.inherited is not None or not all(map(context.is_open, workflows))
    for callback in active.at_exit:
        with guard.guarded("closing at exit"):
            callback()
    for runtime in _runtimes():
        runtime.close()
    if not inherits:  # only the process that opened the first workflow waits
        for runtime in _runtimes():
            runtime.wait_for_delivery()


def reset() -> None:
    """Close and forget everything, so that the next use starts from nothing: for tests."""
    global _slot  # noqa: PLW0603 - this is the one slot
    shutdown()
    with _slot_lock:
        _retired.clear()
        _slot = None
        set_active_settings(None)
    context.reset()
    inheritance.reset()
    participants.reset()
    guard.reset()
