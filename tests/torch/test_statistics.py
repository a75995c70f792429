"""Statistics of tensors: what they hold, that nothing waits for them, and that they change nothing."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import flowprov
from flowprov import guard, records
from flowprov.capture.torch import async_values, statistics
from flowprov.runtime import runtime
from tests.support import lines, of_type, only
from tests.torch.support import Calls, Plain, Returns, batch, children, forwards

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def buffer(tmp_path: Path) -> Path:
    """A buffer folder, with statistics."""
    folder = tmp_path / "buffer"
    flowprov.configure(journal={"path": str(folder)}, instrumentation={"torch": {"tensor_statistics": True}})
    return folder


class Device:
    """A device whose copies are ready once ``done`` is true."""

    def __init__(self) -> None:
        self.done = False
        self.started = 0

    def start_copy(self, numbers: torch.Tensor) -> tuple[torch.Tensor, Callable[[], bool]]:
        """Copy."""
        self.started += 1
        return numbers.clone(), lambda: self.done


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """A device that statistics take for another device than the CPU."""
    device = Device()
    monkeypatch.setattr(statistics, "is_on_host", lambda _: False)
    monkeypatch.setattr(async_values, "start_copy", device.start_copy)
    return device


def statistics_of(entry: Any) -> dict[str, Any]:
    found = entry["statistics"]
    assert isinstance(found, dict)
    return found


def generated(folder: Path, position: int) -> dict[str, Any]:
    found = forwards(folder)[position].generated
    assert found is not None
    return found


def rows(folder: Path) -> list[dict[str, Any]]:
    return [row for row in flowprov.read_buffer(folder, return_df=False) if row["type"] == "task"]


def corrections(folder: Path) -> list[records.Correction]:
    return of_type(lines(folder), records.Correction)


def test_inputs_and_outputs_have_statistics(buffer: Path) -> None:
    x = torch.tensor([[0.0, 1.0, -2.0, NAN, INF, -INF, 0.0, 5.0]])
    flowprov.torch_capture(torch.nn.Identity())(x)
    forward = only(forwards(buffer))
    expected = {
        "min": -2.0,
        "max": 5.0,
        "mean": 0.8,
        "zero_share": 0.25,
        "nan_count": 1,
        "inf_count": 2,
    }
    assert statistics_of(forward.used["input"]) == statistics_of(forward.generated["output"]) == expected


def test_without_the_setting_there_are_none(tmp_path: Path) -> None:
    flowprov.configure(journal={"path": str(tmp_path / "b")})
    flowprov.torch_capture(torch.nn.Identity())(batch())
    assert "statistics" not in only(forwards(tmp_path / "b")).generated["output"]


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16,
        torch.bfloat16,
        torch.float64,
        torch.complex64,
        torch.complex128,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
    ],
)
def test_every_kind_of_numbers_has_statistics(buffer: Path, dtype: torch.dtype) -> None:
    flowprov.torch_capture(Returns(torch.tensor([0.0, 1.0, 2.0, NAN]).to(dtype)))()
    found = statistics_of(only(forwards(buffer)).generated["output"])
    assert found == {
        "min": 0.0,
        "max": 2.0,
        "mean": 1.0,
        "zero_share": 0.25,
        "nan_count": 1,
        "inf_count": 0,
    }


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2, dtype=torch.int64),
        torch.ones(2, dtype=torch.bool),
        torch.empty(0),
        torch.eye(2).to_sparse(),
        torch.ones(2, device="meta"),
        torch.nested.nested_tensor([torch.ones(2)], layout=torch.jagged),
        FakeTensorMode().from_tensor(torch.ones(2)),
        torch.nn.parameter.UninitializedParameter(),
    ],
    ids=["int", "bool", "empty", "sparse", "meta", "nested", "fake", "uninitialized"],
)
def test_tensors_without_computable_numbers_have_no_statistics(buffer: Path, tensor: Any) -> None:
    assert flowprov.torch_capture(Returns(tensor))() is tensor
    forward = only(forwards(buffer))
    assert forward.status == "FINISHED"
    assert "statistics" not in forward.generated["output"]


def test_where_nothing_is_finite_there_is_no_minimum(buffer: Path) -> None:
    flowprov.torch_capture(Returns(torch.tensor([NAN, INF])))()
    found = statistics_of(only(forwards(buffer)).generated["output"])
    assert found["min"] is found["max"] is found["mean"] is None
    assert (found["nan_count"], found["inf_count"]) == (1, 1)


def test_sums_do_not_overflow(buffer: Path) -> None:
    flowprov.torch_capture(Returns(torch.full((8,), 3e38)))()
    assert statistics_of(only(forwards(buffer)).generated["output"])["mean"] == pytest.approx(3e38)


def test_nested_outputs_and_added_values_keep_their_places(buffer: Path, device: Device) -> None:
    def compute(x: torch.Tensor) -> dict[str, Any]:
        task = flowprov.current_task()
        assert task is not None
        task.set_generated(note="here")
        return {"h": [x, None, (x * 2,)], "n": 3}

    with flowprov.workflow("W"):
        flowprov.torch_capture(Calls(compute))(batch())
        device.done = True
    entries = next(row for row in rows(buffer) if row["activity_id"] == "Calls")["generated"]
    assert statistics_of(entries["h"][0])["max"] == 1.0
    assert statistics_of(entries["h"][2][0])["max"] == 2.0
    assert (entries["h"][1], entries["n"], entries["note"]) == (None, 3, "here")


def test_a_secret_has_no_statistics(buffer: Path) -> None:
    flowprov.torch_capture(Returns({"password": torch.ones(1), "token_embeddings": torch.ones(1)}))()
    entries = only(forwards(buffer)).generated
    assert "statistics" not in entries["password"]
    assert "statistics" in entries["token_embeddings"]


def test_a_forward_that_raises_has_the_statistics_of_its_inputs(buffer: Path) -> None:
    with pytest.raises(ValueError, match="broken"):
        flowprov.torch_capture(Returns(ValueError("broken")))(batch())
    forward = only(forwards(buffer))
    assert (forward.status, forward.generated) == ("ERROR", None)
    assert statistics_of(forward.used["_"][0])["mean"] == 1.0


def test_children_have_statistics_too(buffer: Path) -> None:
    flowprov.torch_capture(Plain(), what="parent_and_children", children_mode="tensor_inspection")(batch())
    entry = only(children(buffer)).generated["output"]
    assert entry["layout"] == "strided"
    assert statistics_of(entry)["nan_count"] == 0


# -- nothing is changed -------------------------------------------------------------------------------------


def test_results_gradients_and_random_numbers_are_the_same(buffer: Path) -> None:
    def train(model: torch.nn.Module) -> list[torch.Tensor]:
        torch.manual_seed(1)
        y: Any = torch.nn.functional.dropout(model(torch.randn(5, 3)))
        y.sum().backward()
        return [y, torch.rand(1), *(each.grad for each in model.parameters() if each.grad is not None)]

    plain, captured = Plain(), Plain()
    captured.load_state_dict(plain.state_dict())
    expected, found = train(plain), train(flowprov.torch_capture(captured, what="parent_and_children"))
    assert len(expected) == 4
    assert all(torch.equal(left, right) for left, right in zip(expected, found, strict=True))


def test_modes_of_the_program_do_not_see_how_statistics_are_computed(buffer: Path) -> None:
    class Dispatch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        seen = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            type(self).seen += 1
            return function(*args, **(kwargs or {}))

    class Function(TorchFunctionMode):
        seen = 0

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            type(self).seen += 1
            return function(*args, **(kwargs or {}))

    counts = []
    for model in (Plain(), flowprov.torch_capture(Plain())):
        Dispatch.seen = Function.seen = 0
        x, dispatch = batch(), Dispatch()  # type: ignore[no-untyped-call]
        model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16), Function(), dispatch:
            y = model(x)
        counts.append((Dispatch.seen, Function.seen))
        assert y.dtype is torch.bfloat16
    assert counts[0] == counts[1]
    assert counts[0][0] > 0
    assert statistics_of(generated(buffer, -1)["output"])["nan_count"] == 0


def test_transforms_of_functions_go_on_as_before(buffer: Path) -> None:
    model = flowprov.torch_capture(torch.nn.Linear(3, 2))
    x = torch.ones(5, 3)
    assert torch.vmap(model)(x).shape == (5, 2)
    assert torch.func.jacrev(model)(x[0]).shape == (2, 3)
    with torch.inference_mode():
        model(x)
    assert "statistics" in generated(buffer, -1)["output"]


def test_nothing_is_kept_alive(buffer: Path, device: Device) -> None:
    model = flowprov.torch_capture(Calls(lambda x: x * 2))
    with flowprov.workflow("W"):
        x = batch().requires_grad_()
        y = model(x)
        gone = [weakref.ref(x), weakref.ref(y)]
        del x, y
        gc.collect()
        assert [each() for each in gone] == [None, None]
        device.done = True


# -- from another device ------------------------------------------------------------------------------------


def test_nothing_is_read_on_another_device() -> None:
    with FakeTensorMode(allow_non_fake_inputs=False):
        x = torch.empty(4, 3, device="cuda", dtype=torch.bfloat16)
        found = statistics.compute_statistics(x)
        with pytest.raises(DataDependentOutputException):
            x.sum().item()
    assert (found.device.type, tuple(found.shape)) == ("cuda", (6,))


def test_statistics_of_another_device_are_written_when_they_are_ready(buffer: Path, device: Device) -> None:
    journal = {"path": str(buffer), "heartbeat": 3600}  # a heartbeat writes what is ready, too
    flowprov.configure(journal=journal, instrumentation={"torch": {"tensor_statistics": True}})
    model = flowprov.torch_capture(Plain())
    with flowprov.workflow("W"):
        model(batch())
        model(batch())
        assert corrections(buffer) == []
        assert "statistics" not in generated(buffer, 0)["output"]
        device.done = True
        model(batch())
        # Those of the third forward are there too, if a thread that maintains a journal came by meanwhile.
        assert 4 <= len(corrections(buffer)) <= 6
    assert len(corrections(buffer)) == device.started == 6
    for row in rows(buffer):
        assert statistics_of(row["used"]["x"])["mean"] == 1.0
        assert statistics_of(row["generated"]["output"])["inf_count"] == 0
        assert row["generated"]["output"]["shape"] == [4, 2]
        assert row["status"] == "FINISHED"


def test_a_heartbeat_writes_statistics_that_are_ready(tmp_path: Path, device: Device) -> None:
    folder = tmp_path / "b"
    torch_settings = {"tensor_statistics": True}
    flowprov.configure(journal={"path": str(folder)}, instrumentation={"torch": torch_settings})
    with flowprov.workflow("W"):
        flowprov.torch_capture(Plain())(batch())
        device.done = True
        for callback in runtime.get().at_heartbeat:
            callback()
        assert len(corrections(folder)) == 2


@pytest.mark.parametrize("around", [flowprov.configured, flowprov.workflow])
def test_a_journal_is_closed_when_the_statistics_are_written(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch, around: Callable[[], Any]
) -> None:
    folder, asked = tmp_path / "b", iter(range(100))
    monkeypatch.setattr(
        async_values, "start_copy", lambda numbers: (numbers.clone(), lambda: next(asked) > 5)
    )
    flowprov.configure(
        journal={"path": str(folder), "heartbeat": 3600}, instrumentation__torch__tensor_statistics=True
    )
    with around():
        flowprov.torch_capture(Plain())(batch())
    flowprov.configure(journal={"path": str(tmp_path / "next")})
    assert len(corrections(folder)) == 2
    assert all(journal.counts()[2] == {} for journal in runtime.get().journals())


def test_statistics_that_are_never_ready_are_dropped_with_a_warning(
    buffer: Path, device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(async_values, "MAX_WAIT_S", 0.01)
    with flowprov.workflow("W"):
        flowprov.torch_capture(Plain())(batch())
    captured, written, dropped = only(runtime.get().journals()).counts()
    assert dropped == {"statistics": 2}
    assert captured == written + 2
    assert "drops statistics of tensors" in caplog.text
    assert only(forwards(buffer)).status == "FINISHED"


def test_the_number_of_pending_copies_is_bounded(
    buffer: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(async_values, "MAX_PENDING", 3)
    model = flowprov.torch_capture(Plain())
    with flowprov.workflow("W"):
        for _ in range(5):
            model(batch())
        device.done = True
    assert only(runtime.get().journals()).counts()[2] == {"statistics": 7}
    assert len(corrections(buffer)) == 3


def test_a_device_that_fails_loses_only_the_statistics(
    buffer: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(numbers: torch.Tensor) -> tuple[torch.Tensor, Callable[[], bool]]:
        def are_there() -> bool:
            raise RuntimeError("device-side assert")

        return numbers, are_there

    monkeypatch.setattr(async_values, "start_copy", broken)
    with flowprov.workflow("W"):
        flowprov.torch_capture(Plain())(batch())
    assert only(forwards(buffer)).status == "FINISHED"
    assert only(runtime.get().journals()).counts()[2] == {"statistics": 2}


def test_statistics_that_cannot_be_computed_name_the_reason(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(statistics, "compute_statistics", broken)
    flowprov.torch_capture(Plain())(batch())
    assert statistics_of(only(forwards(buffer)).generated["output"]) == {"not_computed": "OutOfMemoryError"}
    assert guard.internal_errors() == {}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_leaves_pending_copies_to_its_parent(buffer: Path, device: Device) -> None:
    with flowprov.workflow("W"):
        flowprov.torch_capture(Plain())(batch())
        device.done = True
        if (child := os.fork()) == 0:
            async_values.flush_ready()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert len(corrections(buffer)) in (0, 2)  # 2 if the parent had a heartbeat since
    assert len(corrections(buffer)) == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_statistics_do_not_wait_for_a_gpu(buffer: Path) -> None:
    with flowprov.workflow("W"):
        model = flowprov.torch_capture(Plain().cuda())
        x = batch().cuda()
        model(x)
        torch.cuda.set_sync_debug_mode("error")
        try:
            model(x)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert [statistics_of(row["generated"]["output"])["nan_count"] for row in rows(buffer)] == [0, 0]
