"""The history of steps: when each step of a pipeline was executed, on which code and data, and how it ended.

Flows in: one source or several. Flows out: one line per execution. A step is what workflows of one name do;
an execution is one attempt of such a workflow.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flowprov.errors import UnknownIdError
from flowprov.read.answers.contents import read_runs
from flowprov.read.answers.kept_versions import START, KeptVersion, Versions, version_at_start
from flowprov.read.answers.tables import Line
from flowprov.read.artifacts.catalog import Catalog, Sighting
from flowprov.read.campaign_names import campaign_of
from flowprov.read.campaign_sources import CampaignSource, Sources, campaigns_of, describe_sources
from flowprov.read.unknown_ids import describe_unknown
from flowprov.records import Workflow
from flowprov.versioning.pending import finish_pending

_MODEL = "torch_model"  # the workflow of a model is a part of a step
_DATASET = "dataset"
_MAY_MOVE = ("md5", "state", "actual_md5", "actual_size", "actual_nfiles")


def history_table(source: Sources = None, step: str | None = None) -> list[Line]:
    """Return the executions of steps in the order of time; times are in nanoseconds since the epoch.

    Parameters
    ----------
    source
        As for :func:`flowprov.runs`.
    step
        Only this step; by default all.

    Returns
    -------
    list of dict
        ``step``, ``started_at``, ``status``, ``commit`` and ``dirty`` (None if unknown), ``data``,
        ``campaign``, ``campaign_id``, ``workflow_id``, ``attempt``. ``data`` lists what the step used or
        changed of the data that DVC keeps (``path``, ``md5``, ``state`` and, if it moved meanwhile,
        ``md5_at_end`` and ``state_at_end``), and other artifacts that are datasets (``path``, ``sha256``,
        ``role``). It is empty for a step without data.

    Raises
    ------
    JournalError, UnknownIdError, SinkError
        As :class:`Buffer` does. UnknownIdError also if there is no such step.
    """
    finish_pending()
    found = campaigns_of(source, None)
    catalog = Catalog(journal.path for one in found for journal in one.journals)
    touched: dict[str, list[Sighting]] = defaultdict(list)
    for sighting in catalog.sightings:
        touched[sighting.workflow_id].append(sighting)
    lines = [line for one in found for line in _executions(one, touched)]
    known = {str(line["step"]): None for line in lines}
    if step is not None and step not in known:
        raise UnknownIdError(describe_unknown("step", step, describe_sources(source, found), known))
    chosen = [line for line in lines if step is None or line["step"] == step]
    return sorted(chosen, key=lambda line: line["started_at"] or 0)


def _executions(campaign: CampaignSource, touched: Mapping[str, Sequence[Sighting]]) -> Iterator[Line]:
    record = campaign_of(campaign.journals)
    contents = read_runs(record, campaign.journals, campaign.digests())
    for row in contents.rows:
        if not isinstance(row, Workflow) or row.subtype == _MODEL:
            continue
        start = version_at_start(contents.versions, row.workflow_id, row.attempt)
        code = (None if start is None else start.record.code) or {}
        yield {
            "step": row.name,
            "started_at": row.started_at,
            "status": row.status,
            "commit": code.get("commit") or (row.code_repository or {}).get("commit"),
            "dirty": code.get("dirty"),
            "data": data_of(contents.versions, row, touched.get(row.workflow_id, ())),
            "campaign": record.name,
            "campaign_id": campaign.campaign_id,
            "workflow_id": row.workflow_id,
            "attempt": row.attempt,
        }


def data_of(versions: Versions, workflow: Workflow, touched: Sequence[Sighting]) -> list[dict[str, Any]]:
    """Return the data of an attempt of a workflow, as :func:`history_table` has it.

    Parameters
    ----------
    versions
        Those of its campaign.
    workflow
        The row of the attempt.
    touched
        The artifacts that it used and generated.
    """
    start = version_at_start(versions, workflow.workflow_id, workflow.attempt)
    return _data(start, _version_at_end(versions.get(workflow.workflow_id, ()), start), touched)


def _version_at_end(versions: Sequence[KeptVersion], start: KeptVersion | None) -> KeptVersion | None:
    """Return the version at the end of an attempt, where something moved: the next one, if that is an end."""
    following = versions[versions.index(start) + 1 :] if start in versions else ()
    return following[0] if following and following[0].record.moment != START else None


def _data(
    start: KeptVersion | None, end: KeptVersion | None, touched: Sequence[Sighting]
) -> list[dict[str, Any]]:
    """Return the data of an execution: declared data that it touched or that moved, and other datasets."""
    before, after = _declared(start), _declared(end)
    found, places = [], []
    for path in {**before, **after}:
        old, new = before.get(path, {}), after.get(path, {})
        moved = bool(new) and any(old.get(name) != new.get(name) for name in _MAY_MOVE)
        whole = os.path.join(_folder(start or end), path)  # noqa: PTH118 - of another machine
        inside = [one for one in touched if _is_in(one.record.path, whole)]
        if moved or inside or _is_of_stage(start, old):
            known = {"path": path, "md5": old.get("md5"), "state": old.get("state")}
            changed = {"md5_at_end": new.get("md5"), "state_at_end": new.get("state")}
            found.append({**known, **(changed if moved else {})})
            places.append(whole)
    others = [
        {"path": one.place, "sha256": one.sha256, "role": one.role}
        for one in touched
        if one.record.kind == _DATASET and not any(_is_in(one.record.path, place) for place in places)
    ]
    return found + others


def _declared(version: KeptVersion | None) -> dict[str, dict[str, Any]]:
    entries = (None if version is None else version.record.data) or []
    return {path: entry for entry in entries if isinstance(path := entry.get("path"), str)}


def _folder(version: KeptVersion | None) -> str:
    folder = ((None if version is None else version.record.code) or {}).get("folder")
    return folder if isinstance(folder, str) else ""


def _is_in(path: str | None, place: str) -> bool:
    return path is not None and (path == place or path.startswith(f"{place}/"))


def _is_of_stage(version: KeptVersion | None, entry: Mapping[str, Any]) -> bool:
    """Whether the stage of DVC that ran the program declares an entry."""
    stage = (None if version is None else version.record.stage) or {}
    return stage.get("name") is not None and stage.get("name") == entry.get("stage")
