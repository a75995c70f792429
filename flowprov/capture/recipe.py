"""``recipe``: a class whose methods are the phases of a training.

Flows in: a class in the shape of torchtune's recipes. Flows out: one workflow for each object of it, and one
task for each phase; the configuration, and the checkpoints that phases read and wrote.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import inspect
import weakref
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, NamedTuple, TypeVar, overload

from flowprov import guard
from flowprov.capture import replay
from flowprov.capture.handles import TaskHandle
from flowprov.capture.log_config import log_config
from flowprov.capture.recipe_files import CheckpointFolder, log_saved, use_loaded
from flowprov.capture.recipe_state import State, attributes_of, overrides_of_program
from flowprov.capture.task_scope import task_scope
from flowprov.capture.workflow import workflow
from flowprov.runtime import context, runtime

C = TypeVar("C", bound=type)

_INIT, _SETUP, _LOAD, _SAVE, _CLEANUP = "init", "setup", "load_checkpoint", "save_checkpoint", "cleanup"
_CONFIGS = ("cfg", "config")
_PHASES = {
    "__init__": _INIT,
    "setup": _SETUP,
    "load_checkpoint": _LOAD,
    "train": "train",
    "save_checkpoint": _SAVE,
    "cleanup": _CLEANUP,
}


class _Plan(NamedTuple):
    """What is recorded of the objects of a class."""

    name: str
    phases: Mapping[str, str]
    config: Any
    checkpoints: Any


@overload
def recipe(cls: C) -> C: ...


@overload
def recipe(
    cls: None = None,
    *,
    phases: Iterable[str] | Mapping[str, str] | None = None,
    config: Any = None,
    checkpoints: Any = None,
) -> Callable[[C], C]: ...


def recipe(
    cls: Any = None,
    *,
    phases: Iterable[str] | Mapping[str, str] | None = None,
    config: Any = None,
    checkpoints: Any = None,
) -> Any:
    """Record the phases of a class in the shape of torchtune's recipes as tasks.

    The methods ``__init__``, ``setup``, ``load_checkpoint``, ``train``, ``save_checkpoint`` and ``cleanup``
    become tasks, own or inherited. A workflow that is named after the class opens at ``__init__``, unless one
    is open. It closes after ``cleanup``, at the first exception that leaves a phase, or with the program.

    Parameters
    ----------
    cls
        The class. It is changed and returned.
    phases
        Further methods that are phases; as a mapping, with the names of their tasks.
    config
        The configuration: the name of an attribute, or a function of the object. By default the argument
        ``cfg`` or ``config`` of ``__init__``, else its first one. It is recorded as by
        :func:`flowprov.log_config`.
    checkpoints
        The folder of the checkpoints: a path, the name of an attribute, or a function of the object. By
        default ``checkpointer.output_dir`` or ``output_dir`` of the configuration. Files there that change
        during ``save_checkpoint`` are recorded as generated.
    """
    if cls is None:
        return functools.partial(recipe, phases=phases, config=config, checkpoints=checkpoints)
    if runtime.disabled():
        return cls
    named = phases if isinstance(phases, Mapping) else {name: name for name in phases or ()}
    plan = _Plan(cls.__name__, {**_PHASES, **named}, config, checkpoints)
    for method, phase in plan.phases.items():
        function = inspect.getattr_static(cls, method, None)
        if type(function) is FunctionType:
            setattr(cls, method, _wrap(function, phase, plan))
    return cls


def _wrap(function: Callable[..., Any], phase: str, plan: _Plan) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        state = None if runtime.disabled() or replay.is_traced() else _state_of(self)
        if state is None or phase in state.active:  # the method of the class itself calls the inherited one
            return function(self, *args, **kwargs)
        with guard.guarded("beginning a phase"):
            _open_workflow(state, plan)
        state.active.append(phase)
        try:
            given = _given(function, args, kwargs)
            # The configuration is recorded once, and not at each phase.
            used = {name: value for name, value in given.items() if name not in _CONFIGS}
            with task_scope(phase, used=used) as task:
                folder = _before(state, plan, self, phase, given)
                result = function(self, *args, **kwargs)
                with guard.guarded("recording what a phase did"):
                    _after(state, self, phase, task, folder, kwargs)
        except BaseException as error:  # recorded, and raised on unchanged
            state.active.pop()
            if not state.active:
                state.close(error)
            raise
        state.active.pop()
        if phase == _CLEANUP and not state.active:
            state.close(None)
        return result

    return wrapper


_states: dict[int, State] = {}


def _state_of(instance: object) -> State | None:
    """Return the state of an object; it is kept beside it, so that the object stays as it is."""
    state = _states.get(id(instance))
    if state is None:
        with guard.guarded("beginning a recipe"):
            state = State()
            with contextlib.suppress(TypeError):  # a class with slots may have no weak references
                weakref.finalize(instance, _states.pop, id(instance), None).atexit = False
            _states[id(instance)] = state
    return state


def _open_workflow(state: State, plan: _Plan) -> None:
    if state.opened or context.current_scope() is not None:
        return
    state.opened = True
    state.workflow = workflow(plan.name).start()
    # The program may end without `cleanup`: that is no interruption.
    atexit.register(state.close, None)


def _given(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a phase by name, without the object itself."""
    with guard.guarded("reading the arguments of a phase"):
        return dict(
            list(inspect.signature(function).bind_partial(None, *args, **kwargs).arguments.items())[1:]
        )
    return {}


def _before(
    state: State, plan: _Plan, instance: Any, phase: str, given: Mapping[str, Any]
) -> CheckpointFolder | None:
    """Record the configuration, if it is known by now, and look at the checkpoints that are there."""
    with guard.guarded("looking at a phase before it begins"):
        if state.config is None:
            state.config = _config_of(plan, instance, phase, given)
            if state.config is not None:
                log_config(state.config, **overrides_of_program())
        if phase == _LOAD or (phase == _SETUP and not hasattr(type(instance), _LOAD)):
            state.loaded = use_loaded(state.config)
        if phase == _SAVE:
            return CheckpointFolder.find(plan.checkpoints, instance, state.config)
    return None


def _config_of(plan: _Plan, instance: Any, phase: str, given: Mapping[str, Any]) -> Any:
    if callable(plan.config):
        return plan.config(instance)
    if isinstance(plan.config, str):
        return vars(instance).get(plan.config)
    if plan.config is not None or phase != _INIT:
        return plan.config
    return next((given[name] for name in (*_CONFIGS, *given) if name in given), None)


def _after(
    state: State,
    instance: Any,
    phase: str,
    task: TaskHandle,
    folder: CheckpointFolder | None,
    kwargs: Mapping[str, Any],
) -> None:
    attributes = attributes_of(instance)
    if attributes:
        task.set_generated(attributes)
    if folder is not None:
        log_saved(folder, attributes, kwargs.get("epoch"))
    if phase == _SETUP:
        state.say_where_it_goes_on(attributes)
