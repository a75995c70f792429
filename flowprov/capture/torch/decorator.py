"""``torch_capture`` and ``torch_release``: put capture on a class or an instance, and take it off.

Flows in: a class or an instance of ``torch.nn.Module``, and the options of the decorator and of the
constructor. Flows out: the same class or instance. Of a class, only ``__init__`` is wrapped. An instance gets
hooks and no attribute.
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
from flowprov.capture.torch import optimizer
from flowprov.capture.torch.compile import original_module
from flowprov.capture.torch.generated_init import generated_init
from flowprov.capture.torch.hook_installation import install_hooks, refuses_hooks
from flowprov.capture.torch.hook_removal import captured_model_of, release_model
from flowprov.capture.torch.model import ConstructorOptions, Model
from flowprov.capture.torch.selection import ModuleSelection, original_name
from flowprov.errors import UsageError
from flowprov.runtime import context, runtime
from flowprov.settings import TorchSettings

C = TypeVar("C", bound="type[torch.nn.Module] | torch.nn.Module")

_OPTION_NAMES = frozenset(ConstructorOptions.__struct_fields__)
_NAMED_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_DECORATION = "__flowprov__"


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of ``torch_capture``; None leaves the choice to the settings."""

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

    Decorate a class, with or without options, or call it with an instance; it returns what it was given. Each
    instance is recorded once, also if a class and its subclass are both decorated.

    Parameters
    ----------
    cls_or_model
        A class or an instance of ``torch.nn.Module``.
    name
        Name of the model's workflow and of the activity; by default the name of the instance's class.
    what
        Which forwards are recorded: ``"parent_only"`` or ``"parent_and_children"``; None: as the settings.
    children_mode
        What is recorded of the forwards of child modules: ``"lightweight"``, ``"tensor_inspection"``,
        ``"telemetry"`` or ``"telemetry_and_tensor_inspection"``.
    depth, include, exclude
        How many levels of child modules are recorded (a number, or ``"all"``), and patterns over their paths,
        as in ``encoder.layers.*.self_attn`` ("*" stands for dots too). A child within ``depth`` is recorded
        if it fits a pattern to include, where there are any, and no pattern to exclude.
    get_profile
        Whether the workflow describes the model (``custom_metadata.model_profile``).

    Raises
    ------
    UsageError
        If the first argument is no model, or an option has a value that it cannot have.

    Notes
    -----
    A decorated class accepts at construction, by keyword, ``parent_task_id, parent_workflow_id, campaign_id,
    custom_metadata, get_profile, save_workflow, capture_enabled``. They are taken out before the user's
    ``__init__`` is called. Those that its signature names (a ``**kwargs`` names none) are passed on as well.

    Capturing a model opens nothing. Its first forward begins its workflow, in the workflow that is current
    there; in another workflow of the program the model has another one. Calls ``model(x)`` are recorded.
    Calls ``model.forward(x)`` are not, as torch runs no hooks for them. The child modules are those that a
    model has when it is captured, and again at its first forward. A copy that ``deepcopy``, ``pickle`` or
    ``torch.load`` makes is not captured. ``torch.jit.script`` refuses hooks: :func:`torch_release` the model
    (or its copy) first. Nothing is recorded while a model is traced or exported. Of a compiled model the call
    is recorded, nothing in the graph. Constructing a model raises ``SettingsError`` if the settings cannot be
    used; nothing is raised later.
    """
    included, excluded = _as_patterns(include), _as_patterns(exclude)
    options = Options(
        name=name, what=what, children_mode=children_mode, depth=depth, get_profile=get_profile,
        include=included, exclude=excluded,
    )  # fmt: skip
    _check(options)
    return functools.partial(_apply, options) if cls_or_model is None else _apply(options, cls_or_model)


def torch_release(model: torch.nn.Module | type[torch.nn.Module]) -> None:
    """Take capture off again, without a trace.

    Parameters
    ----------
    model
        A captured instance, a decorated class, or a copy of a captured instance, which has hooks that do
        nothing. Anything that is not captured stays as it is. Instances of a class that were constructed
        before stay captured.

    Notes
    -----
    A workflow of the model that is open stays open until the program's workflow around it ends.
    """
    if isinstance(model, type):
        init = vars(model).get("__init__")
        decoration = None if init is None else vars(init).get(_DECORATION)
        if isinstance(decoration, Decoration):
            decoration.restore_init(model)
    else:
        release_model(model)


class Decoration:
    """What the wrapped ``__init__`` of a class refers to: it can be pickled by value, with the class.

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
        # A class may have no __init__ of its own. The next in line depends on the class of the instance then.
        self._own_init: Any = vars(owner).get("__init__")
        self._passed_on = _options_in_signature(owner.__init__)

    @contextlib.contextmanager
    def construction(
        self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[None]:
        """Surround the user's ``__init__``, and capture the instance after the outermost decorated one."""
        self._add_generated_init(type(model))
        options = self._take_options(model, args, kwargs)
        for outer_model, outer_options in _constructions.running:
            if outer_model is model:
                for name, value in options.items():
                    outer_options.setdefault(name, value)
                yield
                return
        _constructions.running.append((model, options))
        try:
            yield
        finally:
            _constructions.running.pop()
        # Python called this __init__ itself: nothing of the construction follows.
        complete = getattr(type(model).__init__, _DECORATION, None) is self
        _capture(model, self.options, ConstructorOptions(**options), complete=complete)

    def _add_generated_init(self, cls: type[torch.nn.Module]) -> None:
        """Take over what class decorators above this one did: a constructor, or a copy of the class."""
        for owner in cls.__mro__:
            wrapper = vars(owner).get("__init__")
            if getattr(wrapper, _DECORATION, None) is self:
                self.owner = owner
                if self._own_init is None and (generated := generated_init(owner)) is not None:
                    self._own_init = generated
                    self._passed_on = _options_in_signature(generated)
                    wrapper.__wrapped__ = generated  # type: ignore[union-attr]

    def restore_init(self, owner: type[torch.nn.Module]) -> None:
        """Restore the ``__init__`` that the class had, or would have."""
        self._add_generated_init(owner)
        if self._own_init is None:
            del owner.__init__
        else:
            owner.__init__ = self._own_init  # type: ignore[method-assign]

    def bound_init(self, model: torch.nn.Module) -> Callable[..., None]:
        """Return the user's ``__init__``, bound to an instance."""
        if self._own_init is None:
            return super(self.owner, model).__init__
        return functools.partial(self._own_init, model)

    def _take_options(
        self, model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        """Take the options of capture out of the arguments; leave those that the signature names."""
        taken = _OPTION_NAMES & kwargs.keys() - self._passed_on
        options = {name: kwargs.pop(name) for name in taken}
        if self._passed_on:
            try:
                bound = inspect.signature(self.owner.__init__).bind_partial(model, *args, **kwargs)
            except TypeError:  # the user's __init__ will say so
                return options
            bound.apply_defaults()
            options.update({name: bound.arguments[name] for name in self._passed_on & bound.arguments.keys()})
        return {name: value for name, value in options.items() if value is not None}


class _Constructions(threading.local):
    """The instances whose construction runs in this thread, with their options, innermost last."""

    def __init__(self) -> None:
        self.running: list[tuple[torch.nn.Module, dict[str, Any]]] = []


_constructions = _Constructions()


def _apply(options: Options, target: Any) -> Any:
    if isinstance(target, torch.nn.Module):
        _capture(target, options, ConstructorOptions(), complete=True)
        return target
    if isinstance(target, type) and issubclass(target, torch.nn.Module):
        torch_release(target)
        decoration = Decoration(target, options)
        target.__init__ = _wrap_init(target.__init__, decoration)  # type: ignore[method-assign]
        return target
    raise UsageError(
        f"flowprov.torch_capture takes a class or an instance of torch.nn.Module, not {repr(target)[:100]}"
    )


class _NoArguments:
    """A class whose ``__init__`` takes nothing."""

    def __init__(self) -> None:
        pass


def _wrap_init(original: Callable[..., None], decoration: Decoration) -> Callable[..., None]:
    # Lightning's save_hyperparameters() walks the stack from one __init__ out to the __init__ of the
    # subclass, through frames of methods of that name only. This one must look as if its class took no
    # argument.
    __class__ = _NoArguments

    @functools.wraps(original)
    def __init__(self: torch.nn.Module, *args: Any, **kwargs: Any) -> None:  # noqa: N807 - tracebacks show it
        _ = __class__
        with decoration.construction(self, args, kwargs):
            decoration.bound_init(self)(*args, **kwargs)

    setattr(__init__, _DECORATION, decoration)
    return __init__


def _options_in_signature(init: Callable[..., None]) -> frozenset[str]:
    """Return the names of options of capture that the signature of a user's ``__init__`` has as well."""
    try:
        parameters = inspect.signature(init).parameters.values()
    except (TypeError, ValueError):  # an __init__ of C
        return frozenset()
    return _OPTION_NAMES & {parameter.name for parameter in parameters if parameter.kind in _NAMED_KINDS}


def _capture(
    module: torch.nn.Module, options: Options, constructor_options: ConstructorOptions, *, complete: bool
) -> None:
    """Put hooks on an instance. That opens nothing: its first forward does."""
    if runtime.disabled() or constructor_options.capture_enabled is False:
        return
    module = original_module(module)
    active = runtime.get()
    if not active.capturing or captured_model_of(module) is not None:
        return
    settings = active.settings.instrumentation.torch
    what = options.what or settings.what
    save_workflow, get_profile = constructor_options.save_workflow, constructor_options.get_profile
    registers_workflow = settings.register_workflow if save_workflow is None else bool(save_workflow)
    has_profile = options.get_profile if get_profile is None else get_profile
    if what is None and not registers_workflow:
        return
    with guard.guarded("capturing a model"):
        model = Model(
            module,
            options.name or original_name(module),
            constructor_options,
            registers_workflow=registers_workflow,
            has_profile=bool(has_profile),
            scope_at_construction=context.current_scope(),
        )
        if settings.optimizer is not None:
            optimizer.install()
        if refuses_hooks(module):
            _record_without_hooks(model)
            return
        selection = _select(options, settings) if what == "parent_and_children" else None
        install_hooks(
            module, model, selection, settings, records_forwards=what is not None, complete=complete
        )


def _record_without_hooks(model: Model) -> None:
    """Begin the workflow of a model whose first forward no hook will see, if a workflow is open."""
    scope = context.current_scope()
    if scope is not None and not scope.muted:
        model.workflow_in(scope)


def _select(options: Options, settings: TorchSettings) -> ModuleSelection:
    """Select the child modules that are recorded: by the arguments, else by the settings."""
    depth = settings.depth if options.depth is None else options.depth
    mode = options.children_mode or settings.children_mode or "lightweight"
    return ModuleSelection(
        depth=None if depth == "all" else int(depth),
        include=settings.include if options.include is None else options.include,
        exclude=settings.exclude if options.exclude is None else options.exclude,
        inspects_tensors="tensor_inspection" in mode,
        reads_telemetry=mode.startswith("telemetry"),
    )


def _as_patterns(patterns: Any) -> Any:
    """Return patterns as a tuple, and a single string as it is, to be refused."""
    return patterns if patterns is None or isinstance(patterns, str) else tuple(patterns)


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
