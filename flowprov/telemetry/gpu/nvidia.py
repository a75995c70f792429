"""The probe of NVIDIA's GPUs, by NVML (``pip install "flowprov[nvidia]"``).

Flows in: what NVML, the driver's library, returns. Flows out: a reading of each device that the program sees,
under the number that torch uses: "0" is ``cuda:0``. ``visible_devices`` says when the two may differ.

Import this module in the thread that starts flowprov. If the program forks before a background thread has
finished the import, the child holds the lock of the import forever.

An instance of a divided GPU (MIG) has memory of its own. Power, energy and temperature are those of the whole
GPU, which its instances share, and are under "parent". NVML has no utilization of divided GPUs (NVML API
Reference, nvmlDeviceGetUtilizationRates).
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import pynvml

from flowprov import guard
from flowprov.telemetry.gpu.base import DeviceProbe, ErrorKind, Metric, MonitoredDevice
from flowprov.telemetry.gpu.visible_devices import (
    Device,
    Instance,
    VisibleDevice,
    names_by_number,
    visible_devices,
)

_FIRST_DRIVER_WITH_MANY_INSTANCES = 570  # MIG User Guide, "CUDA Device Enumeration"


class NvidiaProbe(DeviceProbe):
    """Reads NVIDIA's GPUs.

    Each reading has ``name``, ``uuid``, ``memory_total_bytes``, ``utilization_percent`` (share of the last
    sample period in which a kernel ran), ``memory_utilization_percent`` (share in which memory was read or
    written), ``memory_used_bytes`` (by all programs), ``temperature_c``, ``power_w`` and ``energy_j``, a
    counter that only grows since the driver was loaded. Values that a device does not have are left out. A
    lost device has ``lost: true``.
    """

    vendor = "NVIDIA"

    def _read_environment(self) -> tuple[str | None, ...]:
        return (os.environ.get("CUDA_VISIBLE_DEVICES"),)

    def _open_library(self) -> None:
        pynvml.nvmlInit()

    def _close_library(self) -> None:
        pynvml.nvmlShutdown()

    def _classify_error(self, error: Exception) -> ErrorKind:
        if isinstance(error, (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound)):
            return "unsupported"
        return "refused" if isinstance(error, pynvml.NVMLError_NoPermission) else "failed"

    def _find_devices(self) -> list[MonitoredDevice]:
        (text,) = self._environment
        devices = []
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = self.read_constant(
                "anything", partial(pynvml.nvmlDeviceGetHandleByIndex, index), str(index)
            )
            if handle is not None:
                devices.append(self._device(index, handle))
        self._warn_device_order(text, devices)
        visible = visible_devices(text, devices, single_instance=self._shows_single_instance())
        return [self._monitored_device(str(number), device) for number, device in enumerate(visible)]

    def _find_handle(self, device: MonitoredDevice) -> Any:
        uuid = device.constants.get("uuid")
        if uuid is None:
            return device.handle
        try:
            return pynvml.nvmlDeviceGetHandleByUUID(uuid)
        except pynvml.NVMLError_Uninitialized:  # the program has shut NVML down once more than it started it
            self._open_library()
            self._open_count += 1
            return pynvml.nvmlDeviceGetHandleByUUID(uuid)

    def _versions(self) -> dict[str, Any]:
        cuda = self.read_constant(
            "the version of CUDA", pynvml.nvmlSystemGetCudaDriverVersion_v2, self.vendor
        )
        versions = {
            "driver_version": self._driver_version(),
            "cuda_driver_version": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        }
        return {name: value for name, value in versions.items() if value is not None}

    def _device(self, index: int, handle: Any) -> Device:
        label = str(index)
        uuid = self.read_constant("uuid", partial(pynvml.nvmlDeviceGetUUID, handle), label)
        return Device(index, uuid or "", instances=self._instances(handle, label), handle=handle)

    def _instances(self, handle: Any, label: str) -> tuple[Instance, ...] | None:
        """Return the MIG instances of a device; None if MIG is off or the device does not have it."""
        mode = self.read_constant("the mode of MIG", partial(pynvml.nvmlDeviceGetMigMode, handle), label)
        if mode is None or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
            return None
        count = self.read_constant(
            "MIG devices", partial(pynvml.nvmlDeviceGetMaxMigDeviceCount, handle), label
        )
        instances = [_instance(handle, number) for number in range(count or 0)]
        return tuple(instance for instance in instances if instance is not None)

    def _monitored_device(self, key: str, visible: VisibleDevice) -> MonitoredDevice:
        whole, instance = visible.device, visible.instance
        if instance is None:
            return MonitoredDevice(
                key, whole.handle, self._constants(key, whole.handle, whole.uuid), _METRICS
            )
        names = self._names(key, whole.handle, whole.uuid)
        parent = MonitoredDevice(f"{key} parent", whole.handle, names, _PARENT_METRICS)
        constants = self._constants(key, instance.handle, instance.uuid)
        return MonitoredDevice(key, instance.handle, constants, _INSTANCE_METRICS, parent=parent)

    def _names(self, key: str, handle: Any, uuid: str) -> dict[str, Any]:
        name = self.read_constant("name", partial(pynvml.nvmlDeviceGetName, handle), key)
        return {field: value for field, value in (("name", name), ("uuid", uuid)) if value}

    def _constants(self, key: str, handle: Any, uuid: str) -> dict[str, Any]:
        names = self._names(key, handle, uuid)
        total = self.read_constant("memory_total_bytes", lambda: _memory(handle).total, key)
        return names if total is None else {**names, "memory_total_bytes": total}

    def _driver_version(self) -> str | None:
        version = self.read_constant(
            "the version of the driver", pynvml.nvmlSystemGetDriverVersion, self.vendor
        )
        return None if version is None else str(version)

    def _shows_single_instance(self) -> bool:
        major = (self._driver_version() or "").partition(".")[0]
        return major.isdigit() and int(major) < _FIRST_DRIVER_WITH_MANY_INSTANCES

    def _warn_device_order(self, text: str | None, devices: list[Device]) -> None:
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
                "This machine has GPUs of several kinds. flowprov numbers them in the order of the driver; "
                "CUDA may use another order. With CUDA_DEVICE_ORDER=PCI_BUS_ID the numbers are the same. "
                "Each reading has its device's name and UUID.",
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
    except pynvml.NVMLError:  # there is no instance with this number, or this program may not use it
        return None


def _memory(handle: Any) -> Any:
    """Return the memory as nvidia-smi shows it: what the driver reserves for itself is not used memory."""
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
    except (AttributeError, pynvml.NVMLError_FunctionNotFound):  # an older package or driver
        return (pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),)


def _power(handle: Any) -> tuple[float | None, ...]:
    return (pynvml.nvmlDeviceGetPowerUsage(handle) / 1000,)


def _energy(handle: Any) -> tuple[float | None, ...]:
    return (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000,)


_INSTANCE_METRICS = (Metric(("memory_used_bytes",), lambda handle: (_memory(handle).used,)),)
_PARENT_METRICS = (
    Metric(("utilization_percent", "memory_utilization_percent"), _utilization),
    Metric(("temperature_c",), _temperature),
    Metric(("power_w",), _power),
    Metric(("energy_j",), _energy),
)
_METRICS = (*_PARENT_METRICS, *_INSTANCE_METRICS)
