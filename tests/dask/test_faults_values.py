"""Arguments and results of every odd kind: they pass unchanged, and each task has its records."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import os
import pathlib
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import flowprov
from flowprov import guard
from tests.dask import fault_steps as steps
from tests.dask.support import PATIENCE, rows, statuses


class _Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class _Point:
    x: float
    y: Any = None


class _Rude:
    """An object whose methods all raise."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # type: ignore[assignment]

    def __len__(self) -> int:
        raise RuntimeError("no")


def _cycle() -> list[Any]:
    items: list[Any] = [1]
    items.append(items)
    return items


ODD: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "NaN": lambda: float("nan"),
    "an infinity": lambda: -float("inf"),
    "a long integer": lambda: 10**400,
    "a complex number": lambda: 1 + 2j,
    "a decimal": lambda: decimal.Decimal("1.50"),
    "a fraction": lambda: fractions.Fraction(1, 3),
    "bytes": lambda: b"\x00\xff" * 5000,
    "a bytearray": lambda: bytearray(b"abc"),
    "a lone surrogate": lambda: "\ud800 and \x00",
    "a long text": lambda: "x" * 1_000_000,
    "a secret": lambda: {"password": "hunter2", "url": "redis://me:hunter2@host/0"},
    "a mapping with odd keys": lambda: {1: "a", (2, 3): "b", None: "c", "$task": "d"},
    "an empty mapping": dict,
    "sets": lambda: [{1, 2}, frozenset("ab")],
    "a cycle": lambda: _Point(1.0, _cycle()),
    "depth": lambda: [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]],
    "a long list": lambda: list(range(10_000)),
    "numpy's numbers": lambda: [np.float64("nan"), np.int8(3), np.bool_(1), np.datetime64("2026-01-01")],
    "an array": lambda: np.zeros((1000, 100)),
    "an array of objects": lambda: np.array([None, "a", _Point(1.0)], dtype=object),
    "a frame": lambda: pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
    "a series": lambda: pd.Series([1.0, float("nan")]),
    "an enum": lambda: _Color.RED,
    "a dataclass": lambda: _Point(1.0, {"z": _Point(float("nan"))}),
    "a date": lambda: dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc),
    "a path": lambda: pathlib.PurePosixPath("a/b"),
    "an id": lambda: uuid.UUID(int=7),
    "a class": lambda: _Point,
    "a function": lambda: steps.same,
    "a lambda": lambda: lambda number: number + 1,
    "a module": lambda: os,
    "an exception": lambda: ValueError("as a value"),
    "an ellipsis": lambda: ...,
    "a slice": lambda: slice(1, None, 2),
    "a range": lambda: range(10**9),
    "an object that raises": _Rude,
}


class _Exiting:
    """An object whose repr exits the process."""

    def __repr__(self) -> str:
        raise SystemExit(3)


def test_arguments_and_results_of_every_odd_kind_pass_unchanged_and_are_recorded(
    client: Any, buffer: Path
) -> None:
    with flowprov.workflow(dask_client=client):
        futures = {
            name: client.submit(steps.same, make(), key=f"odd {name}", pure=False)
            for name, make in ODD.items()
        }
        for name, future in futures.items():
            assert type(future.result(PATIENCE)) is type(ODD[name]()), name
    recorded = rows(buffer, "same")
    assert statuses(recorded) == ["FINISHED"] * len(ODD)
    assert {str((task.custom_metadata or {})["dask_key"]) for task in recorded} == {
        f"odd {name}" for name in ODD
    }
    assert "hunter2" not in "".join(path.read_text() for path in buffer.rglob("*.jsonl"))
    assert all(errors == {} for errors in client.run(guard.internal_errors).values())


def test_a_value_whose_repr_exits_does_not_end_the_worker(client: Any, buffer: Path) -> None:
    pids = client.run(os.getpid)
    with flowprov.workflow(dask_client=client):
        assert type(client.submit(steps.same, _Exiting()).result(PATIENCE)) is _Exiting
        assert type(client.submit(steps.make, _Exiting).result(PATIENCE)) is _Exiting
        assert client.submit(steps.same, 3).result(PATIENCE) == 3
    assert client.run(os.getpid) == pids
    by_worker = client.run(steps.take_internal_errors).values()
    assert sum((Counter(errors) for errors in by_worker), Counter[str]()) == {}, "it is not asked"
    assert statuses(rows(buffer, "same")) == ["FINISHED", "FINISHED"]
