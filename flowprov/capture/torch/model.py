"""One captured model: its name, the workflow and task to which it belongs, and its own workflow.

Flows in: the options of the decorator and of the constructor. Flows out: a workflow record at its opening and
one at its end, and parts of the lines of its forwards. Nothing here refers to the module itself, so a
captured model is freed like any other.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import threading
import weakref
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec
import torch

from flowprov import guard
from flowprov.capture.torch import flops
from flowprov.capture.torch.profile import architecture, describe_model
from flowprov.capture.workflow_records import write_addition, write_ending, write_opening
from flowprov.environment import launchers
from flowprov.journal import Journal
from flowprov.records import new_id
from flowprov.runtime import context, runtime
from flowprov.runtime.context import Scope, parent_fields_of

SUBTYPE = "torch_model"


class ConstructorOptions(msgspec.Struct, kw_only=True):
    """The options that a constructor of a captured model takes, beside the model's own arguments.

    Attributes
    ----------
    parent_task_id
        The task to which a forward belongs that runs in no other task.
    parent_workflow_id, campaign_id
        The parent workflow and the campaign of its workflow; None: those of the enclosing scope.
    custom_metadata
        Recorded with the workflow and with each forward.
    get_profile
        Whether the workflow describes the model; None: as the decorator says.
    save_workflow
        Whether the model is recorded as a workflow; None: as ``register_workflow`` says.
    capture_enabled
        False leaves the model alone.
    """

    parent_task_id: str | None = None
    parent_workflow_id: str | None = None
    campaign_id: str | None = None
    custom_metadata: Any = None
    get_profile: bool | None = None
    save_workflow: bool | None = None
    capture_enabled: bool | None = None


class Model:
    """One captured model.

    Parameters
    ----------
    name
        Name of its workflow, and of the activity of its forwards.
    options
        The options of its constructor.
    registers_workflow
        Whether it is recorded as a workflow.
    has_profile
        Whether its workflow describes the model.
    scope_at_construction
        The scope in which it was constructed; None if nothing is recorded there.

    Attributes
    ----------
    workflow_id
        Id of its workflow; None until the workflow opens, or if there is none.
    custom_metadata
        Recorded with each forward.
    first_forward_lock
        Held while the first forward is prepared.
    captured_children
        The modules in it whose forwards are recorded.
    """

    def __init__(
        self,
        name: str,
        options: ConstructorOptions,
        *,
        registers_workflow: bool,
        has_profile: bool,
        scope_at_construction: Scope | None,
    ) -> None:
        self.name = name
        self.workflow_id: str | None = None
        self.custom_metadata = _as_mapping(options.custom_metadata)
        self._options = options
        self._registers_workflow = registers_workflow
        self.first_forward_lock = threading.RLock()
        self.captured_children: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
        self._has_profile = has_profile
        self.scope_at_construction = scope_at_construction
        self._workflow_field = b""
        self._parent_task_field = b""
        if options.parent_task_id is not None:
            self._parent_task_field = b',"parent_task_id":' + msgspec.json.encode(options.parent_task_id)
        if has_profile and not registers_workflow:
            guard.warn_once(
                "profile without workflow",
                "flowprov records the profile of a model with its workflow. %s is not recorded as a workflow "
                "(register_workflow or save_workflow is false), so its profile is not either.",
                name,
            )

    def fragment(self, activity: str, subtype: str) -> bytes:
        """Return the part of a line that says what a task is: its activity, subtype and own campaign."""
        fragment = b',"activity_id":' + msgspec.json.encode(activity)
        # The line lies in the journal of the current scope, whose campaign may be another.
        if self._options.campaign_id is not None:
            fragment += b',"campaign_id":' + msgspec.json.encode(self._options.campaign_id)
        return fragment + b',"subtype":' + msgspec.json.encode(subtype)

    def parent_fields(self, parent: Scope) -> bytes:
        """Return the part of a forward's line that names its workflow and parent task."""
        workflow = self._workflow_field
        if not workflow:
            fields = parent.parent_fields or parent_fields_of(parent)
            if self._parent_task_field and _enclosing_task(parent) is None:
                return fields + self._parent_task_field
            return fields
        if parent.key.__class__ is int and parent.recorded:
            return b'%b,"parent_task_id":%d' % (workflow, parent.key)
        task = _enclosing_task(parent)
        return workflow + (
            self._parent_task_field if task is None else b',"parent_task_id":' + msgspec.json.encode(task.key)
        )

    def open(self, module: torch.nn.Module, current: Scope) -> None:
        """Open its workflow, if it is recorded as a workflow and none was opened before.

        Parameters
        ----------
        module
            The model, complete.
        current
            The current scope. The workflow belongs to the scope in which the model was constructed, and to
            the current scope if that is not known.
        """
        with self.first_forward_lock:
            if not self._registers_workflow:
                return
            self._registers_workflow = False  # tried once, whatever comes of it
            options = self._options
            enclosing, self.scope_at_construction = self.scope_at_construction or current, None
            journal = runtime.get().journal(
                options.campaign_id or enclosing.journal.identity.campaign_id, enclosing.journal.settings.path
            )
            parent = options.parent_workflow_id or enclosing.workflow_id
            scope = write_opening(
                journal,
                _shared_id(journal.identity.campaign_id, f"{parent} {self.name}", module) or new_id(),
                name=self.name,
                parent_workflow_id=parent,
                subtype=SUBTYPE,
                custom_metadata=self._describe(module) or None,
            )
            self._workflow_field = b',"workflow_id":' + msgspec.json.encode(scope.workflow_id)
            self.workflow_id = scope.workflow_id
        _end_with(scope, enclosing, current)

    def count_flops(self, module: torch.nn.Module, scope: Scope) -> None:
        """Count the operations of the first forward, which runs in a scope, for the profile."""
        if self._has_profile and self.workflow_id is not None:
            flops.start(module, scope, functools.partial(self._add_to_profile, scope.journal))

    def _add_to_profile(self, journal: Journal, counts: dict[str, Any]) -> None:
        write_addition(journal, str(self.workflow_id), custom_metadata={"model_profile": counts})

    def _describe(self, module: torch.nn.Module) -> dict[str, Any]:
        if not self._has_profile:
            return self.custom_metadata
        return {**self.custom_metadata, "model_profile": describe_model(module)}


def _shared_id(campaign: str, name: str, module: torch.nn.Module) -> str | None:
    """Return the id that a model has in each rank of a job; None if the model is of this process alone.

    Models of one name and structure that are built in the same order in the same workflow are one model, of
    which each rank has a replica or a shard. Helper processes of a rank have models of their own.
    """
    rank, size = launchers.rank_and_world_size()
    if rank is None or size == 1 or os.getpid() != _PROCESS or multiprocessing.parent_process() is not None:
        return None
    shared_name = f"model {name} {architecture(module)}"
    return launchers.workflow_id(campaign, shared_name, next(_ordinals[shared_name]))


_PROCESS = os.getpid()
_ordinals: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)


def _end_with(workflow: Scope, *candidates: Scope) -> None:
    """End a workflow with the first of these scopes that is open, at the latest with the process."""
    open_scopes = (context.open_around(scope) for scope in candidates)
    holder = next((scope for scope in open_scopes if scope is not None), None)
    end = functools.partial(_end, workflow)
    if holder is None:
        runtime.get().at_exit.append(functools.partial(end, None))
    else:
        holder.ensure_extras().on_end.append(end)


def _end(workflow: Scope, error: BaseException | None) -> None:
    write_ending(workflow, error=error)


def _enclosing_task(scope: Scope | None) -> Scope | None:
    """Find the task in which a scope lies; None if it lies in a workflow only."""
    while scope is not None and not scope.recorded:
        scope = scope.parent
    return None if scope is None or scope.key is None else scope


def _as_mapping(custom_metadata: Any) -> dict[str, Any]:
    if custom_metadata is None:
        return {}
    return (
        dict(custom_metadata)
        if isinstance(custom_metadata, Mapping)
        else {"custom_metadata": custom_metadata}
    )
