"""Find the journals of a campaign in a source.

Flows in: a path, a URI, or None for the buffer folder of this process. Flows out: summaries of the journals
to read. Each call looks at the folder or server anew, so it finds journals that have appeared since the last.

Which campaign a journal belongs to stands in its header, and so does the id by which a journal is known: of
copies of one journal, one is read. In a buffer, the journals of a campaign lie in the folder that is named
after it. So a campaign that is asked for by its id is looked for there first, and the journals of all others
are not touched.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from flowprov.errors import JournalError, UnknownIdError
from flowprov.journal import folders
from flowprov.journal.format import SUFFIX, folder_names, scan_journals
from flowprov.journal.reader import header_from_path
from flowprov.journal.summary import JournalSummary, summarize
from flowprov.read.digest import Digest
from flowprov.read.grouping import by_campaign, choose_campaign, without_copies
from flowprov.read.mirror import Mirror
from flowprov.read.parquet_files import digests_of
from flowprov.read.successions import with_followers
from flowprov.read.unknown_ids import describe_unknown
from flowprov.settings import (
    active_settings,
    disabled_by_environment,
    expand_existing,
    load_settings,
    redact_source,
)
from flowprov.values import as_id

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
        The journals that could not be opened at the last look, and the folders that could not be listed, with
        the reasons.
    copies
        The copies of journals that the last look found, each with the file that is read in its place.
    digests
        The digests of journals that need not be read again, as the last look found them.
    """

    def __init__(self, source: str | os.PathLike[str] | None = None) -> None:
        self._path: Path | None = None
        self._mirror: Mirror | None = None
        self.unreadable: dict[Path, str] = {}
        self._unlisted: dict[Path, str] = {}
        self.copies: dict[Path, Path] = {}
        self.digests: dict[Path, Digest] = {}
        if source is None:
            return
        if isinstance(source, str) and _URI.match(source):
            self._mirror = Mirror(source)
            return
        self._path = Path(expand_existing(os.fspath(source)))
        if not self._path.exists():
            raise JournalError(_describe_missing_path(self._path, str(source)))

    def is_part(self) -> bool:
        """Whether the source is a part of a campaign by its form: a journal, or the folder of a host."""
        path = self._path
        if path is None or path.is_file():
            return path is not None
        try:
            with os.scandir(path) as entries:
                return any(entry.name.endswith(SUFFIX) for entry in entries)
        except OSError:  # it cannot be listed, or went away
            return False

    @property
    def is_server(self) -> bool:
        """Whether the source is a server."""
        return self._mirror is not None

    def for_following(self) -> Source:
        """Return a source of the same journals, for a follower that reads them repeatedly while they grow."""
        if self._mirror is None:
            return self
        following = Source()
        following._mirror = self._mirror.for_following()
        return following

    def paths(self, campaign_id: str) -> list[Path]:
        """Return the journals that are there now: those where journals of a campaign lie, else all."""
        if self._mirror is not None:
            return self._mirror.fetch(campaign_id)
        for folder in self._folders():
            if journals := self._find_in_campaign_folder(folder, campaign_id):
                return journals
        return self._journal_paths()

    def all_paths(self) -> list[Path]:
        """Return all journals that are there now, without a look at them; of a server they are fetched."""
        if self._mirror is None:
            return self._journal_paths()
        groups = by_campaign(self.summaries())
        return [path for campaign_id in groups for path in self._mirror.fetch(campaign_id)]

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
        if not (summaries or self.unreadable) and self._path is not None and self._path.is_file():
            # A file that is named as the source is reported even if it is no journal.
            header = header_from_path(self._path)
            return [JournalSummary(self._path, header, None, None, alive=False, last_at=0, header_lost=True)]
        return summaries

    def campaign(self, campaign_id: str | None = None, *, everywhere: bool = False) -> list[JournalSummary]:
        """Return the journals of a campaign; by default of the one with the latest record.

        Parameters
        ----------
        campaign_id
            The campaign, by its id or by the name of its folder; None: the one with the latest record.
        everywhere
            Whether to look at all journals of a folder, even if the campaign has a folder of its own.
        """
        campaign_id = as_id(campaign_id)
        if campaign_id is None:
            groups = by_campaign(self.summaries())
            latest = groups[next(reversed(groups))] if groups else []
            if self._mirror is None or not latest:
                return latest
            campaign_id = latest[0].header.campaign_id
        elif self._mirror is None and not everywhere:
            for folder in self._folders():
                found = self._summarize_all(self._find_in_campaign_folder(folder, campaign_id))
                if journals := choose_campaign(by_campaign(found), campaign_id):
                    return journals
        paths = self._journal_paths() if self._mirror is None else self._mirror.fetch(campaign_id)
        return choose_campaign(by_campaign(self._summarize_all(paths)), campaign_id)

    def _summarize_all(self, paths: list[Path]) -> list[JournalSummary]:
        self.unreadable, self._unlisted = self._unlisted, {}
        for folder, reason in self.unreadable.items():
            logger.warning("flowprov cannot list %s (%s): what lies in it is missing here.", folder, reason)
        self.digests = digests_of(paths) if self._mirror is None else {}
        summaries = [summary for path in paths if (summary := self._summary_of(path)) is not None]
        summaries, self.copies = without_copies(summaries)
        return with_followers(summaries) if self._mirror is None else summaries

    def _summary_of(self, path: Path) -> JournalSummary | None:
        digest = self.digests.get(path)
        return self.summarize_or_warn(path) if digest is None else digest.summary(path)

    def _folders(self) -> Iterator[Path]:
        """Yield the folders in which a campaign may have a folder of its own."""
        if self._path is None:
            yield default_folder()
            if folders.is_own(last_resort := folders.fallback_folder()):
                yield last_resort
        elif self._path.is_dir():
            yield self._path

    def _journal_paths(self) -> list[Path]:
        if self._path is None:
            return self._journals_of_this_process()
        return self._find(self._path) if self._path.is_dir() else [self._path]

    def _find(self, folder: Path) -> list[Path]:
        journals, unlisted = scan_journals(folder)
        self._unlisted.update(unlisted)
        return journals

    def _find_in_campaign_folder(self, buffer: Path, campaign_id: str) -> list[Path]:
        """Return the journals in the folder of a campaign in a buffer; none if the folder is no buffer.

        A folder of that name may be something else, as a host can have the name of a campaign. So all
        journals must lie where a buffer has them: in ``campaign/host``.
        """
        journals: list[Path] = []
        for name in folder_names(campaign_id):
            found = self._find(buffer / name) if (buffer / name).is_dir() else []
            if any(path.parent.parent != buffer / name for path in found):
                return []
            journals += found
        return journals

    def _journals_of_this_process(self) -> list[Path]:
        folder = default_folder()
        if journals := self._find(folder):
            return journals
        fallback = folders.fallback_folder()
        if folders.is_own(fallback) and (journals := self._find(fallback)):
            logger.warning(
                "flowprov found no records in %s. It reads %s instead, to which records go when the first "
                "folder cannot be written.",
                folder,
                fallback,
            )
        return journals

    def misplaced(self, journals: Iterable[JournalSummary]) -> list[Path]:
        """Return the journals of a campaign that lie outside its folder, where nobody looks for it."""
        journals = list(journals)
        if self._mirror is not None or not journals:
            return []
        found = set(self.paths(journals[0].header.campaign_id))
        return [journal.path for journal in journals if journal.path not in found]

    def require_campaign(
        self, campaign_id: str | None = None, *, everywhere: bool = False
    ) -> list[JournalSummary]:
        """Return the journals of a campaign, as :meth:`campaign` does.

        Raises
        ------
        UnknownIdError
            If there is no campaign with this id.
        JournalError
            If there are no journals.
        """
        campaign_id = as_id(campaign_id)
        if journals := self.campaign(campaign_id, everywhere=everywhere):
            return journals
        if self.unreadable:
            path, reason = next(iter(self.unreadable.items()))
            raise JournalError(
                f"{path} cannot be read ({reason}). Give a source that this user has the right to read."
            )
        if campaign_id is None:
            raise JournalError(
                f"{self} holds no journal with records. Give the buffer folder of the run (its "
                "journal.path), a campaign folder, a host folder or one .jsonl journal."
            )
        names = {
            group_id: next((journal.campaign.name for journal in group if journal.campaign), None)
            for group_id, group in by_campaign(self.summaries()).items()
        }
        raise UnknownIdError(describe_unknown("campaign", campaign_id, str(self), names))

    @property
    def is_default(self) -> bool:
        """Whether this is the buffer folder of the process."""
        return self._path is None and self._mirror is None

    def __str__(self) -> str:
        return str(self._path or ("the server" if self._mirror else default_folder()))


def default_folder() -> Path:
    """Return the buffer folder of this process: the one it was configured with, else that of the settings."""
    settings = active_settings() or load_settings()
    return Path(settings.journal.path)


def is_capture_off() -> bool:
    """Whether nothing is recorded in this process, as the environment or the settings want it."""
    if disabled_by_environment():
        return True
    settings = active_settings()
    return settings is not None and not settings.instrumentation.enabled


def _describe_missing_path(path: Path, source: str) -> str:
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
        f"{redact_source(source)} does not exist; {nearest} {holds}. Give a buffer folder (journal.path of "
        "the run), a campaign folder, a host folder or one .jsonl journal, or the URI of a server. Without "
        "a source, the buffer folder of the settings is read."
    )
