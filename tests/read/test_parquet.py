"""A table can be written to Parquet, whatever was recorded, and other libraries of Arrow take it."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowprov
from flowprov.read import Buffer, read_buffer
from flowprov.read.frames import COLUMNS, to_frame
from flowprov.records import Sample, Task
from tests.journal.support import NS, header, step, write

pa = pytest.importorskip("pyarrow")

MIXED: dict[str, list[Any]] = {
    "numbers and texts under one name": [{"x": 1}, {"x": "one"}, {"x": None}, {"x": 1.5}, {"x": True}],
    "other shapes of one name": [{"x": [1, "a", None]}, {"x": {"y": 1}}, {"x": []}],
    "nothing in a mapping": [{}, {"x": {}}],
    "numbers beyond 64 bits": [{"x": 2**80}, {"x": -(2**70)}, {"x": 1}],
    "no numbers": [{"x": math.nan}, {"x": -math.inf}],
    "odd names": [{"": 1, "a.b": 2, "$float": 3, "\u5b9e": 4}, {"$cut": 3}],
    "no values at all": [None, None],
    "tensors": [
        {"x": {"type": "torch.Tensor", "shape": [2, 3]}},
        {"x": {"type": "torch.Tensor", "shape": []}},
    ],
}


def written_and_read(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    frame.to_parquet(folder / "rows.parquet")
    return pd.read_parquet(folder / "rows.parquet")


@pytest.mark.parametrize("values", MIXED.values(), ids=MIXED)
def test_mixed_values_are_written_as_json(values: list[Any], tmp_path: Path) -> None:
    frame = to_frame([Task(task_id=str(n), used=value, generated=value) for n, value in enumerate(values)])
    back = written_and_read(frame, tmp_path)
    assert list(back.columns) == list(COLUMNS)
    assert back["task_id"].tolist() == frame["task_id"].tolist()
    for text, value in zip(back["used"], values, strict=True):
        assert (text is None or text != text) if value is None else isinstance(json.loads(text), dict)  # noqa: PLR0124
    assert str(pa.Table.from_pandas(frame).schema.field("used").type) == "string"


def test_what_a_program_recorded_is_written(buffer: Path, tmp_path: Path) -> None:
    @flowprov.task(tags=["a"])
    def step(value: object) -> object:
        return value

    with flowprov.workflow("W", used={"lr": 0.1}):
        for value in (
            1,
            "x",
            None,
            [1, "a"],
            {},
            {"k": object()},
            2**90,
            float("nan"),
            b"bytes",
            {1, 2},
            step,
        ):
            step(value)
        with pytest.raises(TypeError), flowprov.task_scope("fails"):
            raise TypeError("no")
    frame = read_buffer()
    back = written_and_read(frame, tmp_path)
    assert back["status"].tolist() == frame["status"].tolist()
    assert str(back["started_at"].dtype) == "datetime64[ns, UTC]"
    assert back["duration"].tolist() == frame["duration"].tolist()
    assert json.loads(back["used"].iloc[1]) == {"value": 1}
    assert json.loads(back["error"].iloc[-1])["type"] == "TypeError"
    assert json.loads(back["tags"].iloc[1]) == ["a"]


def test_telemetry_is_written(tmp_path: Path) -> None:
    readings: list[dict[str, Any]] = [
        {"cpu": {"percent": 1.0, "per_core": [1.0, 2.0]}, "gpu": {"0": {"uuid": "x", "power_w": None}}},
        {"cpu": {"percent": "unknown", "per_core": []}, "gpu": {}},
        {"cpu": {"percent": 2**70}, "error": {"nested": [{"a": 1}]}},
    ]
    samples = [Sample(at=(n + 1) * NS, values=values) for n, values in enumerate(readings)]
    write(tmp_path / "b", header(), *samples, step(0), step(1, 2, telemetry_at_end={"x": 1}))
    for frame in (Buffer(tmp_path / "b").telemetry(), Buffer(tmp_path / "b").frame()):
        assert len(written_and_read(frame, tmp_path)) == len(frame)


def test_a_real_run_with_telemetry_is_written(tmp_path: Path) -> None:
    flowprov.configure(
        journal={"path": str(tmp_path / "b")},
        telemetry_capture={"cpu": True, "mem": True, "process": True, "disk": True, "mode": "exact"},
    )
    with flowprov.workflow("W"):
        for _ in flowprov.Loop(3):
            pass
    assert len(written_and_read(read_buffer(), tmp_path)) == 4
    written_and_read(Buffer().telemetry(), tmp_path)


def test_files_of_different_runs_have_the_same_columns(tmp_path: Path) -> None:
    frames = [
        to_frame([Task(task_id="a", used=used, tags=tags)])
        for used, tags in ((None, None), ({"x": 1}, ["t"]))
    ]
    first, second = (pa.Table.from_pandas(frame).schema for frame in frames)
    assert [first.field(name).type for name in ("used", "tags")] == [
        second.field(name).type for name in ("used", "tags")
    ]


@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=5),
            st.recursive(
                st.none()
                | st.booleans()
                | st.integers()
                | st.floats()
                | st.text(st.characters(), max_size=5),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
                ),
                max_leaves=6,
            ),
            max_size=3,
        ),
        max_size=4,
    )
)
def test_any_values_are_written(values: list[dict[str, Any]]) -> None:
    frame = to_frame([Task(task_id=str(n), used=value) for n, value in enumerate(values)])
    texts = pa.Table.from_pandas(frame).column("used").to_pylist()
    assert [set(json.loads(text)) for text in texts] == [set(value) for value in values]


def test_derived_columns_and_frames_are_written_too(buffer: Path, tmp_path: Path) -> None:
    with flowprov.workflow("W"):
        for lr in (0.1, "auto", None, [1], {"a": 1}):
            with flowprov.task_scope("train", used={"lr": lr}):
                pass
    frame = read_buffer()
    tasks = frame[frame["type"] == "task"].assign(lr=lambda rows: rows["used"].map(lambda used: used["lr"]))
    back = written_and_read(tasks[["task_id", "used", "lr"]].reset_index(drop=True), tmp_path)
    assert json.loads(back["lr"].iloc[4]) == {"a": 1}
    renamed = written_and_read(frame.rename(columns={"used": "parameters"}), tmp_path)
    assert json.loads(renamed["parameters"].iloc[1]) == {"lr": 0.1}
    frame.to_feather(tmp_path / "rows.feather")


def test_it_is_a_dataframe_in_every_other_respect(buffer: Path) -> None:
    with flowprov.workflow("W"):
        for number in flowprov.Loop(3):
            del number
    frame = read_buffer()
    plain = pickle.loads(pickle.dumps(frame))
    assert type(plain) is pd.DataFrame
    assert type(pickle.loads(pickle.dumps(frame["used"]))) is pd.Series
    pd.testing.assert_frame_equal(pd.DataFrame(frame), plain)
    assert frame.equals(plain)
    assert copy.deepcopy(frame)["used"].iloc[1] == {"i": 0, "item": 0}
    assert frame["used"].dtype == object
    assert frame["used"].str.get("i").tolist()[1:] == [0, 1, 2]  # type: ignore[comparison-overlap]
    assert pd.concat([frame, plain]).shape[0] == 8
    assert frame.groupby("status").size().to_dict() == {"FINISHED": 4}
    assert frame.merge(plain, on="task_id").shape[0] == 4
