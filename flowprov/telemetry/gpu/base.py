"""What the probes of all makes of GPUs share: which device is read how, and what becomes of one that is lost.

Flows in: functions of a vendor's library, given by the adapter named after it. Flows out: a reading for each
device that the program sees, by the device's key. Each metric fails alone; a device of which nothing can be
read any more is marked lost, said once, and tried again from time to time; the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from flowprov import guard
from flowprov.telemetry.gpu.torch_allocator import initialized_backends

# What an error of a vendor's library means: the device has no such metric, this user may not read it, or it
# failed.
Trouble = Literal["unsupported", "refused", "failed"]


class Metric(NamedTuple):
    """One call to a vendor's library.

    Attributes
    ----------
    names
        What it gives, each with its unit.
    read
        Takes the device's handle and gives as many values; None for one that is not there.
    """

    names: tuple[str, ...]
    read: Callable[[Any], tuple[float | None, ...]]


@dataclass
class MonitoredDevice:
    """A device whose metrics are read.

    Attributes
    ----------
    key
        Under which its reading stands.
    constants
        What does not change (name, uuid, memory_total_bytes), read once.
    parent
        The GPU of which it is an instance: its metrics stand apart, as they are not this device's own.
    """

    key: str
    handle: Any
    constants: Mapping[str, Any]
    metrics: Sequence[Metric]
    parent: MonitoredDevice | None = None
    lost: bool = False
    again_at: float = field(default=0.0, repr=False)

    @property
    def label(self) -> str:
        """How a person knows it."""
        return " ".join(str(part) for part in (self.key, self.constants.get("name")) if part is not None)


class DeviceProbe:
    """A probe of one make of GPUs; the adapters fill in how its library is called.

    Construct it in the process that reads it: a forked child needs its own. ``read`` may be called from any
    thread.

    Parameters
    ----------
    retry_seconds
        How long a lost device is left alone before it is looked for again: looking may wake up the driver.

    Attributes
    ----------
    missing
        Why there is nothing to read, in a few words; None where there is.
    """

    kind = "gpu"
    vendor: str

    def __init__(self, *, retry_seconds: float = 5.0) -> None:
        self.missing: str | None = None
        self._retry_seconds = retry_seconds
        self._opened = 0
        self._closed = False
        self._unsupported: set[tuple[str, str]] = set()
        self._devices: list[MonitoredDevice] = []
        self._environment = self._read_environment()
        try:
            self._open()
            self._opened += 1
            self._devices = self._find()
        except Exception as error:  # without a driver these libraries raise what they like; that is an answer
            self.missing = f"{type(error).__name__}: {error}"

    # What an adapter fills in.

    def _read_environment(self) -> tuple[str | None, ...]:
        """Give the variables that choose devices."""
        raise NotImplementedError

    def _open(self) -> None:
        """Start the library; raises where there is no driver."""
        raise NotImplementedError

    def _shut(self) -> None:
        """Stop the library."""
        raise NotImplementedError

    def _find(self) -> list[MonitoredDevice]:
        """List the devices that the program sees."""
        raise NotImplementedError

    def _find_again(self, device: MonitoredDevice) -> Any:
        """Give a fresh handle of a device that was lost; raises while it is."""
        raise NotImplementedError

    def _classify_error(self, error: Exception) -> Trouble:
        """Tell what an error means."""
        raise NotImplementedError

    def _versions(self) -> dict[str, Any]:
        """Give the versions of the driver and its like."""
        raise NotImplementedError

    # The probe.

    def read(self) -> dict[str, Any]:
        """Read every device that the program sees, by its key."""
        if self.missing is not None or self._closed:
            return {}
        self._follow_environment()
        return {device.key: self._read_device(device) for device in self._devices}

    def describe(self) -> dict[str, Any]:
        """Give what does not change: the devices with their memory, and the versions of the driver."""
        if self.missing is not None or self._closed:
            return {}
        devices = [{"key": device.key, **device.constants} for device in self._devices]
        return {"devices": devices, **self._versions()}

    def close(self) -> None:
        """Let go of the library; reads give nothing from then on."""
        self._closed = True
        self._devices = []
        while self._opened:
            self._opened -= 1
            try:
                self._shut()
            except Exception as error:  # it is gone already, which is what was wanted
                guard.logger.debug("%s could not be closed: %s", self.vendor, error)

    def read_constant(self, name: str, read: Callable[[], Any], label: str) -> Any:
        """Read something that does not change; None, said once, where that fails."""
        try:
            return read()
        except Exception as error:  # one thing that cannot be read costs no other
            self._say(name, label, error)
            return None

    def _follow_environment(self) -> None:
        """Look again at what is visible: programs set the variable long after they have started.

        Once torch has started CUDA the variable chooses for children only, and no longer here.
        """
        environment = self._read_environment()
        if environment == self._environment:
            return
        self._environment = environment
        if any(initialized_backends()):
            return
        try:
            self._devices = self._find()
        except Exception as error:  # what was found before is still read
            self._say("the list", "devices", error)

    def _read_device(self, device: MonitoredDevice) -> dict[str, Any]:
        if device.lost and not self._look_again(device):
            return _lost(device)
        values, failures = self._read_metrics(device)
        signs = [error for _, error in failures if self._classify_error(error) == "failed"]
        if signs and not values:
            self._mark_lost(device, signs[0])
            return _lost(device)
        if device.lost:
            device.lost = False
            guard.logger.info("GPU %s is back and read again.", device.label)
        self._say_all(device, failures)
        reading = {**device.constants, **values}
        if device.parent is not None:
            values, failures = self._read_metrics(device.parent)
            self._say_all(device.parent, failures)
            reading["parent"] = {**device.parent.constants, **values}
        return reading

    def _read_metrics(self, device: MonitoredDevice) -> tuple[dict[str, Any], list[tuple[Metric, Exception]]]:
        values: dict[str, Any] = {}
        failures: list[tuple[Metric, Exception]] = []
        for metric in device.metrics:
            try:
                read = metric.read(device.handle)
            except Exception as error:  # drivers raise what they like; the other metrics go on
                failures.append((metric, error))
                continue
            values.update(
                {n: value for n, value in zip(metric.names, read, strict=True) if value is not None}
            )
        return values, failures

    def _look_again(self, device: MonitoredDevice) -> bool:
        now = time.monotonic()
        if now < device.again_at:
            return False
        device.again_at = now + self._retry_seconds
        try:
            device.handle = self._find_again(device)
        except Exception:  # still lost, which was said
            return False
        return True

    def _mark_lost(self, device: MonitoredDevice, error: Exception) -> None:
        if device.lost or self._closed:  # said before; or another thread has closed the library meanwhile
            return
        device.lost = True
        device.again_at = time.monotonic() + self._retry_seconds
        guard.warn_once(
            f"telemetry gpu lost {device.key} {device.constants.get('uuid')}",
            "flowprov can no longer read GPU %s (%s: %s); its readings say so. All other telemetry goes "
            "on, and this one again if it comes back.",
            device.label,
            type(error).__name__,
            error,
        )

    def _say_all(self, device: MonitoredDevice, failures: Iterable[tuple[Metric, Exception]]) -> None:
        for metric, error in failures:
            self._say(" and ".join(metric.names), device.label, error)

    def _say(self, what: str, label: str, error: Exception) -> None:
        """Say once what cannot be read; that a device has no such thing is for those who look for it."""
        if self._closed:
            return
        if self._classify_error(error) == "unsupported":
            if (label, what) not in self._unsupported:
                self._unsupported.add((label, what))
                guard.logger.debug("GPU %s has no %s (%s).", label, what, error)
            return
        guard.warn_once(
            f"telemetry gpu {self.vendor} {what}",
            "flowprov cannot read %s of GPU %s (%s: %s); all other telemetry goes on.",
            what,
            label,
            type(error).__name__,
            error,
        )


def _lost(device: MonitoredDevice) -> dict[str, Any]:
    names = {name: device.constants[name] for name in ("name", "uuid") if name in device.constants}
    return {**names, "lost": True}
