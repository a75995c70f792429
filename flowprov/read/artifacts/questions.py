"""``artifacts``, ``lineage`` and ``whence``: what a person asks of artifacts, over whole buffers.

Flows in: one source or several. Flows out: DataFrames, and lineages.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flowprov.contents.content import Content, printable_path
from flowprov.contents.paths import read_path
from flowprov.contents.reading import Reading
from flowprov.display import count
from flowprov.errors import UnknownIdError, UsageError
from flowprov.read.answers.answer_frames import answer_frame
from flowprov.read.answers.items import find_item
from flowprov.read.answers.tables import Line
from flowprov.read.artifacts.background import Background
from flowprov.read.artifacts.catalog import Catalog, Sighting
from flowprov.read.artifacts.declared_data import find_declared
from flowprov.read.artifacts.graph import HAD_MEMBER, Graph, Tracer
from flowprov.read.artifacts.lineage import Lineage
from flowprov.read.artifacts.search import Match, find
from flowprov.read.campaign_sources import Sources, each_source
from flowprov.read.questions import all_contents
from flowprov.read.source import Source
from flowprov.read.unknown_ids import describe_unknown
from flowprov.values import as_id

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("flowprov")

ARTIFACT_COLUMNS = (
    "role",
    "task_id",
    "run_id",
    "workflow_id",
    "name",
    "path",
    "kind",
    "format",
    "size",
    "files",
    "digest",
    "weights",
    "state",
    "reason",
    "epoch",
    "step",
    "at",
    "campaign_id",
    "hostname",
    "artifact_id",
    "metadata",
)
_DIGEST = re.compile(r"(sha256:)?([0-9a-f]{8,64})", re.IGNORECASE)


def artifacts(source: Sources = None, *, campaign_id: str | None = None) -> pd.DataFrame:
    """Return the artifacts of a buffer as a DataFrame: one row per use or generation, in the order of time.

    Parameters
    ----------
    source
        As for :class:`Buffer`; or several of these.
    campaign_id
        Only this campaign; by default all.

    Returns
    -------
    pandas.DataFrame
        ``role`` (``used`` or ``generated``), ``task_id``, ``run_id``, ``workflow_id``, ``name``, ``path``,
        ``kind``, ``format``, ``size`` (bytes), ``files`` (of a folder), ``digest`` (the SHA-256),
        ``weights``, ``state`` (``digested``, ``changed_while_read``, ``missing``, ``unreadable``,
        ``skipped`` or ``pending``), ``reason``, ``epoch``, ``step``, ``at`` (``datetime64[ns, UTC]``),
        ``campaign_id``, ``hostname``, ``artifact_id``, ``metadata``. Rows with one ``digest`` are one
        artifact.

    Raises
    ------
    JournalError, UnknownIdError, SinkError
        As :class:`Buffer` does.
    MissingExtraError
        If pandas is not installed.
    """
    return answer_frame(artifact_table(source, campaign_id=campaign_id), ARTIFACT_COLUMNS)


def artifact_table(source: Sources = None, *, campaign_id: str | None = None) -> list[Line]:
    """Return the lines of :func:`artifacts` without pandas; times are in nanoseconds since the epoch."""
    library = _Library(source, campaign_id)
    return [_line(one, library.background.run_of(one)) for one in library.catalog.sightings]


def lineage(
    what: str | os.PathLike[str],
    source: Sources = None,
    *,
    up: bool = True,
    down: bool = False,
    depth: int | None = None,
) -> Lineage:
    """Return what something was made of, and what was made of it.

    Parameters
    ----------
    what
        The id of a task, a workflow or a run; the digest of an artifact, or its beginning; or a path: that of
        a file here, or one that was recorded.
    source
        As for :func:`artifacts`.
    up, down
        Whether to look for what it was made of, and for what was made of it.
    depth
        How many steps are followed; None follows all.

    Returns
    -------
    Lineage
        ``.nodes`` and ``.edges`` (DataFrames), ``.to_dot()``, ``.to_mermaid()``, ``.to_networkx()``; it
        prints as a story.

    Raises
    ------
    UnknownIdError
        If nothing is known of it, or it may be several things.
    JournalError, SinkError
        As :class:`Buffer` does.
    """
    library = _Library(source)
    text = os.fspath(what)
    nodes, activity = library.resolve(text)
    if not nodes and activity is None and os.path.lexists(text):
        found = library.whence(text, depth=depth, up=up, down=down)
        if found is not None:
            return found
    if not nodes and activity is None:
        activity = library.require_item(text)
    tracer = library.tracer()
    beginning = list(nodes)
    graph = Graph()
    if activity is not None:
        inside = [one for one in library.catalog.sightings if activity in (*one.around, one.workflow_id)]
        wanted = [one for one in inside if (one.role == "used" and up) or one.role == "generated"]
        beginning = list(dict.fromkeys(map(tracer.identities.node_of, wanted)))
        for one in inside:
            tracer.add_sighting(graph, one)
    tracer.trace(beginning, up=up, down=down, depth=depth, graph=graph)
    return Lineage(graph, library.background, beginning if activity is None else [activity])


def whence(path: str | os.PathLike[str], source: Sources = None) -> Lineage | None:
    """Return what made a file or folder, found by its content alone, whatever it is called now.

    Parameters
    ----------
    path
        The file or folder.
    source
        As for :func:`artifacts`.

    Returns
    -------
    Lineage or None
        Its lineage upwards, with ``.found_by``: ``"digest"``; ``"member"``, of a recorded folder;
        ``"weights"``: all tensors are the same; ``"tensors"``: some are, and ``.reason`` says how many. None
        where nothing knows it; a warning says where it was looked for. ``"dvc"``: the md5 that DVC gives it
        is in the version of a workflow, or in the history of the git repository of the current folder.

    Raises
    ------
    UsageError
        If there is no such file, or it cannot be read.
    JournalError, SinkError
        As :class:`Buffer` does.
    """
    return _Library(source).whence(os.fspath(path))


class FoundFile(NamedTuple):
    """A file that something recorded knows, and what was recorded around it.

    Attributes
    ----------
    file, content
        What it is called now, and what it holds.
    match
        How it was found.
    nodes
        The nodes of the graph that it is, or comes from.
    graph, background
        What these were made of, and what is known of the tasks and workflows there.
    """

    file: Line
    content: Content
    match: Match
    nodes: list[str]
    graph: Graph
    background: Background


def find_file(path: str | os.PathLike[str], source: Sources = None) -> FoundFile | None:
    """Return what was recorded around a file or folder, as :func:`whence` finds it, with its warning."""
    return _Library(source).find_file(os.fspath(path))


class _Library:
    """The sources of a question, and the catalog of their artifacts."""

    def __init__(self, source: Sources, campaign_id: str | None = None) -> None:
        given = each_source(source)
        self._given: Sources = None if given == [None] else [one for one in given if one is not None]
        self.sources = [Source(one) for one in given]
        campaign_id = as_id(campaign_id)
        paths: list[Path] = []
        for one in self.sources:
            if campaign_id is None:
                paths += one.all_paths()
            else:
                paths += [journal.path for journal in one.campaign(campaign_id)]
        if campaign_id is not None and not paths:
            self.sources[0].require_campaign(campaign_id)  # says which there are
        self._paths = paths
        self.catalog = Catalog(paths, campaign_id)
        self.background = Background(self.sources)

    def __str__(self) -> str:
        return ", ".join(map(str, self.sources))

    def tracer(self) -> Tracer:
        """Return what follows artifacts; it knows the workflows around those that touch artifacts."""
        campaigns = {one.campaign_id for one in self.catalog.sightings}
        parents = self.background.parents(campaigns) if len(campaigns) == 1 else {}
        return Tracer(self.catalog, parents)

    def whence(
        self, path: str, *, depth: int | None = None, up: bool = True, down: bool = False
    ) -> Lineage | None:
        """Return the lineage of a file, as :func:`whence` does."""
        found = self.find_file(path, depth=depth, up=up, down=down)
        if found is None:
            return None
        return Lineage(
            found.graph,
            self.background,
            found.nodes,
            found_by=found.match.found_by,
            reason=found.match.reason,
            file=found.file,
        )

    def find_file(
        self, path: str, *, depth: int | None = None, up: bool = True, down: bool = False
    ) -> FoundFile | None:
        """Return what was recorded around a file; None, and a warning, where nothing knows it."""
        content = read_path(path, Reading())
        if content.sha256 is None:
            raise UsageError(f"{printable_path(path)} cannot be read: {content.reason or content.state}.")
        match = find(content, self.catalog)
        if match is None and (match := find_declared(path, self._paths)) is not None:
            self.catalog.sightings += match.sightings
        if match is None:
            self._say_where_it_looked(path, content)
            return None
        tracer, graph = self.tracer(), Graph()
        nodes = list(dict.fromkeys(map(tracer.identities.node_of, match.sightings)))
        # Of data one asks what ran on it.
        tracer.trace(nodes, up=up, down=down or match.found_by == "dvc", depth=depth, graph=graph)
        file = _file_line(path, content)
        if match.relation is not None:
            for node in nodes:
                _connect_file(graph, match, str(file["id"]), node)
        return FoundFile(file, content, match, nodes, graph, self.background)

    def _say_where_it_looked(self, path: str, content: Content) -> None:
        known = self.catalog.sightings
        without = sum(one.sha256 is None for one in known)
        logger.warning(
            "flowprov: nothing that is recorded knows %s (sha256 %s%s). It looked in %s: %s of "
            "artifacts in %s, by digest, as a member of a folder, by weights, by "
            "tensors, and by DVC's md5 among the data of workflows and in the history of git.%s",
            printable_path(path),
            content.sha256,
            "" if content.weights is None else f", weights {content.weights}",
            self,
            "1 use or generation" if len(known) == 1 else f"{len(known):,} uses and generations",
            count(self.catalog.journals, "journal"),
            f" {without} of them {'has' if without == 1 else 'have'} no digest; flowprov digest completes "
            "those pending."
            if without
            else "",
        )

    def resolve(self, what: str) -> tuple[list[str], str | None]:
        """Return the artifacts that somebody means, or the task or workflow."""
        tracer = Tracer(self.catalog)
        identities = tracer.identities
        match = _DIGEST.fullmatch(what)
        if match:
            beginning = match[2].lower()
            nodes = [
                node
                for node, group in identities.artifacts.items()
                if any(_begins(one.sha256, beginning) or _begins(one.weights, beginning) for one in group)
            ]
            exact = [node for node in nodes if node == beginning]
            if len(exact or nodes) == 1 or (nodes and len(beginning) == 64):
                return exact or nodes, None
            if nodes:
                raise UnknownIdError(
                    f"{what!r} may mean {len(nodes)} artifacts: {', '.join(nodes[:5])}. Give more of it."
                )
        for one in self.catalog.sightings:
            if what in (one.task_id, one.workflow_id) or what in one.inside:
                return [], what
            if what == one.artifact_id:
                return [identities.node_of(one)], None
        if os.path.lexists(what):
            return [], None
        path = printable_path(os.path.abspath(what))  # noqa: PTH100 - it may be bytes that are no text
        places = [one for one in self.catalog.sightings if what == one.place or one.record.path == path]
        return list(dict.fromkeys(map(identities.node_of, places))), None

    def require_item(self, what: str) -> str:
        """Return the id of a task or workflow; it may be the beginning of an id, or a name."""
        contents = list(all_contents(self._given, None))
        if not contents:
            raise UnknownIdError(describe_unknown("artifact, task or workflow", what, str(self), {}))
        return find_item(contents, what, str(self)).id


def _connect_file(graph: Graph, match: Match, file: str, node: str) -> None:
    if match.relation == HAD_MEMBER:
        graph.connect(node, HAD_MEMBER, file)
    elif match.relation is not None:
        graph.connect(file, match.relation, node)


def _file_line(path: str, content: Content) -> Line:
    path = printable_path(os.path.abspath(path))  # noqa: PTH100 - as above
    return {
        "id": content.sha256,
        "type": "artifact",
        "name": path.rpartition("/")[2],
        "digest": content.sha256,
        "likely": None,
        "kind": "folder" if content.members is not None else "file",
        "path": path,
        "size": content.size,
        "weights": content.weights,
        "state": content.state,
    }


def _begins(digest: str | None, beginning: str) -> bool:
    return digest is not None and digest.startswith(beginning)


def _line(one: Sighting, run_id: str) -> Line:
    digest = one.digest
    return {
        "role": one.role,
        "task_id": one.task_id,
        "run_id": run_id,
        "workflow_id": one.workflow_id,
        "name": one.record.name,
        "path": one.record.path or one.record.uri,
        "kind": one.record.kind,
        "format": None if digest is None else digest.format,
        "size": one.size,
        "files": None if digest is None else digest.files,
        "digest": one.sha256,
        "weights": one.weights,
        "state": one.state,
        "reason": None if digest is None else digest.reason,
        "epoch": one.record.epoch,
        "step": one.record.step,
        "at": one.at,
        "campaign_id": one.campaign_id,
        "hostname": one.header.hostname,
        "artifact_id": one.artifact_id,
        "metadata": one.record.metadata,
    }
