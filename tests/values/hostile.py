"""Classes whose every method is foreign code: it notes that it was called, and raises."""

from __future__ import annotations

from typing import Any

from tests.values.support import words

CALLS: list[str] = []
"""The names of all methods that were called, since somebody cleared it."""

_METHODS = words(
    "__abs__ __add__ __array__ __bool__ __bytes__ __call__ __complex__ __contains__ __dir__ __enter__ "
    "__eq__ __exit__ __float__ __floordiv__ __format__ __fspath__ __ge__ __getitem__ __gt__ __hash__ "
    "__index__ __int__ __iter__ __le__ __len__ __length_hint__ __lt__ __missing__ __mod__ __mul__ "
    "__ne__ __neg__ __next__ __pos__ __reduce__ __reduce_ex__ __repr__ __reversed__ __round__ "
    "__sizeof__ __str__ __sub__ __getattribute__ __getattr__ as_tuple bit_length copy decode encode "
    "get hex isoformat item items keys model_dump startswith strftime to_dict tolist utcoffset values "
)
_PROPERTIES = words(
    "__class__ __wrapped__ args columns days device dtype dtypes filename func keywords message name "
    "nbytes ndim seconds shape tzinfo value "
)


def spy(name: str) -> Any:
    def method(*_args: object, **_kwargs: object) -> Any:
        CALLS.append(name)
        raise RuntimeError(f"{name} of a hostile class was called")

    return method


def hostile_class(base: type = object, **namespace: Any) -> type:
    """Create a subclass that overrides everything it can."""
    methods = {name: spy(name) for name in _METHODS}
    properties = {name: property(spy(name)) for name in _PROPERTIES}
    name = f"Hostile{base.__name__.capitalize()}"
    return type(base)(name, (base,), {**methods, **properties, "__module__": __name__, **namespace})


def hostile(base: type, *args: Any) -> Any:
    """Create an object of a hostile subclass, as the base class itself creates and fills one.

    Parameters
    ----------
    base
        The class.
    args
        What the class takes.
    """
    cls = hostile_class(base)
    create: Any = base
    value = create.__new__(cls, *args)
    create.__init__(value, *args)
    return value


def hostile_object(**attributes: Any) -> Any:
    """Create an object of a hostile class with these attributes."""
    value: Any = object.__new__(hostile_class())
    object.__getattribute__(value, "__dict__").update(attributes)
    return value


class _SpyingMeta(type):
    """A metaclass each of whose methods is foreign code."""


for _name in ("__eq__", "__hash__", "__getattribute__", "__repr__", "__instancecheck__", "__subclasscheck__"):
    setattr(_SpyingMeta, _name, spy(f"{_name} of a metaclass"))


class UnhashableMeta(type):
    """A metaclass with `__eq__` and without `__hash__`: its classes are no keys of dictionaries."""

    def __eq__(cls, other: object) -> bool:
        CALLS.append("__eq__ of a metaclass")
        return cls is other

    __hash__ = None  # type: ignore[assignment]


OfSpyingMeta: Any = _SpyingMeta("OfSpyingMeta", (), {"__module__": __name__})
OfUnhashableMeta: Any = UnhashableMeta("OfUnhashableMeta", (), {"__module__": __name__})
