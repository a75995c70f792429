"""Read a source with ``Buffer`` and ``read_buffer``, the public way to read.

Flows in: a source. Flows out: records, tables, telemetry, and reports of what could not be read. Each call
returns what is there at that moment.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, overload

from flowprov.errors import UnknownIdError
from flowprov.journal.reader import Damage
from flowprov.journal.summary import JournalSummary
from flowprov.read import questions
from flowprov.read.artifacts import questions as artifact_questions
from flowprov.read.campaign_names import campaign_of
from flowprov.read.dask_frame import dask_frame
from flowprov.read.decoding import records_of, records_of_kind
from flowprov.read.flat_rows import flat_dicts, flat_frame
from flowprov.read.follow import Follower
from flowprov.read.frames import import_pandas, samples_to_frame, to_dicts, to_frame
from flowprov.read.grouping import by_campaign
from flowprov.read.journal_report import JournalReport, report_on
from flowprov.read.rows import Row, fold
from flowprov.read.source import Source, is_capture_off
from flowprov.read.successions import successions
from flowprov.read.task_lines import NotPlainError
from flowprov.read.telemetry_join import machine_as_dict, process_readings
from flowprov.read.unknown_ids import describe_unknown
from flowprov.read.version_table import versions
from flowprov.records import Campaign, Machine, Task, Workflow, complete_task, complete_workflow
from flowprov.values import as_id

if TYPE_CHECKING:
    import pandas as pd

    from flowprov.read.artifacts.lineage import Lineage

logger = logging.getLogger("flowprov")

_OFF = " Capture is off in this process: FLOWPROV_DISABLED or instrumentation.enabled turns it off."


class Buffer:
    """The records of a source, with the same methods for every kind of source.

    Every method reads one campaign: the one that ``campaign_id`` names, else the one with the latest record.
    Only :meth:`runs` and :meth:`metrics` read all campaigns if none is named.

    Parameters
    ----------
    source
        A path: a buffer folder, a campaign folder, a host folder or one journal. Or the URI of a server to
        which journals were delivered: ``redis://host:6379/0`` (also ``rediss://``, ``unix://``) or
        ``mongodb://host/database`` (also ``mongodb+srv://``; without a database, "flowprov" is read).
        None: the buffer folder with which this process was configured, else that of the settings.

    Raises
    ------
    JournalError
        If the path does not exist, or is a file that is no journal, or the URI is of a kind that this version
        cannot read. By every method that reads, if the folder cannot be listed.
    MissingExtraError
        If the client library of the server is not installed.
    UnknownIdError
        By every method that reads what is there, if there is no campaign or no workflow with the id that it
        is given. Only in a process in which capture is off it is a warning, and nothing is read.
    SinkError
        By every method that reads, if the server cannot be reached or refuses.

    Notes
    -----
    What is read from a server is kept in a temporary folder as long as the buffer exists. So the same buffer
    asks the server only for what came since its last read.

    A server knows less than a folder in two respects. Damaged lines are not delivered, so only the counts
    show that they are missing. And the lock of a writer cannot be tested, so a writer without a footer counts
    as alive until it has been silent for three heartbeats.
    """

    def __init__(self, source: str | os.PathLike[str] | None = None) -> None:
        self._source = Source(source)
        self._given = source

    def runs(self, *, campaign_id: str | None = None, attempts: bool = False) -> pd.DataFrame:
        """Return the runs of all campaigns, or of one; see :func:`flowprov.runs`."""
        return questions.runs(self._given, campaign_id=campaign_id, attempts=attempts)

    def metrics(
        self,
        *,
        campaign_id: str | None = None,
        run_id: str | None = None,
        names: Iterable[str] | None = None,
        attempts: bool = False,
    ) -> pd.DataFrame:
        """Return the metrics of all campaigns, or of one; see :func:`flowprov.metrics`."""
        return questions.metrics(
            self._given, campaign_id=campaign_id, run_id=run_id, names=names, attempts=attempts
        )

    def versions(self, *, campaign_id: str | None = None) -> pd.DataFrame:
        """Return on which code and data workflows ran; see :func:`flowprov.versions`."""
        return versions(self._given, campaign_id=campaign_id)

    def artifacts(self, *, campaign_id: str | None = None) -> pd.DataFrame:
        """Return the artifacts of all campaigns, or of one; see :func:`flowprov.artifacts`."""
        return artifact_questions.artifacts(self._given, campaign_id=campaign_id)

    def lineage(
        self, what: str | os.PathLike[str], *, up: bool = True, down: bool = False, depth: int | None = None
    ) -> Lineage:
        """Return what something was made of, and what was made of it; see :func:`flowprov.lineage`."""
        return artifact_questions.lineage(what, self._given, up=up, down=down, depth=depth)

    def whence(self, path: str | os.PathLike[str]) -> Lineage | None:
        """Return what made a file, found by its content; see :func:`flowprov.whence`."""
        return artifact_questions.whence(path, self._given)

    def records(
        self, *, campaign_id: str | None = None, workflow_id: str | None = None, merge: bool = False
    ) -> Iterator[Row]:
        """Return tasks and workflows in their current state, sorted by start: the rows of :meth:`frame`.

        Rows share the readings of a telemetry sample, so do not modify what is in ``telemetry_at_start`` and
        ``telemetry_at_end``.

        Parameters
        ----------
        campaign_id
            The campaign; by default the one with the latest record.
        workflow_id
            Only this workflow and its tasks.
        merge
            Whether to merge the messages of a task into one record.
        """
        return iter(self._rows(self._journals_of(campaign_id), as_id(workflow_id), merge=merge))

    def messages(self, *, campaign_id: str | None = None) -> Iterator[Row]:
        """Return every message as it was written, journal by journal, in constant memory.

        As with :meth:`follow`, no telemetry is joined to the messages.
        """
        return chain.from_iterable(map(_messages_of, self._journals_of(campaign_id)))

    def frame(
        self, *, campaign_id: str | None = None, workflow_id: str | None = None, merge: bool = False
    ) -> pd.DataFrame:
        """Return the rows as a DataFrame; see :func:`read_buffer`."""
        import_pandas()
        from flowprov.read.column_frame import column_frame

        journals, workflow_id = self._journals_of(campaign_id), as_id(workflow_id)
        try:
            frame = column_frame(journals, workflow_id=workflow_id, merge=merge)
        except NotPlainError:
            return to_frame(self._rows(journals, workflow_id, merge=merge))
        if workflow_id is not None and frame.empty:
            self._rows(journals, workflow_id, merge=merge)  # says which there are
        return frame

    def dask_frame(self, *, campaign_id: str | None = None, merge: bool = False) -> Any:
        """Return the rows as a Dask DataFrame, for what one machine cannot hold.

        There is a partition for each journal, if all of them are compacted (``flowprov compact``); journals
        of one workflow, or whose tasks lie in one another, share a partition. If a journal is not compacted,
        there is one partition. Dask's workers must see the folder.

        Parameters
        ----------
        campaign_id
            The campaign; by default the one with the latest record.
        merge
            Whether to merge the messages of a task into one row.

        Returns
        -------
        dask.dataframe.DataFrame
            With the columns of :meth:`frame`; rows are sorted within each partition.

        Raises
        ------
        MissingExtraError
            If Dask's DataFrame is not installed.
        """
        journals = self._journals_of(campaign_id)
        return dask_frame(journals, self._source.digests, merge=merge)

    def telemetry(self, *, campaign_id: str | None = None) -> pd.DataFrame:
        """Return the telemetry samples as a DataFrame, one line for each sample, sorted by time.

        Returns
        -------
        pandas.DataFrame
            ``at``, ``hostname``, ``pid`` and a column for each value of the readings, named by its path
            (``mem.used_bytes``, ``gpu.0.power_w``). A list of values per core stays in one cell.

            If the samples hold the counters, there are two more columns. ``cpu.utilization_percent`` is the
            busy share of all cores. ``process.cpu_percent`` is in percent of one core, so 400 means four
            cores. Both are computed since the sample before of the same process, and NaN in its first one.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        return samples_to_frame(process_readings(self._journals_of(campaign_id)))

    def machines(self, *, campaign_id: str | None = None) -> list[dict[str, Any]]:
        """Return the machines on which the processes of a campaign run, and their software.

        Returns
        -------
        list of dict
            ``hostname``, ``pid``, ``rank``, ``journal_id``, ``at`` (in nanoseconds since the epoch) and
            ``values``: the last description of each process. Those without a description are left out.
        """
        return [
            machine_as_dict(files[0].header, last)
            for files in successions(self._journals_of(campaign_id))
            for last in deque(chain.from_iterable(records_of_kind(file, Machine) for file in files), maxlen=1)
        ]

    def campaigns(self) -> list[Campaign]:
        """Return the campaigns of the source, the one with the latest record last.

        From a server, only the beginnings and ends of journals are fetched. A name that stands in the middle
        of a journal is not found then.
        """
        return [campaign_of(journals) for journals in by_campaign(self._source.summaries()).values()]

    def follow(
        self, poll: float = 0.5, position: Mapping[str, Any] | None = None, *, campaign_id: str | None = None
    ) -> Follower:
        """Return an iterator over messages as they come, also from journals that appear later.

        Parameters
        ----------
        poll
            Seconds between two looks for new messages.
        position
            The ``position`` of an earlier follower, to continue behind it. That follower may have read any
            source of the same campaign.
        campaign_id
            The campaign; by default the one with the latest record.

        Returns
        -------
        Follower
            It waits for messages and never ends by itself.
        """
        return Follower(self._source, as_id(campaign_id), poll, position)

    def damages(self, *, campaign_id: str | None = None) -> list[Damage]:
        """Return what could not be read, including torn ends of journals whose writer is gone."""
        return [damage for report in self.journals(campaign_id=campaign_id) for damage in report.damages]

    def journals(self, *, campaign_id: str | None = None) -> list[JournalReport]:
        """Read every journal and return a report on each."""
        return [report_on(journal) for journal in self._journals_of(campaign_id)]

    def _journals_of(self, campaign_id: str | None) -> list[JournalSummary]:
        """Return the journals of a campaign; say why if there are none."""
        try:
            journals = (
                self._source.campaign() if campaign_id is None else self._source.require_campaign(campaign_id)
            )
        except UnknownIdError as error:
            if not is_capture_off():  # a program that was switched off runs to its end as before
                raise
            logger.warning("flowprov reads nothing: %s %s", error, _OFF.strip())
            return []
        if not journals:
            logger.warning(
                "flowprov found no records in %s.%s", self._source, _OFF if is_capture_off() else ""
            )
        elif campaign_id is None and self._source.is_default and is_capture_off():
            logger.warning("flowprov reads what an earlier run recorded in %s.%s", self._source, _OFF)
        return journals

    def _rows(self, journals: list[JournalSummary], workflow_id: str | None, *, merge: bool) -> list[Row]:
        """Return the rows of a campaign, or of one workflow; raise if there are none of it."""
        rows = fold(((journal, records_of(journal)) for journal in journals), merge=merge)
        if workflow_id is None:
            return rows
        chosen = [row for row in rows if row.workflow_id == workflow_id]
        if not chosen and journals and not is_capture_off():
            names = {row.workflow_id: row.name for row in rows if isinstance(row, Workflow)}
            where = f"campaign {journals[0].header.campaign_id} in {self._source}"
            raise UnknownIdError(describe_unknown("workflow", workflow_id, where, names))
        return chosen


@overload
def read_buffer(
    source: str | os.PathLike[str] | None = None,
    *,
    campaign_id: str | None = None,
    workflow_id: str | None = None,
    merge: bool = False,
    return_df: Literal[True] = True,
    flat: bool = False,
) -> pd.DataFrame: ...
@overload
def read_buffer(
    source: str | os.PathLike[str] | None = None,
    *,
    campaign_id: str | None = None,
    workflow_id: str | None = None,
    merge: bool = False,
    return_df: Literal[False],
    flat: bool = False,
) -> list[dict[str, Any]]: ...
@overload
def read_buffer(
    source: str | os.PathLike[str] | None = None,
    *,
    campaign_id: str | None = None,
    workflow_id: str | None = None,
    merge: bool = False,
    return_df: bool,
    flat: bool = False,
) -> pd.DataFrame | list[dict[str, Any]]: ...
def read_buffer(
    source: str | os.PathLike[str] | None = None,
    *,
    campaign_id: str | None = None,
    workflow_id: str | None = None,
    merge: bool = False,
    return_df: bool = True,
    flat: bool = False,
) -> pd.DataFrame | list[dict[str, Any]]:
    """Read a campaign: one row per message of a task and one per workflow, sorted by their start.

    Parameters
    ----------
    source
        A path, a URI or None; see :class:`Buffer`.
    campaign_id, workflow_id
        The campaign, by default the one with the latest record; and only this workflow of it.
    merge
        Whether to merge the messages of a task into one row. A Dask task has two: RUNNING, then FINISHED or
        ERROR.
    return_df
        Whether to return a DataFrame; else a list of dicts.
    flat
        Whether to have a column for each value (``used.lr``), and not dictionaries; lists are JSON text then.

    Returns
    -------
    pandas.DataFrame or list of dict
        Always with all of :data:`flowprov.read.COLUMNS`. ``duration`` is in seconds. Times are
        ``datetime64[ns, UTC]`` in a DataFrame, and ``datetime`` in UTC, to the microsecond, in dicts.
        Rows of a DataFrame share equal values: copy a dictionary before you modify it.

        If telemetry was recorded, each row has the samples of its own journal that enclose it.
        ``telemetry_at_start`` is the latest sample at or before the start, or the first sample if there is
        none before. ``telemetry_at_end`` is the earliest sample at or after the end, or the last sample if
        there is none after. Each holds the reading by kind, ``sampled_at`` in nanoseconds since the epoch,
        and ``distance_s``: the seconds from that start or end to the sample, negative if the sample was taken
        before. A row shorter than the time to the next sample has the nearest sample in both, so they show no
        difference. A row without an end has no ``telemetry_at_end``. A row that took readings itself
        (``telemetry_capture.mode: exact``) keeps those.

        If GPUs count their energy, ``telemetry_at_end["gpu_energy"]`` has ``joules``, ``by_device`` (by the
        device's uuid) and ``method``. If it comes from samples it also has ``covered_s``, the seconds of the
        row that they cover. For a workflow it covers all devices that its processes and those of the
        workflows in it sampled, each device once. A device whose counter went backwards is left out.

        ``machine_info`` of a workflow is that of its record, updated with the last description of the machine
        by the process that opened the workflow.

    Raises
    ------
    JournalError, UnknownIdError, SinkError, MissingExtraError
        As :class:`Buffer` does; the last one, too, if a DataFrame is requested and pandas is not installed.
    """
    if return_df:
        frame = Buffer(source).frame(campaign_id=campaign_id, workflow_id=workflow_id, merge=merge)
        return flat_frame(frame) if flat else frame
    records = Buffer(source).records(campaign_id=campaign_id, workflow_id=workflow_id, merge=merge)
    rows = to_dicts(list(records))
    return flat_dicts(rows) if flat else rows


def _messages_of(journal: JournalSummary) -> Iterator[Row]:
    for record in records_of(journal):
        if isinstance(record, Workflow):
            yield complete_workflow(record, journal.header)
        elif type(record) is Task:
            yield complete_task(record, journal.header)
