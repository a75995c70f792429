"""Tensor inspection: every kind of tensor is described and none is touched, however it is nested."""

from __future__ import annotations

import collections
import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import strategies

import flowprov
from tests.support import only
from tests.torch.support import children, forwards

INSPECTS: dict[str, Any] = {"what": "parent_and_children", "children_mode": "tensor_inspection"}


class Takes(torch.nn.Module):
    """A child that takes anything."""

    def forward(self, input: Any = None, *_: Any, **__: Any) -> Any:  # noqa: A002 - as Identity has it
        """Return the first."""
        return input


class Passes(torch.nn.Module):
    """A model with one child, which returns its input."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Takes()

    def forward(self, value: Any = None, *rest: Any, **others: Any) -> Any:
        """Pass it on."""
        return self.part(value, *rest, **others)


class Own(torch.Tensor):
    """A subclass of a program's own."""


class Raising(torch.Tensor):
    """A subclass that refuses every function of torch."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse everything."""
        raise RuntimeError("not from me")


def inspected(buffer: Path, value: Any) -> dict[str, Any]:
    """Pass a value through a captured model, and return what is recorded of it."""
    model = flowprov.torch_capture(Passes(), **INSPECTS)
    with flowprov.workflow("W"):
        assert model(value) is value
    task = only(children(buffer))
    assert task.used is not None
    if isinstance(value, torch.Tensor):
        assert task.generated == {"output": task.used["input"]}
    described = task.used["input"]
    assert isinstance(described, dict), described
    return described


def _quantized(*, by_channel: bool) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it is going to be moved elsewhere
        if by_channel:
            return torch.quantize_per_channel(
                torch.ones(2, 3), torch.tensor([0.1, 0.2]), torch.tensor([0, 0]), 0, torch.qint8
            )
        return torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8)


def _nested(layout: torch.layout) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is a prototype, says torch
        return torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=layout)


def _sparse(kind: str) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in beta state, says torch
        dense = torch.eye(4)
        convert = getattr(dense, f"to_sparse_{kind}")
        arguments = ((2, 2),) if kind.startswith("bs") else ()
        return convert(*arguments)  # type: ignore[no-any-return]


DENSE: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (lambda: torch.ones(2, 3), {"shape": [2, 3], "dtype": "float32", "nbytes": 24, "numel": 6}),
    "no rows": (lambda: torch.ones(0, 3), {"shape": [0, 3], "nbytes": 0, "numel": 0}),
    "no dimension": (lambda: torch.tensor(1.5), {"shape": [], "nbytes": 4, "numel": 1}),
    "meta": (lambda: torch.ones(2, 3, device="meta"), {"device": "meta", "shape": [2, 3], "numel": 6}),
    "complex": (lambda: torch.ones(2, dtype=torch.complex64), {"dtype": "complex64", "nbytes": 16}),
    "conjugate": (lambda: torch.ones(2, dtype=torch.complex64).conj(), {"dtype": "complex64"}),
    "boolean": (lambda: torch.ones(3, dtype=torch.bool), {"dtype": "bool", "nbytes": 3}),
    "bytes": (lambda: torch.ones(3, dtype=torch.uint8), {"dtype": "uint8"}),
    "eight bits": (lambda: torch.ones(3).to(torch.float8_e4m3fn), {"dtype": "float8_e4m3fn", "nbytes": 3}),
    "expanded": (lambda: torch.ones(1).expand(100), {"shape": [100], "numel": 100}),
    "parameter": (lambda: torch.nn.Parameter(torch.ones(2)), {"requires_grad": True, "numel": 2}),
    "result": (lambda: torch.ones(2, requires_grad=True) * 2, {"requires_grad": True}),
    "mkldnn": (lambda: torch.ones(2, 3).to_mkldnn(), {"layout": "_mkldnn", "shape": [2, 3]}),
    "subclass": (lambda: torch.ones(2, 3).as_subclass(Own), {"shape": [2, 3], "numel": 6}),
}
SPECIAL: dict[str, tuple[Any, dict[str, Any]]] = {
    "coo": (lambda: torch.eye(4).to_sparse(), {"layout": "sparse_coo", "shape": [4, 4], "nnz": 4}),
    "csr": (lambda: _sparse("csr"), {"layout": "sparse_csr", "shape": [4, 4], "nnz": 4}),
    "csc": (lambda: _sparse("csc"), {"layout": "sparse_csc", "nnz": 4}),
    "bsr": (lambda: _sparse("bsr"), {"layout": "sparse_bsr", "nnz": 2}),
    "bsc": (lambda: _sparse("bsc"), {"layout": "sparse_bsc", "nnz": 2}),
    "empty coo": (lambda: torch.zeros(0, 4).to_sparse(), {"layout": "sparse_coo", "numel": 0, "nnz": 0}),
    "by tensor": (lambda: _quantized(by_channel=False), {"qscheme": "per_tensor_affine", "dtype": "qint8"}),
    "by channel": (lambda: _quantized(by_channel=True), {"qscheme": "per_channel_affine", "shape": [2, 3]}),
    "nested": (lambda: _nested(torch.strided), {"components": 2, "layout": "strided", "dtype": "float32"}),
    "jagged": (lambda: _nested(torch.jagged), {"components": 2, "layout": "jagged", "numel": 18}),
}


@pytest.mark.parametrize("kind", [*DENSE, *SPECIAL])
def test_each_kind_of_tensor_is_described(buffer: Path, kind: str) -> None:
    build, expected = {**DENSE, **SPECIAL}[kind]
    described = inspected(buffer, build())
    assert {name: described.get(name) for name in expected} == expected
    assert {"type", "dtype", "device", "layout", "requires_grad"} <= described.keys()
    if kind in DENSE:
        assert {"shape", "nbytes", "numel"} <= described.keys()
        assert not {"nnz", "qscheme", "components"} & described.keys()


def test_a_subclass_that_refuses_everything_passes_and_is_recorded(buffer: Path) -> None:
    with torch._C.DisableTorchFunctionSubclass():
        value = torch.ones(2, 3).as_subclass(Raising)
    described = inspected(buffer, value)
    assert described["type"].endswith("Raising")


def test_a_packed_sequence_is_described_by_its_parts(buffer: Path) -> None:
    packed = torch.nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.ones(1, 2)])
    recurrent = torch.nn.GRU(2, 4)
    with flowprov.workflow("W"):
        flowprov.torch_capture(torch.nn.Sequential(recurrent), **INSPECTS)(packed)
    task = only(children(buffer))
    text = json.dumps([task.used, task.generated])
    assert '"shape": [4, 2]' in text
    assert '"shape": [4, 4]' in text
    assert '"layout": "strided"' in text


@dataclasses.dataclass
class Output:
    """As some models return it."""

    loss: Any
    logits: Any = None


Pair = collections.namedtuple("Pair", "first second")  # noqa: PYI024 - the plain form is in use


@pytest.mark.parametrize(
    ("value", "reach"),
    [
        ({"a": {"b": [torch.ones(2)]}}, ["a", "b", 0]),
        (Output(loss=0.5, logits=torch.ones(2)), ["logits"]),
        (Pair(None, (torch.ones(2), None)), ["second", 0]),
        (collections.OrderedDict(h=(torch.ones(2),)), ["h", 0]),
        ((1, [torch.ones(2)]), [1, 0]),
    ],
)
def test_tensors_in_structures_are_described_where_they_are(
    buffer: Path, value: Any, reach: list[Any]
) -> None:
    flowprov.torch_capture(Passes(), **INSPECTS)(value)
    found: Any = (only(children(buffer)).used or {})["input"]
    for step in reach:
        if isinstance(found, list) and isinstance(step, str):
            step = Pair._fields.index(step)  # noqa: PLW2901 - a named tuple may be listed as a tuple
        found = found[step]
    assert found["numel"] == 2
    assert found["layout"] == "strided"


def test_a_long_list_of_tensors_is_cut_and_marked(buffer: Path) -> None:
    many = [torch.ones(1) for _ in range(1_000)]
    flowprov.torch_capture(Passes(), **INSPECTS)(many, keyed={str(n): each for n, each in enumerate(many)})
    task = only(children(buffer))
    assert task.used is not None
    text = json.dumps(task.used)
    listed = task.used["input"]
    assert len(listed) < 200
    assert text.count('"layout"') < 500
    assert listed[-1] == {"$cut": 1_000}
    assert task.used["keyed"]["$cut"] == 1_000


def test_arrays_and_none_beside_tensors_are_recorded(buffer: Path) -> None:
    numpy = pytest.importorskip("numpy")
    flowprov.torch_capture(Passes(), **INSPECTS)(None, mask=None, array=numpy.ones(3))
    used = only(children(buffer)).used or {}
    assert used["input"] is used["mask"] is None
    assert used["array"]["shape"] == [3]


def _kinds() -> Any:
    shapes = strategies.lists(strategies.integers(0, 3), max_size=3)
    dtypes = strategies.sampled_from(
        [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
    )
    dense = strategies.builds(lambda shape, dtype: torch.zeros(shape, dtype=dtype), shapes, dtypes)
    special = strategies.sampled_from([build for build, _ in SPECIAL.values()]).map(lambda build: build())
    leaves = dense | special | strategies.none() | strategies.floats() | strategies.text(max_size=3)
    keys = strategies.text(max_size=3) | strategies.integers() | strategies.none()
    return strategies.recursive(
        leaves,
        lambda inner: (
            strategies.lists(inner, max_size=3)
            | strategies.lists(inner, max_size=3).map(tuple)
            | strategies.dictionaries(keys, inner, max_size=3)
            | strategies.builds(Output, inner, inner)
            | strategies.builds(Pair, inner, inner)
        ),
        max_leaves=12,
    )


@hypothesis.settings(max_examples=60, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(
    value=_kinds(), keyed=strategies.dictionaries(strategies.text(max_size=4), _kinds(), max_size=2)
)
def test_whatever_is_nested_passes_untouched_and_leaves_a_readable_record(
    tmp_path_factory: pytest.TempPathFactory, value: Any, keyed: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("buffer")
    flowprov.configure(journal={"path": str(folder)})
    keyed.pop("value", None)
    keyed.pop("input", None)
    keyed.pop("self", None)
    with flowprov.workflow("W", campaign_id=folder.name):
        assert flowprov.torch_capture(Passes(), **INSPECTS)(value, **keyed) is value
    found = [only(children(folder)), only(forwards(folder))]
    for task in found:
        assert task.status == "FINISHED"
        assert task.used is not None
        assert task.generated is not None
