"""The runtime of a process: settings, journals, maintenance, sampler and shipper, in one slot.

Flows in: settings, from ``configure`` or found at the first use. Flows out: the journal of a campaign, and
the summarizer of values. Nothing here runs at import. The first call that needs a runtime creates it, a
forked child opens new journals, and the end of the process closes everything.
"""

from __future__ import annotations

import atexit
import multiprocessing.util
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from flowprov import guard
from flowprov.journal import Journal, JournalMaintenance
from flowprov.records import Campaign
from flowprov.runtime import context, finalizers, inheritance, launch, participants
from flowprov.runtime.buffers import CampaignBuffers
from flowprov.runtime.encoders import create_summarizer
from flowprov.settings import (
    Settings,
    disabled_by_environment,
    load_settings,
    set_active_settings,
    warn_of_findings,
)
from flowprov.shipping.launcher import ShipperLauncher
from flowprov.telemetry.sampler import Sampler

__all__ = ["Runtime", "configure", "disabled", "get", "peek", "reset", "shutdown"]

_LAST_SAMPLE_S = 1.0  # how long the end of a process waits for telemetry
# Files of campaigns without an open scope that stay open: the next workflow may belong to one of them.
_MAX_IDLE = 4


class Runtime:
    """What one process has of flowprov.

    Attributes
    ----------
    settings
        The active settings.
    capturing
        Whether all captures record, and not only the adapters: ``instrumentation.enabled`` is true, and
        ``FLOWPROV_DISABLED`` is not set.
    summarizer
        Turns values into the JSON that records keep.
    shipper
        Starts the process that delivers the journals, where there are sinks.
    maintenance
        Writes the heartbeats of the journals, in a thread of its own.
    sampler
        Samples telemetry; None where that is off.
    buffers
        Says in which folder the journals of a campaign lie.
    ended
        Whether its journals were closed; what comes afterwards is recorded behind their footers.
    at_exit
        Callbacks for the end of the process.
    before_close
        Callbacks that write what is left for the journals, before these are closed.
    at_heartbeat
        Callbacks for each heartbeat of a journal, called in the maintenance thread.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.capturing = settings.instrumentation.enabled and not disabled()
        self.summarizer = create_summarizer(settings)
        self.shipper = ShipperLauncher(settings)
        self.maintenance = JournalMaintenance(self._on_heartbeat, participants.announce)
        self.sampler = self._create_sampler()
        self._lock = threading.RLock()
        self._journals: dict[tuple[str, str], Journal] = {}
        self._idle: weakref.WeakSet[Journal] = weakref.WeakSet()  # a scope that holds one may still use it
        self._campaign_id: str | None = None
        self._campaigns: dict[str, Campaign] = {}
        self.buffers = CampaignBuffers(settings.journal.path)
        self.ended = False
        self.at_exit: list[Callable[[], None]] = []
        self.before_close: list[Callable[[], None]] = []
        self.at_heartbeat: list[Callable[[], None]] = []

    def campaign_id(self) -> str:
        """Return the campaign of this process: inherited, shared by its job, or created at the first use."""
        with self._lock:
            if self._campaign_id is None:
                self._campaign_id = launch.default_campaign_id()
            return self._campaign_id

    def known_campaign_id(self) -> str | None:
        """Return the campaign of this process; None if it needed none yet."""
        return self._campaign_id

    def set_campaign(self, campaign_id: str | None) -> str | None:
        """Set the campaign of this process; return the one before."""
        with self._lock:
            before, self._campaign_id = self._campaign_id, campaign_id
            return before

    def name_campaign(self, campaign: Campaign) -> None:
        """Record the name of a campaign: at the beginning of its journals, or now in those that exist."""
        with self._lock:
            self._campaigns[campaign.campaign_id] = campaign
            for (campaign_id, _), journal in self._journals.items():
                if campaign_id == campaign.campaign_id:
                    journal.name_campaign(campaign)

    def journal(self, campaign_id: str, buffer: str | None = None) -> Journal:
        """Return the journal of this process for a campaign.

        Parameters
        ----------
        campaign_id
            The campaign.
        buffer
            The folder of the scope around, or of an adapter's client; None for that of the settings.
        """
        key = (campaign_id, self.buffers.folder(campaign_id, buffer))
        journal = self._journals.get(key)
        if journal is None:
            with self._lock:
                journal = self._journals.get(key)
                if journal is None:
                    self._close_idle_journals()
                    journal = self._journals[key] = self._create_journal(*key)
        return journal

    def _close_idle_journals(self) -> None:
        """Close the files of campaigns that seem to be over, so that open files do not pile up.

        Nothing says that a campaign is over: a process that returns to one creates another file.
        """
        needed = context.journals_in_use()
        idle = [
            key
            for key, journal in self._journals.items()
            if key[0] != self._campaign_id and not journal.open_scopes and journal not in needed
        ]
        for key in idle[: 1 - _MAX_IDLE]:  # the caller adds one, which makes _MAX_IDLE again
            with guard.guarded("closing the journal of a campaign"):
                if self._journals[key].close_if_idle():
                    self._idle.add(self._journals.pop(key))
                    self._campaigns.pop(key[0], None)

    def _create_journal(self, campaign_id: str, buffer: str) -> Journal:
        settings = self.settings.journal
        if buffer != settings.path:
            settings = msgspec.structs.replace(settings, path=buffer)
        digest = self.settings.digest()
        identity = launch.identity(campaign_id, self._campaigns.get(campaign_id), settings.path, digest)
        journal = Journal(settings, identity, self.maintenance)
        if self.sampler is not None:
            journal.exact_reader = self.sampler.exact_reader
        return journal

    def _create_sampler(self) -> Sampler | None:
        telemetry = self.settings.telemetry_capture
        if telemetry is None or disabled():
            return None
        return Sampler(telemetry, self.maintenance.watched)

    def journals(self) -> list[Journal]:
        """Return the journals of this process."""
        return [*self._journals.values(), *self._idle]

    def close(self) -> None:
        """Write the footers; later events are counted as dropped."""
        for callback in self.before_close:
            with guard.guarded("writing what is left for the journals"):
                callback()
        self.maintenance.stop()
        if self.sampler is not None:
            self.sampler.end(_LAST_SAMPLE_S)
        self.ended = True
        participants.note(self.journals())
        for journal in self.journals():
            with guard.guarded("closing a journal"):
                journal.close()
                self.shipper.watch(journal, last=True)

    def _on_heartbeat(self, journal: Journal) -> None:
        if self.sampler is not None:
            self.sampler.start()
        self.shipper.watch(journal)
        participants.note(self.journals())
        for callback in self.at_heartbeat:
            callback()

    def wait_for_delivery(self) -> None:
        """Wait a little, at the end of the program, until the sinks hold the journals."""
        for journal in self.journals():
            with guard.guarded("waiting for delivery"):
                self.shipper.wait_for_delivery(journal, last=True)

    def reopen_after_fork(self) -> None:
        """Continue in new journals, which belong to this process, in a forked child."""
        self._lock = threading.RLock()
        self.ended = False
        self.shipper = ShipperLauncher(self.settings)
        self.maintenance = JournalMaintenance(self._on_heartbeat, participants.announce)
        self.sampler = self._create_sampler()
        for journal in self.journals():
            journal.reopen_after_fork(self.maintenance)
            journal.exact_reader = None if self.sampler is None else self.sampler.exact_reader


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
            _slot.set_campaign(campaign_id := before.set_campaign(None))
            _slot.buffers = before.buffers.followed_by(settings.journal.path, before.journals(), campaign_id)
            _slot.at_exit, _slot.before_close = before.at_exit, before.before_close
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
