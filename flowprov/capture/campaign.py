"""``campaign``: the name under which workflows belong together.

Flows in: a name or an id. Flows out: the campaign of this process for a while, and its name in the journal.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flowprov import records
from flowprov.clock import clock
from flowprov.environment import launchers
from flowprov.records import new_id
from flowprov.runtime import context, runtime

if TYPE_CHECKING:
    from typing_extensions import Self


class campaign:  # noqa: N801 - used like a function, as contextlib's own are
    """Name the campaign of this process for as long as it is open.

    Parameters
    ----------
    name
        A name for people.
    campaign_id
        Join an existing campaign; by default one that was handed to the process, else a new one.

    Attributes
    ----------
    campaign_id
        Id of the campaign.
    """

    def __init__(self, name: str | None = None, *, campaign_id: str | None = None) -> None:
        self.name = name
        self._given = campaign_id
        self._campaign_id: str | None = campaign_id
        self._before: list[str | None] = []

    @property
    def campaign_id(self) -> str:
        """Id of the campaign."""
        if self._campaign_id is None:
            given, _, _ = context.inherited_ids(os.environ)
            self._campaign_id = given or launchers.campaign_id() or new_id()
        return self._campaign_id

    def start(self) -> Self:
        """Open it, where a ``with`` block does not fit."""
        held = runtime.get()
        record = records.Campaign(campaign_id=self.campaign_id, name=self.name, started_at=clock.now())
        held.name_campaign(record)
        self._before.append(held.set_campaign(self.campaign_id))
        return self

    def stop(self) -> None:
        """Close it; the campaign before is that of the process again."""
        if self._before:
            runtime.get().set_campaign(self._before.pop())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<flowprov campaign {self.name or ''} {self.campaign_id}>"
