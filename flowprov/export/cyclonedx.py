"""``cyclonedx``: the bill of materials of a model, in CycloneDX 1.6.

Flows in: a file that something recorded knows, and what that was made of. Flows out: a JSON document with the
model and its card, the data and models that it was made of, the packages that were installed, and as its
formulation the workflows that made all of these.

https://cyclonedx.org/docs/1.6/json/ describes each field; https://cyclonedx.org/capabilities/mlbom/ says what
a bill of a model has.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from flowprov.export.artifact_kinds import hashes_of, is_dataset, is_folder, is_model, name_of, places_of
from flowprov.export.new_file import written_beside
from flowprov.export.plain_values import flat_values, plain_text
from flowprov.read.artifacts.background import Description
from flowprov.read.artifacts.catalog import GENERATED, Sighting
from flowprov.read.artifacts.graph import ALTERNATE_OF, HAD_MEMBER, WAS_DERIVED_FROM, WAS_GENERATED_BY
from flowprov.read.artifacts.questions import FoundFile
from flowprov.read.frames import as_datetime
from flowprov.version import __version__

_Object: TypeAlias = "dict[str, Any]"

_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_MODEL = "model"  # the reference of the model
_ALGORITHMS = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256", "sha512": "SHA-512"}
_SCP_ADDRESS = re.compile(r"(?P<host>[^/:@]+@[^/:]+):(?P<path>.*)")
_MAX_VERSION = 1024  # characters, as the schema has it
_MAX_LOCATIONS = 20


def write_cyclonedx(found: FoundFile, path: Path) -> int:
    """Write the bill of materials of a model; return how many components it has besides the model."""
    document = _Bill(found).document()
    with written_beside(path) as new:
        new.write_text(f"{json.dumps(document, ensure_ascii=False, indent=1)}\n", encoding="utf-8")
    return len(document.get("components", ()))


class _Bill:
    """The bill of one model: what it was made of, by the relations of its lineage."""

    def __init__(self, found: FoundFile) -> None:
        self._found = found
        self._is_itself = found.match.relation is None
        # Then parameters and metrics are those of another model.
        self._is_ancestor = found.match.relation == WAS_DERIVED_FROM
        self._artifacts = found.graph.artifacts
        self._sources: dict[str, list[str]] = {}
        self._makers: dict[str, set[str]] = {}
        for source, target, relation in found.graph.edges:
            if relation == WAS_DERIVED_FROM:
                self._sources.setdefault(source, []).append(target)
            elif relation == WAS_GENERATED_BY:
                self._makers.setdefault(source, set()).add(target)
        self._upstream = self._walk(found.nodes)
        makers = (self._maker(node) for node in found.nodes)
        self._made_by = next((one for one in makers if one is not None), None)

    def document(self) -> _Object:
        """Return the whole document; its serial number follows from what it says."""
        made = None if self._made_by is None else self._found.background.describe(self._made_by)
        sightings = [one for node in self._found.nodes for one in self._artifacts[node]]
        latest = self._made_by or max(sightings, key=lambda one: one.at, default=None)
        elsewhere = () if self._found.match.relation == HAD_MEMBER else self._found.nodes
        others = [self._component(node) for node in self._upstream if node not in elsewhere]
        document = _known(
            metadata=_known(
                timestamp=None if latest is None else _time(latest.at),
                tools={"components": [{"type": "application", "name": "flowprov", "version": __version__}]},
                component=self._model(made),
            ),
            components=[*others, *_packages([] if made is None else made.packages())],
            dependencies=list(self._dependencies()),
            formulation=self._formulation(),
        )
        serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))
        head = {"$schema": _SCHEMA, "bomFormat": "CycloneDX", "specVersion": "1.6"}
        return {**head, "serialNumber": f"urn:uuid:{serial}", "version": 1, **document}

    def _dependencies(self) -> Iterator[_Object]:
        """Yield of each artifact what it was made of, and from what the file of today comes."""
        if self._is_ancestor:
            yield {"ref": _MODEL, "dependsOn": [self._ref(node) for node in self._found.nodes]}
        for node in self._upstream:
            if sources := self._sources.get(node):
                yield {"ref": self._ref(node), "dependsOn": [self._ref(one) for one in sources]}

    def _walk(self, nodes: Iterable[str]) -> list[str]:
        """Return some artifacts and all that they were made of, the nearest first."""
        found = dict.fromkeys(nodes)
        waiting = list(found)
        for node in waiting:
            new = [one for one in self._sources.get(node, ()) if one not in found]
            found.update(dict.fromkeys(new))
            waiting.extend(new)
        return list(found)

    def _ref(self, node: str) -> str:
        return _MODEL if self._is_itself and node in self._found.nodes else f"artifact/{plain_text(node)}"

    def _maker(self, node: str) -> Sighting | None:
        """Return the generation of an artifact; of several the likely one, the latest."""
        makers = self._makers.get(node, set())
        generations = [
            one for one in self._artifacts[node] if one.role == GENERATED and one.activity in makers
        ]
        likely = [one for one in generations if self._found.graph.likely.get(one.activity)]
        return max(likely or generations, key=lambda one: one.at, default=None)

    def _model(self, made: Description | None) -> _Object:
        """Return the component of the model, which is the file as it is today."""
        file, match = self._found.file, self._found.match
        recorded = (
            [one for node in self._found.nodes for one in self._artifacts[node]] if self._is_itself else []
        )
        own = self._made_by if self._is_itself else None
        facts = {
            **_facts_of(recorded),
            "size": file["size"],
            "format": self._found.content.format,
            "weights_sha256": file["weights"],
            "found_by": match.reason,
            "epoch": None if own is None else own.record.epoch,
            "step": None if own is None else own.record.step,
        }
        return _known(
            **{"bom-ref": _MODEL},
            type="machine-learning-model",
            name=plain_text((own.record.name if own is not None else None) or str(file["name"])),
            hashes=_hashes({"sha256": str(file["digest"])}),
            pedigree=None if self._is_itself else self._pedigree(),
            externalReferences=None if self._is_ancestor else _code_references(made),
            evidence=_locations(recorded),
            modelCard=None if self._is_ancestor else self._card(self._found.nodes, made),
            properties=_properties(facts),
        )

    def _pedigree(self) -> _Object:
        """Return from which recorded artifacts the file comes: equal ones, or others with their own card."""
        nodes, relation = self._found.nodes, self._found.match.relation
        components = {node: self._component(node) for node in nodes}
        if self._is_ancestor:
            for node in nodes:
                maker = self._maker(node)
                made = None if maker is None else self._found.background.describe(maker)
                components[node] |= _known(modelCard=self._card([node], made))
        return _known(
            ancestors=list(components.values()) if self._is_ancestor else None,
            variants=list(components.values()) if relation == ALTERNATE_OF else None,
            notes=plain_text(f"found by {self._found.match.reason}"),
        )

    def _card(self, nodes: Iterable[str], made: Description | None) -> _Object | None:
        """Return data, parameters and metrics of the run that made a model."""
        if made is None:
            return None
        used = list(dict.fromkeys(one for node in nodes for one in self._sources.get(node, ())))
        datasets = [{"ref": self._ref(node)} for node in used if not is_model(self._artifacts[node])]
        at_end = flat_values(made.metrics())
        measured = at_end if made.metrics_then is None else flat_values(made.metrics_then)
        metrics = [{"type": name, "value": _text(value)} for name, value in measured.items()]
        later = {name: value for name, value in at_end.items() if _text(value) != _text(measured.get(name))}
        return _known(
            modelParameters=_known(datasets=datasets),
            quantitativeAnalysis=_known(performanceMetrics=metrics),
            properties=[
                *_properties(flat_values(made.parameters()), "flowprov:parameter:"),
                *_properties(later, "flowprov:metric_at_end:"),
            ],
        )

    def _component(self, node: str) -> _Object:
        """Return an artifact."""
        sightings = self._artifacts[node]
        last = sightings[-1]
        kind = "machine-learning-model" if is_model(sightings) else "data"
        name = name_of(sightings) or plain_text(node)
        contents = "dataset" if is_dataset(sightings) else "other"
        facts = {**_facts_of(sightings), "size": last.size, "weights_sha256": last.weights}
        return _known(
            **{"bom-ref": self._ref(node)},
            type=kind,
            name=name,
            hashes=_hashes(next((one.digest.digests for one in sightings if one.digest), None)),
            evidence=_locations(sightings),
            data=[{"type": contents, "name": name}] if kind == "data" else None,
            properties=_properties(facts),
        )

    def _formulation(self) -> list[_Object] | None:
        """Return the workflows that made the model and what it was made of."""
        made: dict[str, dict[str, Sighting]] = {}
        for node in self._upstream:
            if (maker := self._maker(node)) is not None:
                made.setdefault(maker.workflow_id, {})[node] = maker
        workflows = [self._workflow(key, makers) for key, makers in made.items()]
        return [{"bom-ref": "formula", "workflows": workflows}] if workflows else None

    def _workflow(self, workflow_id: str, makers: Mapping[str, Sighting]) -> _Object:
        described = {node: self._found.background.describe(one) for node, one in makers.items()}
        first = next(iter(described.values()))
        row = first.workflow
        used = dict.fromkeys(one for node in makers for one in self._sources.get(node, ()))
        parameters = [
            {"name": name, "value": _text(value)} for name, value in flat_values(first.parameters()).items()
        ]
        facts = {
            "campaign": first.campaign,
            "status": None if row is None else row.status,
            "hostname": next(iter(makers.values())).header.hostname,
            "user": None if row is None else row.user,
            "python": None if row is None else (row.machine_info or {}).get("python"),
            **{f"code_{name}": value for name, value in first.code().items()},
            "script": None if first.version is None else first.version.script,
        }
        return _known(
            **{"bom-ref": f"workflow/{plain_text(workflow_id)}"},
            uid=plain_text(workflow_id),
            name=None if row is None or row.name is None else plain_text(row.name),
            resourceReferences=[{"externalReference": one} for one in _code_references(first) or ()],
            tasks=list(_tasks(makers, described)),
            taskTypes=["build"],
            inputs=[
                *({"resource": {"ref": self._ref(node)}} for node in used),
                *([{"parameters": parameters}] if parameters else ()),
            ],
            outputs=[{"type": "artifact", "resource": {"ref": self._ref(node)}} for node in makers],
            timeStart=None if row is None else _time(row.started_at),
            timeEnd=None if row is None else _time(row.ended_at),
            properties=[
                *_properties(facts),
                *({"name": "flowprov:data", "value": plain_text(one)} for one in first.data()),
            ],
        )


def _tasks(makers: Mapping[str, Sighting], described: Mapping[str, Description]) -> Iterator[_Object]:
    """Yield the tasks in which artifacts were generated, each once."""
    tasks = {one.task_id: described[node] for node, one in makers.items() if one.task_id is not None}
    for task_id, task in tasks.items():
        yield _known(
            **{"bom-ref": f"task/{plain_text(task_id)}"},
            uid=plain_text(task_id),
            name=None if task.name is None else plain_text(task.name),
            taskTypes=["build"],
            timeStart=_time(task.started_at),
            timeEnd=_time(task.ended_at),
        )


def _packages(lines: Iterable[str]) -> Iterator[_Object]:
    """Yield a library for each installed package; ``name==version @ address@commit`` is the longest form."""
    for line in lines:
        package, _, origin = plain_text(line).partition(" @ ")
        name, _, version = package.partition("==")
        normalized = re.sub(r"[-_.]+", "-", name).lower()
        # What came from an address need not be what the index has under that name.
        purl = None if origin else f"pkg:pypi/{quote(normalized, safe='')}@{quote(version, safe='')}"
        reference = {"type": "distribution", "url": _address(origin)}
        yield _known(
            **{"bom-ref": f"package/{normalized}"},
            type="library",
            name=name,
            version=version[:_MAX_VERSION],
            purl=purl,
            externalReferences=[reference] if origin else None,
        )


def _facts_of(sightings: Sequence[Sighting]) -> _Object:
    """Return what was recorded of an artifact: its kind, and what its digest is of, or why it has none."""
    if not sightings:
        return {}
    last = sightings[-1]
    return {
        "kind": last.record.kind,
        "digest": "of the sorted list of path, size and SHA-256 of its files" if is_folder(last) else None,
        "state": None if last.sha256 is not None else last.state,
    }


def _locations(sightings: Iterable[Sighting]) -> _Object | None:
    """Return where an artifact lay when it was used and generated."""
    places = places_of(sightings)
    return {"occurrences": [{"location": one} for one in places[:_MAX_LOCATIONS]]} if places else None


def _hashes(digests: Mapping[str, str] | None) -> list[_Object] | None:
    return [
        {"alg": _ALGORITHMS[name], "content": value}
        for name, value in hashes_of(digests or {})
        if name in _ALGORITHMS
    ]


def _code_references(described: Description | None) -> list[_Object] | None:
    """Return the repository of a run's code, with the commit."""
    code = {} if described is None else described.code()
    if "remote" not in code:
        return None
    said = [f"{name} {code[name]}" for name in ("commit", "branch", "state") if name in code]
    return [_known(type="vcs", url=_address(str(code["remote"])), comment=plain_text(", ".join(said)))]


def _address(text: str) -> str:
    """Return an address as a URL: ``git@host:path``, which ssh and git take, is none."""
    if "://" not in text and (short := _SCP_ADDRESS.fullmatch(text)):
        text = f"ssh://{short['host']}/{short['path']}"
    return quote(plain_text(text), safe="/:?#@!$&'()*+,;=%~-._")


def _properties(facts: Mapping[str, Any], prefix: str = "flowprov:") -> list[_Object]:
    return [
        {"name": f"{prefix}{name}", "value": _text(value)}
        for name, value in facts.items()
        if value is not None
    ]


def _text(value: Any) -> str:
    return plain_text(value) if isinstance(value, str) else json.dumps(value)


def _time(at: int | None) -> str | None:
    time = as_datetime(at)
    return None if time is None else time.isoformat()


def _known(**fields: Any) -> _Object:
    """Return the fields that hold something."""
    return {name: value for name, value in fields.items() if value not in (None, [], {})}


__all__ = ["write_cyclonedx"]
