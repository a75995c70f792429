"""Find the journals of a campaign in a source.

Flows in: a path, a URI, or None for the buffer folder of this process. Flows out: summaries of the journals
to read. Each call looks at the folder or server anew, so it finds journals that have appeared since the last.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from flowprov.errors import JournalError
from flowprov.journal import files
from flowprov.journal.format import SUFFIX, find_journals, folder_name
from flowprov.journal.reader import header_from_path
from flowprov.journal.summary import JournalSummary, summarize
from flowprov.read.mirror import Mirror
from flowprov.settings import active_settings, load_settings

logger = logging.getLogger("flowprov")

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_MAX_LISTED = 8


class Source:
    """A folder, a file or a server with journals.

    Parameters
    ----------
    source
        A path, a URI or None; see :class:`flowprov.Buffer`.

    Raises
    ------
    JournalError
        If the path does not exist, or the URI names no server that can be read.
    SinkError
        If the server cannot be reached, when it is read.

    Attributes
    ----------
    unreadable
        The journals that could not be opened at the last look, with the reasons.
    """

    def __init__(self, source: str | os.PathLike[str] | None = None) -> None:
        self._path: Path | None = None
        self._mirror: Mirror | None = None
        self.unreadable: dict[Path, str] = {}
        if source is None:
            return
        if isinstance(source, str) and _URI.match(source):
            self._mirror = Mirror(source)
            return
        self._path = Path(source)
        if not self._path.exists():
            raise JournalError(_describe_missing_path(self._path))

    def is_part(self) -> bool:
        """Whether the source is a part of a campaign by its form: a journal, or the folder of a host."""
        path = self._path
        return path is not None and (path.is_file() or any(path.glob(f"*{SUFFIX}")))

    def for_following(self) -> Source:
        """Return a source of the same journals, for a follower that reads them repeatedly while they grow."""
        if self._mirror is None:
            return self
        following = Source()
        following._mirror = self._mirror.for_following()
        return following

    def paths(self, campaign_id: str) -> list[Path]:
        """Return the journals that are there now: of a server those of one campaign, else all."""
        return self._journal_paths() if self._mirror is None else self._mirror.fetch(campaign_id)

    def summarize_or_warn(self, path: Path) -> JournalSummary | None:
        """Return the summary of a journal; if that fails, warn, note it in ``unreadable`` and return None."""
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
        """Return summaries of all journals that are there now; of a server only their ends are fetched."""
        summaries = self._summarize_all(
            self._journal_paths() if self._mirror is None else self._mirror.fetch_ends()
        )
        if not summaries and self._path is not None and self._path.is_file():
            # A file that is named as the source is reported even if it is no journal.
            header = header_from_path(self._path)
            return [JournalSummary(self._path, header, None, None, alive=False, last_at=0)]
        return summaries

    def campaign(self, campaign_id: str | None = None) -> list[JournalSummary]:
        """Return the journals of a campaign; by default of the one with the latest record."""
        if campaign_id is None or self._mirror is None:
            groups = by_campaign(self.summaries())
            key = next(reversed(groups), "") if campaign_id is None else folder_name(campaign_id)
            if self._mirror is None or key not in groups:
                return groups.get(key, [])
            campaign_id = groups[key][0].header.campaign_id
        summaries = self._summarize_all(self.paths(campaign_id))
        return by_campaign(summaries).get(folder_name(campaign_id), [])

    def _summarize_all(self, paths: list[Path]) -> list[JournalSummary]:
        self.unreadable = {}
        return [summary for path in paths if (summary := self.summarize_or_warn(path)) is not None]

    def _journal_paths(self) -> list[Path]:
        if self._path is None:
            return _journals_of_this_process()
        return find_journals(self._path) if self._path.is_dir() else [self._path]

    def require_campaign(self, campaign_id: str | None = None) -> list[JournalSummary]:
        """Return the journals of a campaign, as :meth:`campaign` does.

        Raises
        ------
        JournalError
            If there are none.
        """
        if journals := self.campaign(campaign_id):
            return journals
        where: object = self._path or ("the server" if self._mirror else default_folder())
        if self.unreadable:
            path, reason = next(iter(self.unreadable.items()))
            raise JournalError(f"{path} cannot be read ({reason}). Give this user the right to read it.")
        if campaign_id is None:
            raise JournalError(
                f"{where} holds no journal with records. Give the buffer folder of the run (its "
                "journal.path), a campaign folder, a host folder or one .jsonl journal."
            )
        names = [group[0].header.campaign_id for group in by_campaign(self.summaries()).values()]
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        raise JournalError(
            f"{where} holds no campaign {campaign_id!r}; "
            + (f"it holds {', '.join(names[-_MAX_LISTED:])}{more}." if names else "it holds none.")
        )


def by_campaign(summaries: Iterable[JournalSummary]) -> dict[str, list[JournalSummary]]:
    """Return journals grouped by campaign, the campaign with the latest record last.

    The keys are the names of the campaigns' folders, as nothing else is known of a journal without a header.
    """
    groups: dict[str, list[JournalSummary]] = {}
    for summary in summaries:
        groups.setdefault(campaign_key(summary), []).append(summary)
    return dict(sorted(groups.items(), key=lambda item: max(journal.last_at for journal in item[1])))


def campaign_key(summary: JournalSummary) -> str:
    """Return the name of the campaign's folder, which identifies the campaign of a journal."""
    return folder_name(summary.header.campaign_id)


def default_folder() -> Path:
    """Return the buffer folder of this process: the one it was configured with, else that of the settings."""
    settings = active_settings() or load_settings()
    return Path(settings.journal.path)


def _journals_of_this_process() -> list[Path]:
    folder = default_folder()
    if journals := find_journals(folder):
        return journals
    fallback = files.fallback_folder()
    if journals := find_journals(fallback):
        logger.warning(
            "flowprov found no records in %s. It reads %s instead, to which records go when the first folder "
            "cannot be written.",
            folder,
            fallback,
        )
    return journals


def _describe_missing_path(path: Path) -> str:
    nearest = path.absolute().parent
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    try:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in nearest.iterdir())
    except OSError as error:
        names, holds = [], f"cannot be listed ({error.strerror})"
    else:
        more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
        holds = f"holds {', '.join(names[:_MAX_LISTED])}{more}" if names else "is empty"
    return (
        f"{path} does not exist; {nearest} {holds}. Give a buffer folder (journal.path of the run), a "
        "campaign folder, a host folder or one .jsonl journal. Without a source, the buffer folder of the "
        "settings is read."
    )
