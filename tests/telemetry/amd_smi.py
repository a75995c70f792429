"""A stand-in for AMD SMI: the functions of amdsmi that the probe calls, on devices that a test defines.

The real package cannot be imported without ROCm, so the exceptions are defined here again. test_amd_real.py
checks that names, signatures and codes equal the real ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from types import ModuleType, SimpleNamespace
from typing import Any

GIB = 1024**3
UUIDS = ("a1ff74a1-0000-1000-80aa-bbccddeeff00", "b2ff74a1-0000-1000-80aa-bbccddeeff01")


class AmdSmiLibraryException(Exception):  # noqa: N818 - the names are AMD's
    """The exception that a function raises, with its error code."""

    def __init__(self, err_code: int) -> None:
        super().__init__(f"Error code {err_code}")
        self.err_code = err_code


class Codes:
    """The error codes that the probe knows."""

    AMDSMI_STATUS_NOT_SUPPORTED = 2
    AMDSMI_STATUS_NOT_YET_IMPLEMENTED = 3
    AMDSMI_STATUS_NO_PERM = 10
    AMDSMI_STATUS_NO_DATA = 40


class AmdSmiInitFlags(Enum):
    """What is initialized."""

    INIT_AMD_GPUS = 2


class AmdSmiMemoryType(Enum):
    """Kinds of memory."""

    VRAM = 0


class AmdSmiTemperatureType(Enum):
    """Sensors."""

    EDGE = 0
    HOTSPOT = 1


class AmdSmiTemperatureMetric(Enum):
    """What a sensor reports."""

    CURRENT = 0


KINDS = (AmdSmiInitFlags, AmdSmiMemoryType, AmdSmiTemperatureType, AmdSmiTemperatureMetric)


@dataclass
class Gpu:
    """A device."""

    uuid: str
    serial: str = "0x45ABCDEF01234567"
    hip_id: int | str = "N/A"
    sensors: tuple[AmdSmiTemperatureType, ...] = (AmdSmiTemperatureType.EDGE, AmdSmiTemperatureType.HOTSPOT)
    activity: dict[str, Any] = field(
        default_factory=lambda: {"gfx_activity": 41, "umc_activity": 17, "mm_activity": "N/A"}
    )
    power: dict[str, Any] = field(
        default_factory=lambda: {
            "current_socket_power": 119,
            "average_socket_power": "N/A",
            "power_limit": 750,
        }
    )
    energy: dict[str, Any] = field(
        default_factory=lambda: {
            "energy_accumulator": 1_000_000,
            "counter_resolution": 15.3,
            "timestamp": 123,
        }
    )
    market_name: str = "AMD Instinct MI250X"
    lost: bool = False


@dataclass
class AmdSmi:
    """The stand-in for the module ``amdsmi``."""

    gpus: list[Gpu]
    inits: int = 0
    calls: list[str] = field(default_factory=list)
    errors: dict[tuple[str, str | None], Exception] = field(default_factory=dict)

    def fail(self, function: str, error: Exception | None = None, uuid: str | None = None) -> None:
        """Make a function raise, for the device with this UUID or for all."""
        self.errors[function, uuid] = AmdSmiLibraryException(34) if error is None else error

    def module(self) -> ModuleType:
        """Return the stand-in as a module that can be imported."""
        module = ModuleType("amdsmi")
        for name in dir(self):
            if name.startswith("amdsmi_"):
                setattr(module, name, getattr(self, name))
        for kind in (AmdSmiLibraryException, *KINDS):
            setattr(module, kind.__name__, kind)
        module.amdsmi_wrapper = Codes  # type: ignore[attr-defined]
        return module

    def _record_call(self, function: str, gpu: Gpu | None = None) -> None:
        self.calls.append(function)
        for uuid in (None, gpu.uuid if gpu else None):
            if (function, uuid) in self.errors:
                raise self.errors[function, uuid]
        if gpu is not None and gpu.lost:
            raise AmdSmiLibraryException(31)

    def amdsmi_init(self, flag: AmdSmiInitFlags) -> None:
        """Start."""
        assert flag is AmdSmiInitFlags.INIT_AMD_GPUS
        self._record_call("amdsmi_init")
        self.inits += 1

    def amdsmi_shut_down(self) -> None:
        """Stop."""
        self._record_call("amdsmi_shut_down")
        self.inits -= 1

    def amdsmi_get_processor_handles(self) -> list[Gpu]:
        """Return the devices."""
        self._record_call("amdsmi_get_processor_handles")
        return list(self.gpus)

    def amdsmi_get_gpu_device_uuid(self, processor_handle: Gpu) -> str:
        """Return the UUID."""
        self._record_call("amdsmi_get_gpu_device_uuid", processor_handle)
        return processor_handle.uuid

    def amdsmi_get_gpu_asic_info(self, processor_handle: Gpu) -> dict[str, Any]:
        """Return the name and the serial number."""
        self._record_call("amdsmi_get_gpu_asic_info", processor_handle)
        return {"market_name": processor_handle.market_name, "asic_serial": processor_handle.serial}

    def amdsmi_get_gpu_enumeration_info(self, processor_handle: Gpu) -> dict[str, Any]:
        """Return the number in HIP."""
        self._record_call("amdsmi_get_gpu_enumeration_info", processor_handle)
        return {"hip_id": processor_handle.hip_id}

    def amdsmi_get_gpu_driver_info(self, processor_handle: Gpu) -> dict[str, Any]:
        """Return the driver."""
        self._record_call("amdsmi_get_gpu_driver_info", processor_handle)
        return {"driver_name": "amdgpu", "driver_version": "6.12.12", "driver_date": "N/A"}

    def amdsmi_get_gpu_activity(self, processor_handle: Gpu) -> dict[str, Any]:
        """Return the activity of the engines, in percent."""
        self._record_call("amdsmi_get_gpu_activity", processor_handle)
        return processor_handle.activity

    def amdsmi_get_gpu_memory_usage(self, processor_handle: Gpu, mem_type: AmdSmiMemoryType) -> int:
        """Return the used memory, in bytes."""
        assert mem_type is AmdSmiMemoryType.VRAM
        self._record_call("amdsmi_get_gpu_memory_usage", processor_handle)
        return 3 * GIB

    def amdsmi_get_gpu_memory_total(self, processor_handle: Gpu, mem_type: AmdSmiMemoryType) -> int:
        """Return the memory, in bytes."""
        assert mem_type is AmdSmiMemoryType.VRAM
        self._record_call("amdsmi_get_gpu_memory_total", processor_handle)
        return 64 * GIB

    def amdsmi_get_temp_metric(
        self, processor_handle: Gpu, sensor_type: AmdSmiTemperatureType, metric: AmdSmiTemperatureMetric
    ) -> int:
        """Return a temperature, in degrees Celsius."""
        assert metric is AmdSmiTemperatureMetric.CURRENT
        self._record_call("amdsmi_get_temp_metric", processor_handle)
        if sensor_type not in processor_handle.sensors:
            raise AmdSmiLibraryException(Codes.AMDSMI_STATUS_NOT_SUPPORTED)
        return 33 if sensor_type is AmdSmiTemperatureType.EDGE else 44

    def amdsmi_get_power_info(self, processor_handle: Gpu) -> dict[str, Any]:
        """Return the power, in watts."""
        self._record_call("amdsmi_get_power_info", processor_handle)
        return processor_handle.power

    def amdsmi_get_energy_count(self, processor_handle: Gpu) -> dict[str, Any]:
        """Return the accumulator of energy."""
        self._record_call("amdsmi_get_energy_count", processor_handle)
        return processor_handle.energy


def names_to_check() -> SimpleNamespace:
    """Return the names in this stand-in that test_amd_real.py looks for in the real package."""
    return SimpleNamespace(
        codes={name: code for name, code in vars(Codes).items() if name.startswith("AMDSMI")},
        kinds={kind.__name__: [member.name for member in kind] for kind in KINDS},
    )
