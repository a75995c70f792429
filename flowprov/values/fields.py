"""The handlers of what has named fields: mappings, and objects that declare fields or attributes.

Flows in: an object and the walker that came to it. Flows out: a JSON object with the same names. Each field
may fail alone: what cannot be read is marked, and so is what was left out.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from flowprov.asynchronous import interrupted_reading
from flowprov.values.hidden import HIDDEN
from flowprov.values.markers import JSONable, type_name
from flowprov.values.secret_names import TOKEN_LIKE
from flowprov.values.walker import Handler, UnreadableAttribute, Walker, read_or_mark, take

_Pairs = list[tuple[object, object]]


# --- mappings ---------------------------------------------------------------------------------------------


def keep_dict(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a dict."""
    return walker.build_container(value, depth, lambda v, d: _build_dict(walker, v, d))


def _build_dict(walker: Walker, value: Any, depth: int) -> JSONable:
    base: Any = OrderedDict if isinstance(value, OrderedDict) else dict
    total = dict.__len__(value)
    pairs: _Pairs = take(lambda: base.items(value), _kept(walker, total))
    return walker.build_object(pairs, max(total, len(pairs)), depth)


def _kept(walker: Walker, total: int | None) -> int:
    """Return how many entries are kept of a mapping: all, or the first of a large one."""
    limits = walker.limits
    return limits.max_items if total is None or total > limits.max_entries else limits.max_entries


def keep_mapping(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a mapping that is not a dict."""
    return walker.build_container(value, depth, lambda v, d: _build_mapping(walker, v, v.items, d))


def keep_items_view(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the pairs of `dict.items()`, as an object."""
    return walker.build_container(value, depth, lambda v, d: _build_mapping(walker, v, lambda: v, d))


def _build_mapping(walker: Walker, sized: Any, items: Callable[[], Any], depth: int) -> JSONable:
    total = read_or_mark(functools.partial(len, sized))
    if isinstance(total, UnreadableAttribute):
        total = None  # a marker then says that items were cut, but not how many
    limit = _kept(walker, total)
    pairs = first_pairs(sized, items, limit + 1)
    if len(pairs) <= limit:
        total = len(pairs)
    elif total is not None:
        total = max(total, limit + 1)
    return walker.build_object(pairs[:limit], total, depth)


def first_pairs(mapping: Any, items: Callable[[], Any], count: int) -> list[tuple[object, object]]:
    """Return the first pairs of a mapping; what a value raised, in its place.

    Parameters
    ----------
    mapping
        The mapping, or a view of one.
    items
        Returns its pairs.
    count
        How many of them.
    """
    try:
        return take(items, count)
    except BaseException as error:  # foreign code: one value that cannot be read must not cost the others
        if interrupted_reading(error) or not hasattr(type(mapping), "keys"):
            raise
        keys = take(mapping.keys, count)
        return [(key, read_or_mark(functools.partial(mapping.__getitem__, key))) for key in keys]


# --- objects with fields ----------------------------------------------------------------------------------


def fields_handler(
    names: tuple[str, ...], properties: frozenset[str], hidden: frozenset[str], sources: tuple[str, ...]
) -> Handler:
    """Return the handler of a class with fields: a dataclass, msgspec Struct, attrs or pydantic class.

    Parameters
    ----------
    names
        The fields.
    properties
        Those among them that are properties: one of these that raises AttributeError is no unset field.
    hidden
        Those among them that the class leaves out of its repr. Of these are kept only numbers, and what
        reveals nothing.
    sources
        The attributes that hold, as dictionaries, what an object has besides.
    """
    declared = frozenset(names)

    def build(walker: Walker, value: Any, depth: int) -> JSONable:
        limit = _kept(walker, len(names))
        pairs: _Pairs = []
        unset = 0
        for name in names[:limit]:
            try:
                content = object.__getattribute__(value, name)
                is_hidden = (
                    name in hidden and walker.redactor.enabled and walker.is_concealed(content, TOKEN_LIKE)
                )
                pairs.append((name, HIDDEN if is_hidden else content))
            except BaseException as error:  # noqa: PERF203 - each field may fail alone; a property is foreign code
                if interrupted_reading(error):
                    raise
                if isinstance(error, AttributeError) and name not in properties:
                    unset += 1
                else:
                    pairs.append((name, UnreadableAttribute(error)))
        extras = _extras_of(value, declared, sources)
        pairs += extras[: _kept(walker, len(names) + len(extras))]
        return walker.build_object(pairs, len(names) - unset + len(extras), depth)

    return lambda walker, value, depth: walker.build_container(value, depth, lambda v, d: build(walker, v, d))


def _extras_of(value: Any, declared: frozenset[str], sources: tuple[str, ...]) -> _Pairs:
    """Return attributes that an object has besides the fields of its class, as configurations often do."""
    extras: _Pairs = []
    for source in sources:
        try:
            attributes = object.__getattribute__(value, source)
        except Exception as error:  # it has none, or a class lies about them
            if interrupted_reading(error):
                raise
            continue
        if type(attributes) is dict and not attributes.keys() <= declared:
            pairs = take(attributes.items, len(attributes))
            extras += [pair for pair in pairs if _is_attribute(pair[0]) and pair[0] not in declared]
    return extras


def _is_attribute(name: object) -> bool:
    return type(name) is str and not name.startswith("__")


def named_tuple_handler(names: tuple[str, ...]) -> Handler:
    """Return the handler of a named tuple with these fields."""

    def handle(walker: Walker, value: Any, depth: int) -> JSONable:
        def build(v: Any, d: int) -> JSONable:
            limit = _kept(walker, len(names))
            return walker.build_object(
                list(zip(names, tuple.__iter__(v), strict=False))[:limit], len(names), d
            )

        return walker.build_container(value, depth, build)

    return handle


def keep_namespace(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the attributes of a namespace."""
    return walker.build_container(
        value, depth, lambda v, d: _build_dict(walker, object.__getattribute__(v, "__dict__"), d)
    )


# --- configurations of other kinds ------------------------------------------------------------------------


def attributes_handler(slots: tuple[str, ...], otherwise: Handler) -> Handler:
    """Return the handler of a class with `to_dict()`: a configuration, most likely.

    Its public attributes are kept, with its type. `to_dict()` is not called if there are any: for a data set
    it may load all of it, and for a metric it may wait for the device.

    Parameters
    ----------
    slots
        The attributes that the class declares by `__slots__`.
    otherwise
        The handler of an object that has no public attributes.
    """

    def build(walker: Walker, value: Any, depth: int) -> JSONable:
        pairs: _Pairs = []
        for name in slots:
            attribute = read_or_mark(functools.partial(object.__getattribute__, value, name))
            if not (isinstance(attribute, UnreadableAttribute) and attribute.unset):
                pairs.append((name, attribute))
        pairs += _extras_of(value, frozenset(slots), ("__dict__",))
        public = [pair for pair in pairs if not str(pair[0]).startswith("_")]
        if not public:
            return otherwise(walker, value, depth)
        form = walker.build_object(public[: _kept(walker, len(public))], len(public), depth)
        return {"$type": type_name(type(value)), **form} if isinstance(form, dict) else form

    return lambda walker, value, depth: walker.build_container(value, depth, lambda v, d: build(walker, v, d))


def keep_to_dict(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep what `to_dict()` returns, of an object of which else nothing but the type could be kept."""
    marker: dict[str, JSONable] = {"$type": type_name(type(value))}
    content = read_or_mark(lambda: type(value).to_dict(value))
    if isinstance(content, UnreadableAttribute):
        return {**marker, "read_error": content.reason}
    form = keep_dict(walker, content, depth) if isinstance(content, dict) else None
    return {**marker, **form} if isinstance(form, dict) else marker
