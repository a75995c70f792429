"""Follow a campaign while it is recorded.

Flows in: the journals of the campaign, including those that appear later. Flows out: each message once, in
the order of its journal, and a position from which another follower can continue.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from flowprov.errors import SinkError
from flowprov.journal.reader import JournalReader
from flowprov.journal.summary import JournalSummary
from flowprov.read.decoding import reader_of
from flowprov.read.grouping import belongs_to, best_copy
from flowprov.read.source import Source
from flowprov.records import Header, Record, Task, Workflow, complete_task, complete_workflow

logger = logging.getLogger("flowprov")

_RETRY_S = 0.5  # the shortest wait before a server that failed is asked again


class Follower(Iterator[Task | Workflow]):
    """Iterates over messages as they are written; it waits for more and never ends by itself.

    A workflow has two messages, its opening and its ending, and so has a Dask task. What is known only later
    (corrections, and which items were interrupted) is in the rows of :meth:`flowprov.Buffer.records`.

    If a server goes away, the follower logs one warning and waits for it. Only a server that was never
    reached is an error. From MongoDB, a message is returned only when all messages before it have arrived.

    Parameters
    ----------
    source
        Where to look for journals.
    campaign_id
        The campaign. None: the one with the latest record, as soon as there is one.
    poll
        Seconds between two looks for new messages.
    position
        The ``position`` of an earlier follower, in this process or another. It may have followed this source
        or any other source of the same campaign: a folder, Redis, MongoDB.

    Raises
    ------
    SinkError
        By the first look, if the server cannot be reached.
    """

    def __init__(
        self,
        source: Source,
        campaign_id: str | None = None,
        poll: float = 0.5,
        position: Mapping[str, Any] | None = None,
    ) -> None:
        position = position or {}
        self.poll = poll
        self.campaign_id: str | None = campaign_id or position.get("campaign_id")
        self._source = source.for_following()
        self._start_positions: dict[str, int] = dict(position.get("journals", {}))
        self._readers: dict[str, tuple[JournalReader[Record], Header]] = {}
        self._seen_paths: set[Path] = set()
        self._pending: Iterator[Task | Workflow] = iter(())
        self._reached = False
        self._server_away = False

    @property
    def reached(self) -> bool:
        """Whether the source could be read once."""
        return self._reached

    @property
    def position(self) -> dict[str, Any]:
        """How far each journal has been read, as a value that JSON can hold."""
        positions = {journal_id: reader.position for journal_id, (reader, _) in self._readers.items()}
        return {"campaign_id": self.campaign_id, "journals": {**self._start_positions, **positions}}

    def __iter__(self) -> Follower:
        return self

    def __next__(self) -> Task | Workflow:
        while (message := self._next_or_none()) is None:
            time.sleep(max(self.poll, _RETRY_S) if self._server_away else self.poll)
        return message

    def _next_or_none(self) -> Task | Workflow | None:
        """Return the next message; None if there is none yet, or if the server is away."""
        if (message := next(self._pending, None)) is not None:
            return message
        self._pending = self.available()
        try:
            message = next(self._pending, None)
        except SinkError as error:
            if not self._reached:
                raise
            if not self._server_away:
                logger.warning("flowprov follows a server that is away (%s), and goes on asking.", error)
            self._server_away = True
            return None
        if self._server_away:
            logger.info("flowprov goes on following: the server is back.")
        self._server_away = False
        return message

    def available(self) -> Iterator[Task | Workflow]:
        """Yield the messages that are there and were not yielded before, without waiting.

        Raises
        ------
        SinkError
            If the server cannot be reached. A later call yields the remaining messages.
        """
        for record, header in self.available_records():
            if isinstance(record, Workflow):
                yield complete_workflow(record, header)
            elif type(record) is Task:
                yield complete_task(record, header)

    def available_records(self) -> Iterator[tuple[Record, Header]]:
        """Yield all records that are there and were not yielded before, with the headers of their journals.

        Control records are among them. Records are as they were written: without what the header holds.

        Raises
        ------
        SinkError
            As :meth:`available` does.
        """
        self._open_new_journals()
        self._reached = True
        for reader, header in list(self._readers.values()):
            for _, record in reader.read():
                yield record, header

    def readers(self) -> list[JournalReader[Record]]:
        """Return the readers of the journals that were found so far."""
        return [reader for reader, _ in self._readers.values()]

    def summaries(self, *, skip: Container[str] = ()) -> list[JournalSummary]:
        """Return the present summaries of the journals that were found so far and are still there.

        Parameters
        ----------
        skip
            Ids of journals that are left out.
        """
        paths = [reader.path for name, (reader, _) in self._readers.items() if name not in skip]
        return [summary for path in paths if (summary := self._source.summarize_or_warn(path)) is not None]

    def _open_new_journals(self) -> None:
        """Open the journals that have appeared since the last look."""
        if self.campaign_id is None:
            latest = self._source.campaign()
            if not latest:
                return
            self.campaign_id = latest[0].header.campaign_id
        for path in self._source.paths(self.campaign_id):
            if path in self._seen_paths or (summary := self._source.summarize_or_warn(path)) is None:
                continue
            self._seen_paths.add(path)
            if belongs_to(summary, self.campaign_id):
                self._open(summary)
        if not self._readers and not self._reached:
            logger.warning(
                "flowprov follows campaign %s, of which %s holds nothing yet.", self.campaign_id, self._source
            )

    def _open(self, summary: JournalSummary) -> None:
        """Read a journal from where an earlier follower, or the copy that was read so far, has ended."""
        journal_id = summary.header.journal_id
        position = self._start_positions.get(journal_id, 0)
        if journal_id in self._readers:
            open_reader, _ = self._readers[journal_id]
            open_summary = self._source.summarize_or_warn(open_reader.path)
            if open_summary is not None and best_copy([open_summary, summary]) is open_summary:
                return
            position = open_reader.position
        self._readers[journal_id] = reader_of(summary, position), summary.header
