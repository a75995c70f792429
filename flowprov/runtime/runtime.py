"""The one slot that holds what a process has of flowprov: settings, journals, keeper, counters.

Flows in: settings, found at the first use or given by ``configure``. Flows out: the journal of a campaign,
and the encoder of values. Nothing here runs at import; the slot is filled by the first call that needs it,
made anew in a forked child, and emptied at exit.
"""

from __future__ import annotations

import atexit
import multiprocessing.util
import os
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from flowprov import guard
from flowprov.environment import launchers
from flowprov.journal import Identity, Journal, JournalMaintenance
from flowprov.records import Campaign, new_id
from flowprov.runtime import context
from flowprov.runtime.context import Scope
from flowprov.settings import Settings, load_settings, set_active_settings
from flowprov.shipping.launcher import ShipperLauncher
from flowprov.telemetry.sampler import Sampler
from flowprov.values import Summarizer
from flowprov.version import __version__

__all__ = ["Runtime", "configure", "disabled", "get", "peek", "reset", "shutdown"]

_LAST_SAMPLE = 1.0  # seconds that the end of a process waits for telemetry
_MAX_IDLE = 4  # files of campaigns in which nothing is open that stay open: the next workflow may be of one


class Runtime:
    """What one process has of flowprov.

    Attributes
    ----------
    settings
        The settings in force.
    capturing
        Whether more than the adapters records (``instrumentation.enabled``, and not ``FLOWPROV_DISABLED``).
    summarizer
        Makes values recordable.
    shipper
        Has the journals delivered, where there are sinks.
    sampler
        Samples telemetry, where that is on.
    at_exit
        Called when the process ends.
    at_heartbeat
        Called by the keeper after each heartbeat of a journal, in a thread of its own.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.capturing = settings.instrumentation.enabled and not disabled()
        self.summarizer = Summarizer(redact=settings.privacy.redact)
        self.shipper = ShipperLauncher(settings)
        self.maintenance = JournalMaintenance(self._on_heartbeat)
        self.sampler = self._make_sampler()
        self._lock = threading.RLock()
        self._journals: dict[tuple[str, str], Journal] = {}
        self._idle: weakref.WeakSet[Journal] = weakref.WeakSet()  # whoever holds one may go on in it
        self._campaign_id: str | None = None
        self._campaigns: dict[str, Campaign] = {}
        self.at_exit: list[Callable[[], None]] = []
        self.at_heartbeat: list[Callable[[], None]] = []
        encoder_globals["_flowprov_encode"] = self.summarizer.encode_mapping

    def campaign_id(self) -> str:
        """Give the campaign of this process: handed over, shared by its job, or made at the first use."""
        with self._lock:
            if self._campaign_id is None:
                given, _, _ = context.inherited_ids(os.environ)
                self._campaign_id = given or launchers.campaign_id() or new_id()
            return self._campaign_id

    def set_campaign(self, campaign_id: str | None) -> str | None:
        """Make another campaign the one of this process; gives the one before."""
        with self._lock:
            before, self._campaign_id = self._campaign_id, campaign_id
            return before

    def name_campaign(self, campaign: Campaign) -> None:
        """Have the name of a campaign recorded: behind the header of its journal, or now if that is there."""
        with self._lock:
            self._campaigns[campaign.campaign_id] = campaign
            for (campaign_id, _), journal in self._journals.items():
                if campaign_id == campaign.campaign_id:
                    journal.name_campaign(campaign)

    def journal(self, campaign_id: str, buffer: str | None = None) -> Journal:
        """Give the journal of this process for a campaign.

        Parameters
        ----------
        campaign_id
            The campaign.
        buffer
            Another buffer folder than that of the settings: an adapter knows where its client reads.
        """
        key = (campaign_id, buffer or self.settings.journal.path)
        journal = self._journals.get(key)
        if journal is None:
            with self._lock:
                journal = self._journals.get(key)
                if journal is None:
                    self._close_idle_journals()
                    journal = self._journals[key] = self._make_journal(*key)
        return journal

    def _close_idle_journals(self) -> None:
        """Close the files of campaigns that seem to be over, so that they do not add up.

        Nobody says which are: a process that comes back to one begins another file.
        """
        needed = {id(scope.journal) for scope in list(context.open_workflows)}
        idle = [
            key
            for key, journal in self._journals.items()
            if key[0] != self._campaign_id and not journal.open_scopes and id(journal) not in needed
        ]
        for key in idle[: 1 - _MAX_IDLE]:  # with the one that comes there are as many again
            with guard.guarded("closing the journal of a campaign"):
                if self._journals[key].close_if_idle():
                    self._idle.add(self._journals.pop(key))
                    self._campaigns.pop(key[0], None)

    def _make_journal(self, campaign_id: str, buffer: str) -> Journal:
        settings = self.settings.journal
        if buffer != settings.path:
            settings = msgspec.structs.replace(settings, path=buffer)
        rank, world_size = launchers.rank_and_world_size()
        identity = Identity(
            campaign_id=campaign_id,
            campaign=self._campaigns.get(campaign_id),
            hostname=socket.gethostname(),
            rank=rank,
            world_size=world_size,
            program=Path(sys.argv[0]).name if sys.argv and sys.argv[0] else None,
            settings_digest=self.settings.digest(),
            flowprov=__version__,
        )
        journal = Journal(settings, identity, self.maintenance)
        if self.sampler is not None:
            journal.exact_reader = self.sampler.exact_reader
        return journal

    def _make_sampler(self) -> Sampler | None:
        telemetry = self.settings.telemetry_capture
        if telemetry is None or disabled():
            return None
        return Sampler(telemetry, self.maintenance.watched)

    def journals(self) -> list[Journal]:
        """List the journals of this process."""
        return [*self._journals.values(), *self._idle]

    def close(self) -> None:
        """Write the footers; what is captured afterwards is counted as dropped."""
        self.maintenance.stop()
        if self.sampler is not None:
            self.sampler.end(_LAST_SAMPLE)
        for journal in self.journals():
            with guard.guarded("closing a journal"):
                journal.close()
                self.shipper.watch(journal, last=True)

    def _on_heartbeat(self, journal: Journal) -> None:
        if self.sampler is not None:
            self.sampler.start()
        self.shipper.watch(journal)
        for callback in self.at_heartbeat:
            callback()

    def wait_for_delivery(self) -> None:
        """Wait a little for what the sinks are owed, at the end of the program."""
        for journal in self.journals():
            with guard.guarded("waiting for delivery"):
                self.shipper.wait_for_delivery(journal, last=True)

    def reopen_after_fork(self) -> None:
        """In a forked child: go on in journals of this process's own."""
        self._lock = threading.RLock()
        self.shipper = ShipperLauncher(self.settings)
        self.maintenance = JournalMaintenance(self._on_heartbeat)
        self.sampler = self._make_sampler()
        for journal in self.journals():
            journal.reopen_after_fork(self.maintenance)
            journal.exact_reader = None if self.sampler is None else self.sampler.exact_reader


# The names that generated encoders of arguments use (see capture.site): one dictionary for all of them, so
# that configuring anew reaches those that were made before.
encoder_globals: dict[str, Any] = {
    "_flowprov_json": msgspec.json.Encoder().encode,
    "_flowprov_len": len,  # parameters may well be called len or type
    "_flowprov_type": type,
}

_slot: Runtime | None = None
_slot_lock = threading.RLock()
_hooks_set = False


def get() -> Runtime:
    """Give the runtime of this process, made at the first call.

    Raises
    ------
    SettingsError
        If the settings that were found cannot be used.
    """
    return _slot or _start(None)


def peek() -> Runtime | None:
    """Give the runtime if there is one."""
    return _slot


def configure(
    settings_or_path: Settings | str | os.PathLike[str] | Mapping[str, Any] | None = None, **overrides: Any
) -> None:
    """Choose the settings of this process.

    Without a call of it they are found when the first event is met: the file that ``FLOWPROV_SETTINGS_PATH``
    names, ``./settings.yaml`` if it is flowprov's, else the defaults.

    Parameters
    ----------
    settings_or_path
        A settings file, a mapping of the same form, or ready settings.
    **overrides
        Single settings that go above those: ``journal={"path": "here"}``, ``journal__path="here"`` or
        ``**{"journal.path": "here"}``.

    Raises
    ------
    SettingsError
        With every problem found, each with its place.

    Notes
    -----
    What is open stays in the journal in which it began; what opens afterwards follows the new settings.
    """
    settings = load_settings(settings_or_path, overrides or None)
    _start(settings)


def disabled() -> bool:
    """Whether ``FLOWPROV_DISABLED`` turns flowprov off for this process."""
    return os.environ.get("FLOWPROV_DISABLED", "").strip().lower() in {"1", "true", "yes", "on"}


def _start(settings: Settings | None) -> Runtime:
    global _slot
    with _slot_lock:
        if settings is None:
            if _slot is not None:
                return _slot
            settings = load_settings()
        _set_hooks()
        before, _slot = _slot, Runtime(settings)
        set_active_settings(settings)
        if before is None:
            _join_inherited_workflow(_slot)
        else:
            _slot.set_campaign(before.set_campaign(None))
            _slot.at_exit = before.at_exit
            _retire(before)
        return _slot


def _retire(before: Runtime) -> None:
    """Close the journals of settings that were replaced, except those in which something is still open."""
    if any(journal.open_scopes for journal in before.journals()):
        _retired.append(before)
    else:
        before.close()


_retired: list[Runtime] = []


def _join_inherited_workflow(runtime: Runtime) -> None:
    """Take the place in a campaign that another process handed to this one."""
    campaign_id, workflow_id, task_id = context.inherited_ids(os.environ)
    if campaign_id is None or workflow_id is None or context.open_workflows:
        return
    journal = runtime.journal(campaign_id)
    scope = Scope(journal, None, workflow_id, muted=not runtime.capturing)
    context.open_workflows.append(scope)
    if task_id is not None:
        context.open_workflows.append(
            Scope(journal, task_id, workflow_id, parent=scope, muted=not runtime.capturing)
        )


def _set_hooks() -> None:
    global _hooks_set  # noqa: PLW0603 - once per process, and they are inherited by its forks
    if _hooks_set:
        return
    _hooks_set = True
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_here, after_in_child=_after_fork_there
    )
    atexit.register(shutdown)
    _set_finalizer()
    # multiprocessing clears the finalizers that a forked child inherits before it runs the child's code.
    multiprocessing.util.register_after_fork(_anchor, lambda _: _set_finalizer())


def _set_finalizer() -> None:
    # Children of multiprocessing leave through os._exit and skip atexit; this they run.
    multiprocessing.util.Finalize(None, shutdown, exitpriority=0)


def _before_fork() -> None:
    # With our threads stopped no lock of ours can be held by a thread that the child will not have.
    for each in _all():
        each.maintenance.stop(timeout=0.2)
        if each.sampler is not None:
            each.sampler.stop(timeout=0.2)


def _after_fork_here() -> None:
    for each in _all():
        each.maintenance.resume()
        if each.sampler is not None:
            each.sampler.resume()


def _after_fork_there() -> None:
    global _slot_lock  # noqa: PLW0603 - another thread may have held it at the fork
    _slot_lock = threading.RLock()
    guard.reset()
    for each in _all():
        with guard.guarded("starting anew in a forked child"):
            each.reopen_after_fork()


def _all() -> list[Runtime]:
    """List the runtime in force and those that were replaced while something was open in them."""
    return [*_retired, *filter(None, [_slot])]


class _Anchor:
    """multiprocessing keeps its after-fork callbacks by weak reference to an object."""


_anchor = _Anchor()


def shutdown() -> None:
    """Close what is open at the end of the process; safe to call twice."""
    runtime = _slot
    if runtime is None:
        return
    for callback in runtime.at_exit:
        with guard.guarded("closing at exit"):
            callback()
    inherits = not all(map(context.is_open, context.open_workflows))
    for each in _all():
        each.close()
    if not inherits:  # the process that opened the first workflow waits
        for each in _all():
            each.wait_for_delivery()


def reset() -> None:
    """Close everything and forget it, so that the next use starts from nothing: for tests."""
    global _slot  # noqa: PLW0603 - this is the one slot
    shutdown()
    with _slot_lock:
        _retired.clear()
        _slot = None
        set_active_settings(None)
    context.reset()
    guard.reset()
