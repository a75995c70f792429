"""A campaign as a person watches it: what its processes record, what they measure, and what befalls them.

Flows in: the records of followers. Flows out: events in the order of their times: tasks and workflows that
began or ended, measured values, and sentences on what went wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import msgspec

from flowprov.errors import JournalError, SinkError
from flowprov.journal.summary import JournalSummary
from flowprov.read.answers.series import loop_name
from flowprov.read.attempts import ProcessKey, process_key
from flowprov.read.follow import Follower
from flowprov.read.labels import ITERATION
from flowprov.read.source import Source
from flowprov.read.value_paths import is_number
from flowprov.records import (
    Header,
    JsonObject,
    Metrics,
    Record,
    Status,
    Task,
    Workflow,
    complete_task,
    complete_workflow,
)

_MAX_NAMED = 5
_CHECK_EVERY_S = 2.0  # whether each process is there: a campaign may have thousands
_MAX_BITS = 1_000  # of a number; larger ones are no floating point numbers any more


class Measurement(NamedTuple):
    """What was measured at one moment: by ``log_metrics``, or by an iteration.

    ``loop`` is the name of the loop of an iteration. ``at`` is in nanoseconds since the epoch.
    """

    at: int
    workflow_id: str | None
    workflow: str | None
    task_id: str | None
    loop: str | None
    step: int | None
    values: JsonObject


class Notice(NamedTuple):
    """A sentence on what went wrong."""

    text: str


Event: TypeAlias = Task | Workflow | Measurement | Notice


class LiveCampaign:
    """A campaign in one source, which may still be recorded.

    Parameters
    ----------
    source
        The source.
    campaign_id
        The campaign.
    """

    def __init__(self, source: Source, campaign_id: str) -> None:
        self._where = str(source)
        self._campaign_id = campaign_id
        self._follower = Follower(source, campaign_id)
        self._opened: dict[str, Workflow] = {}  # what the end of a workflow does not say again
        self._open: dict[ProcessKey, dict[str, str]] = {}  # names of workflows and tasks by process and id
        self._ended: set[str] = set()  # journals of which nothing more is expected
        self._damages: dict[str, int] = {}
        self._is_away = False
        self._next_check = 0.0

    def look(self) -> Iterator[Event]:
        """Yield what was recorded since the last look, journal by journal, and what befell the campaign.

        Raises
        ------
        JournalError
            If the campaign was removed.
        SinkError
            By the first look, if the server cannot be reached.
        """
        try:
            for record, header in self._follower.available_records():
                yield from self._events_of(record, header)
        except SinkError as error:
            if not self._follower.reached:
                raise
            if not self._is_away:
                yield Notice(f"the server is away ({error}); flowprov goes on asking")
            self._is_away = True
            return
        self._is_away = False
        self._check_removed()
        yield from self._find_damages()
        if time.monotonic() >= self._next_check:
            yield from self._find_killed()
            self._next_check = time.monotonic() + _CHECK_EVERY_S

    def _events_of(self, record: Record, header: Header) -> Iterator[Event]:
        if isinstance(record, Workflow):
            yield from self._workflow(complete_workflow(record, header), header)
        elif type(record) is Task:
            task = complete_task(record, header)
            self._note_open(header, str(task.task_id), task.activity_id, is_open=task.ended_at is None)
            yield task
            if task.subtype == ITERATION and (values := _numbers(task.generated)):
                yield self._measured_by(task, values)
        elif isinstance(record, Metrics):
            task_id = record.task_id
            if task_id is not None:
                task_id = header.full_id(task_id)
            name = self._name_of(record.workflow_id)
            yield Measurement(
                record.at, record.workflow_id, name, task_id, None, record.step, _numbers(record.values)
            )

    def _workflow(self, workflow: Workflow, header: Header) -> Iterator[Workflow]:
        opened = self._opened.get(workflow.workflow_id)
        if workflow.started_at is not None:
            small = dict.fromkeys(("machine_info", "settings", "code_repository", "orchestrator", "used"))
            self._opened[workflow.workflow_id] = msgspec.structs.replace(workflow, **small)
            if workflow.status is None:
                workflow = msgspec.structs.replace(workflow, status=Status.RUNNING)
        elif workflow.ended_at is None:
            return  # what was added to it meanwhile comes again with its end
        elif opened is not None:
            workflow = msgspec.structs.replace(
                workflow, name=opened.name, subtype=opened.subtype, started_at=opened.started_at
            )
        self._note_open(header, workflow.workflow_id, workflow.name, is_open=workflow.ended_at is None)
        yield workflow

    def _measured_by(self, task: Task, values: JsonObject) -> Measurement:
        step = (task.used or {}).get("i")
        return Measurement(
            task.ended_at or task.started_at or 0,
            task.workflow_id,
            self._name_of(task.workflow_id),
            str(task.task_id),
            loop_name(task),
            step if isinstance(step, int) else None,
            values,
        )

    def _name_of(self, workflow_id: str | None) -> str | None:
        opened = self._opened.get(workflow_id or "")
        return None if opened is None else opened.name

    def _note_open(self, header: Header, key: str, name: str | None, *, is_open: bool) -> None:
        here = self._open.setdefault(process_key(header), {})
        if is_open:
            here[key] = name or key
        else:
            here.pop(key, None)

    def _find_damages(self) -> Iterator[Notice]:
        for reader in self._follower.readers():
            before = self._damages.get(str(reader.path), 0)
            found = reader.damages[before:]
            self._damages[str(reader.path)] = len(reader.damages)
            more = f", and {len(found) - 1} more places of it" if len(found) > 1 else ""
            for damage in found[:1]:
                yield Notice(
                    f"{damage.length} bytes at {damage.path}:{damage.offset} are no record ({damage.reason})"
                    f"{more}; they are left out, and flowprov verify says what is missing"
                )

    def _check_removed(self) -> None:
        """Raise if there are no journals any more."""
        readers = self._follower.readers()
        if readers and not any(reader.path.exists() for reader in readers):
            raise JournalError(
                f"campaign {self._campaign_id} was removed from {self._where} while it was followed"
            )

    def _find_killed(self) -> Iterator[Notice]:
        """Yield a sentence for each process that ended without an end, and was no worker of another one."""
        for summary in self._follower.summaries(skip=self._ended):
            if summary.alive:
                continue
            self._ended.add(summary.header.journal_id)
            if summary.footer is None and summary.header.parent_pid is None:
                yield Notice(self._describe_killed(summary))

    def _describe_killed(self, summary: JournalSummary) -> str:
        header = summary.header
        inside = list(self._open.get(process_key(header), {}).values())
        more = f" and {len(inside) - _MAX_NAMED} more" if len(inside) > _MAX_NAMED else ""
        were = f"; interrupted: {', '.join(inside[:_MAX_NAMED])}{more}" if inside else ""
        where = f"process {header.pid} on {header.hostname}"
        return f"{where} ended without closing its journal, as after a kill{were}"


def time_of(event: Event) -> int:
    """Return when an event was, in nanoseconds; 0 for what has no time."""
    if isinstance(event, Measurement):
        return event.at
    if isinstance(event, Notice):
        return 0
    return event.ended_at or event.started_at or getattr(event, "submitted_at", None) or 0


def _numbers(values: JsonObject | None) -> JsonObject:
    return {name: value for name, value in (values or {}).items() if _is_shown(value)}


def _is_shown(value: Any) -> bool:
    return is_number(value) and not (isinstance(value, int) and value.bit_length() > _MAX_BITS)


def latest_campaign(sources: Sequence[Source]) -> str | None:
    """Return the id of the campaign with the latest record in several sources; None if there is none."""
    latest = [journals[0] for source in sources if (journals := source.campaign())]
    return max(latest, key=lambda one: one.last_at).header.campaign_id if latest else None
