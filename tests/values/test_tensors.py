"""Tensors, arrays and frames are described, and their elements are never read."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from flowprov.values import Summarizer, tensor_json
from flowprov.values.redaction import Redactor
from tests.support import run
from tests.values.support import ASKING, SUMMARIZER, recorded


class Duck:
    """Has a shape and a dtype at class level, as arrays of unknown frameworks do."""

    def __init__(self, **attributes: Any) -> None:
        self._attributes = attributes

    def _get(self, name: str) -> Any:
        value = self._attributes[name]
        if isinstance(value, BaseException):
            raise value
        return value

    shape = property(lambda self: self._get("shape"))
    dtype = property(lambda self: self._get("dtype"))
    device = property(lambda self: self._get("device"))
    nbytes = property(lambda self: self._get("nbytes"))

    def __repr__(self) -> str:
        raise AssertionError("an array was printed")

    def __bool__(self) -> bool:
        raise AssertionError("an array was tested for truth")


def test_arrays_are_described() -> None:
    expected = {"type": "numpy.ndarray", "shape": [2, 3], "dtype": "float64", "device": "cpu", "nbytes": 48}
    assert recorded(np.zeros((2, 3))) == expected
    assert list(recorded(np.zeros((2, 3)))) == list(expected)
    assert recorded(np.zeros(())) == 0.0
    assert recorded(np.array("text"))["shape"] == []
    assert recorded(np.array([object()], dtype=object))["dtype"] == "object"
    assert recorded(np.zeros(2, dtype=[("a", "f4"), ("b", "i8")]))["nbytes"] == 24
    assert recorded([np.zeros(1)])[0]["type"] == "numpy.ndarray"


def test_tensor_json_encodes_the_summary() -> None:
    array = np.zeros((2, 3))
    for _ in range(2):
        encoded = tensor_json(array)
        assert type(encoded) is bytes
        assert json.loads(encoded) == SUMMARIZER.summarize(array)
    assert json.loads(tensor_json(np.zeros((2, 3), dtype="f4")))["dtype"] == "float32"
    assert json.loads(tensor_json(5)) == {"type": "int"}


def test_summaries_are_fresh_objects() -> None:
    array = np.zeros((2, 3))
    first: Any = SUMMARIZER.summarize(array)
    first["shape"].append(9)
    assert SUMMARIZER.summarize(array) != first


def test_an_attribute_that_an_array_lacks_is_left_out() -> None:
    duck = Duck(shape=(2, None, 2.5), dtype=RuntimeError(), device=KeyError("no"), nbytes=float("nan"))
    assert recorded(duck, summarizer=ASKING) == {
        "type": "tests.values.test_tensors.Duck",
        "shape": [2, None, None],
    }
    assert recorded(Duck(), summarizer=ASKING) == {"type": "tests.values.test_tensors.Duck"}
    unhashable = Duck(shape=([1],), dtype="f", device="cpu", nbytes=4)
    assert recorded(unhashable, summarizer=ASKING)["shape"] == [None]


def test_the_json_cache_is_bounded() -> None:
    from flowprov.values import tensors

    for size in range(5_000):
        tensor_json(Duck(shape=(size,), dtype="f", device="cpu", nbytes=4 * size))
    assert len(tensors._json_cache) <= 4_096


def test_arrays_under_the_name_of_a_secret_are_kept_because_they_reveal_nothing() -> None:
    assert recorded({"token": np.zeros(2)})["token"]["shape"] == [2]
    assert recorded(np.zeros(2), key="secret")["shape"] == [2]


def test_frames_and_series_are_described() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], 5: [0.5, 1.5]})
    assert recorded(frame) == {
        "type": pandas.DataFrame.__module__ + ".DataFrame",
        "shape": [2, 2],
        "columns": ["a", 5],
        "dtypes": ["int64", "float64"],
    }
    wide = recorded(pandas.DataFrame(np.zeros((1, 150))))
    assert wide["columns"] == [*range(100), {"$cut": 150}]
    assert len(wide["dtypes"]) == 101
    series = recorded(frame["a"])
    assert (series["shape"], series["dtype"], series["nbytes"]) == ([2], "int64", 16)
    assert recorded(pandas.NaT) == "NaT"
    assert recorded(pandas.Timestamp("2024-01-02T03:04:05.000000006")) == "2024-01-02T03:04:05.000000006"
    recorded([pandas.NA, pandas.Timedelta(1), frame.index, frame.groupby("a"), pandas.Categorical(["x"])])


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


def test_tensors_are_described(torch: Any) -> None:
    expected = {"type": "torch.Tensor", "shape": [2, 3], "dtype": "float32", "device": "cpu", "nbytes": 24}
    assert recorded(torch.ones(2, 3)) == expected
    assert msgspec.json.decode(SUMMARIZER.encode_mapping({"src": torch.ones(2, 3)})) == {"src": expected}
    assert recorded(torch.tensor(0.5, requires_grad=True))["shape"] == []
    assert recorded(torch.nn.Parameter(torch.ones(2)))["shape"] == [2]
    assert recorded(torch.ones(2, dtype=torch.bfloat16))["dtype"] == "bfloat16"
    assert recorded(torch.max(torch.ones(2, 2), dim=0))["values"]["shape"] == [2]


def test_tensors_without_storage_are_described_by_the_attributes_that_they_have(torch: Any) -> None:
    assert recorded(torch.empty(3, device="meta"))["device"] == "meta"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])
        jagged = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
        sparse = torch.sparse_coo_tensor([[0], [1]], [1.0], (2, 2))
        quantized = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8)
    dense = recorded(torch.ones(2, 2))
    assert "shape" not in recorded(nested)
    assert recorded(jagged)["shape"] == [2, None]
    assert recorded(sparse) == {key: dense[key] for key in ("type", "shape", "dtype", "device")}
    assert recorded(quantized)["dtype"] == "quint8"
    assert "shape" not in recorded(torch.nn.UninitializedParameter())


def test_fake_tensors_with_symbolic_sizes_are_described(torch: Any) -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    mode = FakeTensorMode(shape_env=ShapeEnv())
    fake = mode.from_tensor(torch.ones(5, 7))
    assert recorded(fake)["dtype"] == "float32"
    with mode:
        unbacked = torch.ones(5).nonzero()
    assert recorded(unbacked)["shape"] == [None, 1]


def test_a_large_tensor_is_neither_read_nor_changed(torch: Any, monkeypatch: Any) -> None:
    large = torch.empty(50_000_000)

    def forbidden(*_: object) -> None:
        raise AssertionError("a tensor's elements were read")

    for name in (
        "item",
        "tolist",
        "numpy",
        "cpu",
        "__repr__",
        "__bool__",
        "__float__",
        "__array__",
        "__iter__",
    ):
        monkeypatch.setattr(torch.Tensor, name, forbidden)
    version = large._version
    assert recorded({"x": large, "token": large})["x"]["nbytes"] == 200_000_000
    assert large._version == version


def test_modules_loaders_and_optimizers_are_recorded_by_type(torch: Any) -> None:
    class Net(torch.nn.Linear):  # type: ignore[misc]
        def __repr__(self) -> str:
            raise AssertionError("a module was printed")

    class Numbers(torch.utils.data.Dataset):  # type: ignore[misc]
        def __len__(self) -> int:
            raise AssertionError("the length of a dataset was read")

        def __getitem__(self, index: int) -> int:
            raise AssertionError("a dataset was read")

    net = Net(2, 2)
    assert recorded(net) == {"$type": f"{__name__}.{Net.__qualname__}"}
    assert recorded(Numbers()) == {"$type": f"{__name__}.{Numbers.__qualname__}"}
    loader = torch.utils.data.DataLoader([1, 2])
    assert recorded(loader) == {"$type": "torch.utils.data.dataloader.DataLoader"}
    assert recorded(torch.optim.SGD(net.parameters())) == {"$type": "torch.optim.sgd.SGD"}
    assert recorded(torch.distributions.Normal(torch.ones(()), 1)) == {
        "$type": "torch.distributions.normal.Normal"
    }
    assert recorded(torch.ones(2).untyped_storage()) == {"$type": "torch.storage.UntypedStorage"}
    assert recorded([torch.float32, torch.device("cpu"), torch.Size([1, 2])]) == [
        "torch.float32",
        "cpu",
        [1, 2],
    ]


def test_frameworks_are_not_imported_to_recognize_values(tmp_path: Path) -> None:
    printed, _ = run(
        "import sys; from flowprov.values import Summarizer; Summarizer().encode([object(), 1.5, {1: 2}]);"
        "print(sorted({'numpy', 'torch', 'pandas', 'argparse', 'hashlib'} & set(sys.modules)))",
        tmp_path,
    )
    assert printed == "[]\n"


def test_a_summarizer_without_redaction_returns_the_same_summaries_of_tensors() -> None:
    array = np.zeros(3)
    assert Summarizer(redactor=Redactor(enabled=False)).summarize(array) == SUMMARIZER.summarize(array)
