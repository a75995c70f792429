"""The public way to read: ``Buffer`` and ``read_buffer``.

Flows in: a source. Flows out: records, tables, telemetry, and word of what could not be read. Each call gives
what is there at that moment.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

import msgspec

from flowprov.journal.format import lines
from flowprov.journal.reader import CHUNK, Damage
from flowprov.journal.summary import JournalSummary
from flowprov.read.decoding import only, records_of
from flowprov.read.follow import Follower
from flowprov.read.frames import samples_to_frame, to_dicts, to_frame
from flowprov.read.journal_report import JournalReport, report_on
from flowprov.read.rows import Row, fold
from flowprov.read.source import Source, by_campaign
from flowprov.read.telemetry_join import machine_of, unfold
from flowprov.records import (
    Campaign,
    Machine,
    Sample,
    Task,
    Workflow,
    complete_task,
    complete_workflow,
    decode,
)

if TYPE_CHECKING:
    import pandas as pd


class Buffer:
    """The records of a source; it looks the same whatever the source is.

    Every method reads one campaign: the one that ``campaign_id`` names, else the one with the latest record.

    Parameters
    ----------
    source
        A path: a buffer folder, a campaign folder, a host folder or one journal. Or the URI of a server to
        which journals were delivered: ``redis://host:6379/0`` (also ``rediss://``, ``unix://``) or
        ``mongodb://host/database`` (also ``mongodb+srv://``; the database "flowprov" where none is named).
        None: the buffer folder with which this process was configured, else that of the settings.

    Raises
    ------
    JournalError
        If the path does not exist, or the URI is of no kind that this version reads.
    MissingExtraError
        If the client library of the server is not installed.
    SinkError
        By every method that reads, if the server cannot be reached or refuses.

    Notes
    -----
    What is read of a server is kept in a temporary folder as long as the buffer is, so that the same buffer
    asks only for what came since. Two things are not known of a server. Damaged lines are not delivered: of
    them only the counts tell. And a writer that left no footer counts as there until it has been silent for
    three heartbeats, as there is no lock to ask for.
    """

    def __init__(self, source: str | os.PathLike[str] | None = None) -> None:
        self._source = Source(source)

    def records(
        self, *, campaign_id: str | None = None, workflow_id: str | None = None, merge: bool = False
    ) -> Iterator[Row]:
        """Give tasks and workflows as they stand, ordered by their start: the rows of :meth:`frame`.

        Rows share the readings of a telemetry sample: what is in ``telemetry_at_start`` and
        ``telemetry_at_end`` is not to be changed.

        Parameters
        ----------
        campaign_id
            The campaign.
        workflow_id
            Only this workflow and its tasks.
        merge
            One record per task, where a task has several messages.
        """
        rows = fold(
            ((journal, records_of(journal)) for journal in self._source.campaign(campaign_id)), merge=merge
        )
        return iter(rows) if workflow_id is None else (row for row in rows if row.workflow_id == workflow_id)

    def messages(self, *, campaign_id: str | None = None) -> Iterator[Row]:
        """Give every message as it was written, journal by journal; memory does not grow with them.

        No telemetry is joined to them, as to those that :meth:`follow` gives.
        """
        for journal in self._source.campaign(campaign_id):
            for record in records_of(journal):
                if isinstance(record, Workflow):
                    yield complete_workflow(record, journal.header)
                elif type(record) is Task:
                    yield complete_task(record, journal.header)

    def frame(
        self, *, campaign_id: str | None = None, workflow_id: str | None = None, merge: bool = False
    ) -> pd.DataFrame:
        """Give a DataFrame; see :func:`read_buffer`."""
        return to_frame(list(self.records(campaign_id=campaign_id, workflow_id=workflow_id, merge=merge)))

    def telemetry(self, *, campaign_id: str | None = None) -> pd.DataFrame:
        """Give the telemetry samples as a DataFrame, one line for each, ordered by time.

        Returns
        -------
        pandas.DataFrame
            ``at``, ``hostname``, ``pid`` and a column for each reading by its path (``mem.used_bytes``,
            ``gpu.0.power_w``); a list, of all cores, stays one cell. Where the samples hold the counters
            also ``cpu.utilization_percent``, the busy share of all cores, and ``process.cpu_percent``, of
            one core, so that 400 are four cores. Both are since the sample before in the same journal, and
            NaN in its first.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        return samples_to_frame(
            (unfold(only(journal, Sample)), journal.header.hostname, journal.header.pid)
            for journal in self._source.campaign(campaign_id)
        )

    def machines(self, *, campaign_id: str | None = None) -> list[dict[str, Any]]:
        """Say what the processes of a campaign run on and with.

        Returns
        -------
        list of dict
            ``hostname``, ``pid``, ``rank``, ``journal_id``, ``at`` (in nanoseconds since the epoch) and
            ``values``: the last that each journal tells. A process that told nothing is not in it.
        """
        return [
            machine_of(journal.header, last)
            for journal in self._source.campaign(campaign_id)
            for last in deque(only(journal, Machine), maxlen=1)
        ]

    def campaigns(self) -> list[Campaign]:
        """List the campaigns of the source, the one with the latest record last.

        Of a server only the beginnings and ends of journals are fetched for it: a name that a campaign was
        given in the middle of its journals is not seen.
        """
        return [campaign_of(journals) for journals in by_campaign(self._source.summaries()).values()]

    def follow(
        self, poll: float = 0.5, position: Mapping[str, Any] | None = None, *, campaign_id: str | None = None
    ) -> Follower:
        """Give messages as they come, those of journals that appear later too; see :class:`Follower`.

        Parameters
        ----------
        poll
            Seconds between two looks.
        position
            The ``position`` of an earlier follower, to go on behind it: of any source of the same campaign.
        campaign_id
            The campaign.
        """
        return Follower(self._source, campaign_id, poll, position)

    def damages(self, *, campaign_id: str | None = None) -> list[Damage]:
        """List what could not be read, torn ends of journals whose writer is gone included."""
        return [damage for report in self.journals(campaign_id=campaign_id) for damage in report.damages]

    def journals(self, *, campaign_id: str | None = None) -> list[JournalReport]:
        """Read every journal and report on it."""
        return [report_on(journal) for journal in self._source.campaign(campaign_id)]


@overload
def read_buffer(
    source: str | os.PathLike[str] | None = None,
    *,
    campaign_id: str | None = None,
    workflow_id: str | None = None,
    merge: bool = False,
    return_df: Literal[True] = True,
) -> pd.DataFrame: ...
@overload
def read_buffer(
    source: str | os.PathLike[str] | None = None,
    *,
    campaign_id: str | None = None,
    workflow_id: str | None = None,
    merge: bool = False,
    return_df: Literal[False],
) -> list[dict[str, Any]]: ...
@overload
def read_buffer(
    source: str | os.PathLike[str] | None = None,
    *,
    campaign_id: str | None = None,
    workflow_id: str | None = None,
    merge: bool = False,
    return_df: bool,
) -> pd.DataFrame | list[dict[str, Any]]: ...
def read_buffer(
    source: str | os.PathLike[str] | None = None,
    *,
    campaign_id: str | None = None,
    workflow_id: str | None = None,
    merge: bool = False,
    return_df: bool = True,
) -> pd.DataFrame | list[dict[str, Any]]:
    """Read a campaign: one row per message of a task and one per workflow, ordered by their start.

    Parameters
    ----------
    source
        A path, a URI or None, as :class:`Buffer` takes it.
    campaign_id
        The campaign; by default the one with the latest record.
    workflow_id
        Only this workflow and its tasks.
    merge
        One row per task, where a task has several messages (Dask: RUNNING, then FINISHED or ERROR).
    return_df
        A DataFrame, else a list of dicts.

    Returns
    -------
    pandas.DataFrame or list of dict
        Always with all of :data:`flowprov.read.COLUMNS`; ``duration`` is in seconds. In a DataFrame times are
        ``datetime64[ns, UTC]``; in dicts they are ``datetime`` in UTC, to the microsecond.

        Where telemetry was recorded, ``telemetry_at_start`` is the latest sample of the row's own journal at
        or before its start (the first, if there is none), ``telemetry_at_end`` the earliest at or after its
        end (the last, if there is none). Each holds the readings by kind, ``sampled_at`` in nanoseconds
        since the epoch, and ``distance_s``, the seconds from that start or end to the sample, negative
        where it was taken before. A row that was over sooner than the next sample came has the one nearest
        to it in both: it tells of no difference. What has no end has no ``telemetry_at_end``. A row that
        read its telemetry itself (``telemetry_capture.mode: exact``) keeps its own readings.

        Where GPUs count their energy, ``telemetry_at_end["gpu_energy"]`` has ``joules``, ``by_device`` (by
        the device's uuid) and ``method``; of samples also ``covered_s``, the seconds of the row that they
        cover. Of a workflow it is that of all devices that its processes and those of the workflows in it
        saw, each once. A device whose counter went backwards is left out.

        ``machine_info`` of a workflow is what its record says, and above that what the process that opened
        it told last of its machine.

    Raises
    ------
    JournalError, SinkError
        As :class:`Buffer` says.
    MissingExtraError
        If a DataFrame is asked for and pandas is not installed, or a server and its client library is not.
    """
    records = Buffer(source).records(campaign_id=campaign_id, workflow_id=workflow_id, merge=merge)
    return to_frame(list(records)) if return_df else to_dicts(list(records))


def campaign_of(journals: Iterable[JournalSummary]) -> Campaign:
    """Give what is known of a campaign: its name where one of its journals tells it."""
    journals = list(journals)
    started = min(
        (journal.header.started_at for journal in journals if journal.header.started_at), default=None
    )
    named = next((journal.campaign for journal in journals if journal.campaign is not None), None)
    named = named or next(filter(None, map(_named_later, journals)), None)
    if named is None:
        return Campaign(campaign_id=journals[0].header.campaign_id, started_at=started)
    return msgspec.structs.replace(named, started_at=named.started_at or started)


def _named_later(journal: JournalSummary) -> Campaign | None:
    """Search a journal for the name of its campaign, which can be given at any time."""
    if not journal.path.exists():  # gathered elsewhere meanwhile
        return None
    rest = b""
    with journal.path.open("rb") as file:
        while piece := file.read(CHUNK):
            data = rest + piece
            if _NAMED in data:
                for _, line in lines(data):
                    if line.startswith(_NAMED):
                        record = decode(line)
                        return record if isinstance(record, Campaign) else None
            rest = data[data.rfind(b"\n") + 1 :].lstrip(b"\0")
    return None


_NAMED = b'{"type":"campaign"'
