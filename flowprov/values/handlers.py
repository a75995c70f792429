"""The handlers: for each kind of object, a function that returns what a record keeps of it.

Flows in: an object and the walker that came to it. Flows out: the object's form in the record. A handler is
chosen by what the type declares, so an object that lies about its `__class__`, or that has every attribute,
deceives nobody. No framework is imported to recognize its objects.
"""

from __future__ import annotations

import functools
import re
import types
from collections import deque
from typing import Any, cast

import msgspec

from flowprov.asynchronous import interrupted_reading
from flowprov.values.classes import bases_of, declared
from flowprov.values.fields import keep_dict
from flowprov.values.hidden import hide_arguments, parameter_names
from flowprov.values.markers import JSONable, escape_surrogates, name_text, type_name
from flowprov.values.messages import exception_message
from flowprov.values.reading import exception_text, take
from flowprov.values.secret_names import NOT_SECRET
from flowprov.values.tensors import array_summary, frame_shape, frame_summary
from flowprov.values.walker import TEXT_LOOKAHEAD, Handler, Walker

_MAX_SORTED_ITEMS = 1_000
_TIME_OF_SORTED, _TIME_OF_FRAME = 200, 250_000  # nanoseconds, on a slow machine: of an item, of a data frame
_LEEWAY = 1_000  # bytes by which something small may exceed the budget
# What has a name that the interpreter itself gives.
_NAMED = (
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    functools._lru_cache_wrapper,  # noqa: SLF001 - what `lru_cache` returns has no other name
)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


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


def keep_deque(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a deque, as a list."""
    return walker.build_container(
        value, depth, lambda v, d: walker.build_list(*_first_items(walker, v, deque), d)
    )


def keep_view(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a view of a dict, as a list."""
    return walker.build_container(
        value, depth, lambda v, d: walker.build_list(*_first_items(walker, v, type(v)), d)
    )


def _first_items(walker: Walker, value: Any, base: Any) -> tuple[list[object], int]:
    # Calls the known class's own methods: a subclass may override them with anything.
    if type(value) is list or type(value) is tuple:
        return list(value[: walker.limits.max_items]), len(value)
    items: list[object] = take(lambda: base.__iter__(value), walker.limits.max_items)
    return items, max(base.__len__(value), len(items))


def keep_set(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a set, as a list in an order that does not depend on hashes."""
    return walker.build_container(value, depth, lambda v, d: _sorted_items(walker, v, d))


def _sorted_items(walker: Walker, value: Any, depth: int) -> JSONable:
    base: Any = frozenset if issubclass(type(value), frozenset) else set
    total = base.__len__(value)
    count = max(_MAX_SORTED_ITEMS, walker.limits.max_items)
    if total > walker.limits.max_items and not walker.may_begin(min(total, count) * _TIME_OF_SORTED):
        return {"$cut": total}
    items: list[Any] = take(lambda: base.__iter__(value), count)
    walker.spend(len(items))  # not bytes, but time: the clock is looked at
    classes = {*map(id, map(type, items))}  # to hash a class may run the code of its metaclass
    if classes <= {id(int)} or classes == {id(str)}:
        items.sort()
        return walker.build_list(items[: walker.limits.max_items], total, depth)
    forms, cut_marker = walker.build_items(items[: walker.limits.max_items], total, depth)
    return [*sorted(forms, key=msgspec.json.encode), *cut_marker]


# --- arrays and models ------------------------------------------------------------------------------------


def keep_array(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep type, shape, dtype, device and size of a tensor or an array."""
    walker.spend(100)
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
    if not walker.may_begin(_TIME_OF_FRAME):
        return frame_shape(value)
    walker.spend(1_500)  # time, not bytes
    summary = frame_summary(value, walker.limits.max_items)
    total = summary["shape"][1] if len(summary["shape"]) == 2 else len(summary["columns"])
    for name in ("columns", "dtypes"):
        summary[name] = walker.build_list(summary[name], total, depth + 1)
    return summary


def keep_encoded(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep what was encoded before, if there is room for it."""
    size = len(memoryview(value))
    if size > walker.left + _LEEWAY:
        walker.spend(20)
        return {"$cut": True}
    walker.spend(size)
    if walker.arrays is None:
        return cast("JSONable", msgspec.json.decode(value))
    return cast("JSONable", value)


def keep_type_only(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the type only: the repr of these kinds prints elements or runs code."""
    walker.spend(40)
    return {"$type": type_name(type(value))}


def asked_only(handler: Handler) -> Handler:
    """Return a handler that keeps the type only, unless objects of unknown classes are to be asked."""

    def handle(walker: Walker, value: Any, depth: int) -> JSONable:
        if walker.limits.object_reprs and not walker.over:
            walker.spend(1_500)  # time, not bytes
            return handler(walker, value, depth)
        return keep_type_only(walker, value, depth)

    return handle


# --- code, exceptions and the rest ------------------------------------------------------------------------


def keep_callable(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the qualified name of a function or a method."""
    walker.spend(40)
    return {"$callable": _qualified_name(value)}


def _qualified_name(value: Any) -> str:
    if type(value) is types.MethodType:
        value = value.__func__  # it may be anything that can be called
    if type(value) not in _NAMED:
        return type_name(value) if issubclass(type(value), type) else type_name(type(value))
    name = getattr(value, "__qualname__", None)
    module = getattr(value, "__module__", None)
    if type(name) is not str:
        return type_name(type(value))
    qualified = f"{module}.{name}" if type(module) is str and module != "builtins" else name
    return name_text(qualified)


def keep_class(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the qualified name of a class."""
    return {"$class": type_name(value)}


def keep_module(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the name of a module."""
    walker.count_container()  # it takes as long
    attributes: Any = vars(types.ModuleType)["__dict__"]
    name = attributes.__get__(value).get("__name__")
    return {"$module": walker.short_text(name if type(name) is str else "?")}


def keep_partial(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the name of the function and the arguments of a partial."""

    def is_secret(name: str) -> bool:
        return walker.key_rules.secrecy(name) != NOT_SECRET

    def build(v: Any, d: int) -> JSONable:
        function = _part_of(v, "func")
        shown = hide_arguments(parameter_names(function), _part_of(v, "args"), is_secret)
        return {
            "$partial": _qualified_name(function),
            "args": keep_tuple(walker, shown, d),
            "keywords": keep_dict(walker, _part_of(v, "keywords"), d),
        }

    return walker.build_container(value, depth, build)


def _part_of(value: Any, name: str) -> Any:
    return functools.partial.__dict__[name].__get__(value)  # a subclass may declare a property of this name


def keep_exception(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the type and the message of an exception."""
    marker: dict[str, JSONable] = {"$exception": type_name(type(value))}
    try:
        limits = walker.limits
        message = exception_message(value, limits.max_repr + TEXT_LOOKAHEAD, own_text=limits.object_reprs)
        walker.spend(min(len(message), limits.max_repr))
        marker["message"] = walker.short_text(message)
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


def keep_artifact(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep which artifact it is, and what it is called."""
    artifact_id = getattr(value, "artifact_id", None)
    number = artifact_id.rpartition("-")[2] if type(artifact_id) is str else ""
    marker: dict[str, JSONable] = {"$artifact": artifact_id if number else None}
    if number.isdecimal():
        marker["number"] = int(number)
    for name in ("kind", "name", "path"):
        text = getattr(value, name, None)
        if type(text) is str:
            marker[name] = walker.text(escape_surrogates(text))
    walker.spend(sum(len(str(part)) for part in marker.values()))
    return marker


def keep_unreadable(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the exception that an attribute raised when it was read."""
    walker.spend(len(value.reason))
    return {"$read_error": value.reason}


def keep_repr(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the type and a short repr."""
    marker: dict[str, JSONable] = {"$type": type_name(type(value))}
    if declared(bases_of(type(value)), "__repr__") is object.__repr__:
        return marker  # the repr holds only an address, which tells a reader nothing
    try:
        text = repr(value)
        marker["repr"] = walker.short_text(
            _ADDRESS.sub("", text[: walker.limits.max_repr * 8]) if " at 0x" in text else text
        )
        walker.spend(min(len(text), walker.limits.max_repr) + 40)
    except BaseException as error:  # its __repr__ is foreign code
        if interrupted_reading(error):
            raise
        marker["repr_error"] = exception_text(error)
    return marker
