"""Which devices ``CUDA_VISIBLE_DEVICES`` shows, in the order in which CUDA counts them.

Flows in: the variable's text and the devices that the driver's own library lists. Flows out: those that a
program sees, so that number N of them is ``cuda:N``. Nothing is read or asked here. ROCm's variables have the
same form.

The rules are NVIDIA's (CUDA Programming Guide, "CUDA Environment Variables"; MIG User Guide, "CUDA Device
Enumeration"): unset shows all, an entry that names no device ends the list, a UUID may be cut to as many
characters as are unambiguous. What those leave open is decided as ``torch.cuda.device_count``
decides it: the first entry says whether the list holds numbers, GPU UUIDs or MIG UUIDs, an entry of
another kind ends it, a number is read as far as it goes ("1gpu" is 1), and a device that is named twice
leaves none.

Numbers are those of NVML, in the order of the PCI bus. CUDA by itself puts the fastest device first, unless
``CUDA_DEVICE_ORDER`` is ``PCI_BUS_ID``: on a machine with devices of several kinds the two may differ, which
cannot be known without starting CUDA. So every reading of a device carries its name and UUID.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

_Found = TypeVar("_Found")
_NUMBER = re.compile(r"[+-]?[0-9]+")
_LONGEST_NUMBER = 20  # Python refuses to read numbers of thousands of digits
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
        Its number there.
    uuid
        As nvidia-smi writes it, with "GPU-"; empty where it cannot be read.
    aliases
        Other UUIDs by which it may be named.
    instances
        What MIG has divided it into; None where MIG is off.
    handle
        Whatever the library knows it by; not looked at here.
    """

    index: int
    uuid: str = ""
    aliases: tuple[str, ...] = ()
    instances: tuple[Instance, ...] | None = None
    handle: Any = field(default=None, compare=False)

    def is_named(self, text: str) -> bool:
        """Whether a UUID of it begins with ``text``, in small letters."""
        return any(name.lower().startswith(text) for name in (self.uuid, *self.aliases))


@dataclass(frozen=True)
class VisibleDevice:
    """A device that a program sees: a whole GPU, or one instance of a divided one."""

    device: Device
    instance: Instance | None = None


def visible_devices(
    text: str | None, devices: Sequence[Device], *, single_instance: bool = False
) -> list[VisibleDevice]:
    """Give the devices that a program sees, in CUDA's order.

    Parameters
    ----------
    text
        The value of ``CUDA_VISIBLE_DEVICES``; None where it is not set.
    devices
        All devices of the machine.
    single_instance
        Whether CUDA uses one MIG instance a process and no whole GPU beside it, as with drivers before 570.
        Later ones use one compute instance of each GPU instance.
    """
    if text is None:
        chosen = [part for device in devices for part in _parts(device)]
    else:
        chosen = [part for found in _named(text.lower().split(","), devices) for part in _parts(found)]
    instances = [part for part in chosen if part.instance is not None]
    if single_instance and instances:
        return instances[:1]
    first: dict[tuple[int, int | None], VisibleDevice] = {}
    for part in chosen:
        gpu_instance = None if part.instance is None else part.instance.gpu_instance
        first.setdefault((part.device.index, gpu_instance), part)
    return list(first.values())


def names_by_number(text: str | None) -> bool:
    """Whether the devices are counted (unset counts them all) rather than named by UUIDs."""
    return text is None or not text.strip().lower().startswith((_GPU, _MIG))


def _parts(found: Device | VisibleDevice) -> list[VisibleDevice]:
    if isinstance(found, VisibleDevice):
        return [found]
    if found.instances is None:
        return [VisibleDevice(found)]
    return [VisibleDevice(found, instance) for instance in found.instances]


def _named(entries: Sequence[str], devices: Sequence[Device]) -> list[Device | VisibleDevice]:
    """Give what the entries name, up to the first that names nothing; nothing at all if one comes twice."""
    kind = next((kind for kind in (_GPU, _MIG) if entries[0].strip().startswith(kind)), "")
    named: list[Device | VisibleDevice] = []
    for entry in entries:
        found = _look_up(kind, entry.strip(), devices)
        if found is None:
            break
        if found in named:
            return []
        named.append(found)
    return named


def _look_up(kind: str, entry: str, devices: Sequence[Device]) -> Device | VisibleDevice | None:
    if kind == _GPU:
        return _only([device for device in devices if entry.startswith(_GPU) and device.is_named(entry)])
    if kind == _MIG:
        return _only(_instances(entry, devices)) if entry.startswith(_MIG) else None
    number = _NUMBER.match(entry)
    if number is None or len(number[0]) > _LONGEST_NUMBER:
        return None
    return _only([device for device in devices if device.index == int(number[0])])


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


def _only(found: Sequence[_Found]) -> _Found | None:
    return found[0] if len(found) == 1 else None
