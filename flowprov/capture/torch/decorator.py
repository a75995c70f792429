"""``torch_capture`` and ``torch_release``: putting capture on a class or an instance, and taking it off.

Flows in: a class or an instance of ``torch.nn.Module``, and what is said of a model at its construction.
Flows out: the same class or instance; of a class only ``__init__`` is wrapped, an instance gets two hooks and
no attribute.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, overload

import msgspec
import torch

from flowprov import guard
from flowprov.capture.recorder import enclosing_scope
from flowprov.capture.torch import optimizer
from flowprov.capture.torch.compile import original_module
from flowprov.capture.torch.install import captured_model_of, install_hooks, refuses_hooks, release_model
from flowprov.capture.torch.model import ConstructorOptions, Model
from flowprov.capture.torch.selection import ModuleSelection, original_name
from flowprov.errors import UsageError
from flowprov.runtime import context, runtime
from flowprov.settings import TorchSettings

C = TypeVar("C", bound="type[torch.nn.Module] | torch.nn.Module")

_GIVEN = frozenset(ConstructorOptions.__struct_fields__)
_KINDS_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_MARK = "__flowprov__"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of ``torch_capture``; None: by the settings."""

    name: str | None = None
    what: str | None = None
    children_mode: str | None = None
    depth: int | str | None = None
    include: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    get_profile: bool | None = None


@overload
def torch_capture(
    cls_or_model: C,
    *,
    name: str | None = None,
    what: str | None = None,
    children_mode: str | None = None,
    depth: int | str | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    get_profile: bool | None = None,
) -> C: ...
@overload
def torch_capture(
    cls_or_model: None = None,
    *,
    name: str | None = None,
    what: str | None = None,
    children_mode: str | None = None,
    depth: int | str | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    get_profile: bool | None = None,
) -> Callable[[C], C]: ...
def torch_capture(
    cls_or_model: Any = None,
    *,
    name: str | None = None,
    what: str | None = None,
    children_mode: str | None = None,
    depth: int | str | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] | None = None,
    get_profile: bool | None = None,
) -> Any:
    """Record each forward of a model, and the model itself as a workflow.

    Decorate a class with it, with or without options, or wrap an instance: what comes back is the same class
    or instance. Each instance is recorded once, also where a class and its subclass are both decorated.

    Parameters
    ----------
    cls_or_model
        A class or an instance of ``torch.nn.Module``.
    name
        Name of the model's workflow and of the activity; by default the name of the instance's class.
    what
        Which forwards are recorded: ``"parent_only"`` or ``"parent_and_children"``. This argument and those
        below go above the settings; None leaves the choice to these.
    children_mode, depth, include, exclude
        What is kept of the forwards of child modules, how many levels of them (a number, or ``"all"``), and
        patterns over their paths, as in ``encoder.layers.*.self_attn`` ("*" stands for dots, too): those
        within ``depth`` are recorded that fit one to include, if there are any, and none to exclude.
    get_profile
        Whether the workflow describes the model (``custom_metadata.model_profile``).

    Raises
    ------
    UsageError
        If it is given something else than a model, or an option that is none.

    Notes
    -----
    A decorated class accepts at construction, by keyword, ``parent_task_id, parent_workflow_id, campaign_id,
    custom_metadata, get_profile, save_workflow, capture_enabled``. They are taken out before the user's
    ``__init__`` is called; those that its signature names (a ``**kwargs`` names none) are passed on as well.

    Recorded are calls ``model(x)``, not ``model.forward(x)``: torch runs no hooks for that. Child modules are
    those that a model has when it is captured, and at its first forward. What ``deepcopy``, ``pickle`` and
    ``torch.load`` yield is a model of its own, which is not captured. ``torch.jit.script`` refuses modules
    with hooks such as these: :func:`torch_release` the model (or its copy) first. Nothing is recorded while a
    model is traced or exported; of a compiled one the call is, and nothing in the graph.
    If the settings cannot be used, constructing a model raises ``SettingsError``; nothing is raised later.
    """
    options = Options(
        name=name,
        what=what,
        children_mode=children_mode,
        depth=depth,
        include=_patterns(include),
        exclude=_patterns(exclude),
        get_profile=get_profile,
    )
    _check(options)
    return functools.partial(_apply, options) if cls_or_model is None else _apply(options, cls_or_model)


def torch_release(model: torch.nn.Module | type[torch.nn.Module]) -> None:
    """Take capture off again, without a trace.

    Parameters
    ----------
    model
        A captured instance, a copy of one (a copy is not captured, but keeps a pair of hooks that do
        nothing), or a decorated class. What is not captured stays as it is. Instances of a class that were
        constructed before stay captured.

    Notes
    -----
    The workflow of a model ends with the scope in which it was constructed, released or not.
    """
    if isinstance(model, type):
        decoration = vars(model).get("__init__").__dict__.get(_MARK) if "__init__" in vars(model) else None
        if isinstance(decoration, Decoration) and decoration.owner is model:
            decoration.undo()
    else:
        release_model(model)


class Decoration:
    """What the wrapped ``__init__`` of a class refers to: it can be pickled, with the class, by value.

    Parameters
    ----------
    owner
        The class.
    options
        The arguments of ``torch_capture``.
    """

    def __init__(self, owner: type[torch.nn.Module], options: Options) -> None:
        self.owner = owner
        self.options = options
        # Without one of its own the next in line depends on the class of the instance, not on the owner.
        self._own: Any = vars(owner).get("__init__")
        self._named = _named_by(owner.__init__)

    @contextlib.contextmanager
    def construction(
        self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[None]:
        """Surround the user's ``__init__``; capture the instance behind the outermost decorated class."""
        given = self._take(model, args, kwargs)
        building = _building.models
        for outer, outer_given in building:
            if outer is model:
                for name, value in given.items():
                    outer_given.setdefault(name, value)
                yield
                return
        building.append((model, given))
        try:
            yield
        finally:
            building.pop()
        # The __init__ that Python called was this one: nothing of the construction is left to come.
        complete = getattr(type(model).__init__, _MARK, None) is self
        _capture(model, self.options, ConstructorOptions(**given), complete=complete)

    def undo(self) -> None:
        """Give the class the ``__init__`` that it had."""
        if self._own is None:
            del self.owner.__init__
        else:
            self.owner.__init__ = self._own  # type: ignore[method-assign]

    def initialiser(self, model: torch.nn.Module) -> Callable[..., None]:
        """Give the user's ``__init__``, bound to an instance."""
        if self._own is None:
            return super(self.owner, model).__init__
        return functools.partial(self._own, model)

    def _take(self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Take what is ours out of the arguments; read, but leave, what the user's signature names."""
        given = {name: kwargs.pop(name) for name in _GIVEN & kwargs.keys() if name not in self._named}
        if self._named:
            try:
                bound = inspect.signature(self.owner.__init__).bind_partial(model, *args, **kwargs)
            except TypeError:  # the user's __init__ will say so
                return given
            bound.apply_defaults()
            given.update({name: bound.arguments[name] for name in self._named & bound.arguments.keys()})
        return {name: value for name, value in given.items() if value is not None}


class _Building(threading.local):
    """The instances whose construction runs in this thread, with what was given for them, innermost last."""

    def __init__(self) -> None:
        self.models: list[tuple[torch.nn.Module, dict[str, Any]]] = []


_building = _Building()


def _apply(options: Options, target: Any) -> Any:
    if isinstance(target, torch.nn.Module):
        _capture(target, options, ConstructorOptions(), complete=True)
        return target
    if isinstance(target, type) and issubclass(target, torch.nn.Module):
        torch_release(target)
        decoration = Decoration(target, options)
        target.__init__ = _wrap(target.__init__, decoration)  # type: ignore[method-assign]
        return target
    raise UsageError(
        f"flowprov.torch_capture takes a class or an instance of torch.nn.Module, not {repr(target)[:100]}"
    )


class _NoArguments:
    """A class whose ``__init__`` takes nothing."""

    def __init__(self) -> None:
        pass


def _wrap(original: Callable[..., None], decoration: Decoration) -> Callable[..., None]:
    # Lightning's save_hyperparameters() walks the stack from one __init__ to that of the subclass around it,
    # through nothing but frames of methods of that name. This one must look as if its class took no argument.
    __class__ = _NoArguments

    @functools.wraps(original)
    def __init__(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - tracebacks show it
        _ = __class__
        with decoration.construction(self, args, kwargs):
            decoration.initialiser(self)(*args, **kwargs)

    setattr(__init__, _MARK, decoration)
    return __init__


def _named_by(init: Callable[..., None]) -> frozenset[str]:
    """Give those of our names that the signature of a user's ``__init__`` has as well."""
    try:
        parameters = inspect.signature(init).parameters.values()
    except (TypeError, ValueError):  # an __init__ of C
        return frozenset()
    return _GIVEN & {parameter.name for parameter in parameters if parameter.kind in _KINDS_BY_NAME}


def _capture(model: torch.nn.Module, options: Options, given: ConstructorOptions, *, complete: bool) -> None:
    """Put the hooks on an instance, and open its workflow if it is complete."""
    if runtime.disabled() or given.capture_enabled is False:
        return
    model = original_module(model)
    held = runtime.get()
    if not held.capturing or captured_model_of(model) is not None:
        return
    settings = held.settings.instrumentation.torch
    what = options.what or settings.what
    registers = settings.register_workflow if given.save_workflow is None else bool(given.save_workflow)
    profiles = options.get_profile if given.get_profile is None else given.get_profile
    if what is not None and refuses_hooks(model):
        what = None
    if what is None and not registers:
        return
    with guard.guarded("capturing a model"):
        built_in = enclosing_scope(context.current.get()) if registers else None
        name = options.name or original_name(model)
        made = Model(
            name,
            given,
            registers=registers,
            profiles=bool(profiles),
            built_in=built_in,
        )
        if what is not None:
            choice = _choose(options, settings) if what == "parent_and_children" else None
            install_hooks(model, made, choice, settings, complete=complete)
        if settings.optimizer is not None:
            optimizer.install()
        if built_in is not None and (complete or what is None):
            made.open(model, built_in)


def _choose(options: Options, settings: TorchSettings) -> ModuleSelection:
    """Choose what is recorded of the modules in a model: by the arguments, else by the settings."""
    depth = settings.depth if options.depth is None else options.depth
    mode = options.children_mode or settings.children_mode or "lightweight"
    return ModuleSelection(
        depth=None if depth == "all" else int(depth),
        include=settings.include if options.include is None else options.include,
        exclude=settings.exclude if options.exclude is None else options.exclude,
        inspects="tensor_inspection" in mode,
        measures=mode.startswith("telemetry"),
    )


def _patterns(given: Any) -> Any:
    """Give patterns as a tuple; a single text is left as it is, to be refused."""
    return given if given is None or isinstance(given, str) else tuple(given)


def _check(options: Options) -> None:
    """Refuse an option that the settings would refuse too."""
    for name, expected in _EXPECTED.items():
        value = getattr(options, name)
        if value is not None:
            try:
                msgspec.convert({name: value}, TorchSettings)
            except msgspec.ValidationError:
                raise UsageError(
                    f"flowprov.torch_capture: {name} must be {expected}, not {value!r}"
                ) from None


_PATTERNS = 'a list of patterns of module paths, as in ["encoder.layers.*.self_attn"]'
_EXPECTED = {
    "what": '"parent_only" or "parent_and_children"',
    "children_mode": '"lightweight", "tensor_inspection", "telemetry" or "telemetry_and_tensor_inspection"',
    "depth": 'a whole number from 1 on, or "all"',
    "include": _PATTERNS,
    "exclude": _PATTERNS,
}
