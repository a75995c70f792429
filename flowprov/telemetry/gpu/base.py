"""The base of the probes of all GPU vendors: read each device's metrics, and handle devices that are lost.

Flows in: functions of a vendor's library, from the adapter that is named after the vendor. Flows out: a
reading of each device that the program sees, by the device's key.

Each metric fails alone. A device of which nothing can be read any more is marked as lost, is logged once, and
is tried again from time to time. The other devices go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from flowprov import guard
from flowprov.telemetry.gpu.torch_allocator import initialized_backends

# What an error of a vendor's library means: the device does not have the metric, this user may not read it,
# or reading it failed.
ErrorKind = Literal["unsupported", "refused", "failed"]


class Metric(NamedTuple):
    """One call to a vendor's library.

    Attributes
    ----------
    names
        The names of its values, each with its unit.
    read
        Takes the device's handle and returns one value for each name; None for a value that is not there.
    """

    names: tuple[str, ...]
    read: Callable[[Any], tuple[float | None, ...]]


@dataclass
class MonitoredDevice:
    """A device whose metrics are read.

    Attributes
    ----------
    key
        The key of its reading.
    constants
        Values that do not change (name, uuid, memory_total_bytes). They are read once.
    parent
        The GPU of which the device is an instance. Its metrics are kept apart, as instances share them.
    """

    key: str
    handle: Any
    constants: Mapping[str, Any]
    metrics: Sequence[Metric]
    parent: MonitoredDevice | None = None
    lost: bool = False
    retry_at: float = field(default=0.0, repr=False)

    @property
    def label(self) -> str:
        """The name of the device in messages."""
        return " ".join(str(part) for part in (self.key, self.constants.get("name")) if part is not None)


class DeviceProbe:
    """The base of the probes of one vendor's GPUs; the adapters implement the calls to the vendor's library.

    Construct a probe in the process that reads it: a forked child needs its own. ``read`` may be called from
    any thread.

    Parameters
    ----------
    retry_seconds
        How long a lost device is left alone before the next attempt, which may wake up the driver.

    Attributes
    ----------
    unavailable
        Why there is nothing to read, in a few words; None if there is something.
    """

    kind = "gpu"
    vendor: str

    def __init__(self, *, retry_seconds: float = 5.0) -> None:
        self.unavailable: str | None = None
        self._retry_seconds = retry_seconds
        self._open_count = 0
        self._closed = False
        self._unsupported: set[tuple[str, str]] = set()
        self._devices: list[MonitoredDevice] = []
        self._environment = self._read_environment()
        try:
            self._open_library()
            self._open_count += 1
            self._devices = self._find_devices()
        except Exception as error:  # without a driver these libraries may raise any exception
            self.unavailable = f"{type(error).__name__}: {error}"

    # What an adapter implements.

    def _read_environment(self) -> tuple[str | None, ...]:
        """Return the environment variables that choose devices."""
        raise NotImplementedError

    def _open_library(self) -> None:
        """Start the library; raises without a driver."""
        raise NotImplementedError

    def _close_library(self) -> None:
        """Stop the library."""
        raise NotImplementedError

    def _find_devices(self) -> list[MonitoredDevice]:
        """Return the devices that the program sees."""
        raise NotImplementedError

    def _find_handle(self, device: MonitoredDevice) -> Any:
        """Return a new handle of a lost device; raises while the device is lost."""
        raise NotImplementedError

    def _classify_error(self, error: Exception) -> ErrorKind:
        """Return what an error means."""
        raise NotImplementedError

    def _versions(self) -> dict[str, Any]:
        """Return the versions of the driver and of other software that belongs to it."""
        raise NotImplementedError

    # The probe.

    def read(self) -> dict[str, Any]:
        """Return a reading of every device that the program sees, by key."""
        if self.unavailable is not None or self._closed:
            return {}
        self._follow_environment()
        return {device.key: self._read_device(device) for device in self._devices}

    def describe(self) -> dict[str, Any]:
        """Return what does not change: the devices with their memory, and the versions of the driver."""
        if self.unavailable is not None or self._closed:
            return {}
        devices = [{"key": device.key, **device.constants} for device in self._devices]
        return {"devices": devices, **self._versions()}

    def close(self) -> None:
        """Stop the library; later reads return nothing."""
        self._closed = True
        self._devices = []
        while self._open_count:
            self._open_count -= 1
            try:
                self._close_library()
            except Exception as error:  # the library has stopped already
                guard.logger.debug("%s could not be closed: %s", self.vendor, error)

    def read_constant(self, name: str, read: Callable[[], Any], label: str) -> Any:
        """Return a value that does not change; None, with a warning once, if it cannot be read."""
        try:
            return read()
        except Exception as error:  # a value that cannot be read costs no other value
            self._report_failure(name, label, error)
            return None

    def _follow_environment(self) -> None:
        """Find the devices anew if the environment has changed, as programs may set the variables late.

        Once torch has started CUDA, a change of the variables has an effect on child processes only.
        """
        environment = self._read_environment()
        if environment == self._environment:
            return
        self._environment = environment
        if any(initialized_backends()):
            return
        try:
            self._devices = self._find_devices()
        except Exception as error:  # the devices that were found before are still read
            self._report_failure("the list", "devices", error)

    def _read_device(self, device: MonitoredDevice) -> dict[str, Any]:
        if device.lost and not self._retry(device):
            return _lost_reading(device)
        values, failures = self._read_metrics(device)
        errors = [error for _, error in failures if self._classify_error(error) == "failed"]
        if errors and not values:
            self._mark_lost(device, errors[0])
            return _lost_reading(device)
        if device.lost:
            device.lost = False
            guard.logger.info("GPU %s is back; flowprov reads it again.", device.label)
        self._report_failures(device, failures)
        reading = {**device.constants, **values}
        if device.parent is not None:
            values, failures = self._read_metrics(device.parent)
            self._report_failures(device.parent, failures)
            reading["parent"] = {**device.parent.constants, **values}
        return reading

    def _read_metrics(self, device: MonitoredDevice) -> tuple[dict[str, Any], list[tuple[Metric, Exception]]]:
        values: dict[str, Any] = {}
        failures: list[tuple[Metric, Exception]] = []
        for metric in device.metrics:
            try:
                results = metric.read(device.handle)
            except Exception as error:  # drivers may raise any exception; the other metrics go on
                failures.append((metric, error))
                continue
            values.update(
                {name: value for name, value in zip(metric.names, results, strict=True) if value is not None}
            )
        return values, failures

    def _retry(self, device: MonitoredDevice) -> bool:
        now = time.monotonic()
        if now < device.retry_at:
            return False
        device.retry_at = now + self._retry_seconds
        try:
            device.handle = self._find_handle(device)
        except Exception:  # the device is still lost, which was logged before
            return False
        return True

    def _mark_lost(self, device: MonitoredDevice, error: Exception) -> None:
        if device.lost or self._closed:  # logged before; or another thread has closed the library
            return
        device.lost = True
        device.retry_at = time.monotonic() + self._retry_seconds
        guard.warn_once(
            f"telemetry gpu lost {device.key} {device.constants.get('uuid')}",
            "flowprov can no longer read GPU %s (%s: %s); its readings say so. All other telemetry goes on. "
            "The GPU is read again if it comes back.",
            device.label,
            type(error).__name__,
            error,
        )

    def _report_failures(self, device: MonitoredDevice, failures: Iterable[tuple[Metric, Exception]]) -> None:
        for metric, error in failures:
            self._report_failure(" and ".join(metric.names), device.label, error)

    def _report_failure(self, name: str, label: str, error: Exception) -> None:
        """Warn once that a value cannot be read; log it only for debugging if the device does not have it."""
        if self._closed:
            return
        if self._classify_error(error) == "unsupported":
            if (label, name) not in self._unsupported:
                self._unsupported.add((label, name))
                guard.logger.debug("GPU %s has no %s (%s).", label, name, error)
            return
        guard.warn_once(
            f"telemetry gpu {self.vendor} {name}",
            "flowprov cannot read %s of GPU %s (%s: %s); all other telemetry goes on.",
            name,
            label,
            type(error).__name__,
            error,
        )


def _lost_reading(device: MonitoredDevice) -> dict[str, Any]:
    names = {name: device.constants[name] for name in ("name", "uuid") if name in device.constants}
    return {**names, "lost": True}
