"""One captured model: its name, where it belongs, and its workflows.

Flows in: the options of the decorator and of the constructor, and the scopes in which it runs. Flows out: for
each workflow of the program in which the model runs, a workflow of the model: a record at its opening and one
at its end, and parts of the lines of its forwards. Only weak references to the module are kept, so a captured
model is freed like any other.
"""

from __future__ import annotations

import functools
import itertools
import multiprocessing
import os
import weakref
from collections import defaultdict
from typing import Any

import msgspec
import torch

from flowprov import guard
from flowprov.capture.torch import flops
from flowprov.capture.torch.profile import architecture, describe_model
from flowprov.capture.workflow_records import write_addition, write_ending, write_opening
from flowprov.environment import launchers
from flowprov.ids import new_id
from flowprov.journal import Journal
from flowprov.locks import create_lock
from flowprov.runtime import context, launch, runtime
from flowprov.runtime.context import Scope, parent_fields_of
from flowprov.values import as_dict, as_id, as_name

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


class ModelWorkflow:
    """The workflow of a model inside one workflow of the program.

    Parameters
    ----------
    workflow_id
        Its id; None if the model is not recorded as a workflow. Forwards then belong to the workflow around.
    journal
        The journal of its records; None without an id.
    parent_task_field
        The field of a line that names the parent task of forwards that run in no task; may be empty.

    Attributes
    ----------
    workflow_id, journal
        As above.
    seen_in
        The workflow of the scope in which the model ran last: that of the program, or of a model around.
    """

    __slots__ = ("__weakref__", "_field", "_parent_task_field", "journal", "seen_in", "workflow_id")

    def __init__(
        self, workflow_id: str | None = None, journal: Journal | None = None, parent_task_field: bytes = b""
    ) -> None:
        self.workflow_id = workflow_id
        self.journal = journal
        self.seen_in: str | None = None
        self._field = b"" if workflow_id is None else b',"workflow_id":' + msgspec.json.encode(workflow_id)
        self._parent_task_field = parent_task_field

    def parent_fields(self, parent: Scope) -> bytes:
        """Return the part of a forward's line that names its workflow and parent task."""
        workflow = self._field
        if not workflow:
            fields = parent.parent_fields or parent_fields_of(parent)
            if self._parent_task_field and context.recorded_task(parent) is None:
                return fields + self._parent_task_field
            return fields
        if parent.key.__class__ is int and parent.recorded:
            return b'%b,"parent_task_id":%d' % (workflow, parent.key)
        task = context.recorded_task(parent)
        return workflow + (
            self._parent_task_field if task is None else b',"parent_task_id":' + msgspec.json.encode(task.key)
        )


class Model:
    """One captured model.

    Parameters
    ----------
    module
        The model itself.
    name
        Name of its workflows, and of the activity of its forwards.
    options
        The options of its constructor.
    registers_workflow
        Whether it is recorded as a workflow.
    has_profile
        Whether its workflows describe the model.
    scope_at_construction
        The scope in which it was constructed; None if there was none.

    Attributes
    ----------
    workflow
        Its workflow where it ran last; see :meth:`workflow_in`.
    custom_metadata
        Recorded with each forward.
    first_forward_lock
        Held while the first forward is prepared.
    captured_children
        The modules in it whose forwards are recorded.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        name: str,
        options: ConstructorOptions,
        *,
        registers_workflow: bool,
        has_profile: bool,
        scope_at_construction: Scope | None,
    ) -> None:
        self.name = as_name(name, "")
        self.custom_metadata = as_dict(options.custom_metadata, "custom_metadata")
        self._module = weakref.ref(module)
        self._campaign_id = as_id(options.campaign_id)
        self._parent_workflow_id = as_id(options.parent_workflow_id)
        self._registers_workflow = registers_workflow
        self.first_forward_lock = create_lock()
        self.captured_children: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
        self._has_profile = has_profile
        self._flops: dict[str, Any] = {}
        self._built_in = None if scope_at_construction is None else weakref.ref(scope_at_construction)
        self._parent_task_field = b""
        if (parent_task_id := as_id(options.parent_task_id)) is not None:
            self._parent_task_field = b',"parent_task_id":' + msgspec.json.encode(parent_task_id)
        self._without = ModelWorkflow(parent_task_field=self._parent_task_field)
        self._workflows: dict[str, ModelWorkflow] = {}  # by the id of the program's workflow
        self.workflow = self._without
        if has_profile and not registers_workflow:
            guard.warn_once(
                "profile without workflow",
                "flowprov records the profile of a model with its workflow. %s is not recorded as a workflow "
                "(register_workflow or save_workflow is false), so its profile is not either.",
                name,
            )

    def fragment(self, activity: str, subtype: str) -> bytes:
        """Return the part of a line that says what a task is: its activity, subtype and own campaign."""
        fragment = b',"activity_id":' + msgspec.json.encode(as_name(activity, ""))
        # The line lies in the journal of the current scope, whose campaign may be another.
        if self._campaign_id is not None:
            fragment += b',"campaign_id":' + msgspec.json.encode(self._campaign_id)
        return fragment + b',"subtype":' + msgspec.json.encode(subtype)

    def workflow_in(self, parent: Scope) -> ModelWorkflow:
        """Return its workflow for a forward in a scope; the first such forward opens it.

        Parameters
        ----------
        parent
            The scope in which the forward runs. The workflow of the model belongs to the workflow there.
        """
        workflow, enclosing_id = self.workflow, parent.workflow_id
        if enclosing_id in (workflow.workflow_id, workflow.seen_in):
            return workflow
        with self.first_forward_lock:
            workflow = self._without
            if self._registers_workflow:
                program_workflow_id = _workflow_of_program(parent)
                workflow = self._workflows.get(program_workflow_id, workflow)
                if workflow is self._without:
                    workflow = self._open(parent, program_workflow_id)
            workflow.seen_in = enclosing_id
            self.workflow = workflow
        return workflow

    def _open(self, parent: Scope, program_workflow_id: str) -> ModelWorkflow:
        """Open its workflow in a workflow of the program; tried once there, whatever comes of it."""
        workflow = self._workflows[program_workflow_id] = ModelWorkflow(
            parent_task_field=self._parent_task_field
        )
        with guard.guarded("opening the workflow of a model"):
            module = self._module()
            journal = runtime.get().journal(
                self._campaign_id or parent.journal.identity.campaign_id, parent.journal.settings.path
            )
            parent_id = self._parent_workflow_id or parent.workflow_id
            shared_name = f"{parent_id} {self.name}"

            def keep(scope: Scope) -> None:
                nonlocal workflow
                workflow = ModelWorkflow(scope.workflow_id, journal, self._parent_task_field)
                self._workflows[program_workflow_id] = workflow
                self._end_with(self._holder_of(parent), scope, program_workflow_id)

            write_opening(
                journal,
                _shared_id(journal.identity.campaign_id, shared_name, module) or new_id(),
                name=self.name,
                parent_workflow_id=parent_id,
                subtype=SUBTYPE,
                custom_metadata=self._describe(module) or None,
                has_version=False,
                keep=keep,
            )
        return workflow

    def _holder_of(self, parent: Scope) -> Scope | None:
        """Return the open scope with which its workflow ends; None if it ends with the process.

        That is the task in which the model was constructed, where the forward runs inside that task too, and
        the program's workflow elsewhere. The workflow of another process ends unseen.
        """
        built_in = None if self._built_in is None else self._built_in()
        scope: Scope | None = parent
        outermost: Scope | None = None
        while scope is not None:
            if scope.recorded and context.is_open(scope):
                if scope is built_in:
                    return scope
                outermost = scope
            scope = scope.parent
        return None if outermost is None or outermost.key is not None else outermost

    def _end_with(self, holder: Scope | None, scope: Scope, program_workflow_id: str) -> None:
        """End a workflow of the model with a scope of the program, at the latest with the process."""
        model = weakref.ref(self)

        def end(error: BaseException | None = None) -> None:
            if (ended := model()) is not None:
                ended.forget(program_workflow_id)
            write_ending(scope, error=error)

        if holder is None:
            runtime.get().at_exit.append(end)
        else:
            holder.ensure_extras().on_end.append(end)

    def forget(self, program_workflow_id: str) -> None:
        """Forget its workflow in a workflow of the program that ends: the same id may be opened again."""
        with self.first_forward_lock:
            if self._workflows.pop(program_workflow_id, None) is self.workflow:
                self.workflow = self._without
                self._without.seen_in = None

    def count_flops(self, module: torch.nn.Module, scope: Scope, workflow: ModelWorkflow) -> None:
        """Count the operations of the first forward, which runs in a scope, for the profile."""
        if self._has_profile and workflow.workflow_id is not None:
            flops.start(module, scope, functools.partial(self._add_to_profile, workflow))

    def _add_to_profile(self, workflow: ModelWorkflow, counts: dict[str, Any]) -> None:
        self._flops = counts
        if workflow.journal is not None and workflow.workflow_id is not None:
            write_addition(workflow.journal, workflow.workflow_id, custom_metadata={"model_profile": counts})

    def _describe(self, module: torch.nn.Module | None) -> dict[str, Any]:
        if not self._has_profile or module is None:
            return self.custom_metadata
        return {**self.custom_metadata, "model_profile": {**describe_model(module), **self._flops}}


def _workflow_of_program(scope: Scope) -> str:
    """Return the id of the program's workflow in which a scope lies, around the workflows of models."""
    workflow_id = scope.workflow_id
    outer: Scope | None = scope
    while outer is not None:
        if outer.opener is not None and outer.parent is not None:  # a forward
            workflow_id = outer.parent.workflow_id
        outer = outer.parent
    return workflow_id


def _shared_id(campaign: str, name: str, module: torch.nn.Module | None) -> str | None:
    """Return the id that a model has in each rank of a job; None if the model is of this process alone.

    Models of one name and structure that are first used in the same order in the same workflow are one model,
    of which each rank has a replica or a shard. Helper processes of a rank have models of their own.
    """
    if module is None:
        return None
    rank, size = launchers.rank_and_world_size()
    if rank is None or size == 1 or os.getpid() != _PROCESS or multiprocessing.parent_process() is not None:
        return None
    shared_name = f"model {name} {architecture(module)}"
    return launch.workflow_id(campaign, shared_name, next(_ordinals[shared_name]))


_PROCESS = os.getpid()
_ordinals: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)
