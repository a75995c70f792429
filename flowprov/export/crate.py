"""``rocrate``: a campaign as a Provenance Run Crate, a folder or a ``.zip``.

Flows in: one campaign. Flows out: ``ro-crate-metadata.json``, which describes its steps and their executions;
``steps.json``, the steps alone; and ``prov.json``, all tasks in PROV-JSON.

The campaign is the crate's workflow. What workflows of one name do is a step of it; each attempt of one is an
action, with the last value of each metric among its results. Artifacts are named, with their digests, and not
copied: a path that a program used says nothing of where a file lies in the crate.

https://www.researchobject.org/workflow-run-crate/profiles/provenance_run_crate/ describes the profile.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from flowprov.errors import UsageError
from flowprov.export.campaigns import ExportedCampaign
from flowprov.export.logged_metrics import LastValues, plain_number
from flowprov.export.new_file import written_beside
from flowprov.export.plain_values import flat_values, plain_text
from flowprov.export.prov_files import write_prov_json
from flowprov.read.artifacts.catalog import USED, Identities, Sighting
from flowprov.read.frames import as_datetime
from flowprov.records import Error, Status, Workflow
from flowprov.version import __version__

_Entity: TypeAlias = "dict[str, Any]"

_METADATA, _STEPS, _PROV = "ro-crate-metadata.json", "steps.json", "prov.json"
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": "Workflow RO-Crate",
}
_CONTEXT = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
_DONE, _FAILED, _ACTIVE = (
    f"http://schema.org/{name}ActionStatus" for name in ("Completed", "Failed", "Active")
)
_STATUSES = {Status.FINISHED.value: _DONE, Status.RUNNING.value: _ACTIVE, Status.SUBMITTED.value: _ACTIVE}
_NO_DATE = "1970-01-01T00:00:00+00:00"
_ENGINE = "#flowprov"
_VALUE_IDS = {"parameter": "#value", "metric": "#measured"}


def write_crate(campaigns: Sequence[ExportedCampaign], path: Path) -> int:
    """Write a campaign as a crate: a zip if the path ends with ``.zip``, else a folder.

    Raises
    ------
    UsageError
        If there are several campaigns.
    """
    if len(campaigns) != 1:
        raise UsageError(f"A crate holds one campaign, not {len(campaigns)}. Name one of them.")
    crate = _Crate(campaigns[0])
    with written_beside(path) as new:
        zipped = path.suffix == ".zip"
        folder = new.with_suffix(".folder") if zipped else new
        folder.mkdir()
        try:
            number = write_prov_json(campaigns, folder / _PROV)
            _write_json(folder / _METADATA, crate.metadata())
            _write_json(folder / _STEPS, crate.steps())
            if zipped:
                _zip(folder, new)
        finally:
            if zipped:
                shutil.rmtree(folder, ignore_errors=True)
    return number


class _Crate:
    """The description of one campaign: entities by their ids."""

    def __init__(self, campaign: ExportedCampaign) -> None:
        self._campaign = campaign
        self._entities: dict[str, _Entity] = {}
        self._workflows = campaign.stream.workflows
        self._metrics = LastValues(campaign.journals, campaign.stream.attempts)
        self._names = list(dict.fromkeys(_title(row) for row in self._workflows))

    def steps(self) -> _Entity:
        """Return the steps of the campaign: the names of its workflows, the first one first."""
        return {"campaign": plain_text(self._campaign.name), "steps": self._names}

    def metadata(self) -> _Entity:
        """Return the whole description."""
        times = [
            time for row in self._workflows for time in (row.started_at, self._campaign.end_of(row)) if time
        ]
        began, ended = (_time(min(times)), _time(max(times))) if times else (_NO_DATE, _NO_DATE)
        name = plain_text(self._campaign.name)
        actions, controls = self._add_actions()
        run, organize = "#run", "#organize"
        agents = [{"@id": key} for key in self._entities if key.startswith("#user/")]
        failed = any(self._entities[action]["actionStatus"] == _FAILED for action in actions)
        self._add(
            run,
            "CreateAction",
            name=f"The run of campaign {name}",
            instrument={"@id": _STEPS},
            startTime=began,
            endTime=ended,
            actionStatus=_FAILED if failed else _DONE,
            agent=agents or None,
        )
        self._add(
            organize,
            "OrganizeAction",
            name="What flowprov recorded",
            instrument={"@id": _ENGINE},
            object=_refer(controls),
            result={"@id": run},
            agent=agents or None,
        )
        self._add(
            _ENGINE, "SoftwareApplication", name="flowprov", softwareVersion=__version__, url="urn:flowprov"
        )
        self._add_files(name)
        root = {
            "@id": "./",
            "@type": "Dataset",
            "name": name,
            "description": f"Provenance of the campaign {name}, as flowprov recorded it.",
            "datePublished": ended,
            "license": "The records have the license of the data and programs that they are of.",
            "conformsTo": _refer(_PROFILES),
            "hasPart": _refer((_STEPS, _PROV)),
            "mainEntity": {"@id": _STEPS},
            "mentions": _refer((run, organize, *actions, *controls)),
        }
        about = {
            "@id": _METADATA,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": _refer(
                ("https://w3id.org/ro/crate/1.1", "https://w3id.org/workflowhub/workflow-ro-crate/1.0")
            ),
        }
        return {"@context": _CONTEXT, "@graph": [about, root, *self._entities.values()]}

    def _add(self, key: str, kind: str | list[str], /, **facts: Any) -> str:
        """Add an entity; facts that are None are left out."""
        known = {name: value for name, value in facts.items() if value is not None}
        self._entities[key] = {"@id": key, "@type": kind, **known}
        return key

    def _add_files(self, name: str) -> None:
        for profile, title in _PROFILES.items():
            self._add(profile, "CreativeWork", name=title, version=profile.rpartition("/")[2])
        self._add(
            _STEPS,
            ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
            name=f"The steps of campaign {name}",
            programmingLanguage={"@id": "#json"},
            encodingFormat="application/json",
            hasPart=_refer(f"#tool/{number}" for number in range(len(self._names))),
            step=_refer(f"#step/{number}" for number in range(len(self._names))),
        )
        self._add("#json", "ComputerLanguage", name="JSON", url="https://www.json.org/")
        self._add(
            _PROV,
            "File",
            name="All tasks, in W3C PROV-JSON",
            encodingFormat="application/json",
            description="Tasks and workflows are activities, artifacts and values are entities.",
        )
        for number, step in enumerate(self._names):
            self._add(f"#tool/{number}", "SoftwareApplication", name=step)
            self._add(
                f"#step/{number}",
                "HowToStep",
                name=step,
                position=str(number),
                workExample={"@id": f"#tool/{number}"},
            )

    def _add_actions(self) -> tuple[list[str], list[str]]:
        """Add an action for each attempt of a workflow; return their ids, and those that control steps."""
        touched = self._touched()
        by_step: dict[int, list[str]] = {}
        for row in self._workflows:
            step, key = self._names.index(_title(row)), (row.workflow_id, row.attempt or 1)
            local = f"{quote(plain_text(row.workflow_id), safe='')}/{key[1]}"
            user = None
            if row.user:
                user = f"#user/{quote(plain_text(row.user), safe='')}"
                self._add(user, "Person", name=plain_text(row.user))
            error = None
            if isinstance(row.error, Error):
                error = plain_text(f"{row.error.type}: {row.error.message}")
            used, generated = (
                [
                    self._artifact(node, one)
                    for node, one in touched.get(key, ())
                    if (one.role == USED) == wanted
                ]
                for wanted in (True, False)
            )
            used += self._values("parameter", flat_values(row.used), step, local)
            last = self._metrics.of_workflow(row.workflow_id, row.attempt)
            metrics = {name: plain_number(one.value) for name, one in last.items()}
            generated += self._values("metric", metrics, step, local)
            action = self._add(
                f"#action/{local}",
                "CreateAction",
                name=_title(row),
                instrument={"@id": f"#tool/{step}"},
                startTime=_time(row.started_at),
                endTime=_time(row.ended_at),
                actionStatus=_STATUSES.get(row.status or "", _FAILED),
                error=error if error or row.status != Status.INTERRUPTED.value else "interrupted",
                agent=None if user is None else {"@id": user},
                object=_refer(dict.fromkeys(used)) or None,
                result=_refer(dict.fromkeys(generated)) or None,
            )
            by_step.setdefault(step, []).append(action)
        controls = [
            self._add(
                f"#control/{step}",
                "ControlAction",
                name=f"Executions of {self._names[step]}",
                instrument={"@id": f"#step/{step}"},
                object=_refer(actions),
            )
            for step, actions in by_step.items()
        ]
        return [action for actions in by_step.values() for action in actions], controls

    def _touched(self) -> dict[tuple[str, int], list[tuple[str, Sighting]]]:
        """Return the artifacts that attempts of workflows, and tasks in them, used and generated."""
        found: dict[tuple[str, int], list[tuple[str, Sighting]]] = {}
        identities = Identities(self._campaign.catalog.sightings)
        for node, sightings in identities.artifacts.items():
            for one in sightings:
                index = self._campaign.stream.attempts.get(one.workflow_id)
                attempt = 1 if index is None else index.find(one.header, one.at)
                found.setdefault((one.workflow_id, attempt), []).append((node, one))
        return found

    def _artifact(self, node: str, one: Sighting) -> str:
        name = f"#artifact/{quote(plain_text(node), safe='')}"
        return self._add(
            name,
            "CreativeWork",
            name=plain_text(one.record.name or one.place or node),
            alternateName=None if one.place is None else plain_text(one.place),
            contentSize=None if one.size is None else str(one.size),
            sha256=one.sha256,
        )

    def _values(self, kind: str, values: Mapping[str, Any], step: int, local: str) -> list[str]:
        """Add parameters that a workflow used, or metrics that it logged; return the ids."""
        found = []
        for path, value in values.items():
            quoted = quote(path, safe="")
            formal = f"#{kind}/{step}/{quoted}"
            if formal not in self._entities:
                self._add(formal, "FormalParameter", name=path, additionalType="Text")
            shown = value if isinstance(value, str) else json.dumps(value)
            name = f"{_VALUE_IDS[kind]}/{local}/{quoted}"
            found.append(
                self._add(name, "PropertyValue", name=path, value=shown, exampleOfWork={"@id": formal})
            )
        return found


def _title(row: Workflow) -> str:
    return plain_text(row.name or "(unnamed)")


def _time(at: int | None) -> str | None:
    time = as_datetime(at)
    return None if time is None else time.isoformat()


def _refer(names: Iterable[str]) -> list[_Entity]:
    return [{"@id": name} for name in names]


def _write_json(path: Path, value: _Entity) -> None:
    path.write_text(f"{json.dumps(value, ensure_ascii=False, indent=1)}\n", encoding="utf-8")


def _zip(folder: Path, path: Path) -> None:
    """Write the files of a folder into a zip, all with one date: two exports are the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(file.name)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target)


__all__ = ["write_crate"]
