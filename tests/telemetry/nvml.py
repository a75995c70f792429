"""A stand-in for NVML: the functions of pynvml that the probe calls, on devices that a test defines.

It raises the exceptions of the real package. ``fail`` makes a function raise, for one device or for all.
"""

# ruff: noqa: D102, N802 - the functions and their names are those of NVML
from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

GIB = 1024**3
UUIDS = (
    "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6",
    "GPU-89aa0b1c-0b21-4d3e-9a55-0d7f6a1e2b3c",
    "GPU-1f00d5e2-77aa-4c0b-8e44-5c6d7e8f9a0b",
)


@dataclass
class Gpu:
    """A device. One with ``instances`` is divided by MIG, and each instance has a ``gpu_instance``."""

    uuid: str
    name: str = "NVIDIA H100 80GB HBM3"
    total: int = 80 * GIB
    used: int = 3 * GIB
    gpu: int = 41
    memory: int = 17
    temperature: int = 33
    milliwatts: int = 119_500
    millijoules: int = 7_000_250
    instances: list[Gpu] | None = None
    gpu_instance: int | None = None
    compute_instance: int = 0
    lost: bool = False


def divided_gpu(uuid: str = UUIDS[0], **fields: Any) -> Gpu:
    """Return a GPU with two GPU instances, the first of which has two compute instances."""
    ids = [(1, 0), (1, 1), (2, 0)]
    instances = [
        Gpu(
            f"MIG-{gi}{ci}c4b2a1-5e3d-5f6a-8b9c-0d1e2f3a4b5c",
            f"{Gpu.name} MIG 1g.10gb",
            total=10 * GIB,
            used=(gi * 10 + ci) * 1024,
            gpu_instance=gi,
            compute_instance=ci,
        )
        for gi, ci in ids
    ]
    return Gpu(uuid, instances=instances, **fields)


@dataclass
class Nvml:
    """The stand-in for the module ``pynvml``; everything except the functions comes from the real module."""

    gpus: list[Gpu]
    driver: str = "580.95.05"
    inits: int = 0
    calls: list[str] = field(default_factory=list)
    errors: dict[tuple[str, str | None], Exception] = field(default_factory=dict)

    def fail(self, function: str, error: Exception | None = None, uuid: str | None = None) -> None:
        """Make a function raise, for the device with this UUID or for all."""
        self.errors[function, uuid] = pynvml.NVMLError_Unknown() if error is None else error

    def __getattr__(self, name: str) -> Any:
        return getattr(pynvml, name)

    def _record_call(self, function: str, gpu: Gpu | None = None) -> None:
        self.calls.append(function)
        for uuid in (None, gpu.uuid if gpu else None):
            if (function, uuid) in self.errors:
                raise self.errors[function, uuid]
        if not self.inits and function != "nvmlInit":
            raise pynvml.NVMLError_Uninitialized
        if gpu is not None and gpu.lost:
            raise pynvml.NVMLError_GpuIsLost

    def _record_call_of_whole_gpu(self, function: str, gpu: Gpu) -> None:
        self._record_call(function, gpu)
        if gpu.gpu_instance is not None:
            raise pynvml.NVMLError_NotSupported

    def nvmlInit(self) -> None:
        self._record_call("nvmlInit")
        self.inits += 1

    def nvmlShutdown(self) -> None:
        self._record_call("nvmlShutdown")
        self.inits -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        self._record_call("nvmlSystemGetDriverVersion")
        return self.driver

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        self._record_call("nvmlSystemGetCudaDriverVersion_v2")
        return 13_000

    def nvmlDeviceGetCount(self) -> int:
        self._record_call("nvmlDeviceGetCount")
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Gpu:
        self._record_call("nvmlDeviceGetHandleByIndex", self.gpus[index])
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Gpu:
        instances = [instance for gpu in self.gpus for instance in gpu.instances or []]
        found = next((gpu for gpu in [*self.gpus, *instances] if gpu.uuid == uuid), None)
        self._record_call("nvmlDeviceGetHandleByUUID", found)
        if found is None:
            raise pynvml.NVMLError_NotFound
        return found

    def nvmlDeviceGetName(self, gpu: Gpu) -> str:
        self._record_call("nvmlDeviceGetName", gpu)
        return gpu.name

    def nvmlDeviceGetUUID(self, gpu: Gpu) -> str:
        self._record_call("nvmlDeviceGetUUID", gpu)
        return gpu.uuid

    def nvmlDeviceGetMigMode(self, gpu: Gpu) -> list[int]:
        self._record_call("nvmlDeviceGetMigMode", gpu)
        if gpu.instances is None:
            raise pynvml.NVMLError_NotSupported
        return [pynvml.NVML_DEVICE_MIG_ENABLE, pynvml.NVML_DEVICE_MIG_ENABLE]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: Gpu) -> int:
        self._record_call("nvmlDeviceGetMaxMigDeviceCount", gpu)
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Gpu, index: int) -> Gpu:
        self._record_call("nvmlDeviceGetMigDeviceHandleByIndex", gpu)
        if index >= len(gpu.instances or []):
            raise pynvml.NVMLError_NotFound
        return (gpu.instances or [])[index]

    def nvmlDeviceGetGpuInstanceId(self, gpu: Gpu) -> int | None:
        self._record_call("nvmlDeviceGetGpuInstanceId", gpu)
        return gpu.gpu_instance

    def nvmlDeviceGetComputeInstanceId(self, gpu: Gpu) -> int:
        self._record_call("nvmlDeviceGetComputeInstanceId", gpu)
        return gpu.compute_instance

    def nvmlDeviceGetMemoryInfo(self, gpu: Gpu, version: int | None = None) -> SimpleNamespace:
        self._record_call("nvmlDeviceGetMemoryInfo", gpu)
        self._record_call("nvmlDeviceGetMemoryInfo_v2" if version else "nvmlDeviceGetMemoryInfo_v1", gpu)
        if gpu.instances is not None:  # only administrators may read the sum over all instances
            raise pynvml.NVMLError_NoPermission
        reserved = 0 if version else GIB
        return SimpleNamespace(total=gpu.total, used=gpu.used + reserved)

    def nvmlDeviceGetUtilizationRates(self, gpu: Gpu) -> SimpleNamespace:
        self._record_call_of_whole_gpu("nvmlDeviceGetUtilizationRates", gpu)
        if gpu.instances is not None:
            raise pynvml.NVMLError_NotSupported
        return SimpleNamespace(gpu=gpu.gpu, memory=gpu.memory)

    def nvmlDeviceGetTemperatureV(self, gpu: Gpu, sensor: int) -> int:
        self._record_call_of_whole_gpu("nvmlDeviceGetTemperatureV", gpu)
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return gpu.temperature

    def nvmlDeviceGetTemperature(self, gpu: Gpu, sensor: int) -> int:
        self._record_call_of_whole_gpu("nvmlDeviceGetTemperature", gpu)
        assert sensor == pynvml.NVML_TEMPERATURE_GPU
        return gpu.temperature

    def nvmlDeviceGetPowerUsage(self, gpu: Gpu) -> int:
        self._record_call_of_whole_gpu("nvmlDeviceGetPowerUsage", gpu)
        return gpu.milliwatts

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu: Gpu) -> int:
        self._record_call_of_whole_gpu("nvmlDeviceGetTotalEnergyConsumption", gpu)
        return gpu.millijoules
