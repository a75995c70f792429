"""Classes: what a class declares, read without running code of the class or its metaclass.

Flows in: a class. Flows out: its bases, names, namespaces and descriptors. ``getattr`` would ask the
metaclass, and an attribute of an object may be a property: code that queries a database, for example.
"""

from __future__ import annotations

from collections.abc import Callable
from types import GetSetDescriptorType, MappingProxyType, MemberDescriptorType
from typing import Any

bases_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__
"""Return a class and its bases, in the order in which attributes are looked up."""
namespace_of: Callable[[type], MappingProxyType[str, Any]] = type.__dict__["__dict__"].__get__
"""Return what a class itself declares."""
_module_of = type.__dict__["__module__"].__get__
_qualname_of = type.__dict__["__qualname__"].__get__

_MISSING = object()
# What a subclass may declare without changing how its instances answer.
_HARMLESS = {
    *("__annotate__", "__annotate_func__", "__annotations__", "__annotations_cache__", "__class_getitem__"),
    *("__abstractmethods__", "__dict__", "__doc__", "__eq__", "__firstlineno__", "__hash__", "__init__"),
    *("__init_subclass__", "__module__", "__new__", "__orig_bases__", "__parameters__", "__qualname__"),
    *("__reduce__", "__reduce_ex__", "__slots__", "__static_attributes__", "__weakref__"),
}
_SLOTS = (MemberDescriptorType, GetSetDescriptorType)


def module_of(cls: type) -> str:
    """Return the name of a class's module; an empty text if it has none."""
    try:
        module = _module_of(cls)
    except AttributeError:
        return ""
    return module if type(module) is str else ""


def qualname_of(cls: type) -> str:
    """Return the qualified name of a class."""
    name: str = _qualname_of(cls)
    return name


def package_of(cls: type) -> str:
    """Return the top package in which a class was defined."""
    return module_of(cls).partition(".")[0]


def declared(bases: tuple[type, ...], name: str) -> Any:
    """Return what the first of the bases that has this name declares under it; None if none has it."""
    for base in bases:
        value = namespace_of(base).get(name, _MISSING)
        if value is not _MISSING:
            return value
    return None


def declares(bases: tuple[type, ...], name: str) -> bool:
    """Whether one of the bases declares this name, as something else than None."""
    return declared(bases, name) is not None


def overrides(bases: tuple[type, ...], known: type) -> bool:
    """Whether a subclass may change how an object of a known class answers.

    Parameters
    ----------
    bases
        Bases of the subclass that come before the known class.
    known
        The known class.
    """
    names = {name for base in bases_of(known) for name in namespace_of(base)} - _HARMLESS
    names |= {"__getattr__", "__getattribute__"}
    return any(not names.isdisjoint(namespace_of(base)) for base in bases)


def slot_reader(descriptor: object) -> Callable[[Any], Any] | None:
    """Return what reads a slot of an object; None if the descriptor is none, but code."""
    return descriptor.__get__ if type(descriptor) in _SLOTS else None  # type: ignore[attr-defined]


def dict_reader(bases: tuple[type, ...]) -> Callable[[Any], Any] | None:
    """Return what reads the dictionary of an object's attributes; None if it has none, or computes it."""
    return slot_reader(declared(bases, "__dict__"))


def is_computed(attribute: object) -> bool:
    """Whether an attribute of a class is code that computes what an object shows under its name."""
    return type(attribute) not in _SLOTS and declares(bases_of(type(attribute)), "__get__")
