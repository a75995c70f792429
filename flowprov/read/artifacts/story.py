"""A lineage as text for people: what made an artifact, of what, with which code, parameters and metrics.

Flows in: a graph and what is known of its tasks and workflows. Flows out: lines. What is not known is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from flowprov.read.answers.tables import Line
from flowprov.read.artifacts.background import Background, Description
from flowprov.read.artifacts.catalog import GENERATED, USED, Sighting
from flowprov.read.artifacts.graph import USES, WAS_DERIVED_FROM, WAS_GENERATED_BY, Graph
from flowprov.read.labels import format_duration

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MAX_SHOWN = 12
_MAX_PARTS = 20
_MAX_LEVELS = 12


def tell(
    graph: Graph, background: Background, beginning: list[str], file: Line | None, reason: str | None
) -> Iterator[str]:
    """Yield the lines of a story.

    Parameters
    ----------
    graph, background
        What is told.
    beginning
        The artifacts, tasks or workflows with which it begins.
    file, reason
        The file that was asked for, and how it was found.
    """
    story = _Story(graph, background)
    if file is not None:
        yield f"{file['path']}  {_digest_text(file['digest'])}"
        yield f"  found by {reason}"
    for node in beginning:
        if node in graph.artifacts:
            yield from story.artifact(node, 0)
        else:
            yield from story.activity(node, 0)
            yield from story.outputs(node, 1)


class _Story:
    def __init__(self, graph: Graph, background: Background) -> None:
        self._graph = graph
        self._background = background
        self._told: set[str] = set()
        self._parameters: set[str] = set()
        self._targets: dict[tuple[str, str], list[str]] = {}
        self._sources: dict[tuple[str, str], list[str]] = {}
        for source, target, relation in graph.edges:
            self._targets.setdefault((source, relation), []).append(target)
            self._sources.setdefault((target, relation), []).append(source)

    def artifact(self, node: str, level: int) -> Iterator[str]:
        """Tell of an artifact, and of what it was made."""
        pad = "  " * level
        group = self._graph.artifacts[node]
        shown = group[-1]
        name = f"{shown.record.name}: " if shown.record.name and shown.record.path else ""
        size = "" if shown.size is None else f", {_size(shown.size)}"
        yield f"{pad}{name}{shown.place or shown.record.kind}  {_digest_text(shown.sha256)}{size}"
        if node in self._told or level > _MAX_LEVELS:
            if self._targets.get((node, WAS_GENERATED_BY)):
                yield f"{pad}  (see above)"
            return
        self._told.add(node)
        if shown.sha256 is None:
            yield f"{pad}  {_without_digest(shown)}"
        generations = [one for one in group if one.role == GENERATED]
        wanted = set(self._targets.get((node, WAS_GENERATED_BY), ()))
        generations = [one for one in generations if one.activity in wanted]
        if not generations:
            made = any(one.role == GENERATED for one in group)
            if not made:
                yield f"{pad}  no record says what generated it"
        ordered = sorted(generations, key=lambda one: not self._graph.likely.get(one.activity))
        for one in _each_once(ordered):
            yield from self._generation(one, level + 1, several=len(ordered) > 1)
        inputs = self._targets.get((node, WAS_DERIVED_FROM), [])
        if inputs:
            yield f"{pad}  made of:"
            for used in inputs[:_MAX_SHOWN]:
                yield from self.artifact(used, level + 2)
            yield from _more(len(inputs), level + 2)
        yield from self._derived(node, level)

    def _descendant(self, node: str, level: int) -> Iterator[str]:
        """Tell of an artifact that was made of another one, and what was made of it."""
        pad = "  " * level
        shown = self._graph.artifacts[node][-1]
        makers = self._targets.get((node, WAS_GENERATED_BY), [])
        by = f"  by {self._title(makers[0])}" if makers else ""
        yield f"{pad}{shown.place or shown.record.kind}  {_digest_text(shown.sha256)}{by}"
        if node in self._told or level > _MAX_LEVELS:
            return
        self._told.add(node)
        made = self._sources.get((node, WAS_DERIVED_FROM), [])
        for one in made[:_MAX_SHOWN]:
            if one in self._graph.artifacts:
                yield from self._descendant(one, level + 1)
        yield from _more(len(made), level + 1)

    def _derived(self, node: str, level: int) -> Iterator[str]:
        """Tell what was made of an artifact, where that was asked for."""
        made = self._sources.get((node, WAS_DERIVED_FROM), [])
        made = [one for one in made if one in self._graph.artifacts and one not in self._told]
        users = self._sources.get((node, USES), [])
        if level == 0 and users and not self._targets.get((node, WAS_GENERATED_BY)) and not made:
            for user in users[:_MAX_SHOWN]:
                yield f"  used by {self._title(user)}"
        if level == 0 and made:
            yield "  of it was made:"
            for one in made[:_MAX_SHOWN]:
                yield from self._descendant(one, 2)
            yield from _more(len(made), 2)

    def _generation(self, one: Sighting, level: int, *, several: bool) -> Iterator[str]:
        pad = "  " * level
        mark = ""
        if several:
            mark = "  [likely]" if self._graph.likely.get(one.activity) else "  [the same content]"
        yield f"{pad}generated by {self._title(one.activity)}{mark}"
        if self._graph.likely.get(one.activity) or not several:
            yield from self._facts(one, level + 1)

    def activity(self, node: str, level: int) -> Iterator[str]:
        """Tell of a task or workflow, and of what it used."""
        yield "  " * level + self._title(node)
        if (one := self._graph.activities.get(node)) is not None:
            yield from self._facts(one, level + 1)
            uses = [
                target
                for (source, relation), targets in self._targets.items()
                if relation == USES and self._is_in(source, node)
                for target in targets
            ]
            if uses:
                yield "  " * (level + 1) + "used:"
                for used in list(dict.fromkeys(uses))[:_MAX_SHOWN]:
                    yield from self.artifact(used, level + 2)

    def outputs(self, node: str, level: int) -> Iterator[str]:
        """Tell what a task or workflow generated."""
        made = [
            source
            for (target, relation), sources in self._sources.items()
            if relation == WAS_GENERATED_BY and self._is_in(target, node)
            for source in sources
        ]
        if made:
            yield "  " * level + "generated:"
            made = list(dict.fromkeys(made))
            for one in made[:_MAX_SHOWN]:
                yield from self.artifact(one, level + 1)
            yield from _more(len(made), level + 1)

    def _is_in(self, activity: str, node: str) -> bool:
        one = self._graph.activities.get(activity)
        return activity == node or (one is not None and node in (*one.around, one.workflow_id))

    def _title(self, node: str) -> str:
        one = self._graph.activities.get(node)
        if one is None:
            return node
        described = self._background.describe(one)
        kind = "workflow" if one.task_id is None else "task"
        name = f" {described.name}" if described.name else ""
        where = ""
        if one.task_id is not None and described.workflow is not None:
            where = f" of workflow {described.workflow.name or described.workflow.workflow_id}"
        campaign = described.campaign or one.campaign_id
        return f"{kind}{name}{where} in campaign {campaign}  ({node})"

    def _facts(self, one: Sighting, level: int) -> Iterator[str]:
        pad = "  " * level
        described = self._background.describe(one)
        yield f"{pad}{_circumstances(one, described)}"
        code = described.code()
        yield f"{pad}code: {_listed(code)}" if code else f"{pad}code: not known"
        data = described.data()
        yield from (f"{pad}data: {one}" for one in data[:_MAX_SHOWN])
        yield from _more(len(data), level)
        parameters = _listed(described.parameters())
        if parameters:
            # Stages of a pipeline have the same ones, and there may be many.
            yield f"{pad}parameters: {'as above' if parameters in self._parameters else parameters}"
            self._parameters.add(parameters)
        then, last = map(_listed, (described.metrics_then or {}, described.metrics()))
        if then:
            yield f"{pad}metrics: {then}"
        if last and last != then:
            yield f"{pad}{'metrics' if one.role == USED else 'metrics of the run at its end'}: {last}"


def _circumstances(one: Sighting, described: Description) -> str:
    parts = [(_EPOCH + timedelta(microseconds=one.at // 1000)).strftime("%Y-%m-%d %H:%M:%S UTC")]
    if described.status:
        parts.append(described.status)
    if described.started_at is not None and described.ended_at is not None:
        parts.append(format_duration((described.ended_at - described.started_at) / 1e9))
    parts.append(f"on {one.header.hostname}")
    numbers = {"epoch": one.record.epoch, "step": one.record.step}
    parts += [f"{name} {number}" for name, number in numbers.items() if number is not None]
    return ", ".join(parts)


def _listed(values: Mapping[str, Any]) -> str:
    parts = [
        f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    ]
    more = f", and {len(parts) - _MAX_PARTS} more" if len(parts) > _MAX_PARTS else ""
    return ", ".join(parts[:_MAX_PARTS]) + more


def _without_digest(one: Sighting) -> str:
    if one.digest is None:
        return "its digest is pending: flowprov digest completes it"
    return f"it has no digest: {one.digest.state}" + (f" ({one.digest.reason})" if one.digest.reason else "")


def _digest_text(digest: str | None) -> str:
    return "without a digest" if digest is None else f"sha256 {digest[:16]}"


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def _each_once(generations: list[Sighting]) -> list[Sighting]:
    return list({one.activity: one for one in reversed(generations)}.values())[::-1]


def _more(count: int, level: int) -> Iterator[str]:
    if count > _MAX_SHOWN:
        yield "  " * level + f"and {count - _MAX_SHOWN} more"
