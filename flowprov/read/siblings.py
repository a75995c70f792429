"""A tree of text in bounded memory: of many siblings of one kind, the last ones are kept and all are counted.

Flows in: tasks and workflows, each with its parent, in any order. Flows out: lines, indented by level.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

from flowprov.display import printable
from flowprov.read.labels import format_duration

K = TypeVar("K")

_MAX_INDENT = 20  # levels: a recursion may be thousands of levels deep

Labels: TypeAlias = Callable[[str | None, list[str]], list[str]]


class Kind(NamedTuple):
    """What siblings have in common that are counted together.

    Attributes
    ----------
    title, status
        Their name as it is shown, and their status.
    folded
        Whether all of them are one line with their count, as forwards are.
    """

    title: str
    status: str
    folded: bool = False


Rank: TypeAlias = tuple[int, int, str]
"""By what siblings are sorted: their time, then their ids, of which the shorter number is the smaller one."""


def rank_of(at: int, key: str) -> Rank:
    """Return the rank of a sibling, by its time and its id."""
    return at, len(key), key


class Group:
    """The siblings of one kind.

    Attributes
    ----------
    kind
        Their kind.
    count
        How many there are.
    kept
        The last ones, by their ranks; a heap.
    first
        The smallest rank of all.
    total_ns
        The sum of their durations.
    """

    __slots__ = ("_most", "count", "first", "kept", "kind", "total_ns")

    def __init__(self, kind: Kind, most: int) -> None:
        self.kind = kind
        self.count = 0
        self.kept: list[Rank] = []
        self.first: Rank | None = None
        self.total_ns = 0
        self._most = 1 if kind.folded else most

    def add(self, first: Rank, last: Iterable[Rank], count: int, total_ns: int) -> None:
        """Add siblings: how many, the first and the last of them; drop the earliest if too many are kept."""
        self.count += count
        self.total_ns += total_ns
        self.first = min(self.first or first, first)
        for rank in last:
            heapq.heappush(self.kept, rank)
            if len(self.kept) > self._most:
                heapq.heappop(self.kept)

    def is_one_line(self) -> bool:
        """Whether these siblings are one line with their count, without what is inside them."""
        return self.kind.folded and self.count > 1


class Siblings:
    """What is directly inside one parent.

    Parameters
    ----------
    most
        How many siblings of one kind are kept.
    """

    __slots__ = ("_most", "count", "groups")

    def __init__(self, most: int) -> None:
        self.count = 0
        self.groups: dict[Kind, Group] = {}
        self._most = most

    def add(self, key: str, at: int, kind: Kind, duration_ns: int = 0) -> None:
        """Add a task or workflow.

        Parameters
        ----------
        key
            Its id.
        at
            The time by which siblings are sorted, in nanoseconds.
        kind
            With which others it is counted.
        duration_ns
            How long it took, in nanoseconds.
        """
        rank = rank_of(at, key)
        self.add_many(kind, rank, [rank], 1, duration_ns)

    def add_many(self, kind: Kind, first: Rank, last: Iterable[Rank], count: int, total_ns: int) -> None:
        """Add tasks of one kind: the ranks of the first and the last ones, how many, how long they took."""
        self.count += count
        if kind not in self.groups:
            self.groups[kind] = Group(kind, self._most)
        self.groups[kind].add(first, last, count, total_ns)

    def own_lines(self) -> list[str]:
        """Return the keys that have a line of their own, in their order."""
        kept = [item for group in self.groups.values() if not group.is_one_line() for item in group.kept]
        return [key for _, _, key in sorted(kept)]

    def lines(self) -> list[tuple[str | None, str]]:
        """Return the lines in their order: a key and "", or None and a text that stands for many."""
        placed: list[tuple[Rank, int, str | None, str]] = []
        for group in self.groups.values():
            shown = [] if group.is_one_line() else sorted(group.kept)
            placed += [(rank, 1, rank[2], "") for rank in shown]
            if group.count > len(shown):
                rank = (shown[0] if shown else group.first) or rank_of(0, "")
                placed.append((rank, 0, None, _summary(group, group.count - len(shown))))
        return [(key, text) for *_, key, text in sorted(placed, key=lambda item: item[:2])]


def _summary(group: Group, count: int) -> str:
    title, status, _ = group.kind
    if group.is_one_line():
        total = f"  {format_duration(group.total_ns / 1e9)} in all" if group.total_ns else ""
        return f"{title} \N{MULTIPLICATION SIGN}{count}  {status}{total}"
    suffix = "" if status == "FINISHED" else f"  {status}"
    return f"... {count} {'earlier ' if group.kept else ''}{title}{suffix}"


class TreeNode(NamedTuple):
    """A line of a tree.

    Attributes
    ----------
    level
        How deep it lies, from 0.
    key
        The id of the task or workflow; None: the line stands for many.
    text
        What it says.
    hidden
        How many lie inside and are not shown.
    """

    level: int
    key: str | None
    text: str
    hidden: int = 0


def walk(
    inside: Mapping[str | None, Siblings], labels: Labels, depth: int | None = None
) -> Iterator[TreeNode]:
    """Yield the nodes of a tree, those inside a node behind it.

    Parameters
    ----------
    inside
        What is inside each parent; under None what has no parent.
    labels
        Returns the lines of siblings, by their parent and their keys.
    depth
        How many levels are shown; None: all.
    """
    stack = [(line, 0) for line in reversed(_labeled(inside, None, labels))]
    drawn: set[str] = set()
    while stack:
        (key, text), level = stack.pop()
        within = inside.get(key) if key is not None and key not in drawn else None
        is_last = level + 1 == depth
        yield TreeNode(level, key, text, within.count if within and is_last else 0)
        if key is not None:
            drawn.add(key)  # what damaged records put into itself is drawn once
        if within and not is_last:
            stack += [(line, level + 1) for line in reversed(_labeled(inside, key, labels))]


def draw(nodes: Iterable[TreeNode]) -> Iterator[str]:
    """Yield the lines of a tree.

    Lines are indented by their level. Below twenty levels they are not indented further, and name their
    level instead. Lines of the last level say how much is inside.
    """
    deepest = 0
    for level, _, text, hidden in nodes:
        deepest = max(deepest, level)
        beyond = f"[level {level + 1}] " if level > _MAX_INDENT else ""
        within = f"  ({hidden} inside)" if hidden else ""
        yield "  " * min(level, _MAX_INDENT) + beyond + printable(text) + within
    if deepest > _MAX_INDENT:
        yield f"... {deepest + 1} levels deep"


def without_circles(parents: Mapping[K, K | None]) -> dict[K, K | None]:
    """Return the parent of each item, with None for one in each circle of items that are inside each other.

    So all items have a place in a tree. Only damaged records name such parents.
    """
    result = dict(parents)
    seen_from: dict[K, K] = {}
    for first in parents:
        item = first
        while item not in seen_from:
            seen_from[item] = first
            parent = result.get(item)
            if parent is None:
                break
            if seen_from.get(parent) == first:
                result[item] = None
                break
            item = parent
    return result


def _labeled(
    inside: Mapping[str | None, Siblings], parent: str | None, labels: Labels
) -> list[tuple[str | None, str]]:
    if parent not in inside:
        return []
    siblings = inside[parent]
    keys = siblings.own_lines()
    texts = dict(zip(keys, labels(parent, keys), strict=True))
    return [(key, text if key is None else texts[key]) for key, text in siblings.lines()]
