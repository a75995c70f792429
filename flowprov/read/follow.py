"""Messages as they come.

Flows in: the journals of a campaign that is being recorded, those included that appear later. Flows out: each
message once, in the order of its journal, and a position from which another follower can go on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from flowprov.journal.format import folder_name
from flowprov.journal.reader import JournalReader
from flowprov.read.messages import reader_of
from flowprov.read.source import Source, campaign_key, glance
from flowprov.records import Header, Record, Task, Workflow, complete_task, complete_workflow


class Follower(Iterator[Task | Workflow]):
    """Gives messages as they are written; waits for more and never ends by itself.

    A workflow has two messages, its opening and its ending; so has a Dask task. What is only known later
    (corrections, what was interrupted) is told by :meth:`flowprov.Buffer.records`.

    Parameters
    ----------
    source
        Where journals are looked for.
    campaign_id
        The campaign; None: the one with the latest record, once there is one.
    poll
        Seconds between two looks.
    position
        The ``position`` of an earlier follower.
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
        self._source = source
        self._begin: dict[str, int] = dict(position.get("journals", {}))
        self._readers: dict[str, tuple[JournalReader[Record], Header]] = {}
        self._passed_over: set[str] = set()
        self._now: Iterator[Task | Workflow] = iter(())

    @property
    def position(self) -> dict[str, Any]:
        """What was given so far, as a value that JSON can hold."""
        seen = {name: reader.position for name, (reader, _) in self._readers.items()}
        return {"campaign_id": self.campaign_id, "journals": {**self._begin, **seen}}

    def __iter__(self) -> Follower:
        return self

    def __next__(self) -> Task | Workflow:
        while (message := next(self._now, None)) is None:
            self._now = self.available()
            if (message := next(self._now, None)) is not None:
                break
            time.sleep(self.poll)
        return message

    def available(self) -> Iterator[Task | Workflow]:
        """Give what is there and was not given yet, without waiting."""
        self._find()
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
        for path in self._source.paths():
            if path.name in self._readers or path.name in self._passed_over:
                continue
            summary = glance(path)
            if summary is None:
                continue
            if campaign_key(summary) == folder_name(self.campaign_id):
                reader = reader_of(summary, self._begin.get(path.name, 0))
                self._readers[path.name] = (reader, summary.header)
            else:
                self._passed_over.add(path.name)
