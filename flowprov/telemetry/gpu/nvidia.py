"""The probe of NVIDIA's GPUs, by NVML (``pip install "flowprov[nvidia]"``).

Flows in: calls to NVML, the library of the driver. Flows out: a reading for each device that the program
sees, under the number that torch gives it: "0" is ``cuda:0``. ``visible_devices`` says where the two may
differ.

Import this module in the thread that starts flowprov: an import that a background thread has not finished
when the program forks would hold its lock in the child forever.

A device that is an instance of a divided GPU (MIG) has memory of its own; power, energy and temperature are
those of the whole GPU, shared with its other instances, and stand under "parent". NVML has no utilisation of
divided GPUs (NVML API Reference, nvmlDeviceGetUtilizationRates).
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import pynvml

from flowprov import guard
from flowprov.telemetry.gpu.base import DeviceProbe, Metric, MonitoredDevice, Trouble
from flowprov.telemetry.gpu.visible_devices import (
    Device,
    Instance,
    VisibleDevice,
    names_by_number,
    visible_devices,
)

_FIRST_DRIVER_WITH_SEVERAL_INSTANCES = 570  # MIG User Guide, "CUDA Device Enumeration"


class NvidiaProbe(DeviceProbe):
    """Reads NVIDIA's GPUs.

    Each reading has ``name``, ``uuid``, ``memory_total_bytes``, ``utilization_percent`` (share of the last
    sample period in which a kernel ran), ``memory_utilization_percent`` (in which memory was read or
    written), ``memory_used_bytes`` (of all programs), ``temperature_c``, ``power_w`` and ``energy_j``, a
    counter that only grows since the driver was loaded. What a device cannot tell is left out. A lost device
    has ``lost: true``.
    """

    vendor = "NVIDIA"

    def _read_environment(self) -> tuple[str | None, ...]:
        return (os.environ.get("CUDA_VISIBLE_DEVICES"),)

    def _open(self) -> None:
        pynvml.nvmlInit()

    def _shut(self) -> None:
        pynvml.nvmlShutdown()

    def _classify_error(self, error: Exception) -> Trouble:
        if isinstance(error, (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound)):
            return "unsupported"
        return "refused" if isinstance(error, pynvml.NVMLError_NoPermission) else "failed"

    def _find(self) -> list[MonitoredDevice]:
        (text,) = self._environment
        devices = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = self.read_constant(
                "anything", partial(pynvml.nvmlDeviceGetHandleByIndex, index), str(index)
            )
            if handle is not None:
                devices.append(self._device(index, handle))
        self._say_order(text, devices)
        parts = visible_devices(text, devices, single_instance=self._single_instance())
        return [self._watch(str(number), part) for number, part in enumerate(parts)]

    def _find_again(self, device: MonitoredDevice) -> Any:
        uuid = device.constants.get("uuid")
        if uuid is None:
            return device.handle
        try:
            return pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError_Uninitialized:  # the program has shut NVML down, once too often
            self._open()
            self._opened += 1
            return pynvml.nvmlDeviceGetHandleByUUID(uuid)

    def _versions(self) -> dict[str, Any]:
        cuda = self.read_constant(
            "the version of CUDA", pynvml.nvmlSystemGetCudaDriverVersion_v2, self.vendor
        )
        found = {
            "driver_version": self._driver_version(),
            "cuda_driver_version": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        }
        return {name: value for name, value in found.items() if value is not None}

    def _device(self, index: int, handle: Any) -> Device:
        label = str(index)
        uuid = self.read_constant("uuid", partial(pynvml.nvmlDeviceGetUUID, handle), label)
        return Device(index, uuid or "", instances=self._instances(handle, label), handle=handle)

    def _instances(self, handle: Any, label: str) -> tuple[Instance, ...] | None:
        """Give what MIG has made of a device; None where it is off, or the device is of a kind without it."""
        mode = self.read_constant("the mode of MIG", partial(pynvml.nvmlDeviceGetMigMode, handle), label)
        if mode is None or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return None
        count = self.read_constant(
            "MIG devices", partial(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle), label
        )
        found = [_instance(handle, number) for number in range(count or 0)]
        return tuple(instance for instance in found if instance is not None)

    def _watch(self, key: str, part: VisibleDevice) -> MonitoredDevice:
        whole, instance = part.device, part.instance
        if instance is None:
            return MonitoredDevice(
                key, whole.handle, self._constants(key, whole.handle, whole.uuid), _METRICS
            )
        names = self._names(key, whole.handle, whole.uuid)
        parent = MonitoredDevice(f"{key} parent", whole.handle, names, _METRICS_OF_A_PARENT)
        constants = self._constants(key, instance.handle, instance.uuid)
        return MonitoredDevice(key, instance.handle, constants, _METRICS_OF_AN_INSTANCE, parent=parent)

    def _names(self, key: str, handle: Any, uuid: str) -> dict[str, Any]:
        name = self.read_constant("name", partial(pynvml.nvmlDeviceGetName, handle), key)
        return {what: value for what, value in (("name", name), ("uuid", uuid)) if value}

    def _constants(self, key: str, handle: Any, uuid: str) -> dict[str, Any]:
        names = self._names(key, handle, uuid)
        total = self.read_constant("memory_total_bytes", lambda: _memory(handle).total, key)
        return names if total is None else {**names, "memory_total_bytes": total}

    def _driver_version(self) -> str | None:
        version = self.read_constant(
            "the version of the driver", pynvml.nvmlSystemGetDriverVersion, self.vendor
        )
        return None if version is None else str(version)

    def _single_instance(self) -> bool:
        major = (self._driver_version() or "").partition(".")[0]
        return major.isdigit() and int(major) < _FIRST_DRIVER_WITH_SEVERAL_INSTANCES

    def _say_order(self, text: str | None, devices: list[Device]) -> None:
        if (
            not names_by_number(text)
            or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
            or len(devices) == 1
        ):
            return
        names = {str(self._names(str(device.index), device.handle, "")) for device in devices}
        if len(names) > 1:
            guard.warn_once(
                "telemetry gpu order",
                "This machine has GPUs of several kinds, which CUDA may count in another order than "
                "flowprov, which follows the driver. Each reading has its device's name and UUID; with "
                "CUDA_DEVICE_ORDER=PCI_BUS_ID the numbers are the same.",
            )


def _instance(parent: Any, number: int) -> Instance | None:
    try:
        handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, number)
        return Instance(
            pynvml.nvmlDeviceGetUUID(handle),
            pynvml.nvmlDeviceGetGpuInstanceId(handle),
            pynvml.nvmlDeviceGetComputeInstanceId(handle),
            handle,
        )
    except pynvml.NVMLError:  # there are fewer instances than there may be, or this program may not use it
        return None


def _memory(handle: Any) -> Any:
    """Give the memory as nvidia-smi does: what the driver reserves for itself is not "used"."""
    try:
        return pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (
        pynvml.NVMLError_FunctionNotFound,  # a driver before 510
        pynvml.NVMLError_ArgumentVersionMismatch,
        pynvml.NVMLError_NotSupported,
    ):
        return pynvml.nvmlDeviceGetMemoryInfo(handle)


def _utilization(handle: Any) -> tuple[float | None, ...]:
    rates = pynvml.nvmlDeviceGetUtilizationRates(handle)
    return rates.gpu, rates.memory


def _temperature(handle: Any) -> tuple[float | None, ...]:
    try:
        return (pynvml.nvmlDeviceGetTemperatureV(handle, pynvml.NVML_TEMPERATURE_GPU),)
    except (AttributeError, pynvml.NVMLError_FunctionNotFound):  # a package or a driver from before it
        return (pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),)


def _power(handle: Any) -> tuple[float | None, ...]:
    return (pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,)


def _energy(handle: Any) -> tuple[float | None, ...]:
    return (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000,)


_METRICS_OF_AN_INSTANCE = (Metric(("memory_used_bytes",), lambda handle: (_memory(handle).used,)),)
_METRICS_OF_A_PARENT = (
    Metric(("utilization_percent", "memory_utilization_percent"), _utilization),
    Metric(("temperature_c",), _temperature),
    Metric(("power_w",), _power),
    Metric(("energy_j",), _energy),
)
_METRICS = (*_METRICS_OF_A_PARENT, *_METRICS_OF_AN_INSTANCE)
