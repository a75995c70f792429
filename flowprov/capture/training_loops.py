"""Loops of a training script: epochs and batches.

Flows in: the loops, and the torch settings. Flows out: the records of :class:`~flowprov.capture.loops.Loop`,
and what the forwards inside need to know: their epoch, and whether they are recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from flowprov import guard
from flowprov.capture.loader_passes import PassRecorder, facts_of
from flowprov.capture.loop_pass import LoopPass
from flowprov.capture.loops import Loop, T
from flowprov.capture.sampled import has_indices, is_loader, with_samples
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope
from flowprov.values import as_name

_SCALARS = frozenset({int, float, str, bool, type(None)})


class EpochLoop(Loop[T]):
    """Record each epoch of a training loop; the forwards and batches inside belong to it.

    Parameters
    ----------
    items
        As for :class:`Loop`. Each item is recorded as ``epoch``.
    model
        The model that is trained. It is optional: a captured model finds its epoch by itself.
    parent_task_id, workflow_id, capture_enabled
        As for :class:`Loop`.

    Notes
    -----
    ``instrumentation.torch.epoch_loop: null`` turns the records off. ``capture_epochs_at_every: N`` records
    the forwards of every Nth epoch only, by position, from 0.
    """

    _fast = False

    def __init__(
        self,
        items: Iterable[T] | int,
        model: Any = None,
        *,
        parent_task_id: str | None = None,
        workflow_id: str | None = None,
        capture_enabled: bool = True,
    ) -> None:
        super().__init__(
            items,
            name="epoch",
            item_name="epoch",
            parent_task_id=parent_task_id,
            workflow_id=workflow_id,
            capture_enabled=capture_enabled,
        )
        self.model = model

    def _is_lightweight(self) -> bool:
        return runtime.get().settings.instrumentation.torch.epoch_loop == "lightweight"

    def _open_iteration(self, parent: Scope, one_pass: LoopPass, position: int, item: T) -> Scope:
        settings = runtime.get().settings.instrumentation.torch
        epoch: Any = item
        if type(item) not in _SCALARS:  # only what is recorded is kept: the program may let go of the item
            epoch = msgspec.Raw(runtime.get().summarizer.encode(item, key="epoch"))
        if settings.epoch_loop is None:
            scope = one_pass.scope = open_unrecorded_scope(parent)
        else:
            scope = super()._open_iteration(parent, one_pass, position, item)
        scope.forwards = position % settings.capture_epochs_at_every == 0
        scope.epoch = epoch
        return scope


class BatchLoop(Loop[T]):
    """Record each batch of an epoch.

    Parameters
    ----------
    items
        As for :class:`Loop`. Each item is recorded as ``batch``.
    epoch_loop
        The epoch loop to which the batches belong. It may be left out inside that loop.
    step
        What the batches are for. The activity is ``<step>_batch_iteration``.
    total, parent_task_id, workflow_id, capture_enabled
        As for :class:`Loop`.

    Notes
    -----
    ``instrumentation.torch.batch_loop: null`` turns the records off. ``capture_batches_at_every: N`` records
    every Nth batch only, by position, from 0. Nothing inside the other batches is recorded.

    The attributes of the items (a loader's ``dataset``, ``sampler``) can be read from the loop.
    """

    _fast = False

    def __init__(
        self,
        items: Iterable[T] | int,
        epoch_loop: EpochLoop[Any] | None = None,
        *,
        step: str = "train",
        total: int | None = None,
        parent_task_id: str | None = None,
        workflow_id: str | None = None,
        capture_enabled: bool = True,
    ) -> None:
        if parent_task_id is None and epoch_loop is not None:
            parent_task_id = _current_epoch(epoch_loop)
        self._step = as_name(step, "train")
        super().__init__(
            with_samples(items),
            name=f"{self._step}_batch",
            item_name="batch",
            total=total,
            parent_task_id=parent_task_id,
            workflow_id=workflow_id,
            capture_enabled=capture_enabled,
        )

    # Not in Loop: a class with __getattr__ makes each attribute of its own slower to read.
    if not TYPE_CHECKING:  # else a misspelled name would pass the type checker

        def __getattr__(self, name: str) -> Any:
            """Return an attribute of the items: a loader keeps its dataset, a progress bar its methods."""
            if not name.startswith("_"):  # private names, and those of protocols, are the loop's own
                with contextlib.suppress(AttributeError):
                    return getattr(self.__dict__.get("_items"), name)
            message = f"{type(self).__name__!r} object has no attribute {name!r}, nor have its items"
            raise AttributeError(message, name=name, obj=self)

    def _is_lightweight(self) -> bool:
        return runtime.get().settings.instrumentation.torch.batch_loop == "lightweight"

    def _create_pass(self, parent: Scope, *, recomputed: bool) -> LoopPass:
        if is_loader(self._items) and not has_indices(self._items):
            with guard.guarded("recording how a loader was set up"):
                PassRecorder(parent, facts_of(self._items), name=self._step)
        return super()._create_pass(parent, recomputed=recomputed)

    def _open_iteration(self, parent: Scope, one_pass: LoopPass, position: int, item: T) -> Scope:
        settings = runtime.get().settings.instrumentation.torch
        is_skipped = position % settings.capture_batches_at_every != 0
        if settings.batch_loop is not None and not is_skipped:
            return super()._open_iteration(parent, one_pass, position, item)
        scope = one_pass.scope = open_unrecorded_scope(parent)
        scope.muted = is_skipped
        return scope


def _current_epoch(epoch_loop: EpochLoop[Any]) -> str | None:
    """Return the id of the current epoch; None, with a warning, if this is no epoch loop."""
    try:
        return epoch_loop.current_task_id
    except Exception as error:  # it is something else
        guard.pass_on(error)
        guard.warn_once(
            "epoch_loop of a BatchLoop",
            "flowprov: the second argument of BatchLoop is the EpochLoop to which the batches belong. It was "
            "given %s, and is ignored. What the batches are for is given as step=...",
            as_name(epoch_loop),
        )
        return None


def open_unrecorded_scope(parent: Scope) -> Scope:
    """Open a scope without a record of its own. What is inside belongs to its parent."""
    previous = context.current.get()
    scope = Scope(
        parent.journal,
        None,
        parent.workflow_id,
        previous=previous,
        parent=parent,
        forwards=parent.forwards,
        epoch=parent.epoch,
        recorded=False,
    )
    context.current.set(scope)
    return scope
