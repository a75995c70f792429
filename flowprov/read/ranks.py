"""The ranks of a job side by side: how each was set up, what it was handed, and which is slow.

Flows in: the journals of a campaign. Flows out: a line for each rank and loader, and what is odd about them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import msgspec

from flowprov.index_codec import count_indices
from flowprov.journal.summary import JournalSummary
from flowprov.read.decoding import records_of
from flowprov.read.labels import ITERATION
from flowprov.read.repeated_orders import describe_repeated, does_repeat
from flowprov.records import Batch, Header, LoaderPass, Task

RANK_COLUMNS = (
    "rank",
    "local_rank",
    "world_size",
    "launcher",
    "hostname",
    "pid",
    "loader",
    "passes",
    "batch_size",
    "batches",
    "sequences",
    "iterations",
    "seconds",
)
_SLOW = 1.5  # times as long as the median of the ranks
_ENOUGH = 3  # iterations of which a time can be told
_BATCHES = "_batch_iteration"


class RankLoader(msgspec.Struct):
    """What one rank did with one loader.

    Attributes
    ----------
    header
        Of the journal of its process.
    name
        What the loader is for; None if the program gave no name.
    passes
        Its passes, in their order.
    batches
        The text of the indices of each batch, pass by pass, if they are recorded.
    handed
        How many samples these batches hold.
    durations
        Seconds of its iterations.
    """

    header: Header
    name: str | None
    passes: list[LoaderPass] = []
    batches: list[list[str]] = []
    handed: int = 0
    durations: list[float] = []

    def fact(self, name: str) -> Any:
        """Return what holds for the loader, as its last pass tells it."""
        return (self.passes[-1].loader or {}).get(name) if self.passes else None

    def line(self) -> dict[str, Any]:
        """Return it as a line of a table; batches and sequences are those of all passes together."""
        header, handed = self.header, sum(map(len, self.batches))
        return {
            "rank": header.rank,
            "local_rank": header.local_rank,
            "world_size": header.world_size,
            "launcher": header.launcher,
            "hostname": header.hostname,
            "pid": header.pid,
            "loader": self.name,
            "passes": len(self.passes) or None,
            "batch_size": self.fact("batch_size"),
            "batches": handed or self._in_all("batches"),
            "sequences": self.handed or self._in_all("sequences"),
            "iterations": len(self.durations) or None,
            "seconds": median(self.durations) if self.durations else None,
        }

    def _in_all(self, name: str) -> int | None:
        counts = [(one.loader or {}).get(name) for one in self.passes]
        known = [count for count in counts if isinstance(count, int)]
        return sum(known) if known and len(known) == len(counts) else None

    def take_iterations_of(self, other: RankLoader) -> None:
        """Take over what was measured of a loop over this loader, which has a name of its own."""
        self.name, self.durations = other.name, other.durations


def read_ranks(journals: Iterable[JournalSummary]) -> list[RankLoader]:
    """Return what each rank of a campaign did with each loader, sorted by rank and name."""
    found: dict[tuple[int, str | None], RankLoader] = {}
    for journal in journals:
        header = journal.header
        if header.rank is not None:
            _read(journal, header, found)
    _join_loops(found)
    without = {rank for rank, name in found if name is not None}
    return [
        one
        for (rank, name), one in sorted(found.items(), key=_order)
        if name is not None or rank not in without
    ]


def _join_loops(found: dict[tuple[int, str | None], RankLoader]) -> None:
    """Join a loader without a name and the only loop of its rank: that went over it."""
    for rank in {rank for rank, _ in found}:
        loader = found.get((rank, ""))
        loops = [name for (of, name), one in found.items() if of == rank and name and not one.passes]
        if loader is not None and not loader.durations and len(loops) == 1:
            loader.take_iterations_of(found[rank, loops[0]])
            found[rank, loops[0]] = found.pop((rank, ""))


def _order(item: tuple[tuple[int, str | None], RankLoader]) -> tuple[int, str]:
    (rank, name), _ = item
    return rank, name or ""


def _read(journal: JournalSummary, header: Header, found: dict[tuple[int, str | None], RankLoader]) -> None:
    rank = header.rank or 0

    def of_loader(name: str | None) -> RankLoader:
        return found.setdefault((rank, name), RankLoader(header, name))

    of_loader(None)
    begun: dict[str, tuple[RankLoader, list[str]]] = {}
    for record in records_of(journal):
        if isinstance(record, LoaderPass):
            loader = of_loader(record.name or "")
            loader.passes.append(record)
            begun[header.full_id(record.number)] = loader, []
            loader.batches.append(begun[header.full_id(record.number)][1])
        elif isinstance(record, Batch):
            if (known := begun.get(header.full_id(record.of))) is not None:
                loader, batches = known
                batches.append(record.ix or str(record.keys))
                loader.handed += len(record.keys) if record.keys is not None else count_indices(record.ix)
        elif isinstance(record, Task) and record.subtype == ITERATION:
            name = (record.activity_id or "").removesuffix(_BATCHES)
            if name != record.activity_id and record.started_at and record.ended_at:
                of_loader(name).durations.append((record.ended_at - record.started_at) / 1e9)


def oddities(ranks: Sequence[RankLoader]) -> list[str]:
    """Return what is odd: slow ranks, fewer batches, the same batches on several, an order that repeats."""
    found: list[str] = []
    by_name: dict[str | None, list[RankLoader]] = {}
    for one in ranks:
        by_name.setdefault(one.name, []).append(one)
    for loaders in by_name.values():
        found += [*_slow(loaders), *_fewer(loaders), *_shared(loaders)]
        found += [text for one in loaders for text in _repeated(one)]
    return found


def _of(one: RankLoader) -> str:
    return f"rank {one.header.rank}" + (f", loader {one.name}" if one.name else "")


def _slow(loaders: Sequence[RankLoader]) -> Iterable[str]:
    times = {id(one): median(one.durations) for one in loaders if len(one.durations) >= _ENOUGH}
    usual = median(times.values()) if len(times) > 1 else 0.0
    for one in loaders:
        seconds = times.get(id(one), 0.0)
        if usual and seconds > _SLOW * usual:
            yield f"{_of(one)}: {seconds:.3g} s an iteration, where the median of the ranks is {usual:.3g} s"


def _fewer(loaders: Sequence[RankLoader]) -> Iterable[str]:
    counts = {id(one): sum(map(len, one.batches)) or len(one.durations) for one in loaders}
    most = max(counts.values())
    for one in loaders:
        if counts[id(one)] < most:
            yield f"{_of(one)}: {counts[id(one)]} batches, where other ranks had up to {most}"


def _shared(loaders: Sequence[RankLoader]) -> Iterable[str]:
    """Yield which ranks were handed the same samples at the same step."""
    holders: dict[tuple[int, int, str], list[RankLoader]] = {}
    for one in loaders:
        for number, batches in enumerate(one.batches):
            for step, text in enumerate(batches):
                holders.setdefault((number, step, text), []).append(one)
    shared: Counter[tuple[int, ...]] = Counter(
        tuple(sorted(one.header.rank or 0 for one in several))
        for several in holders.values()
        if len(several) > 1
    )
    for together, count in shared.items():
        names = " and ".join(map(str, together))
        yield f"ranks {names} were handed the same samples in {count} batches"


def _repeated(one: RankLoader) -> Iterable[str]:
    repeats = does_repeat(one.passes)
    if not repeats and len(one.batches) > 1 and len(one.batches[0]) > 1:
        repeats = all(batches == one.batches[0] for batches in one.batches[1:])
    if repeats:
        yield describe_repeated(_of(one), len(one.passes))
