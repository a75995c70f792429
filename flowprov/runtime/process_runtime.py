"""What one process has of flowprov: settings, journals, maintenance, sampler and shipper.

Flows in: settings. Flows out: the journal of a campaign, and the summarizer of values. The slot that holds
the one of this process is in ``runtime``.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

import msgspec

from flowprov import guard
from flowprov.journal import Journal, JournalMaintenance
from flowprov.records import Campaign
from flowprov.runtime import context, launch, participants
from flowprov.runtime.buffers import CampaignBuffers
from flowprov.runtime.encoders import create_summarizer, create_unhurried
from flowprov.settings import Settings, disabled_by_environment
from flowprov.shipping.launcher import ShipperLauncher
from flowprov.telemetry.sampler import Sampler

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
    unhurried_summarizer
        The same for what is recorded once in a run: no time limits it.
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
    before_idle_close
        The same for one journal, whose campaign seems to be over.
    at_heartbeat
        Callbacks for each heartbeat of a journal, called in the maintenance thread.
    control_flow
        Names of exceptions that are no failure, besides those in the settings.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.capturing = settings.instrumentation.enabled and not disabled_by_environment()
        self.summarizer = create_summarizer(settings)
        self.unhurried_summarizer = create_unhurried(settings, self.summarizer)
        self.shipper = ShipperLauncher(settings)
        self.maintenance = JournalMaintenance(self._on_heartbeat, participants.announce)
        self.sampler = self._create_sampler()
        self._lock = threading.RLock()  # never held while a journal is waited for
        self._journals: dict[tuple[str, str], Journal] = {}
        # A scope that holds one may still use it. Threads add to this while others go through it: no WeakSet.
        self._idle: set[weakref.ref[Journal]] = set()
        self._named_campaign: str | None = None  # by the program
        self._default_campaign: str | None = None
        self._campaigns: dict[str, Campaign] = {}
        self.buffers = CampaignBuffers(settings.journal.path)
        self.ended = False
        self.at_exit: list[Callable[[], None]] = []
        self.before_close: list[Callable[[], None]] = []
        self.before_idle_close: list[Callable[[Journal], None]] = []
        self.at_heartbeat: list[Callable[[], None]] = []
        self.control_flow: set[str] = set()

    def campaign_id(self) -> str:
        """Return the campaign of the caller: named by the program, inherited, or shared by its job or run.

        Without any, one is created at the first use. A run of an orchestrator is that of the caller and not
        of the process, which may serve several.
        """
        with self._lock:
            if self._named_campaign is not None:
                return self._named_campaign
            if (of_run := launch.orchestrated_campaign_id()) is not None:
                return of_run
            if self._default_campaign is None:
                self._default_campaign = launch.default_campaign_id()
            return self._default_campaign

    def known_campaign_id(self) -> str | None:
        """Return the campaign of this process; None if it needed none yet."""
        return self._named_campaign or self._default_campaign

    def is_campaign_made_up(self) -> bool:
        """Whether nobody named the campaign of this process."""
        return self._named_campaign is None and launch.is_made_up(self._default_campaign)

    def set_campaign(self, campaign_id: str | None) -> str | None:
        """Set the campaign that the program names; return the one before."""
        with self._lock:
            before, self._named_campaign = self._named_campaign, campaign_id
            return before

    def take_campaign(self, before: Runtime) -> None:
        """Take the campaign of a runtime that this one replaces."""
        self._default_campaign = before._default_campaign
        self.set_campaign(before.set_campaign(None))

    def name_campaign(self, campaign: Campaign) -> None:
        """Record the name of a campaign: at the beginning of its journals, or now in those that exist."""
        with self._lock:
            self._campaigns[campaign.campaign_id] = campaign
            journals = [journal for key, journal in self._journals.items() if key[0] == campaign.campaign_id]
        for journal in journals:
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
            self._close_idle_journals()
            with self._lock:
                journal = self._journals.get(key)
                if journal is None:  # a signal handler may create it here: then that one is used
                    journal = self._journals.setdefault(key, self._create_journal(*key))
        return journal

    def is_campaign_named(self, campaign_id: str) -> bool:
        """Whether the program has named a campaign in this process."""
        campaign = self._campaigns.get(campaign_id)
        return campaign is not None and campaign.name is not None

    def _close_idle_journals(self) -> None:
        """Close the files of campaigns that seem to be over, so that open files do not pile up.

        Nothing says that a campaign is over: a process that returns to one creates another file. No lock is
        held here, as a signal handler may come to it in the middle of an append for which a close waits.
        """
        journals = list(self._journals.items())
        if any(journal.is_mid_append() for _, journal in journals):
            return
        needed, kept = context.journals_in_use(), (self._named_campaign, self._default_campaign)
        idle = [
            (key, journal)
            for key, journal in journals
            if key[0] not in kept and not journal.open_scopes and journal not in needed
        ]
        for key, journal in idle[: 1 - _MAX_IDLE]:  # the caller adds one, which makes _MAX_IDLE again
            with guard.guarded("closing the journal of a campaign"):
                for callback in self.before_idle_close:
                    callback(journal)
                if journal.close_if_idle():
                    self._set_aside(key, journal)

    def _set_aside(self, key: tuple[str, str], journal: Journal) -> None:
        with self._lock:  # another thread may have closed it, too, and created the next one
            if self._journals.get(key) is journal:
                self._idle.add(weakref.ref(journal, self._idle.discard))
                self._journals.pop(key, None)
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
        if telemetry is None or disabled_by_environment():
            return None
        return Sampler(telemetry, self.maintenance.watched)

    def journals(self) -> list[Journal]:
        """Return the journals of this process."""
        idle = (reference() for reference in list(self._idle))
        return [*list(self._journals.values()), *(journal for journal in idle if journal is not None)]

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
