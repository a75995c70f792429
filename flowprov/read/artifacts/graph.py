"""The graph of lineage: from an artifact up to what it was made of, and down to what was made of it.

Flows in: the catalog, and where to begin. Flows out: nodes and edges, with the names that W3C PROV gives to
relations.

Of what an artifact was made, a program does not say. It is what was used before, in the innermost scope
around the generation in which anything was used, and by the tasks around it: a task that loads the data
stands beside the one that saves the model, as a rule. Where a workflow generates the same content again, only
what was used inside its tasks counts: the content was there before all else, which may be made of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from flowprov.read.artifacts.catalog import GENERATED, USED, Catalog, Identities, Sighting

WAS_GENERATED_BY, USES, WAS_DERIVED_FROM = "wasGeneratedBy", "used", "wasDerivedFrom"
WAS_INFORMED_BY, WAS_STARTED_BY = "wasInformedBy", "wasStartedBy"
ALTERNATE_OF, HAD_MEMBER = "alternateOf", "hadMember"

_MAX_DERIVED = 2_000  # edges between what one task generated and what it used


class Graph(msgspec.Struct):
    """Nodes and edges.

    Attributes
    ----------
    artifacts
        The sightings of each artifact, by its node.
    activities
        A sighting of each task or workflow, by its id.
    edges
        Source, target and relation, each once, in the order in which they were found.
    derived
        How often each artifact was derived from another one.
    likely
        Of tasks and workflows that generated one of several equal artifacts: whether each is the likely one.
    """

    artifacts: dict[str, list[Sighting]] = {}
    activities: dict[str, Sighting] = {}
    edges: dict[tuple[str, str, str], None] = {}
    likely: dict[str, bool] = {}
    derived: dict[str, int] = {}

    def connect(self, source: str, relation: str, target: str) -> None:
        """Add an edge."""
        if source != target:
            self.edges[source, target, relation] = None


class Tracer:
    """Follows artifacts through the catalog.

    Parameters
    ----------
    catalog
        The sightings.
    parents
        The workflow around each workflow, as far as it is known.
    """

    def __init__(self, catalog: Catalog, parents: dict[str, str] | None = None) -> None:
        self.identities = Identities(catalog.sightings)
        self._parents = parents or {}
        self._of_workflow: dict[tuple[str, str], list[Sighting]] = {}
        self._first_at: dict[tuple[str, str], int] = {}  # when a workflow generated an artifact first
        for sighting in catalog.sightings:
            self._of_workflow.setdefault((sighting.workflow_id, sighting.role), []).append(sighting)
            if sighting.role == GENERATED:
                first = self.identities.node_of(sighting), sighting.workflow_id
                self._first_at[first] = min(sighting.at, self._first_at.get(first, sighting.at))
        self._inputs: dict[int, list[Sighting]] = {}

    def trace(
        self, artifacts: Iterable[str], *, up: bool, down: bool, depth: int | None, graph: Graph | None = None
    ) -> Graph:
        """Follow artifacts up and down.

        Parameters
        ----------
        artifacts
            The nodes to begin with.
        up, down
            Whether to look for what they were made of, and for what was made of them.
        depth
            How many generations are followed; None: all.
        graph
            To which the nodes are added.
        """
        graph = graph or Graph()
        beginning = list(artifacts)
        for node in beginning:
            self._add_artifact(graph, node)
        if up:
            self._walk(graph, beginning, depth, self._step_up)
        if down:
            self._walk(graph, beginning, depth, self._step_down)
        return graph

    def _walk(self, graph: Graph, beginning: list[str], depth: int | None, step: object) -> None:
        waiting = deque((node, 0, None) for node in beginning)
        seen = set(beginning)
        while waiting:
            node, level, before = waiting.popleft()
            if depth is not None and level >= depth:
                continue
            for following, at in step(graph, node, before):  # type: ignore[operator]
                if following not in seen:
                    seen.add(following)
                    waiting.append((following, level + 1, at))

    def _step_up(self, graph: Graph, node: str, before: Sighting | None) -> list[tuple[str, Sighting | None]]:
        generations = [one for one in self.identities.artifacts[node] if one.role == GENERATED]
        found: dict[str, Sighting | None] = {}
        for generation in generations:
            self._add_activity(graph, generation)
            graph.connect(node, WAS_GENERATED_BY, generation.activity)
            for use in self.inputs_of(generation):
                found.setdefault(self._connect_use(graph, generation, use), use)
        self._judge(graph, generations, before)
        return list(found.items())

    def _step_down(self, graph: Graph, node: str, _: object) -> list[tuple[str, Sighting | None]]:
        found: dict[str, Sighting | None] = {}
        for use in self.identities.artifacts[node]:
            if use.role != USED:
                continue
            self._add_activity(graph, use)
            graph.connect(use.activity, USES, node)
            for generation in self._of_workflow.get((use.workflow_id, GENERATED), ()):
                if generation.at >= use.at and any(one is use for one in self.inputs_of(generation)):
                    made = self.identities.node_of(generation)
                    self._add_artifact(graph, made)
                    self._add_activity(graph, generation)
                    graph.connect(made, WAS_GENERATED_BY, generation.activity)
                    graph.connect(made, WAS_DERIVED_FROM, node)
                    found.setdefault(made, None)
        return list(found.items())

    def _connect_use(self, graph: Graph, generation: Sighting, use: Sighting) -> str:
        """Add what a generation used; return its node."""
        used, made = self.identities.node_of(use), self.identities.node_of(generation)
        self._add_artifact(graph, used)
        self._add_activity(graph, use)
        graph.connect(use.activity, USES, used)
        count = graph.derived.get(made, 0)
        if count < _MAX_DERIVED:
            graph.derived[made] = count + 1
            graph.connect(made, WAS_DERIVED_FROM, used)
        producers = [one for one in self.identities.artifacts[used] if one.role == GENERATED]
        if (likely := likely_producer(producers, use)) is not None:
            graph.connect(use.activity, WAS_INFORMED_BY, likely.activity)
        return used

    def _judge(self, graph: Graph, generations: list[Sighting], before: Sighting | None) -> None:
        """Say which of several producers is the likely one."""
        if generations:
            likely = likely_producer(generations, before)
            for one in generations:
                chosen = likely is not None and one.activity == likely.activity
                graph.likely[one.activity] = graph.likely.get(one.activity, False) or chosen

    def _add_artifact(self, graph: Graph, node: str) -> None:
        graph.artifacts.setdefault(node, self.identities.artifacts[node])

    def add_sighting(self, graph: Graph, one: Sighting) -> None:
        """Add a use or a generation to a graph."""
        node = self.identities.node_of(one)
        self._add_artifact(graph, node)
        self._add_activity(graph, one)
        if one.role == USED:
            graph.connect(one.activity, USES, node)
        else:
            graph.connect(node, WAS_GENERATED_BY, one.activity)

    def _add_activity(self, graph: Graph, sighting: Sighting) -> None:
        """Add who used or generated an artifact, and the workflow of a task."""
        graph.activities.setdefault(sighting.activity, sighting)
        if sighting.task_id is not None:
            graph.activities.setdefault(
                sighting.workflow_id, msgspec.structs.replace(sighting, task_id=None, inside=[])
            )
            graph.connect(sighting.task_id, WAS_STARTED_BY, sighting.workflow_id)

    def inputs_of(self, generation: Sighting) -> list[Sighting]:
        """Return the uses from which something was made, as far as their scopes tell."""
        known = self._inputs.get(id(generation))
        if known is None:
            known = self._inputs[id(generation)] = self._find_inputs(generation)
        return known

    def _find_inputs(self, generation: Sighting) -> list[Sighting]:
        workflow_id: str | None = generation.workflow_id
        seen = set()
        own = self.identities.node_of(generation)
        is_first = generation.at <= self._first_at[own, generation.workflow_id]
        while workflow_id is not None and workflow_id not in seen:
            seen.add(workflow_id)
            uses = [
                use
                for use in self._of_workflow.get((workflow_id, USED), ())
                if use.at <= generation.at and self.identities.node_of(use) != own
            ]
            if uses:
                inside = _innermost(generation.around, uses)
                return inside or (uses if is_first else [])
            workflow_id = self._parents.get(workflow_id)
        return []


def _innermost(around: list[str], uses: list[Sighting]) -> list[Sighting]:
    """Return the uses in the innermost task that has any, and those of the tasks around; none if none has."""
    direct = {id(use) for use in uses if use.task_id is None or use.task_id in around}
    for task_id in around:
        if inside := {id(use) for use in uses if task_id in use.around}:
            return [use for use in uses if id(use) in inside or id(use) in direct]
    return []


def likely_producer(generations: list[Sighting], use: Sighting | None) -> Sighting | None:
    """Return which of several generations of one artifact a use is of: the same path first, then the latest.

    Parameters
    ----------
    generations
        The generations.
    use
        The use; None for a file of today.
    """
    before = [one for one in generations if use is None or one.at <= use.at] or generations
    same = [one for one in before if use is not None and one.record.path == use.record.path]
    return max(same or before, key=lambda one: one.at, default=None)
