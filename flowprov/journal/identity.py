"""What a journal knows of its process when it is made.

Flows in: campaign, host, rank and program, from the runtime. Flows out: the header of the journal.
"""

from __future__ import annotations

import msgspec

from flowprov import records


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What the header of a journal says of its process."""

    campaign_id: str
    campaign: records.Campaign | None = None
    hostname: str
    rank: int | None = None
    world_size: int | None = None
    program: str | None = None
    settings_digest: str | None = None
    flowprov: str = ""
