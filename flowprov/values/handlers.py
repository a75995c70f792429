"""The handlers: for each kind of object, a function that returns what a record keeps of it.

Flows in: an object and the walker that came to it. Flows out: the object's form in the record. A handler is
chosen by what the type declares, so an object that lies about its `__class__`, or that has every attribute,
deceives nobody. No framework is imported to recognize its objects.
"""

from __future__ import annotations

import functools
import re
from typing import Any, cast

import msgspec

from flowprov.asynchronous import interrupted_reading
from flowprov.values.fields import keep_dict
from flowprov.values.hidden import hide_arguments, parameter_names
from flowprov.values.markers import JSONable, float_json, int_json, name_text, type_name
from flowprov.values.secret_names import NOT_SECRET
from flowprov.values.tensors import array_summary, frame_summary
from flowprov.values.walker import Walker, exception_text, read_or_mark, take

_MAX_DIGEST_BYTES = 2**20
_MAX_SORTED_ITEMS = 1_000
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


# --- scalars ----------------------------------------------------------------------------------------------


def keep_as_is(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep None and booleans."""
    return value  # type: ignore[no-any-return]


def keep_int(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep an integer. Of a subclass, keep the integer itself, whatever the subclass overrides."""
    return int_json(int.__pos__(value))


def keep_float(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep a float. Of a subclass, keep the float itself, whatever the subclass overrides."""
    return float_json(float.__pos__(value))


def keep_str(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep a string. Of a subclass, keep the string itself, whatever the subclass overrides."""
    return walker.text(str.__str__(value))


def keep_hidden_str(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep nothing of a string whose class does not show it in its repr."""
    return {"$redacted": True} if walker.redactor.enabled else keep_str(walker, value, depth)


def keep_complex(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the real and the imaginary part."""
    value = complex.__pos__(value)
    return {"$complex": [float_json(value.real), float_json(value.imag)]}


def keep_numpy_scalar(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep a numpy scalar as the number (or text) that it is."""
    if value.dtype.kind in "mM":  # item() would return a bare integer of nanoseconds
        return walker.text(str(value))
    item = value.item()
    if type(item) is type(value):  # Python has no type for long doubles
        item = complex(value) if value.dtype.kind == "c" else float(value)
    return walker.node(item, depth + 1)


def keep_str_form(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep what `str` returns, for kinds where that is the complete and usual form."""
    return walker.text(str.__str__(str(value)))


def keep_iso(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep a date or a time in its ISO form."""
    return walker.text(str.__str__(value.isoformat()))


def keep_duration(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep a duration in its ISO form, in seconds."""
    if hasattr(type(value), "isoformat"):  # pandas: down to nanoseconds
        return walker.text(str.__str__(value.isoformat()))
    micros = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    seconds, fraction_micros = divmod(abs(micros), 1_000_000)
    fraction = f".{fraction_micros:06d}" if fraction_micros else ""
    return f"{'-' if micros < 0 else ''}PT{seconds}{fraction}S"


def keep_enum(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the name and the value of an enum member."""
    name = value._name_  # the documented attribute; a class may override `name`
    label = f"{type_name(type(value))}.{name}"
    return {"$enum": name_text(label), "value": walker.node(value._value_, depth + 1)}


def keep_range(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep start, stop and step of a range or a slice."""
    marker = "$range" if type(value) is range else "$slice"
    return {marker: [walker.node(part, depth + 1) for part in (value.start, value.stop, value.step)]}


def keep_bytes(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the length, and a digest of at most the first MiB."""
    from hashlib import sha256  # costs a millisecond to import, and most programs record no bytes

    marker: dict[str, JSONable]
    if isinstance(value, memoryview):
        length = value.nbytes
        marker = {"$bytes": length}
        if not value.contiguous:
            return marker  # a digest would need a copy of all bytes
        head = bytes(value.cast("B")[:_MAX_DIGEST_BYTES]) if length else b""
    else:
        length = len(value)
        marker = {"$bytes": length}
        head = bytes(value[:_MAX_DIGEST_BYTES])  # a copy: a bytearray with a view cannot be resized
    marker["sha256"] = sha256(head, usedforsecurity=False).hexdigest()
    if length > len(head):
        marker["digest_of_first"] = len(head)
    return marker


# --- containers -------------------------------------------------------------------------------------------


def keep_list(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a list."""
    return walker.build_container(
        value, depth, lambda v, d: walker.build_list(*_first_items(walker, v, list), d)
    )


def keep_tuple(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a tuple, as a list."""
    return walker.build_container(
        value, depth, lambda v, d: walker.build_list(*_first_items(walker, v, tuple), d)
    )


def keep_iterable(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a deque or of a view, as a list."""
    return walker.build_container(
        value, depth, lambda v, d: walker.build_list(*_first_items(walker, v, type(v)), d)
    )


def _first_items(walker: Walker, value: Any, base: Any) -> tuple[list[object], int]:
    # Calls the base class's own methods: a subclass may override them with anything.
    if type(value) is list or type(value) is tuple:
        return list(value[: walker.limits.max_items]), len(value)
    limit = walker.limits.max_items
    try:
        items: list[object] = take(lambda: base.__iter__(value), limit)
    except BaseException as error:  # one item that cannot be read must not cost the others
        if interrupted_reading(error) or not hasattr(base, "__getitem__"):
            raise
        indices = range(min(base.__len__(value), limit))
        items = [read_or_mark(functools.partial(base.__getitem__, value, index)) for index in indices]
    return items, max(base.__len__(value), len(items))


def keep_set(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a set, as a list in an order that does not depend on hashes."""
    return walker.build_container(value, depth, lambda v, d: _sorted_items(walker, v, d))


def _sorted_items(walker: Walker, value: Any, depth: int) -> JSONable:
    base: Any = frozenset if isinstance(value, frozenset) else set
    total = base.__len__(value)
    items: list[Any] = take(lambda: base.__iter__(value), max(_MAX_SORTED_ITEMS, walker.limits.max_items))
    if len({*map(type, items)} - {int}) == 0 or {*map(type, items)} == {str}:
        items.sort()
        return walker.build_list(items[: walker.limits.max_items], total, depth)
    forms, cut_marker = walker.build_items(items[: walker.limits.max_items], total, depth)
    return [*sorted(forms, key=msgspec.json.encode), *cut_marker]


# --- arrays and models ------------------------------------------------------------------------------------


def keep_array(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep type, shape, dtype, device and size of a tensor or an array."""
    if walker.arrays is not None:
        return walker.arrays(value)  # type: ignore[return-value]  # goes to the encoder only
    return array_summary(value)


def keep_numpy_array(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep an array without a dimension as its number, and any other as :func:`keep_array` does."""
    if is_number(value):
        return walker.node(value.item(), depth)
    return keep_array(walker, value, depth)


def is_number(array: Any) -> bool:
    """Whether an array of numpy is a number: it has no dimension, and its element is one."""
    return not array.shape and array.dtype.kind in "biufc"


def keep_frame(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep type, shape, columns and dtypes of a data frame."""
    summary = frame_summary(value, walker.limits.max_items)
    total = summary["shape"][1] if len(summary["shape"]) == 2 else len(summary["columns"])
    for name in ("columns", "dtypes"):
        summary[name] = walker.build_list(summary[name], total, depth + 1)
    return summary


def keep_encoded(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep what was encoded before."""
    if walker.arrays is None:
        return cast("JSONable", msgspec.json.decode(value))
    return cast("JSONable", value)


def keep_type_only(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the type only: the repr of these kinds prints elements or runs code."""
    return {"$type": type_name(type(value))}


# --- code, exceptions and the rest ------------------------------------------------------------------------


def keep_callable(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the qualified name of a function or a method."""
    return {"$callable": _qualified_name(value)}


def _qualified_name(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    module = getattr(value, "__module__", None)
    if not isinstance(name, str):
        return type_name(type(value))
    qualified = f"{module}.{name}" if isinstance(module, str) and module != "builtins" else name
    return name_text(qualified)


def keep_class(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the qualified name of a class."""
    return {"$class": type_name(value)}


def keep_module(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the name of a module."""
    return {"$module": walker.short_text(object.__getattribute__(value, "__name__"))}


def keep_partial(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the name of the function and the arguments of a partial."""

    def is_secret(name: str) -> bool:
        return walker.key_rules.secrecy(name) != NOT_SECRET

    def build(v: Any, d: int) -> JSONable:
        return {
            "$partial": _qualified_name(v.func),
            "args": keep_tuple(walker, hide_arguments(parameter_names(v.func), v.args, is_secret), d),
            "keywords": keep_dict(walker, v.keywords, d),
        }

    return walker.build_container(value, depth, build)


def keep_exception(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the type and the message of an exception."""
    marker: dict[str, JSONable] = {"$exception": type_name(type(value))}
    try:
        marker["message"] = walker.short_text(str(value))
    except BaseException as error:  # its __str__ is foreign code
        if interrupted_reading(error):
            raise
        marker["message_error"] = exception_text(error)
    return marker


def keep_environment(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep nothing of `os.environ`."""
    return {"$redacted": True, "type": type_name(type(value))}


def keep_hidden(_walker: Walker, _value: Any, _depth: int) -> JSONable:
    """Keep nothing of a secret."""
    return {"$redacted": True}


def keep_unreadable(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the exception that an attribute raised when it was read."""
    return {"$read_error": value.reason}


def keep_other(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the type and a short repr."""
    marker: dict[str, JSONable] = {"$type": type_name(type(value))}
    if getattr(type(value), "__repr__", None) is object.__repr__:
        return marker  # the repr holds only an address, which tells a reader nothing
    try:
        text = repr(value)
        marker["repr"] = walker.short_text(
            _ADDRESS.sub("", text[: walker.limits.max_repr * 8]) if " at 0x" in text else text
        )
    except BaseException as error:  # its __repr__ is foreign code
        if interrupted_reading(error):
            raise
        marker["repr_error"] = exception_text(error)
    return marker
