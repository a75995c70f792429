"""Passes over data loaders: how a loader was set up, and which samples it handed out.

Flows in: a data loader whose pass begins, and the indices of the batches that a loop gets. Flows out: one
record for each pass; and, if the program asked for it, one for each batch, written before the loop gets it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowprov import guard, records
from flowprov.clock import clock
from flowprov.index_codec import encode_indices
from flowprov.records import Batch, LoaderPass
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope

_MAX_INDEX = 1 << 62
_SCALARS = (int, float, str, bool, type(None))


class PassRecorder:
    """Records one pass over a data loader, which is in the journal from its beginning on.

    Parameters
    ----------
    scope
        Where it began.
    loader
        What is known of the loader; see :func:`facts_of`.
    name, indexed, drawn
        As in the record.
    """

    __slots__ = ("_journal", "_number")

    def __init__(
        self,
        scope: Scope,
        loader: dict[str, Any],
        *,
        name: str | None = None,
        indexed: bool = False,
        drawn: bool = False,
    ) -> None:
        self._journal = scope.journal
        self._number = scope.journal.next_number()
        task = context.recorded_task(scope)
        record = LoaderPass(
            number=self._number,
            workflow_id=scope.workflow_id,
            task_id=None if task is None else task.key,
            name=name,
            epoch=scope.epoch if type(scope.epoch) is int else None,
            loader=loader or None,
            indexed=indexed,
            drawn=drawn,
            at=clock.now(),
        )
        self._journal.append(records.encode(record))

    def add(self, indices: Sequence[Any]) -> None:
        """Write which samples a batch holds."""
        with guard.guarded("recording the samples of a batch"):
            if {*map(type, indices)} <= {int} and all(-_MAX_INDEX < index < _MAX_INDEX for index in indices):
                batch = Batch(of=self._number, ix=encode_indices(indices))
            else:
                encoded: Any = runtime.get().summarizer.summarize(list(indices))
                batch = Batch(of=self._number, keys=encoded)
            self._journal.append(records.encode(batch))


def facts_of(loader: object) -> dict[str, Any]:
    """Return how a loader of torch was set up, as far as its own attributes tell it.

    Only plain attributes are read, and lengths, which a loader asks for itself at each pass.
    """
    known = _plain_attributes(loader)
    sampler = known.get("sampler")
    batches = known.get("batch_sampler")
    of_sampler, of_batches = _plain_attributes(sampler), _plain_attributes(batches)
    batch_size = known.get("batch_size") or of_batches.get("batch_size")
    drop_last = known.get("drop_last") or of_batches.get("drop_last")
    number = _length(batches if batches is not None else sampler)
    sequences = _length(sampler)
    if drop_last and type(batch_size) is int and number is not None and sequences is not None:
        sequences = min(sequences, number * batch_size)  # what is left over is handed to nobody
    facts = {
        "type": type(loader).__qualname__,
        "batches": number,
        "batch_size": batch_size,
        "drop_last": drop_last,
        "sampler": None if sampler is None else type(sampler).__qualname__,
        "shuffle": of_sampler.get("shuffle"),
        "seed": _seed_of(of_sampler),
        "sampler_epoch": of_sampler.get("epoch"),
        "world_size": of_sampler.get("num_replicas"),
        "sequences": sequences,
        "dataset_len": _length(known.get("dataset")),
        "num_workers": known.get("num_workers"),
    }
    return {name: value for name, value in facts.items() if value is not None and isinstance(value, _SCALARS)}


def _plain_attributes(holder: object) -> dict[str, Any]:
    found = getattr(holder, "__dict__", None)
    return found if type(found) is dict else {}


def _length(items: object) -> int | None:
    """Return a length; None if there is none."""
    try:
        return len(items)  # type: ignore[arg-type]
    except Exception as error:  # an endless data set, or code of the program
        guard.pass_on(error)
        return None


def _seed_of(sampler: dict[str, Any]) -> int | None:
    seed = sampler.get("seed")
    generator = sampler.get("generator")
    if seed is None and generator is not None:
        try:
            seed = generator.initial_seed()
        except Exception as error:  # a generator of another library
            guard.pass_on(error)
    return seed if type(seed) is int and -(2**63) <= seed < 2**64 else None
