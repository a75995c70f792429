"""Messages as they come.

Flows in: the journals of a campaign that is being recorded, those included that appear later. Flows out: each
message once, in the order of its journal, and a position from which another follower can go on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flowprov.errors import SinkError
from flowprov.journal.format import folder_name
from flowprov.journal.reader import JournalReader
from flowprov.read.decoding import reader_of
from flowprov.read.source import Source, campaign_key
from flowprov.records import Header, Record, Task, Workflow, complete_task, complete_workflow

logger = logging.getLogger("flowprov")

_RETRY_S = 0.5  # the shortest pause before a server that failed is asked again


class Follower(Iterator[Task | Workflow]):
    """Gives messages as they are written; waits for more and never ends by itself.

    A workflow has two messages, its opening and its ending; so has a Dask task. What is only known later
    (corrections, what was interrupted) is told by :meth:`flowprov.Buffer.records`.

    A server that goes away is waited for, with one warning; that is an error only before it was ever reached.
    From MongoDB a message is given once all before it are there.

    Parameters
    ----------
    source
        Where journals are looked for.
    campaign_id
        The campaign; None: the one with the latest record, once there is one.
    poll
        Seconds between two looks.
    position
        The ``position`` of an earlier follower, in this process or another, of this source or of any other
        of the same campaign: a folder, Redis, MongoDB.

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
        self._begin: dict[str, int] = dict(position.get("journals", {}))
        self._readers: dict[str, tuple[JournalReader[Record], Header]] = {}
        self._looked_at: set[Path] = set()
        self._now: Iterator[Task | Workflow] = iter(())
        self._reached = False
        self._away = False

    @property
    def position(self) -> dict[str, Any]:
        """What was given so far, as a value that JSON can hold."""
        seen = {name: reader.position for name, (reader, _) in self._readers.items()}
        return {"campaign_id": self.campaign_id, "journals": {**self._begin, **seen}}

    def __iter__(self) -> Follower:
        return self

    def __next__(self) -> Task | Workflow:
        while (message := self._next()) is None:
            time.sleep(max(self.poll, _RETRY_S) if self._away else self.poll)
        return message

    def _next(self) -> Task | Workflow | None:
        """Give the next message; None if there is none yet, or if the server is away."""
        if (message := next(self._now, None)) is not None:
            return message
        self._now = self.available()
        try:
            message = next(self._now, None)
        except SinkError as error:
            if not self._reached:
                raise
            if not self._away:
                logger.warning("flowprov follows a server that is away (%s), and goes on asking.", error)
            self._away = True
            return None
        if self._away:
            logger.info("flowprov goes on following: the server is back.")
        self._away = False
        return message

    def available(self) -> Iterator[Task | Workflow]:
        """Give what is there and was not given yet, without waiting.

        Raises
        ------
        SinkError
            If the server cannot be reached; what was not given yet is given by a later call.
        """
        self._find()
        self._reached = True
        for reader, header in list(self._readers.values()):
            for _, record in reader.read():
                if isinstance(record, Workflow):
                    yield complete_workflow(record, header)
                elif type(record) is Task:
                    yield complete_task(record, header)

    def _find(self) -> None:
        """Take up the journals that appeared."""
        if self.campaign_id is None:
            chosen = self._source.campaign()
            if not chosen:
                return
            self.campaign_id = chosen[0].header.campaign_id
        for path in self._source.paths(self.campaign_id):
            if path in self._looked_at or (summary := self._source.summarize_or_warn(path)) is None:
                continue
            self._looked_at.add(path)
            header = summary.header
            if campaign_key(summary) == folder_name(self.campaign_id):
                reader = reader_of(summary, self._begin.get(header.journal_id, 0))
                self._readers.setdefault(header.journal_id, (reader, header))
