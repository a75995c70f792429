"""``versions``: on which code, data and environment each workflow ran.

Flows in: one source or several. Flows out: a DataFrame.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from flowprov.read.answers.answer_frames import answer_frame
from flowprov.read.answers.kept_versions import KeptVersion
from flowprov.read.answers.tables import Line
from flowprov.read.campaign_names import campaign_of
from flowprov.read.campaign_sources import CampaignSource, Sources, campaigns_of
from flowprov.read.decoding import records_of_kind
from flowprov.records import Version
from flowprov.versioning.pending import finish_pending

if TYPE_CHECKING:
    import pandas as pd

VERSION_COLUMNS = (
    "campaign_id",
    "campaign",
    "workflow_id",
    "moment",
    "at",
    "hostname",
    "script",
    "arguments",
    "working_folder",
    "code",
    "data",
    "stage",
    "locks",
    "packages",
    "packages_sha256",
    "patch_sha256",
    "functions",
    "took_ns",
)


def versions(source: Sources = None, *, campaign_id: str | None = None) -> pd.DataFrame:
    """Return the code, data and environment on which workflows ran: one row per workflow and moment.

    Parameters
    ----------
    source
        As for :func:`flowprov.runs`.
    campaign_id
        Only this campaign; by default all.

    Returns
    -------
    pandas.DataFrame
        ``campaign_id``, ``campaign``, ``workflow_id``, ``moment`` (``start``; ``end`` where something moved),
        ``at``, ``hostname``, ``script``, ``arguments``, ``working_folder``, ``took_ns``. Besides, as
        dictionaries and lists, with None for what is not known:

        ``code``
            ``folder``, ``commit``, ``branch``, ``dirty`` (None if unknown), ``changed``, ``untracked``,
            ``diff_sha256``, ``diff_bytes``, ``describe``, ``remote``, ``upstream``, ``worktree``,
            ``submodules``, ``shallow``, ``operation``, ``state`` (``ok``, ``no_commits``, ``not_owned``,
            ``no_git``, ``timeout``, ``bare``, ``failed``, ``none``) and ``reason``.
        ``data``
            For each output and dependency that DVC knows: ``file``, ``path``, ``hash``, ``md5``, ``size``,
            ``nfiles``, ``stage``, ``role`` and ``state`` (``matches``, ``modified``, ``missing``,
            ``unchecked``).
        ``packages``, ``locks``, ``functions``
            The installed packages (``name==version``), the lock files, and the sources of captured functions.

    Raises
    ------
    JournalError, UnknownIdError, SinkError
        As :class:`Buffer` does.
    MissingExtraError
        If pandas is not installed.
    """
    finish_pending()
    lines = [line for one in campaigns_of(source, campaign_id) for line in _lines(one)]
    return answer_frame(lines, VERSION_COLUMNS)


def _lines(campaign: CampaignSource) -> Iterator[Line]:
    name = campaign_of(campaign.journals).name
    found = [
        KeptVersion(record, journal.header, journal.path.parent.parent)
        for journal in campaign.journals
        for record in records_of_kind(journal, Version)
    ]
    for one in sorted(found, key=lambda kept: kept.record.at):
        own = {"campaign_id": campaign.campaign_id, "campaign": name, "hostname": one.header.hostname}
        yield {**msgspec.structs.asdict(one.record), **own, "packages": one.packages()}
