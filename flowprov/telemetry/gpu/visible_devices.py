"""Work out which devices ``CUDA_VISIBLE_DEVICES`` shows, in the order in which CUDA counts them.

Flows in: the text of the variable, and the devices that the driver's library lists. Flows out: the devices
that a program sees, so that number N of them is ``cuda:N``. This module reads no device and no environment.
ROCm's variables have the same form.

The rules are those of NVIDIA (CUDA Programming Guide, "CUDA Environment Variables"; MIG User Guide, "CUDA
Device Enumeration"):

- If the variable is unset, all devices are visible.
- An entry that names no device ends the list.
- A UUID may be shortened as long as it is unambiguous.

Where these leave a case open, ``torch.cuda.device_count`` decides:

- The first entry says whether the list holds numbers, GPU UUIDs or MIG UUIDs. An entry of another kind ends
  the list.
- Of a number only the leading digits count ("1gpu" is 1).
- If a device is named twice, no device is visible.

Numbers are those of NVML, in the order of the PCI bus. CUDA itself puts the fastest device first, unless
``CUDA_DEVICE_ORDER`` is ``PCI_BUS_ID``. So on a machine with devices of several kinds the numbers may differ.
That cannot be known without starting CUDA, so every reading has the name and the UUID of its device.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

_T = TypeVar("_T")
_NUMBER = re.compile(r"[+-]?[0-9]+")
_MAX_DIGITS = 20  # Python refuses to read numbers of thousands of digits
_GPU = "gpu-"
_MIG = "mig-"
_MIG_BY_NUMBERS = re.compile(r"mig-(gpu-[^/]*)/([0-9]+)/([0-9]+)")


@dataclass(frozen=True)
class Instance:
    """A compute instance of a GPU that is divided by MIG: a device of its own for CUDA."""

    uuid: str
    gpu_instance: int
    compute_instance: int
    handle: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Device:
    """A GPU as its driver's library lists it.

    Attributes
    ----------
    index
        Its number in that list.
    uuid
        Its UUID as nvidia-smi writes it, with "GPU-"; empty if it cannot be read.
    aliases
        Other UUIDs by which it may be named.
    instances
        The instances into which MIG has divided it; None if MIG is off.
    handle
        The handle by which the library knows it; not used here.
    """

    index: int
    uuid: str = ""
    aliases: tuple[str, ...] = ()
    instances: tuple[Instance, ...] | None = None
    handle: Any = field(default=None, compare=False)

    def is_named(self, text: str) -> bool:
        """Whether one of its UUIDs, in lower case, begins with ``text``."""
        return any(name.lower().startswith(text) for name in (self.uuid, *self.aliases))


@dataclass(frozen=True)
class VisibleDevice:
    """A device that a program sees: a whole GPU, or one instance of a divided one."""

    device: Device
    instance: Instance | None = None


def visible_devices(
    text: str | None, devices: Sequence[Device], *, single_instance: bool = False
) -> list[VisibleDevice]:
    """Return the devices that a program sees, in CUDA's order.

    Parameters
    ----------
    text
        The value of ``CUDA_VISIBLE_DEVICES``; None if it is not set.
    devices
        All devices of the machine.
    single_instance
        Whether CUDA uses only one MIG instance per process, and no whole GPU with it, as with drivers before
        570. Later drivers use one compute instance of each GPU instance.
    """
    if text is None:
        chosen = [visible for device in devices for visible in _parts(device)]
    else:
        named = _devices_named(text.lower().split(","), devices)
        chosen = [visible for device in named for visible in _parts(device)]
    instances = [visible for visible in chosen if visible.instance is not None]
    if single_instance and instances:
        return instances[:1]
    first: dict[tuple[int, int | None], VisibleDevice] = {}
    for visible in chosen:
        gpu_instance = None if visible.instance is None else visible.instance.gpu_instance
        first.setdefault((visible.device.index, gpu_instance), visible)
    return list(first.values())


def names_by_number(text: str | None) -> bool:
    """Whether a list chooses devices by numbers, as an unset variable does, rather than by UUIDs."""
    return text is None or not text.strip().lower().startswith((_GPU, _MIG))


def _parts(device: Device | VisibleDevice) -> list[VisibleDevice]:
    """Return a device as CUDA sees it: a divided GPU as its instances."""
    if isinstance(device, VisibleDevice):
        return [device]
    if device.instances is None:
        return [VisibleDevice(device)]
    return [VisibleDevice(device, instance) for instance in device.instances]


def _devices_named(entries: Sequence[str], devices: Sequence[Device]) -> list[Device | VisibleDevice]:
    """Return the devices that the entries name, up to the first that names none; [] if one is named twice."""
    kind = next((kind for kind in (_GPU, _MIG) if entries[0].strip().startswith(kind)), "")
    named: list[Device | VisibleDevice] = []
    for entry in entries:
        device = _find_device(kind, entry.strip(), devices)
        if device is None:
            break
        if device in named:
            return []
        named.append(device)
    return named


def _find_device(kind: str, entry: str, devices: Sequence[Device]) -> Device | VisibleDevice | None:
    if kind == _GPU:
        return _single([device for device in devices if entry.startswith(_GPU) and device.is_named(entry)])
    if kind == _MIG:
        return _single(_instances(entry, devices)) if entry.startswith(_MIG) else None
    number = _NUMBER.match(entry)
    if number is None or len(number[0]) > _MAX_DIGITS:
        return None
    return _single([device for device in devices if device.index == int(number[0])])


def _instances(entry: str, devices: Sequence[Device]) -> list[VisibleDevice]:
    parts = [VisibleDevice(device, instance) for device in devices for instance in device.instances or ()]
    numbers = _MIG_BY_NUMBERS.fullmatch(entry)
    if numbers is None:
        return [part for part in parts if part.instance and part.instance.uuid.lower().startswith(entry)]
    ids = (int(numbers[2]), int(numbers[3]))
    return [
        part
        for part in parts
        if part.instance
        and part.device.is_named(numbers[1])
        and ids == (part.instance.gpu_instance, part.instance.compute_instance)
    ]


def _single(items: Sequence[_T]) -> _T | None:
    return items[0] if len(items) == 1 else None
