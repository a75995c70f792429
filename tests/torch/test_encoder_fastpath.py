"""Layers of torch's transformers keep their fast path in inference, unless modules inside are recorded."""

from __future__ import annotations

import collections
import copy
import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

import flowprov
from tests.support import run
from tests.torch.fusing import LAYER, computed, encoder_layer
from tests.torch.support import children, forwards, hooks, paths

ATTENTION = torch.ops.aten._native_multi_head_attention.default
NESTED = torch.ops.aten._nested_tensor_from_mask.default


class Holds(torch.nn.Module):
    """A model with a transformer in it."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = torch.nn.Linear(8, 2)

    def forward(self, x: torch.Tensor, padding: torch.Tensor | None = None) -> Any:
        """Compute."""
        return self.head(self.encoder(x, src_key_padding_mask=padding))


def encoder() -> torch.nn.Module:
    return torch.nn.TransformerEncoder(encoder_layer(), 2)


def model() -> torch.nn.Module:
    return Holds(encoder())


def padding() -> torch.Tensor:
    mask = torch.zeros(3, 5, dtype=torch.bool)
    mask[0, 3:] = True
    return mask


def alike(build: Any, *, padded: bool = False, **options: Any) -> tuple[Any, Any]:
    """Compute without and with capture, check that the results agree, and return the operators of both."""
    torch.manual_seed(0)
    plain = build()
    captured = copy.deepcopy(plain)
    x = torch.randn(3, 5, 8)
    name = "padding" if isinstance(plain, Holds) else "src_key_padding_mask"
    keywords = {name: padding()} if padded else {}
    expected, without = computed(plain, x, **keywords)
    flowprov.torch_capture(captured, **options)
    with flowprov.workflow("W"):
        found, seen = computed(captured, x, **keywords)
        if seen[LAYER]:
            assert torch.equal(found, expected)
        else:
            torch.testing.assert_close(found, expected)
    return without, seen


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("build", [model, encoder, encoder_layer])
@pytest.mark.parametrize(
    "options",
    [
        {"what": "parent_only"},
        {
            "what": "parent_and_children",
            "depth": "all",
            "exclude": ["*layers.*", "self_attn*", "lin*", "*dropout*", "norm*"],
        },
        {"what": "parent_and_children", "depth": "all", "include": ["encoder", "encoder.layers.?"]},
    ],
)
def test_layers_take_their_fast_path_where_nothing_inside_them_is_recorded(
    buffer: Path,
    padded: bool,  # noqa: FBT001 - a parameter
    build: Any,
    options: dict[str, Any],
) -> None:
    without, seen = alike(build, padded=padded, **options)
    assert seen == without
    assert seen[LAYER] == (1 if build is encoder_layer else 2)
    assert seen[NESTED] == int(padded and build is not encoder_layer)
    assert len(forwards(buffer)) == 1


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_layers_are_recorded_without_leaving_the_fast_path(buffer: Path, depth: int) -> None:
    without, seen = alike(model, padded=True, what="parent_and_children", depth=depth)
    assert seen == without
    layers = ["encoder.layers.0", "encoder.layers.1"] if depth == 3 else []
    assert paths(children(buffer)) == [*layers, "encoder", "head"]
    for layer in children(buffer)[: len(layers)]:
        assert layer.used is not None
        assert "src" in layer.used


@pytest.mark.parametrize("padded", [False, True])
def test_modules_inside_a_layer_are_recorded_and_a_warning_names_the_cost(
    buffer: Path,
    caplog: pytest.LogCaptureFixture,
    padded: bool,  # noqa: FBT001 - a parameter
) -> None:
    without, seen = alike(model, padded=padded, what="parent_and_children", depth="all")
    assert without[LAYER] == 2
    assert seen[LAYER] == 0
    assert "encoder.layers.1.self_attn" in paths(children(buffer))
    warnings = [line for line in caplog.messages if "fast path" in line]
    assert len(warnings) == 1
    assert "encoder.layers.0" in warnings[0]
    assert "exclude" in warnings[0]


def test_training_says_nothing_of_fused_paths_that_a_layer_never_takes(
    buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    odd = torch.nn.TransformerEncoderLayer(6, 3, 16, batch_first=False)
    with flowprov.workflow("W"):
        flowprov.torch_capture(odd, what="parent_and_children", depth="all")(torch.randn(3, 5, 6))
    assert "fast path" not in caplog.text


def test_gradients_and_the_state_of_the_generator_are_those_of_the_plain_encoder(buffer: Path) -> None:
    torch.manual_seed(0)
    plain = model()
    captured = flowprov.torch_capture(copy.deepcopy(plain), what="parent_and_children", depth="all")
    x, results = torch.randn(3, 5, 8), []
    with flowprov.workflow("W"):
        for each in (plain, captured):
            torch.manual_seed(1)
            each(x).square().sum().backward()
            results.append([torch.get_rng_state(), *(p.grad for p in each.parameters())])
    for left, right in zip(*results, strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_hook_of_the_program_ends_the_fast_path_and_its_removal_restores_it(
    buffer: Path, when: str
) -> None:
    """A hook that was put on before needs capture to be taken off and put on again."""

    def watch(*_: Any) -> None:
        calls.append(1)

    calls: list[int] = []
    layer, x = encoder_layer(), torch.randn(3, 5, 8)
    register: list[Any] = [layer.register_forward_hook, layer.register_forward_pre_hook]
    handles = [each(watch) for each in register] if when == "before" else []
    flowprov.torch_capture(layer)
    handles = handles or [each(watch) for each in register]
    with flowprov.workflow("W"):
        for expected in (0, 0, 1):
            assert computed(layer, x)[1][LAYER] == expected
            if handles:
                handles.pop().remove()
            if not handles and when == "before":
                flowprov.torch_release(layer)
                flowprov.torch_capture(layer)
    assert len(calls) == 3
    assert len(forwards(buffer)) == 3
    inner = layer.linear1.register_forward_hook(watch)
    assert computed(layer, x)[1][LAYER] == 0
    inner.remove()
    assert computed(layer, x)[1][LAYER] == 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_release_leaves_plain_dicts_with_the_hooks_of_the_program(buffer: Path, when: str) -> None:
    layer = encoder_layer()
    flowprov.torch_capture(layer)
    flowprov.torch_release(layer)
    assert type(layer._forward_hooks) is type(layer._forward_pre_hooks) is collections.OrderedDict
    assert hooks(layer) == 0
    calls: list[int] = []
    handle = layer.register_forward_hook(lambda *_: calls.append(1)) if when == "before" else None
    flowprov.torch_capture(layer)
    handle = handle or layer.register_forward_hook(lambda *_: calls.append(1))
    flowprov.torch_release(layer)
    layer(torch.randn(3, 5, 8))
    assert len(calls) == 1
    handle.remove()
    layer(torch.randn(3, 5, 8))
    assert len(calls) == 1
    assert hooks(layer) == 0


def _saved(target: torch.nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(target, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("through", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), _saved])
@pytest.mark.parametrize("options", [{}, {"what": "parent_and_children", "depth": 3}])
def test_a_copy_takes_the_fast_path_too(buffer: Path, through: Any, options: dict[str, Any]) -> None:
    captured, x = flowprov.torch_capture(model(), **options), torch.randn(3, 5, 8)
    with flowprov.workflow("W"):
        expected, without = computed(captured, x)
        copied = through(through(captured))
        found, seen = computed(copied, x)
    assert seen == without
    assert torch.equal(found, expected)
    assert len(forwards(buffer)) == 1
    layer = copied.encoder.layers[0]
    assert type(layer._forward_hooks) is type(layer._forward_pre_hooks) is collections.OrderedDict


def test_a_saved_encoder_takes_the_fast_path_where_flowprov_is_not_installed(tmp_path: Path) -> None:
    run(
        """
        import torch, flowprov
        layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        encoder = torch.nn.TransformerEncoder(layer, 2)
        flowprov.torch_capture(encoder, what="parent_and_children", depth=2)
        encoder.eval()(torch.ones(3, 5, 8))
        torch.save(encoder, "model")
        """,
        tmp_path,
    )
    code = """
        import sys
        sys.modules["flowprov"] = None
        import torch
        encoder = torch.load("model", weights_only=False)
        with torch.no_grad(), torch.profiler.profile() as profile:
            encoder(torch.ones(3, 5, 8))
        names = [event.key for event in profile.key_averages()]
        assert "aten::_transformer_encoder_layer_fwd" in names, names
        """
    run(code, tmp_path)


@pytest.mark.parametrize("options", [{}, {"what": "parent_and_children", "depth": "all"}])
def test_attention_keeps_its_native_path_whatever_is_recorded(buffer: Path, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    plain, x = torch.nn.MultiheadAttention(8, 2, batch_first=True), torch.randn(3, 5, 8)
    captured = flowprov.torch_capture(copy.deepcopy(plain), **options)
    with flowprov.workflow("W"):
        (expected, weights), without = computed(plain, x, x, x)
        (found, found_weights), seen = computed(captured, x, x, x)
    assert seen == without
    assert seen[ATTENTION] == 1
    assert torch.equal(found, expected)
    assert torch.equal(found_weights, weights)


@pytest.mark.parametrize("options", [{}, {"what": "parent_and_children", "depth": "all"}])
@pytest.mark.parametrize("inference", [True, False])
def test_a_decoder_and_a_whole_transformer_compute_the_same(
    buffer: Path,
    options: dict[str, Any],
    inference: bool,  # noqa: FBT001 - a parameter
) -> None:
    torch.manual_seed(0)
    decoder = torch.nn.TransformerDecoder(torch.nn.TransformerDecoderLayer(8, 2, 16, batch_first=True), 2)
    whole = torch.nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    x, memory = torch.randn(3, 5, 8), torch.randn(3, 4, 8)
    with flowprov.workflow("W"):
        for plain in (decoder, whole):
            captured = flowprov.torch_capture(copy.deepcopy(plain), **options).train(not inference)
            plain.train(not inference)
            results = []
            for each in (plain, captured):
                torch.manual_seed(1)
                with torch.set_grad_enabled(not inference):
                    results.append(each(memory, x))
            if plain is whole and options and inference:
                torch.testing.assert_close(*results)  # modules inside its encoder layers are recorded
            else:
                assert torch.equal(*results)
    assert len(forwards(buffer)) == 2
