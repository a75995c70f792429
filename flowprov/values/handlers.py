"""What becomes of each kind of object: one handler per kind, and how the kind of a type is found.

Flows in: an object and the walk that met it. Flows out: its form in the record. Kinds are told by the type
alone, by the names of its bases and by what its class declares: an object that lies about `__class__`, or has
every attribute one asks for, is none the wiser; no framework is imported to recognise its objects.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any

import msgspec

from flowprov.values.arrays import array_summary, frame_summary
from flowprov.values.markers import JSONable, encodable, float_json, int_json, type_name
from flowprov.values.walker import Handler, UnreadableAttribute, Walker, describe_fault, take

_DIGEST_BYTES = 2**20
_SORTED_ITEMS = 1_000
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


# --- scalars ----------------------------------------------------------------------------------------------


def keep_as_is(_walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep None and booleans."""
    return value  # type: ignore[no-any-return]


def keep_int(_walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep an integer; of a subclass the plain value, whatever it overrides."""
    return int_json(int.__pos__(value))


def keep_float(_walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep a float; of a subclass the plain value, whatever it overrides."""
    return float_json(float.__pos__(value))


def keep_str(walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep a string; of a subclass the plain value, whatever it overrides."""
    return walk.text(str.__str__(value))


def keep_complex(_walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep real and imaginary part."""
    value = complex.__pos__(value)
    return {"$complex": [float_json(value.real), float_json(value.imag)]}


def keep_numpy_scalar(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep a numpy scalar as the number (or text) that it is."""
    if value.dtype.kind in "mM":  # item() would make a bare integer of nanoseconds
        return walk.text(str(value))
    item = value.item()
    if type(item) is type(value):  # long doubles have no Python twin
        item = complex(value) if value.dtype.kind == "c" else float(value)
    return walk.node(item, depth + 1)


def keep_str_form(walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep what `str` writes, for kinds where that is a complete and usual form."""
    return walk.text(str.__str__(str(value)))


def keep_iso(walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep a date or a time in its ISO form."""
    return walk.text(str.__str__(value.isoformat()))


def keep_duration(walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep a duration in its ISO form, in seconds."""
    if hasattr(type(value), "isoformat"):  # pandas: down to nanoseconds
        return walk.text(str.__str__(value.isoformat()))
    micros = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    seconds, rest = divmod(abs(micros), 1_000_000)
    fraction = f".{rest:06d}" if rest else ""
    return f"{'-' if micros < 0 else ''}PT{seconds}{fraction}S"


def keep_enum(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep the name and the value of an enum member."""
    name = value._name_  # the documented attribute; `name` may be overridden
    label = f"{type_name(type(value))}.{name}"
    return {"$enum": encodable(label[:200]), "value": walk.node(value._value_, depth + 1)}


def keep_range(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep start, stop and step of a range or a slice."""
    mark = "$range" if type(value) is range else "$slice"
    return {mark: [walk.node(part, depth + 1) for part in (value.start, value.stop, value.step)]}


def keep_bytes(_walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the length, and a digest of no more than the first MiB."""
    from hashlib import sha256  # costs a millisecond to import, and most programs record no bytes

    mark: dict[str, JSONable]
    if isinstance(value, memoryview):
        length = value.nbytes
        mark = {"$bytes": length}
        if not value.contiguous:
            return mark  # a digest would need a whole copy
        head = bytes(value.cast("B")[:_DIGEST_BYTES]) if length else b""
    else:
        length = len(value)
        mark = {"$bytes": length}
        head = bytes(value[:_DIGEST_BYTES])  # a copy: a view would forbid the owner to resize a bytearray
    mark["sha256"] = sha256(head, usedforsecurity=False).hexdigest()
    if length > len(head):
        mark["digest_of_first"] = len(head)
    return mark


# --- containers -------------------------------------------------------------------------------------------


def keep_list(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a list."""
    return walk.nested(value, depth, lambda v, d: walk.sequence(*_head(walk, v, list), d))


def keep_tuple(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a tuple, as a list."""
    return walk.nested(value, depth, lambda v, d: walk.sequence(*_head(walk, v, tuple), d))


def keep_iterable(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a deque or of a view, as a list."""
    return walk.nested(value, depth, lambda v, d: walk.sequence(*_head(walk, v, type(v)), d))


def _head(walk: Walker, value: Any, base: Any) -> tuple[list[object], int]:
    # Of a subclass the builtin's own items, whatever it overrides.
    if type(value) is list or type(value) is tuple:
        return list(value[: walk.limits.max_items]), len(value)
    items: list[object] = take(lambda: base.__iter__(value), walk.limits.max_items)
    return items, max(base.__len__(value), len(items))


def keep_set(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a set, as a list in an order that does not depend on hashes."""
    return walk.nested(value, depth, lambda v, d: _sorted_items(walk, v, d))


def _sorted_items(walk: Walker, value: Any, depth: int) -> JSONable:
    base: Any = frozenset if isinstance(value, frozenset) else set
    total = base.__len__(value)
    items: list[Any] = take(lambda: base.__iter__(value), max(_SORTED_ITEMS, walk.limits.max_items))
    if len({*map(type, items)} - {int}) == 0 or {*map(type, items)} == {str}:
        items.sort()
        return walk.sequence(items[: walk.limits.max_items], total, depth)
    kept, cut = walk.items(items[: walk.limits.max_items], total, depth)
    return [*sorted(kept, key=msgspec.json.encode), *cut]


def keep_dict(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a dict."""
    return walk.nested(value, depth, lambda v, d: _dict_items(walk, v, d))


def _dict_items(walk: Walker, value: Any, depth: int) -> JSONable:
    base: Any = OrderedDict if isinstance(value, OrderedDict) else dict
    pairs: list[tuple[object, object]] = take(lambda: base.items(value), walk.limits.max_items)
    return walk.mapping(pairs, max(dict.__len__(value), len(pairs)), depth)


def keep_mapping(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a mapping that is no dict."""
    return walk.nested(value, depth, lambda v, d: _mapping_items(walk, v.items, d))


def keep_items_view(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep the pairs of `dict.items()`, as an object."""
    return walk.nested(value, depth, lambda v, d: _mapping_items(walk, lambda: v, d))


def _mapping_items(walk: Walker, items: Any, depth: int) -> JSONable:
    limit = walk.limits.max_items
    pairs: list[tuple[object, object]] = take(items, limit + 1)
    total = len(pairs) if len(pairs) <= limit else None
    if total is None:
        try:
            total = max(len(items()), limit + 1)
        except Exception:  # foreign code; the mark then says that items were cut, not how many
            total = None
    return walk.mapping(pairs[:limit], total, depth)


def by_fields(names: tuple[str, ...]) -> Handler:
    """Make the handler of a class with these fields: a dataclass, msgspec Struct, attrs or pydantic class."""

    def handle(walk: Walker, value: Any, depth: int) -> JSONable:
        return walk.nested(value, depth, lambda v, d: _fields(walk, v, names, d))

    return handle


def _fields(walk: Walker, value: Any, names: tuple[str, ...], depth: int) -> JSONable:
    pairs: list[tuple[object, object]] = []
    unset = 0
    for name in names[: walk.limits.max_items]:
        try:
            pairs.append((name, object.__getattribute__(value, name)))
        except AttributeError:  # noqa: PERF203 - each field fails for itself
            unset += 1
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as fault:  # a property is foreign code
            pairs.append((name, UnreadableAttribute(fault)))
    return walk.mapping(pairs, len(names) - unset, depth)


def named_tuple(names: tuple[str, ...]) -> Handler:
    """Make the handler of a named tuple with these fields."""

    def handle(walk: Walker, value: Any, depth: int) -> JSONable:
        def build(v: Any, d: int) -> JSONable:
            limit = walk.limits.max_items
            return walk.mapping(list(zip(names, tuple.__iter__(v), strict=False))[:limit], len(names), d)

        return walk.nested(value, depth, build)

    return handle


def keep_namespace(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep the attributes of a namespace."""
    return walk.nested(
        value, depth, lambda v, d: _dict_items(walk, object.__getattribute__(v, "__dict__"), d)
    )


# --- arrays and models ------------------------------------------------------------------------------------


def keep_array(walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep what a tensor or an array is like."""
    if walk.arrays is not None:
        return walk.arrays(value)  # type: ignore[return-value]  # goes to the encoder only
    return array_summary(value)


def keep_frame(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep what a data frame is like."""
    summary = frame_summary(value, walk.limits.max_items)
    total = summary["shape"][1] if len(summary["shape"]) == 2 else len(summary["columns"])
    for name in ("columns", "dtypes"):
        summary[name] = walk.sequence(summary[name], total, depth + 1)
    return summary


def keep_type_only(_walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the type, of kinds whose repr prints elements or runs code."""
    return {"$type": type_name(type(value))}


# --- code, faults and the rest ----------------------------------------------------------------------------


def keep_callable(_walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the qualified name of a function or a method."""
    return {"$callable": _qualified_name(value)}


def _qualified_name(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    module = getattr(value, "__module__", None)
    if not isinstance(name, str):
        return type_name(type(value))
    shown = f"{module}.{name}" if isinstance(module, str) and module != "builtins" else name
    return encodable(shown[:200])


def keep_class(_walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the qualified name of a class."""
    return {"$class": type_name(value)}


def keep_module(walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the name of a module."""
    return {"$module": walk.short(object.__getattribute__(value, "__name__"))}


def keep_partial(walk: Walker, value: Any, depth: int) -> JSONable:
    """Keep the name of the function and the arguments of a partial."""

    def build(v: Any, d: int) -> JSONable:
        return {
            "$partial": _qualified_name(v.func),
            "args": keep_tuple(walk, v.args, d),
            "keywords": keep_dict(walk, v.keywords, d),
        }

    return walk.nested(value, depth, build)


def keep_exception(walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep type and message of an exception."""
    mark: dict[str, JSONable] = {"$exception": type_name(type(value))}
    try:
        mark["message"] = walk.short(str(value))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as fault:  # its __str__ is foreign code
        mark["message_error"] = describe_fault(fault)
    return mark


def keep_environment(_walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep nothing of `os.environ`."""
    return {"$redacted": True, "type": type_name(type(value))}


def keep_unreadable(_walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep what was raised when an attribute was read."""
    return {"$read_error": value.fault}


def keep_other(walk: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the type and a short repr."""
    mark: dict[str, JSONable] = {"$type": type_name(type(value))}
    if getattr(type(value), "__repr__", None) is object.__repr__:
        return mark  # an address says nothing
    try:
        text = repr(value)
        mark["repr"] = walk.short(
            _ADDRESS.sub("", text[: walk.limits.max_repr * 8]) if " at 0x" in text else text
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as fault:  # its __repr__ is foreign code
        mark["repr_error"] = describe_fault(fault)
    return mark
