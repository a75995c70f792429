"""The values of one record have a budget of bytes and of time, wherever it is spent."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowprov
from flowprov.runtime import runtime
from flowprov.values import Limits, Summarizer, bytes_spent
from flowprov.values.budget import Budget, Spent, TimedJSON
from tests.values.support import SUMMARIZER

MAX_BYTES = Limits().max_bytes
TABLE = {f"row_{row}": {f"column_{column}": "x" * 50 for column in range(100)} for row in range(1_000)}
BIG: dict[str, Callable[[], dict[str, Any]]] = {
    "table": lambda: TABLE,
    "table one level deeper": lambda: {f"page_{page}": TABLE for page in range(20)},
    "text beyond ascii": lambda: {f"line_{line}": "日" * 1_000 for line in range(500)},
    "control characters": lambda: {f"line_{line}": "\x01" * 1_000 for line in range(500)},
    "many tensors": lambda: {f"array_{number}": np.zeros(tuple([1] * 30)) for number in range(900)},
    "huge scalar": lambda: {"void": np.void(bytes(10_000_000)), "texts": ["x" * 1_000] * 1_000},
    "encoded before": lambda: {"raw": msgspec.Raw(b'"%b"' % (b"x" * 1_000_000)), "list": [1, 2]},
}


def _lines(buffer: Path, kind: bytes) -> list[bytes]:
    runtime.shutdown()
    return [
        line
        for path in buffer.rglob("*.jsonl")
        for line in path.read_bytes().replace(b"\0", b"").splitlines()
        if kind in line
    ]


@pytest.mark.parametrize("name", BIG)
def test_the_record_of_a_task_keeps_within_its_budget(buffer: Path, name: str) -> None:
    @flowprov.task(tags=["kept"])
    def step(data: Any, lr: float) -> Any:
        task: Any = flowprov.current_task()
        task.custom_metadata.update(BIG[name]())
        return data

    with flowprov.workflow("w"):
        step(BIG[name](), lr=0.1)
    (row,) = (row for row in flowprov.read_buffer(str(buffer), return_df=False) if row["type"] == "task")
    assert row["used"]["lr"] == 0.1
    assert row["tags"] == ["kept"]
    for line in _lines(buffer, b'"activity_id":"step"'):
        assert len(line) < MAX_BYTES + 2_000
    assert "$budget" in row["generated"] or "$cut" in str(row["generated"]) or name == "many tensors"


def test_the_row_says_that_the_budget_cut_it() -> None:
    form = msgspec.json.decode(SUMMARIZER.encode_mapping({"lr": 0.1, "table": TABLE}))
    assert form["$budget"] == "bytes"
    assert form["lr"] == 0.1
    assert form["table"]["$cut"] == 1_000
    assert "$budget" not in msgspec.json.decode(SUMMARIZER.encode_mapping({"table": TABLE["row_0"]}))


def test_a_large_value_costs_none_of_the_small_ones_around_it() -> None:
    small = {"lr": 0.1, "layers": [64, 64], "name": "x" * 900, "config": {"a": {"b": [1, 2]}}}
    named = {"first": TABLE, **small, "last": TABLE}
    form = msgspec.json.decode(SUMMARIZER.encode_mapping(named))
    assert {key: form[key] for key in small} == small
    assert list(form) == [*named, "$budget"]
    assert len(form["first"]) > 2
    assert len(form["last"]) > 2


def test_a_key_of_the_program_is_no_mark_of_a_budget() -> None:
    assert msgspec.json.decode(SUMMARIZER.encode_mapping({"$budget": "mine"})) == {"$$budget": "mine"}


@given(st.lists(st.integers(0, 200_000), min_size=1, max_size=5))
def test_the_parts_of_a_record_together_never_exceed_it(sizes: list[int]) -> None:
    limits = Limits()
    used = min(sizes[0], limits.allowance())
    generated = min(sizes[-1], limits.allowance(used))
    metadata = min(sizes[0], limits.allowance(used + generated))
    assert used + generated + metadata <= limits.max_bytes


def test_what_a_task_generated_has_the_less_time_the_more_was_spent_on_what_it_used() -> None:
    used = b'{"x":{"$str":"","length":1000},"$budget":"time"}'
    assert bytes_spent(used) > Limits().max_bytes
    assert bytes_spent(b'{"lr":0.1}') == 10
    assert bytes_spent(None) == 0
    limits = Limits(max_seconds=0.001)
    assert limits.after(bytes_spent(used)).max_seconds == limits.after(49_152).max_seconds == 0.00025
    assert limits.after(24_576).max_seconds == 0.0005
    assert limits.after(10) is limits
    assert Limits().after(bytes_spent(used)).max_seconds is None


@pytest.mark.parametrize("count", [1, 7, 8, 9, 40, 100, 101, 999])
@pytest.mark.parametrize("text", ["x" * 1_000, "\x01" * 1_000, "日" * 333, '"' * 70])
def test_a_mapping_of_texts_keeps_within_the_budget(count: int, text: str) -> None:
    for _ in range(2):  # the second time the names are known
        encoded = SUMMARIZER.encode_mapping({f"{'n' * 150}_{number}": text for number in range(count)})
        assert len(encoded) <= Limits().allowance()
    small = Summarizer(Limits(max_bytes=4_096))
    for _ in range(2):
        encoded = small.encode_mapping({f"name_{number}": text for number in range(count)})
        assert len(encoded) <= Limits(max_bytes=4_096).allowance()


def test_arguments_that_are_all_scalars_keep_within_a_small_budget(buffer: Path) -> None:
    flowprov.configure(journal={"path": str(buffer)}, values={"max_bytes": 4_096})
    names = [f"name_{number}" for number in range(20)]
    namespace: dict[str, Any] = {}
    exec(f"def step({', '.join(names)}): return 1", namespace)  # noqa: S102 - a function of many parameters
    step = flowprov.task(namespace["step"])
    with flowprov.workflow("w"):
        step(*["\x01" * 900] * 20)
        step(*range(20))
    large, small = (
        row for row in flowprov.read_buffer(str(buffer), return_df=False) if row["type"] == "task"
    )
    assert small["used"] == dict(zip(names, range(20), strict=True))
    assert set(large["used"]) - {"$cut", "$budget"} <= set(names)
    assert all(len(line) < 5_000 for line in _lines(buffer, b'"activity_id":"step"'))


# -- time --------------------------------------------------------------------------------------------------


def test_what_is_not_read_in_time_is_cut_with_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(step=400_000)
    monkeypatch.setattr("flowprov.values.budget.thread_time_ns", lambda: next(ticks))
    form = msgspec.json.decode(Summarizer(Limits(max_seconds=0.001)).encode_mapping({"lr": 0.1, "t": TABLE}))
    assert form["$budget"] == "time"
    assert form["lr"] == 0.1
    assert 1 < len(form["t"]) < 50
    assert form["t"]["$cut"] == 1_000


def test_small_values_never_look_at_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden() -> int:
        raise AssertionError("the clock was read")

    monkeypatch.setattr("flowprov.values.budget.thread_time_ns", forbidden)
    summarizer = Summarizer(Limits(max_seconds=0.001))
    named = {"x": np.zeros(3), "config": {"lr": 0.1, "layers": [64, 64]}, "names": ["a", "b"], "n": None}
    assert "read_error" not in str(summarizer.encode_mapping(named))


def test_a_thread_that_waits_for_a_processor_loses_nothing() -> None:
    done = threading.Event()
    threads = [threading.Thread(target=_spin, args=(done,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        named = {f"group_{group}": dict.fromkeys(map(str, range(20)), group) for group in range(50)}
        encoded = Summarizer(Limits(max_seconds=0.2)).encode_mapping(named)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert msgspec.json.decode(encoded) == named


def _spin(done: threading.Event) -> None:
    while not done.is_set():
        sum(range(1_000))


def test_objects_that_are_asked_are_no_longer_asked_when_time_is_over() -> None:
    asked = []

    class Slow:
        def __repr__(self) -> str:
            asked.append(1)
            start = time.thread_time()
            while time.thread_time() - start < 0.02:
                pass
            return "slow"

    summarizer = Summarizer(Limits(max_seconds=0.01, object_reprs=True))
    form = msgspec.json.decode(summarizer.encode_mapping({"objects": [Slow() for _ in range(50)]}))
    assert len(asked) <= 2
    assert form["objects"][-1] == {"$cut": 50}
    assert form["$budget"] == "time"


# -- time, of what is encoded after something slow ---------------------------------------------------------

HURRIED = Summarizer(Limits(max_seconds=0.0004))
ADDRESSES = "http://u:p@h/ " * 200


@pytest.fixture
def steady_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a microsecond pass between two looks at the clock, whatever the machine does."""
    ticks = itertools.count(step=1_000)
    for module in ("budget", "summarizer"):
        monkeypatch.setattr(f"flowprov.values.{module}.thread_time_ns", lambda: next(ticks))


def _after(part: float, encoded: int = 1_000) -> Spent:
    """Return what a part of a record spent that took so large a part of the time for what was used."""
    spent = Spent(encoded)
    spent.part = part
    return spent


def test_what_took_long_counts_by_the_clock_however_few_bytes_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count(step=150_000)
    monkeypatch.setattr("flowprov.values.budget.thread_time_ns", lambda: next(ticks))
    used = HURRIED.encode_mapping({"text": ADDRESSES})
    assert type(used) is TimedJSON
    spent = bytes_spent(used)
    assert spent == len(used) < 1_200
    assert type(spent) is Spent
    assert spent.part >= 0.375
    limits = Limits(max_seconds=0.0004)
    assert limits.allowance(spent) == limits.allowance(len(used))  # it takes none of the bytes
    assert limits.after(spent).max_seconds == pytest.approx(0.0004 * (1 - spent.part))
    assert limits.after(spent + 100_000).max_seconds == 0.0001  # bytes that are added do not hide it
    assert limits.after(_after(0.1)) is limits


@pytest.mark.usefixtures("steady_clock")
def test_what_took_little_is_no_different() -> None:
    for named in ({"lr": 0.1}, {"x": np.zeros(3)}, {"config": {"lr": 0.1, "layers": [64, 64]}}):
        assert type(HURRIED.encode_mapping(named)) is bytes


@pytest.mark.usefixtures("steady_clock")
@pytest.mark.parametrize("part", [0.5, 1.0, 2.5])
def test_small_values_are_kept_whole_after_something_slow(part: float) -> None:
    small = {
        "loss": 0.25,
        "epochs": 3,
        "losses": [0.5, 0.25, 0.125],
        "best": {"epoch": 2, "metrics": {"accuracy": 0.9, "f1": 0.8}, "path": "models/best.pt"},
        "note": "it converged, after the third epoch: " + "x" * 100,
        "done": True,
    }
    assert msgspec.json.decode(HURRIED.encode_mapping(small, _after(part))) == small
    history = {f"loss_{step}": step / 7 for step in range(300)}
    named = {"weights": np.zeros((3, 4)), **history, "last": dict(list(history.items())[-10:])}
    assert HURRIED.encode_mapping(named, _after(part)) == SUMMARIZER.encode_mapping(named)


@pytest.mark.usefixtures("steady_clock")
def test_what_the_clock_cannot_stop_is_not_begun_after_something_slow() -> None:
    slow = {"text": ADDRESSES, "names": set(map(str, range(1_000))), "data": bytes(200_000)}
    form = msgspec.json.decode(HURRIED.encode_mapping(slow, _after(1.5)))
    cut = {"$str": "", "length": len(ADDRESSES)}
    assert form == {"text": cut, "names": {"$cut": 1_000}, "data": {"$bytes": 200_000}, "$budget": "time"}
    for name, value in slow.items():  # each alone is read if little was spent
        assert "$budget" not in msgspec.json.decode(SUMMARIZER.encode_mapping({name: value}, _after(0.2)))


@pytest.mark.usefixtures("steady_clock")
def test_many_arrays_are_kept_after_something_slow() -> None:
    named = {f"layer_{number}": np.zeros((number, 2)) for number in range(200)}
    assert HURRIED.encode_mapping(named, _after(2.5)) == SUMMARIZER.encode_mapping(named)


@pytest.mark.usefixtures("steady_clock")
def test_a_data_frame_keeps_its_shape_after_something_slow() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    form = msgspec.json.decode(HURRIED.encode_mapping({"frame": frame}, _after(1.5)))
    assert form["$budget"] == "time"
    assert form["frame"]["shape"] == [2, 2]
    assert "columns" not in form["frame"]


def test_of_many_values_scalars_and_arrays_are_kept_when_time_is_over() -> None:
    none_left = Summarizer(Limits(max_seconds=0.0))
    tables = {f"table_{number}": TABLE for number in range(150)}
    small = {
        "lr": 0.1,
        "n": 3,
        "none": None,
        "name": "x" * 500,
        "x": np.zeros(3),
        "url": "http://u:hunter2@h/",
    }
    form = msgspec.json.decode(none_left.encode_mapping({**tables, "texts": "y" * 2_000, **small}))
    described = msgspec.json.decode(SUMMARIZER.encode_mapping({"x": np.zeros(3)}))
    kept = {name: value for name, value in form.items() if not name.startswith("table_")}
    expected = {**small, **described, "$cut": 157, "$budget": "time"}
    del expected["url"]  # it may not be kept as it is
    assert kept == expected
    assert b"hunter2" not in none_left.encode_mapping({**tables, "password": "hunter2hunter2"})


def test_a_budget_says_what_is_over() -> None:
    budget = Budget(Limits(max_seconds=None), 100)
    budget.spend(50)
    assert [budget.over, budget.cut_by] == [None, None]
    budget.spend(60)
    assert [budget.over, budget.cut_by] == ["bytes", "bytes"]
    budget.next_value(100)
    assert [budget.over, budget.cut_by] == [None, "bytes"]
