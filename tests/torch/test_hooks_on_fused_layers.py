"""Hooks of the program on a captured layer with a fast path do what they do without capture."""

from __future__ import annotations

import collections
import copy
import gc
import itertools
import pickle
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from tests.torch.compiling import twins
from tests.torch.fusing import LAYER, computed, encoder_layer
from tests.torch.support import children, forwards, hooks, metadata, paths

PARENT: dict[str, Any] = {"what": "parent_only"}
LAYERS: dict[str, Any] = {"what": "parent_and_children", "depth": 1}


def doubled(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
    return output * 2


def raised(_module: Any, _args: Any, output: torch.Tensor) -> torch.Tensor:
    return output + 1


def doubled_by_keyword(_module: Any, _args: Any, _kwargs: Any, output: torch.Tensor) -> torch.Tensor:
    return output * 2


def halved(_module: Any, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    return (args[0] / 2,)


def lowered_by_keyword(_module: Any, args: tuple[torch.Tensor], kwargs: Any) -> Any:
    return (args[0] - 1,), kwargs


def _after(layer: torch.nn.Module) -> list[Any]:
    return [layer.register_forward_hook(doubled)]


def _before(layer: torch.nn.Module) -> list[Any]:
    return [layer.register_forward_pre_hook(halved)]


def _several(layer: torch.nn.Module) -> list[Any]:
    return [
        layer.register_forward_hook(doubled),
        layer.register_forward_hook(raised, prepend=True),
        layer.register_forward_hook(doubled_by_keyword, with_kwargs=True, always_call=True),
        layer.register_forward_pre_hook(halved),
        layer.register_forward_pre_hook(lowered_by_keyword, with_kwargs=True, prepend=True),
    ]


def uncompiled(model: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    return computed(model, x)[0]


def compiled(model: torch.nn.Module, x: torch.Tensor) -> Any:
    torch._dynamo.reset()
    with torch.no_grad():
        return torch.compile(model.eval(), backend="eager", fullgraph=True)(x)


def exported(model: torch.nn.Module, x: torch.Tensor) -> Any:
    with torch.no_grad():
        return torch.export.export(model.eval(), (x,), strict=True).module()(x)


def layer_and_head() -> torch.nn.Module:
    return torch.nn.Sequential(encoder_layer(), torch.nn.Linear(8, 2))


def layer_of(model: torch.nn.Module) -> torch.nn.Module:
    return next(part for part in model.modules() if isinstance(part, torch.nn.TransformerEncoderLayer))


def batch() -> torch.Tensor:
    return torch.randn(3, 5, 8)


ways = pytest.mark.parametrize("way", [uncompiled, compiled, exported])
sorts = pytest.mark.parametrize("register", [_after, _before, _several])
# Code that torch traces costs a second each time: of the kinds of hooks, several at once stand for all there.
ways_and_sorts = pytest.mark.parametrize(
    ("way", "register"),
    [
        *((uncompiled, register) for register in (_after, _before, _several)),
        *((way, _several) for way in (compiled, exported)),
        *(
            pytest.param(way, register, marks=pytest.mark.soak)
            for way in (compiled, exported)
            for register in (_after, _before)
        ),
    ],
)


@ways_and_sorts
@pytest.mark.parametrize("when", ["before", "after", "released"])
@pytest.mark.parametrize(("build", "options"), [(encoder_layer, PARENT), (layer_and_head, LAYERS)])
def test_a_layer_with_hooks_of_the_program_computes_what_it_does_without_capture(
    buffer: Path,
    way: Callable[..., torch.Tensor],
    register: Callable[..., list[Any]],
    when: str,
    build: Callable[[], torch.nn.Module],
    options: dict[str, Any],
) -> None:
    (plain, captured), x = twins(build), batch()
    register(layer_of(plain))
    expected = way(plain, x)
    if when == "before":
        register(layer_of(captured))
    flowprov.torch_capture(captured, **options)
    if when != "before":
        register(layer_of(captured))
    if when == "released":
        flowprov.torch_release(captured)
    with flowprov.workflow("W"):
        found = way(captured, x)
    assert torch.equal(found, expected)
    recorded = way is not exported and when != "released"
    assert len(forwards(buffer)) == int(recorded)
    seen = paths(children(buffer))
    assert seen == (["0", "1"] if options is LAYERS and recorded and way is uncompiled else [])
    if recorded and way is compiled:
        assert ("children_not_recorded" in metadata(forwards(buffer)[0])) == (options is LAYERS)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_fast_path_comes_back_when_the_last_of_several_hooks_is_removed_in_any_order(
    buffer: Path, order: tuple[int, ...], when: str
) -> None:
    (plain, captured), x = twins(encoder_layer), batch()
    handles = []
    for layer in (plain, captured):
        if layer is captured and when == "after":
            flowprov.torch_capture(captured)
        handles.append(
            [
                layer.register_forward_hook(doubled),
                layer.register_forward_hook(raised),
                layer.register_forward_pre_hook(halved),
            ]
        )
    if when == "before":
        flowprov.torch_capture(captured)
    with flowprov.workflow("W"):
        for index in (*order, None):
            expected, without = computed(plain, x)
            found, seen = computed(captured, x)
            assert torch.equal(found, expected)
            assert seen == without
            if index is not None:
                for each in handles:
                    each[index].remove()
    assert seen[LAYER] == 1
    assert len(forwards(buffer)) == 4
    flowprov.torch_release(captured)
    assert hooks(captured) == 0
    assert not any(isinstance(value, collections.OrderedDict) and value for value in vars(captured).values())


@ways
@sorts
def test_the_fast_path_comes_back_in_compiled_code_too(
    buffer: Path, way: Callable[..., torch.Tensor], register: Callable[..., list[Any]]
) -> None:
    (plain, captured), x = twins(encoder_layer), batch()
    expected = way(plain, x)
    flowprov.torch_capture(captured)
    for handle in reversed(register(captured)):
        handle.remove()
    with flowprov.workflow("W"):
        assert torch.equal(way(captured, x), expected)
        for handle in register(captured):
            handle.remove()
        uncompiled(captured, x)
        assert torch.equal(way(captured, x), expected)


@pytest.mark.parametrize("again", [False, True])
def test_handles_remove_hooks_after_release_and_after_another_capture(
    buffer: Path,
    again: bool,  # noqa: FBT001 - a parameter
) -> None:
    (plain, layer), x = twins(encoder_layer), batch()
    expected, without = computed(plain, x)
    flowprov.torch_capture(layer)
    handles = _several(layer)
    flowprov.torch_release(layer)
    assert hooks(layer) == len(handles)
    if again:
        flowprov.torch_capture(layer)
    for handle in handles:
        handle.remove()
    with flowprov.workflow("W"):
        found, seen = computed(layer, x)
    assert torch.equal(found, expected)
    assert seen == without
    assert len(forwards(buffer)) == int(again)
    assert again or hooks(layer) == 0


def test_a_hook_that_stays_is_called_once_whatever_is_released_of_two_models(buffer: Path) -> None:
    (plain, layer), x = twins(encoder_layer), batch()
    both = [torch.nn.Sequential(layer), torch.nn.Sequential(layer)]
    for each in both:
        flowprov.torch_capture(each, **LAYERS)
    handles = [layer.register_forward_hook(doubled), layer.register_forward_hook(raised)]
    with flowprov.workflow("W"):
        flowprov.torch_release(both[0])
        assert torch.equal(uncompiled(both[1], x), uncompiled(plain, x) * 2 + 1)
        for handle in handles:
            handle.remove()
        found, seen = computed(both[1], x)
        assert torch.equal(found, uncompiled(plain, x))
        assert seen[LAYER] == 1
    assert paths(children(buffer)) == ["0", "0"]


@pytest.mark.parametrize("through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@ways
def test_a_copy_has_the_programs_hooks_and_none_that_records(
    buffer: Path, through: Any, way: Callable[..., torch.Tensor]
) -> None:
    (plain, captured), x = twins(encoder_layer), batch()
    expected = uncompiled(plain, x)
    _after(plain)
    flowprov.torch_capture(captured)
    kept = _after(captured)
    copied = through(through(captured))
    with flowprov.workflow("W"):
        assert torch.equal(way(copied, x), way(plain, x))
        kept[0].remove()
        assert torch.equal(uncompiled(captured, x), expected)
        assert torch.equal(way(copied, x), way(plain, x))
    assert len(forwards(buffer)) == 1
    assert b"flowprov" not in pickle.dumps(captured)
    assert b"flowprov" not in pickle.dumps(copied)
    assert captured.state_dict().keys() == plain.state_dict().keys()


def test_a_model_to_which_its_hooks_refer_is_freed(buffer: Path) -> None:
    layer = encoder_layer()
    flowprov.torch_capture(layer)
    gone = weakref.ref(layer)
    for register in (layer.register_forward_hook, layer.register_forward_pre_hook):
        register(lambda *_, kept=layer: kept and None)
    del layer, register
    gc.collect()
    assert gone() is None


def test_the_dict_of_hooks_can_be_copied(buffer: Path) -> None:
    layer = encoder_layer()
    flowprov.torch_capture(layer)
    copied = layer._forward_hooks.copy()
    assert type(copied) is collections.OrderedDict
    assert list(copied.items()) == list(layer._forward_hooks.items())
