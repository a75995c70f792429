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
from flowprov.journal.format import SUFFIX, find_journals, folder_names, scan_journals
from flowprov.journal.reader import header_from_path, read_head
from flowprov.journal.summary import JournalSummary, summarize
from flowprov.read.digest import Digest
from flowprov.read.grouping import by_campaign, choose_campaign, without_copies
from flowprov.read.mirror import Mirror
from flowprov.read.parquet_files import digests_of
from flowprov.read.source_errors import describe_missing_path, describe_unlisted_folder
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


class Source:
    """A folder, a file or a server with journals.

    Parameters
    ----------
    source
        A path, a URI or None; see :class:`flowprov.Buffer`.

    Raises
    ------
    JournalError
        If the path does not exist, or is a file that is no journal, or the URI names no server that can be
        read. By every method that reads, if the folder itself cannot be listed.
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
        self._read: Path | None = None  # of a process, as the last look found it: it may be the last resort
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
            raise JournalError(describe_missing_path(self._path, str(source)))
        if self._path.is_file() and self._path.suffix != SUFFIX and not _has_header(self._path):
            raise JournalError(
                f"{redact_source(str(source))} is no journal: its first line is no header of flowprov. "
                f"Give a {SUFFIX} journal, a buffer folder or the URI of a server."
            )

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
            paths = self._journal_paths()
            self._report_unlisted()
            return paths
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
            # A file that is named as the source, and like a journal, is reported even if it is none.
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
        elif not everywhere and (journals := self.in_own_folder(campaign_id)):
            return journals
        paths = self._journal_paths() if self._mirror is None else self._mirror.fetch(campaign_id)
        return choose_campaign(by_campaign(self._summarize_all(paths)), campaign_id)

    def in_own_folder(self, campaign_id: str) -> list[JournalSummary]:
        """Return the journals in the folder of a campaign, which takes no look at the others; else none."""
        for folder in self._folders() if self._mirror is None else ():
            found = self._summarize_all(self._find_in_campaign_folder(folder, campaign_id))
            if journals := choose_campaign(by_campaign(found), campaign_id):
                self._read = folder
                return journals
        return []

    def _summarize_all(self, paths: list[Path]) -> list[JournalSummary]:
        self._report_unlisted()
        self.digests = digests_of(paths) if self._mirror is None else {}
        summaries = [summary for path in paths if (summary := self._summary_of(path)) is not None]
        summaries, self.copies = without_copies(summaries)
        return with_followers(summaries) if self._mirror is None else summaries

    def _report_unlisted(self) -> None:
        self.unreadable, self._unlisted = self._unlisted, {}
        for folder, reason in self.unreadable.items():
            logger.warning("flowprov cannot list %s (%s): what lies in it is missing here.", folder, reason)

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
        if not self._path.is_dir():
            return [self._path]
        journals = self._find(self._path)
        self._require_listed(self._path)
        return journals

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
            is_folder = os.path.isdir(buffer / name)  # noqa: PTH112 - pathlib raises where the buffer is closed
            found = self._find(buffer / name) if is_folder else []
            if any(path.parent.parent != buffer / name for path in found):
                return []
            journals += found
        return journals

    def _journals_of_this_process(self) -> list[Path]:
        folder, last_resort = default_folder(), folders.fallback_folder()
        journals = self._find(folder)
        if not journals and folders.is_own(last_resort) and (journals := self._find(last_resort)):
            if self._read != last_resort:
                reason = self._unlisted.pop(folder, None)
                logger.warning(
                    "flowprov %s. It reads %s instead, to which records go when the first folder cannot be "
                    "written.",
                    f"found no records in {folder}" if reason is None else f"cannot list {folder} ({reason})",
                    last_resort,
                )
            self._read = last_resort
        else:
            self._require_listed(folder)
            self._read = folder
        return journals

    def _require_listed(self, folder: Path) -> None:
        """Raise if the folder that is the source could not be listed: nothing is known of what it holds."""
        if (reason := self._unlisted.pop(folder, None)) is not None:
            raise JournalError(describe_unlisted_folder(folder, reason))

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
        return str(self._path or ("the server" if self._mirror else self._read or default_folder()))


def default_folder() -> Path:
    """Return the buffer folder of this process: the one it was configured with, else that of the settings."""
    settings = active_settings() or load_settings()
    return Path(settings.journal.path)


def buffer_to_change(given: str | None, argument: str) -> Path:
    """Return the buffer folder that a command changes if a person names none, and never that of last resort.

    Parameters
    ----------
    given
        The folder of the settings that the command was given; None: that of this process.
    argument
        What stands before a folder that a person names: ``"--source "``, or nothing.

    Raises
    ------
    JournalError
        If there is no such folder.
    """
    folder = default_folder() if given is None else Path(given)
    if folder.exists():
        return folder
    last_resort = folders.fallback_folder()
    if folders.is_own(last_resort) and find_journals(last_resort):
        raise JournalError(
            f"{folder} does not exist. Records of programs that could not write their own folder are in "
            f"{last_resort}: give {argument}{last_resort} if you mean those."
        )
    raise JournalError(
        f"{folder} does not exist: give {argument}FOLDER, the buffer folder of the run (its journal.path)."
    )


def is_capture_off() -> bool:
    """Whether nothing is recorded in this process, as the environment or the settings want it."""
    if disabled_by_environment():
        return True
    settings = active_settings()
    return settings is not None and not settings.instrumentation.enabled


def _has_header(path: Path) -> bool:
    """Whether a file begins as a journal does, or cannot be read: that is said by whoever reads it."""
    try:
        return read_head(path).header is not None
    except OSError:
        return True
