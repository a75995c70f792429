"""Campaigns between which a run was resumed, read as one.

Flows in: the contents of campaigns. Flows out: the same; where a workflow of one went on from a workflow of
another one, the contents of both together.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowprov.read.answers.contents import Contents
from flowprov.read.answers.extract import Counts
from flowprov.read.answers.kept_versions import by_workflow
from flowprov.read.answers.resumes import resume_of
from flowprov.read.rows import sort_time
from flowprov.records import Workflow


def across_campaigns(found: Sequence[Contents]) -> set[int]:
    """Return the positions of the campaigns between which a run was resumed."""
    return {position for group in groups_of(found) if len(group) > 1 for position in group}


def join_resumed(found: Sequence[Contents]) -> list[Contents]:
    """Return the contents of campaigns, those between which a run was resumed as one."""
    return [
        found[group[0]] if len(group) == 1 else _join([found[position] for position in group])
        for group in groups_of(found)
    ]


def groups_of(found: Sequence[Contents]) -> list[list[int]]:
    """Return the positions of the campaigns that belong together, in the order of the last of each group."""
    homes = {
        row.workflow_id: position
        for position, contents in enumerate(found)
        for row in contents.rows
        if isinstance(row, Workflow)
    }
    groups = {position: [position] for position in range(len(found))}
    for position, contents in enumerate(found):
        for row in contents.rows if contents.restarted else ():
            resume = resume_of(row) if isinstance(row, Workflow) else None
            home = None if resume is None else homes.get(str(resume.workflow_id))
            if home is not None and groups[home] is not groups[position]:
                joined = sorted(groups[home] + groups[position])
                groups.update(dict.fromkeys(joined, joined))
    return sorted({tuple(group): group for group in groups.values()}.values(), key=max)


def _join(parts: Sequence[Contents]) -> Contents:
    counts = Counts()
    known_until: dict[str, int] = {}
    for part in parts:
        counts.add(part.left_out)
        known_until.update(part.known_until)
    return Contents(
        parts[0].campaign,
        sorted((row for part in parts for row in part.rows), key=sort_time),
        sorted((one for part in parts for one in part.logged), key=lambda one: one.record.at),
        restarted=True,
        left_out=counts,
        campaign_names={part.campaign.campaign_id: part.campaign.name for part in parts},
        versions=by_workflow(one for part in parts for kept in part.versions.values() for one in kept),
        known_until=known_until,
    )
