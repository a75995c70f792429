"""The probe of torch's allocator, on a stand-in for torch and on the real one."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from flowprov.telemetry.gpu.torch_allocator import TorchAllocatorProbe, initialized_backends
from tests.support import run

READING = {
    "allocated_bytes": 100,
    "reserved_bytes": 200,
    "peak_allocated_bytes": 300,
    "peak_reserved_bytes": 400,
}


def _statistics(**peaks: int) -> dict[str, Any]:
    def counter(current: int, peak: int) -> dict[str, Any]:
        return {"all": {"current": current, "peak": peak, "allocated": 0, "freed": 0}, "small_pool": {}}

    return {
        "allocated_bytes": counter(100, 300),
        "reserved_bytes": counter(200, peaks.get("reserved", 400)),
        "num_ooms": 0,
    }


def _backend(*devices: dict[str, Any], initialized: bool = True) -> SimpleNamespace:
    return SimpleNamespace(
        is_initialized=lambda: initialized,
        device_count=lambda: len(devices),
        memory_stats_as_nested_dict=lambda index: devices[index],
    )


def _torch(monkeypatch: pytest.MonkeyPatch, **backends: Any) -> None:
    torch = ModuleType("torch")
    for name, backend in backends.items():
        setattr(torch, name, backend)
    monkeypatch.setitem(sys.modules, "torch", torch)


def test_the_memory_that_torch_holds_is_read_for_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    _torch(monkeypatch, cuda=_backend(_statistics(), _statistics()), xpu=_backend(_statistics()))
    probe = TorchAllocatorProbe()
    assert probe.kind == "torch_allocator"
    assert probe.read() == {"cuda:0": READING, "cuda:1": READING, "xpu:0": READING}
    assert msgspec.json.decode(msgspec.json.encode(probe.read())) == probe.read()
    probe.close()


def test_devices_that_torch_has_not_used_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    _torch(monkeypatch, cuda=_backend(_statistics(reserved=0), _statistics()))
    assert TorchAllocatorProbe().read() == {"cuda:1": READING}


def test_a_backend_that_was_not_started_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    # A call to anything but is_initialized would raise.
    _torch(monkeypatch, cuda=SimpleNamespace(is_initialized=lambda: False))
    assert TorchAllocatorProbe().read() == {}
    assert list(initialized_backends()) == []


@pytest.mark.parametrize("cuda", [None, SimpleNamespace()])
def test_nothing_is_read_while_torch_is_being_imported(monkeypatch: pytest.MonkeyPatch, cuda: Any) -> None:
    _torch(monkeypatch, cuda=cuda)
    assert TorchAllocatorProbe().read() == {}
    _torch(monkeypatch)
    assert TorchAllocatorProbe().read() == {}


def test_if_the_statistics_lack_a_counter_the_others_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = _statistics()
    del statistics["allocated_bytes"]
    _torch(monkeypatch, cuda=_backend(statistics))
    reading = TorchAllocatorProbe().read()["cuda:0"]
    assert reading == {name: value for name, value in READING.items() if "allocated" not in name}


def test_the_probe_does_not_import_torch(tmp_path: Path) -> None:
    run(
        "import sys; from flowprov.telemetry.gpu.torch_allocator import TorchAllocatorProbe; "
        "assert TorchAllocatorProbe().read() == {}; assert 'torch' not in sys.modules",
        tmp_path,
    )


def test_the_probe_does_not_start_cuda_in_the_real_torch() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_initialized():
        pytest.skip("CUDA was started already")
    assert TorchAllocatorProbe().read() == {}
    assert not torch.cuda.is_initialized()
