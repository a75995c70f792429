"""The two items of a comparison, read from Parquet files where all campaigns have them.

Flows in: campaigns, and two ids. Flows out: the items that they mean. Only campaigns in which something has
one of the ids are read with all of their iterations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flowprov.errors import UnknownIdError
from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.contents import Contents, read_runs
from flowprov.read.answers.items import Item, find_item, find_items
from flowprov.read.campaign_names import campaign_of
from flowprov.read.digest import Digest
from flowprov.read.parquet_files import UnreadableFilesError
from flowprov.read.task_files import TaskFiles

_MOST = 8  # tasks that an id may mean


class CompactedCampaign(NamedTuple):
    """The journals of a campaign, and their digests."""

    journals: Sequence[JournalSummary]
    digests: Mapping[Path, Digest]

    def stands_alone(self) -> bool:
        """Whether all its tasks can be read from its files, one by one."""
        return all(
            (digest := self.digests.get(journal.path)) is not None and digest.plain and not digest.unusual
            for journal in self.journals
        )


def items_in_files(campaigns: Sequence[CompactedCampaign], wanted: Sequence[str]) -> list[Item] | None:
    """Return the items that ids mean; None if only all records can tell.

    That is so if an id means nothing, or several things, and if a run was resumed.
    """
    if not all(one.stands_alone() for one in campaigns):
        return None
    try:
        found = [contents for one in campaigns for contents in _matching(one, wanted)]
        if any(contents.restarted for contents in found):
            return None
        return [find_item(found, one, "what was read") for one in wanted]
    except (UnknownIdError, UnreadableFilesError):
        return None


def _matching(one: CompactedCampaign, wanted: Sequence[str]) -> list[Contents]:
    """Return what a campaign holds; nothing if no id means anything in it."""
    campaign = campaign_of(one.journals)
    thin = read_runs(campaign, one.journals, one.digests)
    files = TaskFiles(one.digests)
    tasks = {task_id for name in wanted for task_id in files.matching(name, _MOST)}
    if thin.restarted or tasks or any(find_items([thin], name) for name in wanted):
        return [read_runs(campaign, one.journals, one.digests, every_iteration=True, wanted=tasks)]
    return []
