"""Kinds of values of packages that are installed: the second part of the table in `kinds`."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

from tests.values import hostile

_MAKERS: dict[str, Callable[[], dict[str, Callable[[], Any]]]] = {}


def _of(*packages: str) -> Callable[[Any], Any]:
    """Register kinds that need these packages."""

    def register(make: Callable[[], dict[str, Callable[[], Any]]]) -> Any:
        if all(importlib.util.find_spec(package) is not None for package in packages):
            _MAKERS[packages[0]] = make
        return make

    return register


class _Wrapped:
    """What a proxy stands for: its methods are foreign code."""

    __repr__ = __str__ = __len__ = __iter__ = __getitem__ = hostile.spy("what a proxy stands for")


def _filled_with(array: Any) -> Any:
    array[0] = _Wrapped()
    return array


@_of("numpy")
def _numpy() -> dict[str, Callable[[], Any]]:
    import numpy as np

    class Subclass(np.ndarray[Any, Any]):
        """An array whose properties are foreign code."""

        shape = property(hostile.spy("shape"))
        dtype = property(hostile.spy("dtype"))

    fields = [(f"field_{number}", "f8") for number in range(5_000)]
    return {
        "array": lambda: np.zeros((1_000, 1_000)),
        "array without dimension": lambda: np.array(0.5),
        "arrays": lambda: [np.zeros(3)] * 1_000,
        "array of objects": lambda: _filled_with(np.empty(1, dtype=object)),
        "array of a foreign class": lambda: np.zeros(3).view(Subclass),
        "masked array": lambda: np.ma.masked_array(np.zeros(1_000_000)),
        "matrix": lambda: np.zeros((3, 3)).view(np.matrix),
        "scalar": lambda: np.float32(0.5),
        "scalars": lambda: [np.float32(0.5)] * 1_000,
        "long double": lambda: np.longdouble("0.5"),
        "huge void": lambda: np.void(bytes(50_000_000)),
        "void of 5,000 fields": lambda: np.zeros((), fields)[()],
        "huge text": lambda: np.str_("x" * 5_000_000),
        "huge bytes": lambda: np.bytes_(bytes(5_000_000)),
        "datetime": lambda: np.datetime64("2024-01-02"),
        "dtype": lambda: np.dtype("float32"),
        "dtype of 5,000 fields": lambda: np.dtype(fields),
        "array of 5,000 fields": lambda: np.zeros(3, fields),
        "generator": lambda: np.random.default_rng(0),
        "function": lambda: np.add,
        "file": lambda: np.lib.npyio.NpzFile.__new__(np.lib.npyio.NpzFile),
    }


@_of("torch")
def _torch() -> dict[str, Callable[[], Any]]:
    import torch

    net = torch.nn.Sequential(*(torch.nn.Linear(4, 4) for _ in range(100)))
    return {
        "tensor": lambda: torch.ones(2, 3),
        "tensors": lambda: [torch.ones(3)] * 1_000,
        "named tensors": lambda: dict(net.state_dict()),
        "parameter": lambda: torch.nn.Parameter(torch.ones(2)),
        "module": lambda: net,
        "optimizer": lambda: torch.optim.SGD(net.parameters()),
        "state of an optimizer": lambda: torch.optim.SGD(net.parameters()).state_dict(),
        "loader": lambda: torch.utils.data.DataLoader(range(1_000)),  # type: ignore[arg-type]
        "dtype": lambda: torch.float32,
        "device": lambda: torch.device("cpu"),
        "size": lambda: torch.Size([1, 2]),
        "generator": torch.Generator,
        "distribution": lambda: torch.distributions.Normal(torch.ones(()), 1),
        "sparse": lambda: torch.eye(2).to_sparse(),
    }


@_of("pandas")
def _pandas() -> dict[str, Callable[[], Any]]:
    import numpy as np
    import pandas as pd

    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    return {
        "frame": lambda: frame,
        "wide frame": lambda: pd.DataFrame(np.zeros((1, 20_000))),
        "frames": lambda: [frame] * 100,
        "series": lambda: frame["a"],
        "index": lambda: pd.RangeIndex(1_000_000),
        "index of levels": lambda: pd.MultiIndex.from_product([range(300), range(300)]),
        "timestamp": lambda: pd.Timestamp("2024-01-02"),
        "duration": lambda: pd.Timedelta(1),
        "no time": lambda: pd.NaT,
        "no value": lambda: pd.NA,
        "categories": lambda: pd.Categorical(["x"] * 1_000),
        "groups": lambda: frame.groupby("a"),
        "interval": lambda: pd.Interval(0, 1),
        "period": lambda: pd.Period("2024-01"),
        "dtype": lambda: pd.CategoricalDtype([str(number) for number in range(10_000)]),
    }


@_of("xarray")
def _xarray() -> dict[str, Callable[[], Any]]:
    import numpy as np
    import xarray as xr

    data = xr.DataArray(np.zeros((3, 3)), dims=("x", "y"))
    return {
        "array": lambda: data,
        "dataset": lambda: xr.Dataset({f"v{number}": data for number in range(50)}),
    }


@_of("sympy")
def _sympy() -> dict[str, Callable[[], Any]]:
    sympy: Any = import_module("sympy")
    x = sympy.Symbol("x")
    return {
        "symbol": lambda: x,
        "expression": lambda: sum((x + number) ** number for number in range(1, 200)),
        "integer": lambda: sympy.Integer(3),
    }


@_of("sklearn")
def _sklearn() -> dict[str, Callable[[], Any]]:
    estimator: Any = import_module("sklearn.linear_model").LogisticRegression
    search: Any = import_module("sklearn.model_selection").GridSearchCV
    return {
        "search": lambda: search(estimator(), {"C": [0.1] * 1_000}),
        "estimator": estimator,
    }


@_of("dask", "distributed")
def _dask() -> dict[str, Callable[[], Any]]:
    dask: Any = import_module("dask")
    bag: Any = import_module("dask.bag")
    array: Any = import_module("dask.array")
    return {
        "delayed": dask.delayed(hostile.spy("compute")),
        "array": lambda: array.zeros((10_000, 10_000), chunks=(100, 100)),
        "bag": lambda: bag.from_sequence(range(1_000)),
    }


@_of("sqlalchemy")
def _sqlalchemy() -> dict[str, Callable[[], Any]]:
    import sqlalchemy as sa

    table = sa.Table("t", sa.MetaData(), sa.Column("a", sa.Integer))
    return {
        "statement": lambda: sa.select(table),
        "engine": lambda: sa.create_engine("sqlite://"),
        "address": lambda: sa.make_url("postgresql://u:password@h/d"),
    }


@_of("omegaconf")
def _omegaconf() -> dict[str, Callable[[], Any]]:
    from omegaconf import OmegaConf

    return {
        "configuration": lambda: OmegaConf.create({"lr": 0.1, "copy": "${lr}", "missing": "???"}),
        "configuration of 100,000": _large_configuration,
        "configuration of references": lambda: _configuration_of("${lr}/${name}"),
        "configuration of resolvers": lambda: _configuration_of("${oc.decode:${lr}}"),
        "configuration of what is missing": lambda: _configuration_of("???"),
        "list": lambda: OmegaConf.create([1, {"a": "b"}]),
    }


def _configuration_of(text: str) -> Any:
    from omegaconf import OmegaConf

    entries = {f"key{number}": text for number in range(1_000)}
    return OmegaConf.create({"lr": 0.1, "name": "x", **entries})


def _large_configuration() -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.create(
        {f"group_{group}": dict.fromkeys(map(str, range(100)), 1) for group in range(100)}
    )


@_of("pydantic")
def _pydantic() -> dict[str, Callable[[], Any]]:
    import pydantic

    class Model(pydantic.BaseModel):
        """Has a field that it computes."""

        model_config = pydantic.ConfigDict(extra="allow")
        lr: float = 0.1

        @pydantic.computed_field  # type: ignore[prop-decorator]
        @property
        def computed(self) -> float:
            """Compute."""
            hostile.CALLS.append("computed_field")
            return 1.0

    return {"model": lambda: Model(extra=[1]), "models": lambda: [Model()] * 1_000}  # type: ignore[call-arg]


@_of("attrs")
def _attrs() -> dict[str, Callable[[], Any]]:
    import attrs

    @attrs.define
    class Slotted:
        """Has slots and a property."""

        lr: float = 0.1

        @property
        def computed(self) -> float:
            hostile.CALLS.append("property")
            return 1.0

    return {"class": Slotted}


@_of("transformers", "torch")
def _transformers() -> dict[str, Callable[[], Any]]:
    from transformers import BertConfig, GenerationConfig

    return {
        "configuration": lambda: BertConfig(num_hidden_layers=3),
        "configuration of generation": lambda: GenerationConfig(max_new_tokens=7),  # type: ignore[no-untyped-call]
    }


@_of("networkx")
def _networkx() -> dict[str, Callable[[], Any]]:
    nx: Any = import_module("networkx")
    return {"graph": lambda: nx.complete_graph(100)}


@_of("wrapt")
def _wrapt() -> dict[str, Callable[[], Any]]:
    import wrapt

    return {"proxy": lambda: wrapt.ObjectProxy(_Wrapped())}


@_of("werkzeug")
def _werkzeug() -> dict[str, Callable[[], Any]]:
    proxy: Any = import_module("werkzeug.local").LocalProxy
    return {"proxy": lambda: proxy(hostile.spy("what a proxy stands for"))}


@_of("polars")
def _polars() -> dict[str, Callable[[], Any]]:
    pl: Any = import_module("polars")
    return {
        "frame": lambda: pl.DataFrame({"a": [1, 2]}),
        "wide frame": lambda: pl.DataFrame({f"c{number}": [1] for number in range(20_000)}),
        "lazy frame": lambda: pl.LazyFrame({"a": [1, 2]}),
        "series": lambda: pl.Series([1, 2]),
    }


@_of("h5py")
def _h5py() -> dict[str, Callable[[], Any]]:
    h5py: Any = import_module("h5py")
    file = h5py.File("in memory", "w", driver="core", backing_store=False)
    return {"file": lambda: file, "data set": lambda: file.require_dataset("x", (10,), "f4")}


def kinds_of_packages() -> dict[str, Callable[[], Any]]:
    """Return the kinds of all packages that are installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            f"{package}: {name}": make
            for package, make_kinds in _MAKERS.items()
            for name, make in make_kinds().items()
        }
