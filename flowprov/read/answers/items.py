"""Find what a person means by an id: a run, a task, a workflow or a campaign.

Flows in: the contents of campaigns, and an id, its beginning or end, or a name. Flows out: one item, with
all that a comparison asks of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from flowprov.errors import UnknownIdError
from flowprov.ids import is_end_of
from flowprov.read.answers.contents import Contents
from flowprov.read.answers.run_search import Run, TaskTree, worst
from flowprov.read.answers.series import Value, values_of
from flowprov.read.answers.tables import error_text, runs_with_attempts, seconds_of
from flowprov.read.unknown_ids import describe_unknown
from flowprov.records import JsonObject, Task, Workflow

_MAX_LISTED = 8


class Item(msgspec.Struct):
    """A run, a task, a workflow or a campaign.

    Attributes
    ----------
    contents
        What its campaign holds.
    kind, id, name
        What it is.
    workflows
        The workflow to which it belongs; of a campaign all.
    task
        Its task, if it is one.
    values
        What it measured; of a campaign nothing.
    run
        Its attempts in their order, if it is a run.
    """

    contents: Contents
    kind: str
    id: str
    name: str | None
    workflows: list[Workflow]
    task: Task | None
    values: list[Value] = []
    run: Sequence[Run] = ()

    @property
    def used(self) -> JsonObject:
        """What it used: of a task its own above that of its workflow."""
        used: JsonObject = {}
        for record in (*self.workflows, self.task):
            used.update({} if record is None else record.used or {})
        return used

    @property
    def outcome(self) -> JsonObject:
        """What became of it: of a campaign the worst of its workflows, of a run its latest attempt."""
        records = self._latest
        status = self.run[-1].status if self.run else worst([one.status for one in records])
        of_status = [one for one in records if one.status == status] or records
        return {
            "status": status,
            "error": next((error_text(one.error) for one in of_status if one.error is not None), None),
            "ended_by": next(filter(None, map(_ended_by, of_status)), None),
            "attempts": self._attempts,
        }

    @property
    def seconds(self) -> float | None:
        """How long it took; None if that is not known."""
        if self.run:
            return seconds_of(self.contents, self.run)
        records: Sequence[Task | Workflow] = self.workflows if self.task is None else [self.task]
        starts = [one.started_at for one in records if one.started_at is not None]
        ends = [end for one in records if (end := self.contents.end_of(one)) is not None]
        return (max(ends) - min(starts)) / 1e9 if starts and len(ends) == len(records) else None

    @property
    def _latest(self) -> Sequence[Task | Workflow]:
        """Its own records: of each workflow the latest attempt."""
        if self.task is not None:
            return [self.task]
        return list({one.workflow_id: one for one in self.workflows}.values())

    @property
    def _attempts(self) -> int:
        if self.run or self.kind != "workflow":
            return len(self.run) or 1
        return self.workflows[-1].attempt or 1


def find_item(found: Sequence[Contents], wanted: str, where: str) -> Item:
    """Return the item with an id, with an id that begins or ends so, or with a name.

    Raises
    ------
    UnknownIdError
        If there is none, or if there are several.
    """
    matches = find_items(found, wanted)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise UnknownIdError(describe_several(wanted, matches))
    raise UnknownIdError(_describe_unknown(found, wanted, where))


def find_items(found: Iterable[Contents], wanted: str) -> list[Item]:
    """Return the item with an id; else those with an id that begins so, or with a name; else that ends so.

    What is a run and a task or workflow, too, counts once, as a run: it knows what was measured.
    """
    matches: dict[str, Item] = {}
    ending: dict[str, Item] = {}
    for contents in found:
        for item in _items_of(contents):
            if item.id == wanted:
                return [item]
            if item.id.startswith(wanted) or item.name == wanted:
                matches.setdefault(item.id, item)
            elif is_end_of(wanted, item.id):
                ending.setdefault(item.id, item)
    return list((matches or ending).values())


def describe_several(wanted: str, matches: Sequence[Item]) -> str:
    """Return the message for an id that fits several items."""
    listed = [f"{item.kind} {item.id}" + (f" ({item.name})" if item.name else "") for item in matches]
    more = f" and {len(listed) - _MAX_LISTED} more" if len(listed) > _MAX_LISTED else ""
    return f"{wanted!r} may mean {', '.join(listed[:_MAX_LISTED])}{more}. Give the id of one."


def _ended_by(record: Task | Workflow) -> str | None:
    name = (record.custom_metadata or {}).get("ended_by")
    return name if isinstance(name, str) else None  # whatever a journal holds


def _describe_unknown(found: Sequence[Contents], wanted: str, where: str) -> str:
    """Return the message for an id that fits nothing: campaigns first, and tasks, which are many, last."""
    campaigns: dict[str, str | None] = {}
    runs: dict[str, str | None] = {}
    tasks: dict[str, str | None] = {}
    kinds = {"campaign": campaigns, "task": tasks}
    for contents in found:
        for item in _items_of(contents):
            if item.kind != "task" or item.id not in runs:  # a run may be a task, too
                kinds.get(item.kind, runs)[item.id] = item.name
    return describe_unknown("run, task, workflow or campaign", wanted, where, campaigns, runs, tasks)


def _items_of(contents: Contents) -> Iterator[Item]:
    tree = TaskTree(contents)
    for group in runs_with_attempts(contents, attempts=False):
        yield _run_item(contents, group, tree)
    workflows = [row for row in contents.rows if isinstance(row, Workflow)]
    by_id: dict[str, list[Workflow]] = {}
    for workflow in workflows:
        by_id.setdefault(workflow.workflow_id, []).append(workflow)
    for workflow_id, attempts in by_id.items():
        yield Item(contents, "workflow", workflow_id, attempts[-1].name, attempts[-1:], None)
    campaign = contents.campaign
    yield Item(contents, "campaign", campaign.campaign_id, campaign.name, workflows, None)
    yield from _task_items(contents, by_id)


def _task_items(contents: Contents, workflows: dict[str, list[Workflow]]) -> Iterator[Item]:
    for row in contents.rows:
        if isinstance(row, Task):
            around = workflows.get(str(row.workflow_id), [])[-1:]
            yield Item(contents, "task", str(row.task_id), row.activity_id, around, row)


def _run_item(contents: Contents, group: Sequence[Run], tree: TaskTree) -> Item:
    last = group[-1]
    workflows = [] if last.workflow is None else [last.workflow]
    values = values_of(group, tree)
    return Item(contents, "run", group[0].run_id, last.name, workflows, last.task, values, group)
