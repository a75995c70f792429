"""The probe of AMD's GPUs, by AMD SMI (``pip install "flowprov[amd]"``, with ROCm on the machine).

Flows in: calls to AMD SMI, ROCm's library for it. Flows out: a reading for each device that the program sees,
under "amd:" and the number that torch gives it ("amd:0" is ``cuda:0`` of a torch for ROCm), with the names of
NVIDIA's readings where they mean the same. The prefix keeps the two apart on a machine that has both.

Importing this module imports amdsmi, which raises where ROCm is not installed (``KeyError``, ``OSError``) and
prints that it does: ``flowprov.telemetry.gpu.discovery`` sees to both.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import amdsmi

from flowprov.telemetry.gpu.base import DeviceProbe, Metric, MonitoredDevice, Trouble
from flowprov.telemetry.gpu.visible_devices import Device, VisibleDevice, visible_devices

_UNSUPPORTED = ("AMDSMI_STATUS_NOT_SUPPORTED", "AMDSMI_STATUS_NOT_YET_IMPLEMENTED", "AMDSMI_STATUS_NO_DATA")
_REFUSED = ("AMDSMI_STATUS_NO_PERM",)


class AmdProbe(DeviceProbe):
    """Reads AMD's GPUs.

    Each reading has ``name``, ``uuid``, ``memory_total_bytes``, ``utilization_percent`` (of the graphics
    engine), ``memory_utilization_percent`` (of the memory controller), ``memory_used_bytes`` (of VRAM, of all
    programs), ``temperature_c`` (at the edge, or the hotspot where there is no such sensor), ``power_w`` and
    ``energy_j``, a counter that only grows. What a device cannot tell is left out. A lost device has ``lost:
    true``.
    """

    vendor = "AMD"

    def _read_environment(self) -> tuple[str | None, ...]:
        hip = os.environ.get("HIP_VISIBLE_DEVICES")
        return (
            os.environ.get("ROCR_VISIBLE_DEVICES"),
            os.environ.get("CUDA_VISIBLE_DEVICES") if hip is None else hip,
        )

    def _open(self) -> None:
        amdsmi.amdsmi_init(amdsmi.AmdSmiInitFlags.INIT_AMD_GPUS)

    def _shut(self) -> None:
        amdsmi.amdsmi_shut_down()

    def _classify_error(self, error: Exception) -> Trouble:
        code = getattr(error, "err_code", None)
        if code is None:
            return "failed"
        if code in _codes(_UNSUPPORTED):
            return "unsupported"
        return "refused" if code in _codes(_REFUSED) else "failed"

    def _find(self) -> list[MonitoredDevice]:
        """List the devices that the program sees: those of ROCR, and of those HIP's (GPU isolation, ROCm)."""
        of_rocr, of_hip = self._environment
        handles = amdsmi.amdsmi_get_processor_handles()
        listed = [self._device(index, handle) for index, handle in enumerate(handles)]
        devices = self._in_the_order_of_hip(listed)
        left = [
            replace(part.device, index=index) for index, part in enumerate(visible_devices(of_rocr, devices))
        ]
        return [
            self._watch(f"amd:{number}", part) for number, part in enumerate(visible_devices(of_hip, left))
        ]

    def _find_again(self, device: MonitoredDevice) -> Any:
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
        names = [f"GPU-{uuid}" if uuid else None, f"GPU-{serial[2:]}" if _is_there(serial) else None]
        return Device(index, uuid or "", tuple(name for name in names if name), handle=handle)

    def _in_the_order_of_hip(self, devices: list[Device]) -> list[Device]:
        """Order devices as HIP counts them, where AMD SMI can tell (ROCm 6.4), else as AMD SMI does."""
        places = []
        for device in devices:
            try:
                place = amdsmi.amdsmi_get_gpu_enumeration_info(device.handle)["hip_id"]
            except Exception:  # an AMD SMI from before it; the two orders are mostly the same
                return devices
            places.append(place)
        if not all(isinstance(place, int) for place in places):
            return devices
        pairs = sorted(zip(places, devices, strict=True), key=lambda pair: pair[0])
        return [replace(device, index=index) for index, (_, device) in enumerate(pairs)]

    def _watch(self, key: str, part: VisibleDevice) -> MonitoredDevice:
        handle = part.device.handle
        vram = amdsmi.AmdSmiMemoryType.VRAM
        total = self.read_constant(
            "memory_total_bytes", lambda: amdsmi.amdsmi_get_gpu_memory_total(handle, vram), key
        )
        found = {
            "name": self.read_constant(
                "name", lambda: amdsmi.amdsmi_get_gpu_asic_info(handle)["market_name"], key
            ),
            "uuid": part.device.uuid or None,
            "memory_total_bytes": total,
        }
        return MonitoredDevice(
            key, handle, {name: value for name, value in found.items() if _is_there(value)}, _METRICS
        )


def _codes(names: tuple[str, ...]) -> set[int]:
    return {code for name in names if (code := getattr(amdsmi.amdsmi_wrapper, name, None)) is not None}


def _is_there(value: Any) -> bool:
    """Whether AMD SMI gave a value: it says "N/A" for most that are not there."""
    return value is not None and value != "N/A"


def _number(value: Any) -> float | None:
    """Give a number that AMD SMI gave; none where it says "N/A", or the largest number that fits."""
    if (
        isinstance(value, bool)
        or not isinstance(value, (int, float))
        or value in (0xFFFF, 0xFFFFFFFF, 2**64 - 1)
    ):
        return None
    return value


def _driver_version(handle: Any) -> str | None:
    version = amdsmi.amdsmi_get_gpu_driver_info(handle)["driver_version"]
    return str(version) if _is_there(version) else None


def _activity(handle: Any) -> tuple[float | None, ...]:
    activity = amdsmi.amdsmi_get_gpu_activity(handle)
    return _number(activity.get("gfx_activity")), _number(activity.get("umc_activity"))


def _memory_used(handle: Any) -> tuple[float | None, ...]:
    return (_number(amdsmi.amdsmi_get_gpu_memory_usage(handle, amdsmi.AmdSmiMemoryType.VRAM)),)


def _temperature(handle: Any) -> tuple[float | None, ...]:
    read: Callable[..., Any] = amdsmi.amdsmi_get_temp_metric
    now = amdsmi.AmdSmiTemperatureMetric.CURRENT
    try:
        return (_number(read(handle, amdsmi.AmdSmiTemperatureType.EDGE, now)),)
    except amdsmi.AmdSmiLibraryException:  # Instinct accelerators from MI300 have no such sensor
        return (_number(read(handle, amdsmi.AmdSmiTemperatureType.HOTSPOT, now)),)


def _power(handle: Any) -> tuple[float | None, ...]:
    """Read the power of the socket: now where the device knows it, else the average of its own making."""
    info = amdsmi.amdsmi_get_power_info(handle)
    found = (
        _number(info.get(name)) for name in ("current_socket_power", "average_socket_power", "socket_power")
    )
    return (next((watts for watts in found if watts is not None), None),)


def _energy(handle: Any) -> tuple[float | None, ...]:
    """Read the accumulator; the device tells its unit, in microjoules. On some generations it is inexact."""
    info = amdsmi.amdsmi_get_energy_count(handle)
    accumulated = _number(info.get("energy_accumulator", info.get("power")))  # "power" before ROCm 6.2.1
    resolution = _number(info.get("counter_resolution"))
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
