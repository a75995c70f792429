"""Which buffer folder the journals of a campaign lie in: one, however often the settings change.

Flows in: the folder of the settings in force, and the journals that were written under earlier ones. Flows
out: the folder of each campaign, and one warning if a new folder came too late for the campaign at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from flowprov import guard
from flowprov.journal import Journal


class CampaignBuffers:
    """The buffer folders of a process.

    Parameters
    ----------
    default
        The folder of the settings in force.
    begun
        The folders of the campaigns that were recorded under earlier settings, by campaign.
    earlier
        The folders of earlier settings.
    """

    def __init__(
        self, default: str, begun: Mapping[str, str] | None = None, earlier: Iterable[str] = ()
    ) -> None:
        self._default = default
        self._begun = dict(begun or {})
        self._earlier = frozenset(earlier)

    def folder(self, campaign_id: str, asked: str | None = None) -> str:
        """Return the folder for the journals of a campaign.

        Parameters
        ----------
        campaign_id
            The campaign.
        asked
            The folder of the scope around, or the one that an adapter's client reads; None if there is none.
        """
        if asked is not None and asked not in self._earlier:
            return asked
        begun = self._begun.get(campaign_id)
        if begun is None:
            return self._default
        self._warn_if_late(campaign_id)
        return begun

    def followed_by(
        self, default: str, journals: Iterable[Journal], campaign_id: str | None
    ) -> CampaignBuffers:
        """Return the folders of this process under new settings.

        Parameters
        ----------
        default
            The folder of the new settings.
        journals
            The journals that were opened under the settings before.
        campaign_id
            The campaign of the process; None if it has none yet.
        """
        recorded = [journal for journal in journals if journal.path is not None]
        own = (self._default, *self._begun.values())
        begun = {
            journal.identity.campaign_id: journal.settings.path
            for journal in recorded
            if journal.settings.path in own  # and in no other, which only a client of an adapter reads
        }
        following = CampaignBuffers(default, {**self._begun, **begun}, {*self._earlier, self._default})
        for journal in recorded:
            if journal.open_scopes or journal.identity.campaign_id == campaign_id:
                following._warn_if_late(journal.identity.campaign_id)
        return following

    def _warn_if_late(self, campaign_id: str) -> None:
        begun = self._begun.get(campaign_id)
        if begun is not None and Path(begun).absolute() != Path(self._default).absolute():
            guard.warn_once(
                "configured late",
                "flowprov.configure was called after this process had recorded. Campaign %s stays in %s; the "
                "folder %s holds from the next campaign on. To have it hold at once, call configure first, "
                "or give the next workflow another campaign_id. This is said once.",
                campaign_id,
                begun,
                self._default,
            )
