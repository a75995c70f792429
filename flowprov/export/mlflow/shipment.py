"""The shipment to MLflow: what is new in a buffer is exported again and again.

Flows in: journals, growing or done. Flows out: runs in MLflow. It takes the place of a shipment of lines in
the shipper, which knows it by a string alone.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

from flowprov.errors import FlowprovError, SinkError, SinkRefusedError
from flowprov.export.mlflow.campaign_export import export_campaigns
from flowprov.export.mlflow.store import Store
from flowprov.journal.summary import JournalSummary, last_position, summarize
from flowprov.settings import MLflowSettings
from flowprov.shipping.shipment import BufferShipment

_Reach: TypeAlias = "tuple[int | None, bool]"
"""How far a journal reached at its export, and whether its process could write on."""

_REST = 9  # times as long as an export took: the next one waits


class MLflowShipment(BufferShipment):
    """The export of a buffer to MLflow, whenever journals have grown.

    Parameters
    ----------
    uri
        The address of MLflow.
    folder, host
        As for :class:`BufferShipment`.
    settings
        The fewest seconds between two exports of what goes on, and which files are uploaded.
    """

    unit = "journals"

    def __init__(self, uri: str, folder: Path, host: str | None, settings: MLflowSettings) -> None:
        super().__init__(folder, host)
        self._uri = uri
        self._settings = settings
        self._store: Store | None = None
        self._exported: dict[Path, _Reach] = {}
        self._not_before = 0.0
        self._alive = False
        self._is_first = True

    def try_deliver(self) -> None:
        """Export the campaigns of journals that have grown.

        Raises
        ------
        SinkError
            If MLflow fails. What was exported until then stays.
        """
        began = time.monotonic()
        grown = self._grown()
        self.scan_seconds = time.monotonic() - began
        if grown and (self._is_first or not self._alive or began >= self._not_before):
            self._export(grown)
        elif grown:
            self.idle = False
            return
        self.last_error = None
        self.idle = not self._alive

    def waiting(self) -> int:
        """Return the number of journals that have grown since their export."""
        return len(self._grown())

    @property
    def positions(self) -> dict[str, int]:
        """Where each journal ended when it was exported, by the name of its file."""
        return {path.name: end for path, (end, _) in self._exported.items() if end is not None}

    def close(self) -> None:
        """Close the connection; the next export opens another one."""
        self._store = None

    def _grown(self) -> dict[Path, JournalSummary]:
        """Return the journals that have grown since their export."""
        summaries = {path: summary for path in self._paths() if (summary := _summary(path)) is not None}
        self._alive = any(summary.alive for summary in summaries.values())
        return {
            path: summary
            for path, summary in summaries.items()
            if self._exported.get(path) != _reach_of(path, summary)
        }

    def _export(self, grown: dict[Path, JournalSummary]) -> None:
        reaches = {path: _reach_of(path, summary) for path, summary in grown.items()}
        began = time.monotonic()
        try:
            if self._store is None:
                _enter_folder_of(self._uri)
                self._store = Store(self._uri)
            export_campaigns(
                self._store,
                self._folder,
                {summary.header.campaign_id for summary in grown.values()},
                upload_bytes=self._settings.upload_bytes,
            )
        except FlowprovError as error:
            self.last_error, self.idle = str(error).rstrip("."), False
            self.close()
            if isinstance(error, SinkError):
                raise
            raise SinkRefusedError(str(error)) from error
        self._is_first = False
        self._exported.update(reaches)
        self.delivered += len(reaches)
        ended = time.monotonic()
        self._not_before = ended + max(self._settings.interval, _REST * (ended - began))


def _summary(path: Path) -> JournalSummary | None:
    with contextlib.suppress(OSError):  # it went away, or is not ours to read
        return summarize(path)
    return None


def _reach_of(path: Path, summary: JournalSummary) -> _Reach:
    """Return how far a journal reaches, and whether it may still grow."""
    with contextlib.suppress(OSError):
        return last_position(path), summary.alive
    return None, summary.alive


def _enter_folder_of(uri: str) -> None:
    """Work in the folder of a database file: MLflow keeps artifacts beside where a program works."""
    parts = urlsplit(uri)
    if parts.scheme.startswith("sqlite") and parts.path.startswith("//"):
        with contextlib.suppress(OSError):
            os.chdir(Path(parts.path[1:]).parent)
