"""What is known of one captured model: its name, where it belongs, and its workflow.

Flows in: what was given at decoration and at construction. Flows out: a workflow record when it opens and
when it ends, and ready pieces of the lines of its forwards. Nothing here refers to the module itself, so a
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
    """What may be said of a model at its construction, beside its own arguments.

    Attributes
    ----------
    parent_task_id
        The task to which forwards belong that run in no other.
    parent_workflow_id, campaign_id
        Where its workflow belongs, if not to the enclosing one.
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
        Of its workflow and of the activity that its forwards are.
    given
        What was said at its construction.
    registers
        Whether it is recorded as a workflow.
    profiles
        Whether that describes the model.
    built_in
        The scope in which it was constructed, None where nothing is recorded.

    Attributes
    ----------
    workflow_id
        Id of its workflow; None until that opened, or if there is none.
    custom_metadata
        Recorded with each forward.
    first_forward_lock
        Held while what is due at the first forward is done.
    captured_children
        The modules in it whose forwards are recorded.
    """

    def __init__(
        self,
        name: str,
        given: ConstructorOptions,
        *,
        registers: bool,
        profiles: bool,
        built_in: Scope | None,
    ) -> None:
        self.name = name
        self.workflow_id: str | None = None
        self.custom_metadata = _as_mapping(given.custom_metadata)
        self._given = given
        self._registers = registers
        self.first_forward_lock = threading.RLock()
        self.captured_children: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
        self._profiles = profiles
        self.scope_at_construction = built_in
        self._workflow = b""
        self._parent = b""
        if given.parent_task_id is not None:
            self._parent = b',"parent_task_id":' + msgspec.json.encode(given.parent_task_id)
        if profiles and not registers:
            guard.warn_once(
                "profile without workflow",
                "flowprov records the profile of a model with its workflow; %s is not recorded as one "
                "(register_workflow or save_workflow), so its profile is not either.",
                name,
            )

    def fragment(self, activity: str, subtype: str) -> bytes:
        """Give the part of a forward's line that says what it is."""
        made = b',"activity_id":' + msgspec.json.encode(activity)
        if (
            self._given.campaign_id is not None
        ):  # it lies in the journal of the current scope, of any campaign
            made += b',"campaign_id":' + msgspec.json.encode(self._given.campaign_id)
        return made + b',"subtype":' + msgspec.json.encode(subtype)

    def parent_fields(self, parent: Scope) -> bytes:
        """Give the part of a forward's line that names its workflow and parent task."""
        workflow = self._workflow
        if not workflow:
            ready = parent.parent_fields or parent_fields_of(parent)
            return ready + self._parent if self._parent and _task_around(parent) is None else ready
        if parent.key.__class__ is int and parent.recorded:
            return b'%b,"parent_task_id":%d' % (workflow, parent.key)
        task = _task_around(parent)
        return workflow + (
            self._parent if task is None else b',"parent_task_id":' + msgspec.json.encode(task.key)
        )

    def open(self, module: torch.nn.Module, current: Scope) -> None:
        """Open its workflow, if it is to have one and has none yet.

        Parameters
        ----------
        module
            The model, complete.
        current
            The current scope; the workflow belongs to the one in which the model was built, if that is known.
        """
        with self.first_forward_lock:
            if not self._registers:
                return
            self._registers = False  # whatever comes of it, it is tried once
            given = self._given
            around, self.scope_at_construction = self.scope_at_construction or current, None
            journal = runtime.get().journal(
                given.campaign_id or around.journal.identity.campaign_id, around.journal.settings.path
            )
            parent = given.parent_workflow_id or around.workflow_id
            scope = write_opening(
                journal,
                _shared_id(journal.identity.campaign_id, f"{parent} {self.name}", module) or new_id(),
                name=self.name,
                parent_workflow_id=parent,
                subtype=SUBTYPE,
                custom_metadata=self._describe(module) or None,
            )
            self._workflow = b',"workflow_id":' + msgspec.json.encode(scope.workflow_id)
            self.workflow_id = scope.workflow_id
        _end_with(scope, around, current)

    def count_flops(self, module: torch.nn.Module, scope: Scope) -> None:
        """Count the operations of the forward that runs in a scope, the first, for the profile."""
        if self._profiles and self.workflow_id is not None:
            flops.start(module, scope, functools.partial(self._add_to_profile, scope.journal))

    def _add_to_profile(self, journal: Journal, found: dict[str, Any]) -> None:
        write_addition(journal, str(self.workflow_id), custom_metadata={"model_profile": found})

    def _describe(self, module: torch.nn.Module) -> dict[str, Any]:
        if not self._profiles:
            return self.custom_metadata
        return {**self.custom_metadata, "model_profile": describe_model(module)}


def _shared_id(campaign: str, name: str, module: torch.nn.Module) -> str | None:
    """Give the id under which each rank of a job knows a model; None where it is of this process alone.

    Models of one name and structure, built in the same order in the same workflow, are one model of which
    each rank has a replica or a shard. Helper processes of a rank have models of their own.
    """
    rank, size = launchers.rank_and_world_size()
    if rank is None or size == 1 or os.getpid() != _PROCESS or multiprocessing.parent_process() is not None:
        return None
    known = f"model {name} {architecture(module)}"
    return launchers.workflow_id(campaign, known, next(_ordinals[known]))


_PROCESS = os.getpid()
_ordinals: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)


def _end_with(workflow: Scope, *candidates: Scope) -> None:
    """Have a workflow end with the first of these scopes that is open, at the latest with the process."""
    holder = next((found for scope in candidates if (found := context.open_around(scope)) is not None), None)
    end = functools.partial(_end, workflow)
    if holder is None:
        runtime.get().at_exit.append(functools.partial(end, None))
    else:
        holder.ensure_extras().on_end.append(end)


def _end(workflow: Scope, error: BaseException | None) -> None:
    write_ending(workflow, error=error)


def _task_around(scope: Scope | None) -> Scope | None:
    """Find the task in which a scope is, None where there is only a workflow."""
    while scope is not None and not scope.recorded:
        scope = scope.parent
    return None if scope is None or scope.key is None else scope


def _as_mapping(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    return dict(given) if isinstance(given, Mapping) else {"custom_metadata": given}
