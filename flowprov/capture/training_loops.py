"""Loops of a training: epochs and batches.

Flows in: the loops of a training script, and the torch settings. Flows out: the records of
:class:`~flowprov.capture.loops.Loop`, and what the forwards inside need to know: their epoch, and whether
they are to be recorded.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flowprov.capture.loops import Loop, LoopPass, T
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope


class EpochLoop(Loop[T]):
    """Record each epoch of a training loop; the forwards and batches inside belong to it.

    Parameters
    ----------
    items
        As of :class:`Loop`; each item is recorded as ``epoch``.
    model
        The model that is trained. It need not be given: a captured model finds its epoch by itself.
    parent_task_id, workflow_id, capture_enabled
        As of :class:`Loop`.

    Notes
    -----
    ``instrumentation.torch.epoch_loop`` turns the records off (null); ``capture_epochs_at_every: N`` records
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

    def _enter(self, parent: Scope, one_pass: LoopPass, position: int, item: T) -> Scope:
        settings = runtime.get().settings.instrumentation.torch
        if settings.epoch_loop is None:
            scope = enter_unrecorded(parent)
        else:
            scope = super()._enter(parent, one_pass, position, item)
        scope.forwards = position % settings.capture_epochs_at_every == 0
        scope.epoch = item
        return scope


class BatchLoop(Loop[T]):
    """Record each batch of an epoch.

    Parameters
    ----------
    items
        As of :class:`Loop`; each item is recorded as ``batch``.
    epoch_loop
        The epoch loop around it, if it is not around it in the program as well.
    step
        What the batches are for: the activity is ``<step>_batch_iteration``.
    total, parent_task_id, workflow_id, capture_enabled
        As of :class:`Loop`.

    Notes
    -----
    ``instrumentation.torch.batch_loop`` turns the records off (null); ``capture_batches_at_every: N`` records
    every Nth batch only, with what is in it, by position, from 0.
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
            parent_task_id = epoch_loop.current_task_id
        super().__init__(
            items,
            name=f"{step}_batch",
            item_name="batch",
            total=total,
            parent_task_id=parent_task_id,
            workflow_id=workflow_id,
            capture_enabled=capture_enabled,
        )

    def _is_lightweight(self) -> bool:
        return runtime.get().settings.instrumentation.torch.batch_loop == "lightweight"

    def _enter(self, parent: Scope, one_pass: LoopPass, position: int, item: T) -> Scope:
        settings = runtime.get().settings.instrumentation.torch
        thinned = position % settings.capture_batches_at_every != 0
        if settings.batch_loop is not None and not thinned:
            return super()._enter(parent, one_pass, position, item)
        scope = enter_unrecorded(parent)
        scope.muted = thinned
        return scope


def enter_unrecorded(parent: Scope) -> Scope:
    """Open a scope that has no record of its own: what is inside belongs to its parent."""
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
