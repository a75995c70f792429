"""The probe of AMD's GPUs, by AMD SMI (``pip install "flowprov[amd]"``, with ROCm on the machine).

Flows in: what AMD SMI, a library of ROCm, returns. Flows out: a reading of each device that the program sees.
Values that mean the same have the names of NVIDIA's readings.

The key of a device is "amd:" and the number that torch uses: "amd:0" is ``cuda:0`` of a torch for ROCm. The
prefix keeps the devices of both vendors apart on a machine that has both.

Importing this module imports amdsmi. Without ROCm, amdsmi raises (``KeyError``, ``OSError``) and prints a
message; ``flowprov.telemetry.gpu.discovery`` handles both.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import amdsmi

from flowprov.telemetry.gpu.base import DeviceProbe, ErrorKind, Metric, MonitoredDevice
from flowprov.telemetry.gpu.visible_devices import Device, VisibleDevice, visible_devices

_UNSUPPORTED = ("AMDSMI_STATUS_NOT_SUPPORTED", "AMDSMI_STATUS_NOT_YET_IMPLEMENTED", "AMDSMI_STATUS_NO_DATA")
_REFUSED = ("AMDSMI_STATUS_NO_PERM",)


class AmdProbe(DeviceProbe):
    """Reads AMD's GPUs.

    Each reading has ``name``, ``uuid``, ``memory_total_bytes``, ``utilization_percent`` (of the graphics
    engine), ``memory_utilization_percent`` (of the memory controller), ``memory_used_bytes`` (of VRAM, by all
    programs), ``temperature_c`` (at the edge, or at the hotspot if there is no sensor at the edge),
    ``power_w`` and ``energy_j``, a counter that only grows. Values that a device does not have are left out.
    A lost device has ``lost: true``.
    """

    vendor = "AMD"

    def _read_environment(self) -> tuple[str | None, ...]:
        hip = os.environ.get("HIP_VISIBLE_DEVICES")
        return (
            os.environ.get("ROCR_VISIBLE_DEVICES"),
            os.environ.get("CUDA_VISIBLE_DEVICES") if hip is None else hip,
        )

    def _open_library(self) -> None:
        amdsmi.amdsmi_init(amdsmi.AmdSmiInitFlags.INIT_AMD_GPUS)

    def _close_library(self) -> None:
        amdsmi.amdsmi_shut_down()

    def _classify_error(self, error: Exception) -> ErrorKind:
        code = getattr(error, "err_code", None)
        if code is None:
            return "failed"
        if code in _status_codes(_UNSUPPORTED):
            return "unsupported"
        return "refused" if code in _status_codes(_REFUSED) else "failed"

    def _find_devices(self) -> list[MonitoredDevice]:
        """Return the devices that the program sees: ROCR chooses some, and HIP some of these.

        See "GPU isolation" in the documentation of ROCm.
        """
        rocr_variable, hip_variable = self._environment
        handles = amdsmi.amdsmi_get_processor_handles()
        listed = [self._device(index, handle) for index, handle in enumerate(handles)]
        devices = self._in_hip_order(listed)
        rocr_devices = [
            replace(visible.device, index=index)
            for index, visible in enumerate(visible_devices(rocr_variable, devices))
        ]
        return [
            self._monitored_device(f"amd:{number}", visible)
            for number, visible in enumerate(visible_devices(hip_variable, rocr_devices))
        ]

    def _find_handle(self, device: MonitoredDevice) -> Any:
        uuid = device.constants.get("uuid")
        if uuid is None:
            return device.handle
        for handle in amdsmi.amdsmi_get_processor_handles():
            if amdsmi.amdsmi_get_gpu_device_uuid(handle) == uuid:
                return handle
        raise LookupError(uuid)

    def _versions(self) -> dict[str, Any]:
        if not self._devices:
            return {}
        handle = self._devices[0].handle
        version = self.read_constant(
            "the version of the driver", lambda: _driver_version(handle), self.vendor
        )
        return {} if version is None else {"driver_version": version}

    def _device(self, index: int, handle: Any) -> Device:
        label = f"amd:{index}"
        uuid = self.read_constant("uuid", lambda: amdsmi.amdsmi_get_gpu_device_uuid(handle), label)
        # HIP knows a device by its serial number.
        serial = self.read_constant(
            "serial number", lambda: amdsmi.amdsmi_get_gpu_asic_info(handle)["asic_serial"], label
        )
        names = [f"GPU-{uuid}" if uuid else None, f"GPU-{serial[2:]}" if _has_value(serial) else None]
        return Device(index, uuid or "", tuple(name for name in names if name), handle=handle)

    def _in_hip_order(self, devices: list[Device]) -> list[Device]:
        """Return devices in the order of HIP, if AMD SMI knows it (ROCm 6.4), else in that of AMD SMI."""
        hip_ids = []
        for device in devices:
            try:
                hip_id = amdsmi.amdsmi_get_gpu_enumeration_info(device.handle)["hip_id"]
            except Exception:  # an older AMD SMI; the two orders are mostly the same
                return devices
            hip_ids.append(hip_id)
        if not all(isinstance(hip_id, int) for hip_id in hip_ids):
            return devices
        pairs = sorted(zip(hip_ids, devices, strict=True), key=lambda pair: pair[0])
        return [replace(device, index=index) for index, (_, device) in enumerate(pairs)]

    def _monitored_device(self, key: str, visible: VisibleDevice) -> MonitoredDevice:
        handle = visible.device.handle
        vram = amdsmi.AmdSmiMemoryType.VRAM
        total = self.read_constant(
            "memory_total_bytes", lambda: amdsmi.amdsmi_get_gpu_memory_total(handle, vram), key
        )
        constants = {
            "name": self.read_constant(
                "name", lambda: amdsmi.amdsmi_get_gpu_asic_info(handle)["market_name"], key
            ),
            "uuid": visible.device.uuid or None,
            "memory_total_bytes": total,
        }
        return MonitoredDevice(
            key, handle, {name: value for name, value in constants.items() if _has_value(value)}, _METRICS
        )


def _status_codes(names: tuple[str, ...]) -> set[int]:
    return {code for name in names if (code := getattr(amdsmi.amdsmi_wrapper, name, None)) is not None}


def _has_value(value: Any) -> bool:
    """Whether AMD SMI returned a value; for most values that are not there it returns "N/A"."""
    return value is not None and value != "N/A"


def _as_number(value: Any) -> float | None:
    """Return a number from AMD SMI; None for "N/A" and for the largest number that fits, which mean none."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or value in (0xFFFF, 0xFFFFFFFF, 2**64 - 1)
    ):
        return None
    return value


def _driver_version(handle: Any) -> str | None:
    version = amdsmi.amdsmi_get_gpu_driver_info(handle)["driver_version"]
    return str(version) if _has_value(version) else None


def _activity(handle: Any) -> tuple[float | None, ...]:
    activity = amdsmi.amdsmi_get_gpu_activity(handle)
    return _as_number(activity.get("gfx_activity")), _as_number(activity.get("umc_activity"))


def _memory_used(handle: Any) -> tuple[float | None, ...]:
    return (_as_number(amdsmi.amdsmi_get_gpu_memory_usage(handle, amdsmi.AmdSmiMemoryType.VRAM)),)


def _temperature(handle: Any) -> tuple[float | None, ...]:
    read: Callable[..., Any] = amdsmi.amdsmi_get_temp_metric
    now = amdsmi.AmdSmiTemperatureMetric.CURRENT
    try:
        return (_as_number(read(handle, amdsmi.AmdSmiTemperatureType.EDGE, now)),)
    except amdsmi.AmdSmiLibraryException:  # Instinct accelerators from MI300 have no such sensor
        return (_as_number(read(handle, amdsmi.AmdSmiTemperatureType.HOTSPOT, now)),)


def _power(handle: Any) -> tuple[float | None, ...]:
    """Return the power of the socket: the current power if the device has it, else the device's average."""
    info = amdsmi.amdsmi_get_power_info(handle)
    values = (
        _as_number(info.get(name))
        for name in ("current_socket_power", "average_socket_power", "socket_power")
    )
    return (next((watts for watts in values if watts is not None), None),)


def _energy(handle: Any) -> tuple[float | None, ...]:
    """Return the energy counter. The device reports its unit in microjoules; some generations are inexact."""
    info = amdsmi.amdsmi_get_energy_count(handle)
    accumulated = _as_number(info.get("energy_accumulator", info.get("power")))  # "power" before ROCm 6.2.1
    resolution = _as_number(info.get("counter_resolution"))
    if accumulated is None or resolution is None:
        return (None,)
    return (round(accumulated * resolution / 1e6, 3),)


_METRICS = (
    Metric(("utilization_percent", "memory_utilization_percent"), _activity),
    Metric(("memory_used_bytes",), _memory_used),
    Metric(("temperature_c",), _temperature),
    Metric(("power_w",), _power),
    Metric(("energy_j",), _energy),
)
