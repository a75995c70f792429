"""Where the records are: from what a person gave to the journals of one campaign.

Flows in: nothing, a path or a URI. Flows out: summaries of the journals to read. The folder or server is
looked at anew each time, so that what appears later is found.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from flowprov.errors import JournalError
from flowprov.journal import files
from flowprov.journal.format import find_journals, folder_name
from flowprov.journal.reader import header_from_path
from flowprov.journal.summary import JournalSummary, summarize
from flowprov.read.mirror import Mirror
from flowprov.settings import active_settings, load_settings

logger = logging.getLogger("flowprov")

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_SHOWN = 8


class Source:
    """A place in which journals are looked for.

    Parameters
    ----------
    given
        A path, a URI or None, as :class:`flowprov.Buffer` takes it.

    Raises
    ------
    JournalError
        If the path does not exist, or the URI names no server that can be read.
    SinkError
        If the server cannot be reached, when it is read.

    Attributes
    ----------
    unreadable
        Journals that could not be opened when they were looked at last, and why.
    """

    def __init__(self, given: str | os.PathLike[str] | None = None) -> None:
        self._given: Path | None = None
        self._mirror: Mirror | None = None
        self.unreadable: dict[Path, str] = {}
        if given is None:
            return
        if isinstance(given, str) and _URI.match(given):
            self._mirror = Mirror(given)
            return
        self._given = Path(given)
        if not self._given.exists():
            raise JournalError(_not_there(self._given))

    def for_following(self) -> Source:
        """Give a source of the same journals for who reads them again and again while they grow."""
        if self._mirror is None:
            return self
        following = Source()
        following._mirror = self._mirror.for_following()
        return following

    def paths(self, campaign_id: str) -> list[Path]:
        """List the journals that are there now: all, or where they must be fetched those of a campaign."""
        return self._files() if self._mirror is None else self._mirror.fetch(campaign_id)

    def summarize_or_warn(self, path: Path) -> JournalSummary | None:
        """Summarise a journal; one that may not be read is said, noted as unreadable and passed over."""
        try:
            summary = summarize(path)
        except OSError as error:
            self.unreadable[path] = error.strerror or str(error)
            logger.warning(
                "flowprov cannot read %s (%s): its records are missing here.", path, error.strerror or error
            )
            return None
        return summary if summary is None or self._mirror is None else self._mirror.with_liveness(summary)

    def summaries(self) -> list[JournalSummary]:
        """Look at all journals that are there now; of those on a server only the ends can be read."""
        found = self._summarised(self._files() if self._mirror is None else self._mirror.fetch_ends())
        if not found and self._given is not None and self._given.is_file():
            # Asked for by name: whatever it holds is to be reported.
            header = header_from_path(self._given)
            return [JournalSummary(self._given, header, None, None, alive=False, last_at=0)]
        return found

    def campaign(self, campaign_id: str | None = None) -> list[JournalSummary]:
        """Give the journals of a campaign: the given one, else the one with the latest record."""
        if campaign_id is None or self._mirror is None:
            groups = by_campaign(self.summaries())
            key = next(reversed(groups), "") if campaign_id is None else folder_name(campaign_id)
            if self._mirror is None or key not in groups:
                return groups.get(key, [])
            campaign_id = groups[key][0].header.campaign_id
        found = self._summarised(self.paths(campaign_id))
        return by_campaign(found).get(folder_name(campaign_id), [])

    def _summarised(self, paths: list[Path]) -> list[JournalSummary]:
        self.unreadable = {}
        return [summary for path in paths if (summary := self.summarize_or_warn(path)) is not None]

    def _files(self) -> list[Path]:
        if self._given is None:
            return _of_this_process()
        return find_journals(self._given) if self._given.is_dir() else [self._given]

    def require_campaign(self, campaign_id: str | None = None) -> list[JournalSummary]:
        """Give the journals of a campaign, as :meth:`campaign` does, where there have to be some.

        Raises
        ------
        JournalError
            If there are none.
        """
        if found := self.campaign(campaign_id):
            return found
        where: object = self._given or ("the server" if self._mirror else default_folder())
        if self.unreadable:
            path, reason = next(iter(self.unreadable.items()))
            raise JournalError(f"{path} cannot be read ({reason}). Give this user the right to read it.")
        if campaign_id is None:
            raise JournalError(
                f"{where} holds no journal with records. Give the buffer folder of the run (its "
                "journal.path), a campaign folder, a host folder or one .jsonl journal."
            )
        known = [journals[0].header.campaign_id for journals in by_campaign(self.summaries()).values()]
        more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
        raise JournalError(
            f"{where} holds no campaign {campaign_id!r}; "
            + (f"it holds {', '.join(known[-_SHOWN:])}{more}." if known else "it holds none.")
        )


def by_campaign(summaries: Iterable[JournalSummary]) -> dict[str, list[JournalSummary]]:
    """Sort journals by campaign; the campaign with the latest record is last.

    The keys are the names of the campaigns' folders: that is all that is known of a journal without a header.
    """
    groups: dict[str, list[JournalSummary]] = {}
    for summary in summaries:
        groups.setdefault(campaign_key(summary), []).append(summary)
    return dict(sorted(groups.items(), key=lambda item: max(journal.last_at for journal in item[1])))


def campaign_key(summary: JournalSummary) -> str:
    """Give the name of a campaign's folder, by which journals of one campaign are known."""
    return folder_name(summary.header.campaign_id)


def default_folder() -> Path:
    """Give the buffer folder of this process: the one it was configured with, else that of the settings."""
    settings = active_settings() or load_settings()
    return Path(settings.journal.path)


def _of_this_process() -> list[Path]:
    folder = default_folder()
    if found := find_journals(folder):
        return found
    fallback = files.fallback_folder()
    if found := find_journals(fallback):
        logger.warning(
            "flowprov found no records in %s and reads %s, where records go that cannot be written there.",
            folder,
            fallback,
        )
    return found


def _not_there(path: Path) -> str:
    nearest = path.absolute().parent
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        names = sorted(each.name + "/" * each.is_dir() for each in nearest.iterdir())
    except OSError as error:
        names, holds = [], f"cannot be listed ({error.strerror})"
    else:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        holds = f"holds {', '.join(names[:_SHOWN])}{more}" if names else "is empty"
    return (
        f"{path} does not exist; {nearest} {holds}. Give a buffer folder (journal.path of the run), a "
        "campaign folder, a host folder or one .jsonl journal, or nothing for that of the settings."
    )
