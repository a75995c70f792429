"""``campaign``: the name under which workflows belong together.

Flows in: a name or an id. Flows out: the campaign of this process while it is open, and a record of its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flowprov import records
from flowprov.capture.copies import InertCopies
from flowprov.clock import clock
from flowprov.ids import new_id
from flowprov.runtime import launch, runtime
from flowprov.runtime.context import current_scope
from flowprov.values import as_id, as_name

if TYPE_CHECKING:
    from typing_extensions import Self


class campaign(InertCopies):  # noqa: N801 - used like a function, as contextlib's own are
    """Name the campaign of this process for as long as it is open.

    Parameters
    ----------
    name
        A name for people.
    campaign_id
        Id of an existing campaign to join. By default that of the workflow around, as of ``flowprov run``,
        which gets the name if it has none; else the one that the process inherited, or a new one.

    Attributes
    ----------
    campaign_id
        Id of the campaign.
    """

    def __init__(self, name: str | None = None, *, campaign_id: str | None = None) -> None:
        self.name = as_name(name)
        self._campaign_id = as_id(campaign_id)
        self._previous_ids: list[str | None] = []

    def _state_of_copy(self) -> dict[str, Any]:
        return {"_previous_ids": []}

    @property
    def campaign_id(self) -> str:
        """Id of the campaign."""
        if self._campaign_id is None and self._is_copy:
            self._campaign_id = new_id()
        if self._campaign_id is None:
            self._campaign_id = _campaign_around() or launch.default_campaign_id()
        return self._campaign_id

    def start(self) -> Self:
        """Open the campaign, where a ``with`` block does not fit."""
        if self._is_copy:
            return self
        active = runtime.get()
        if self.campaign_id != _campaign_around() or not active.is_campaign_named(self.campaign_id):
            record = records.Campaign(campaign_id=self.campaign_id, name=self.name, started_at=clock.now())
            active.name_campaign(record)
        self._previous_ids.append(active.set_campaign(self.campaign_id))
        return self

    def stop(self) -> None:
        """Close the campaign. The previous one becomes the campaign of the process again."""
        if self._previous_ids:
            runtime.get().set_campaign(self._previous_ids.pop())

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<flowprov campaign {self.name or ''} {self.campaign_id}>"


def _campaign_around() -> str | None:
    """Return the campaign of the workflow around; None outside of any."""
    scope = current_scope()
    return None if scope is None else scope.journal.identity.campaign_id
