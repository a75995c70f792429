"""The graph of what was made of what, drawn from left to right.

Flows in: the uses and generations of artifacts of a campaign. Flows out: places of nodes, and paths of edges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowprov.display import count, format_size
from flowprov.read.artifacts.background import Background
from flowprov.read.artifacts.catalog import USED, Catalog, Sighting
from flowprov.read.artifacts.graph import USES, WAS_GENERATED_BY, Graph, Tracer
from flowprov.read.campaign_sources import CampaignSource
from flowprov.report.parts import LineageGraph, Node
from flowprov.report.text import short_id, shown

WIDTH, HEIGHT = 168, 40  # of a node
_MAX_NODES, _MAX_SIGHTINGS = 48, 5_000
_COLUMN, _ROW, _MARGIN = 224, 54, 6
_LABEL, _DETAIL = 22, 26  # characters


def lineage_of(campaign: CampaignSource) -> LineageGraph | None:
    """Return the graph of the artifacts of a campaign; None if it logged none."""
    catalog = Catalog((journal.path for journal in campaign.journals), campaign.campaign_id)
    if not catalog.sightings:
        return None
    tracer, graph = Tracer(catalog), Graph()
    taken = 0
    for sighting in catalog.sightings[:_MAX_SIGHTINGS]:
        if len(graph.artifacts) + len(graph.activities) >= _MAX_NODES:
            break
        tracer.add_sighting(graph, sighting)
        taken += 1
    edges = _flow(graph)
    touched = {name for edge in edges for name in edge}
    nodes = [name for name in (*graph.artifacts, *graph.activities) if name in touched]
    layers = _layers(nodes, edges)
    places = _places(nodes, edges, layers)
    background = Background([source for source, _ in campaign.sources])
    drawn = [_node(name, graph, background, *places[name]) for name in nodes]
    left = len(catalog.sightings) - taken
    notes = [f"{count(left, 'use')} and generations more: flowprov artifacts lists them"] if left else []
    return LineageGraph(
        drawn,
        [_edge(places[source], places[target]) for source, target in edges],
        max(x for x, _ in places.values()) + WIDTH + _MARGIN,
        max(y for _, y in places.values()) + HEIGHT + _MARGIN,
        notes,
    )


def _flow(graph: Graph) -> list[tuple[str, str]]:
    """Return the edges in the direction in which data flowed."""
    found: dict[tuple[str, str], None] = {}
    for source, target, relation in graph.edges:
        if relation in (USES, WAS_GENERATED_BY):
            found[target, source] = None
    return list(found)


def _layers(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the layer of each node: one behind the last of those from which an edge leads to it."""
    layers = dict.fromkeys(nodes, 0)
    for _ in range(len(nodes)):  # of a circle, in which a file is used and written again, no more
        moved = False
        for source, target in edges:
            if layers[target] <= layers[source] < len(nodes) - 1:
                layers[target] = layers[source] + 1
                moved = True
        if not moved:
            break
    order = {layer: number for number, layer in enumerate(sorted(set(layers.values())))}
    return {node: order[layer] for node, layer in layers.items()}


def _places(
    nodes: Sequence[str], edges: Sequence[tuple[str, str]], layers: Mapping[str, int]
) -> dict[str, tuple[float, float]]:
    """Return the places of nodes: in each layer near those from which edges lead to them."""
    rows: dict[str, float] = {}
    before: dict[str, list[str]] = {}
    for source, target in edges:
        before.setdefault(target, []).append(source)
    for layer in range(max(layers.values(), default=0) + 1):
        inside = [node for node in nodes if layers[node] == layer]
        wanted = {
            node: sum(rows[one] for one in known) / len(known)
            if (known := [one for one in before.get(node, ()) if one in rows])
            else float(number)
            for number, node in enumerate(inside)
        }
        following = 0.0
        for node in sorted(inside, key=lambda one: wanted[one]):
            rows[node] = max(following, wanted[node])
            following = rows[node] + 1
    return {node: (_MARGIN + layers[node] * _COLUMN, _MARGIN + rows[node] * _ROW) for node in nodes}


def _edge(source: tuple[float, float], target: tuple[float, float]) -> str:
    x1, y1 = source[0] + WIDTH, source[1] + HEIGHT / 2
    x2, y2 = target[0], target[1] + HEIGHT / 2
    bend = max((x2 - x1) / 2, 24)
    return f"M{x1:g} {y1:g}C{x1 + bend:g} {y1:g} {x2 - bend:g} {y2:g} {x2:g} {y2:g}"


def _node(name: str, graph: Graph, background: Background, x: float, y: float) -> Node:
    if name in graph.artifacts:
        return _artifact(name, graph.artifacts[name], x, y)
    sighting = graph.activities[name]
    described = background.describe(sighting)
    kind = "workflow" if sighting.task_id is None else "task"
    label = described.name or short_id(name)
    status = "" if described.status in (None, "FINISHED") else f" · {described.status}"
    return Node(
        x, y, kind, shown(label, _LABEL), shown(f"{kind}{status}", _DETAIL), shown(f"{label} {name}", 200)
    )


def _artifact(name: str, group: Sequence[Sighting], x: float, y: float) -> Node:
    last = group[-1]
    named = next((one.record.name for one in reversed(group) if one.record.name), None)
    label = named or (last.place or "").rpartition("/")[2] or last.record.kind or "artifact"
    digest = last.sha256
    detail = " · ".join(filter(None, [digest[:8] if digest else last.state, _size(last)]))
    kind = "input" if all(one.role == USED for one in group) else "artifact"
    return Node(
        x, y, kind, shown(label, _LABEL), detail, shown(f"{last.place or ''} {digest or name}".strip(), 200)
    )


def _size(sighting: Sighting) -> str:
    return "" if sighting.size is None else format_size(sighting.size)
