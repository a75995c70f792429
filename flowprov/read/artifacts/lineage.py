"""``Lineage``: what artifacts were made of and what was made of them, as tables, drawings and a story.

Flows in: a graph, and what is known of its tasks and workflows. Flows out: DataFrames, DOT, Mermaid, a graph
of networkx, or text for people.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from flowprov.display import printable
from flowprov.errors import MissingExtraError
from flowprov.read.answers.answer_frames import answer_frame
from flowprov.read.answers.tables import Line
from flowprov.read.artifacts.background import Background
from flowprov.read.artifacts.catalog import Sighting
from flowprov.read.artifacts.graph import Graph
from flowprov.read.artifacts.story import tell

if TYPE_CHECKING:
    import pandas as pd

NODE_COLUMNS = (
    "id",
    "type",
    "name",
    "digest",
    "likely",
    "kind",
    "path",
    "size",
    "weights",
    "state",
    "status",
    "started_at",
    "campaign_id",
    "workflow_id",
    "hostname",
)
EDGE_COLUMNS = ("source", "target", "relation")
_ARROWS = {"artifact": "([{}])", "task": "[{}]", "workflow": "[[{}]]"}
_MAX_LABEL = 80


class Lineage:
    """What artifacts were made of, and what was made of them.

    It prints as a story.

    Attributes
    ----------
    found_by
        How ``whence`` found the file: ``"digest"``, ``"weights"``, ``"tensors"``, ``"member"``; else None.
    reason
        The same in words: ``"15 of 17 tensors"``.
    """

    def __init__(
        self,
        graph: Graph,
        background: Background,
        beginning: list[str],
        *,
        found_by: str | None = None,
        reason: str | None = None,
        file: Line | None = None,
    ) -> None:
        self._graph = graph
        self._background = background
        self._beginning = beginning
        self._file = file
        self.found_by = found_by
        self.reason = reason

    @property
    def nodes(self) -> pd.DataFrame:
        """The nodes: ``id, type, name, digest, likely`` and more.

        ``type`` is ``artifact``, ``task`` or ``workflow``. The id of an artifact is its SHA-256, if it has
        one. ``likely`` says of what generated an artifact whether it is the one that fits best by time and
        path; of all else it is None.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        return answer_frame(self.node_lines(), NODE_COLUMNS)

    @property
    def edges(self) -> pd.DataFrame:
        """The edges: ``source, target, relation``, with the names of W3C PROV.

        Raises
        ------
        MissingExtraError
            If pandas is not installed.
        """
        return answer_frame(self.edge_lines(), EDGE_COLUMNS)

    def node_lines(self) -> list[Line]:
        """Return the nodes as dictionaries; times are in nanoseconds since the epoch."""
        lines = [] if self._file is None or self._file["id"] in self._graph.artifacts else [self._file]
        lines += [_artifact_line(node, group) for node, group in self._graph.artifacts.items()]
        return lines + [self._activity_line(node, one) for node, one in self._graph.activities.items()]

    def edge_lines(self) -> list[Line]:
        """Return the edges as dictionaries."""
        return [dict(zip(EDGE_COLUMNS, edge, strict=True)) for edge in self._graph.edges]

    def to_dict(self) -> dict[str, Any]:
        """Return all of it, as JSON can hold it."""
        return {
            "found_by": self.found_by,
            "reason": self.reason,
            "nodes": self.node_lines(),
            "edges": self.edge_lines(),
        }

    def to_dot(self) -> str:
        """Return the graph in the language of Graphviz."""
        shapes = {"artifact": "note", "task": "box", "workflow": "component"}
        nodes = (
            f"  {_dot(line['id'])} [shape={shapes[line['type']]}, label={_dot(_label(line))}];"
            for line in self.node_lines()
        )
        edges = (
            f"  {_dot(source)} -> {_dot(target)} [label={_dot(relation)}];"
            for source, target, relation in self._graph.edges
        )
        return "\n".join(["digraph lineage {", "  rankdir=BT;", *nodes, *edges, "}"])

    def to_mermaid(self) -> str:
        """Return the graph in the language of Mermaid."""
        lines = self.node_lines()
        names = {line["id"]: f"n{number}" for number, line in enumerate(lines)}
        nodes = (
            f"  {names[line['id']]}{_ARROWS[line['type']].format(_mermaid(_label(line)))}" for line in lines
        )
        edges = (
            f"  {names[source]} -->|{relation}| {names[target]}"
            for source, target, relation in self._graph.edges
        )
        return "\n".join(["flowchart BT", *nodes, *edges])

    def to_networkx(self) -> Any:
        """Return a ``networkx.MultiDiGraph``; nodes and edges have what the tables have.

        Raises
        ------
        MissingExtraError
            If networkx is not installed.
        """
        try:
            import networkx as nx
        except ImportError as error:
            raise MissingExtraError("networkx", "graph", "make a graph of a lineage") from error
        graph = nx.MultiDiGraph()
        for line in self.node_lines():
            graph.add_node(line["id"], **{name: value for name, value in line.items() if name != "id"})
        for source, target, relation in self._graph.edges:
            graph.add_edge(source, target, relation=relation)
        return graph

    def lines(self) -> Iterator[str]:
        """Yield the lines of the story."""
        return tell(self._graph, self._background, self._beginning, self._file, self.reason)

    def __str__(self) -> str:
        return "\n".join(map(printable, self.lines()))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def __repr__(self) -> str:
        count = len(self._graph.artifacts)
        return f"<flowprov lineage of {count} {'artifact' if count == 1 else 'artifacts'}>"

    def _activity_line(self, node: str, sighting: Sighting) -> Line:
        described = self._background.describe(sighting)
        return {
            "id": node,
            "type": "workflow" if sighting.task_id is None else "task",
            "name": described.name,
            "digest": None,
            "likely": self._graph.likely.get(node),
            "status": described.status,
            "started_at": described.started_at,
            "campaign_id": sighting.campaign_id,
            "workflow_id": sighting.workflow_id,
            "hostname": sighting.header.hostname,
        }


def _artifact_line(node: str, group: list[Sighting]) -> Line:
    last = group[-1]
    named = next((one for one in reversed(group) if one.record.name), last)
    return {
        "id": node,
        "type": "artifact",
        "name": named.record.name or (last.place or "").rpartition("/")[2] or last.record.kind,
        "digest": last.sha256,
        "likely": None,
        "kind": last.record.kind,
        "path": last.record.path or last.record.uri,
        "size": last.size,
        "weights": last.weights,
        "state": last.state,
        "campaign_id": last.campaign_id,
        "workflow_id": None,
        "hostname": last.header.hostname,
    }


def _label(line: Line) -> str:
    text = str(line["name"] or line["id"])
    text = text if len(text) <= _MAX_LABEL else f"{text[: _MAX_LABEL - 1]}…"
    return f"{text} ({line['id'][:12]})" if line["type"] == "artifact" else text


def _dot(text: str) -> str:
    return json.dumps(printable(text), ensure_ascii=False)


def _mermaid(text: str) -> str:
    # Quotes, and what else has a meaning there, stand as entities.
    shown = printable(text)
    safe = "".join(char if char.isalnum() or char in " ._-:/()" else f"#{ord(char)};" for char in shown)
    return f'"{safe}"'
