"""The handlers of what has named fields: mappings, and objects that declare fields or attributes.

Flows in: an object and the walker that came to it. Flows out: a JSON object with the same names. Each field
may fail alone: what cannot be read is marked, and so is what was left out. Fields are read from where an
object stores them, its dictionary and its slots. What a property or another descriptor would compute is not.
"""

from __future__ import annotations

import functools
import gc
from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Any

from flowprov.asynchronous import interrupted_reading
from flowprov.values.classes import bases_of, declared, dict_reader, is_computed, namespace_of, slot_reader
from flowprov.values.hidden import HIDDEN
from flowprov.values.markers import JSONable, type_name
from flowprov.values.reading import UnreadableAttribute, read_or_mark, take
from flowprov.values.secret_names import TOKEN_LIKE
from flowprov.values.walker import Handler, Walker

_Pairs = list[tuple[object, object]]


# --- mappings ---------------------------------------------------------------------------------------------


def keep_dict(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a dict."""
    return walker.build_container(value, depth, lambda v, d: _build_dict(walker, v, d))


def _build_dict(walker: Walker, value: Any, depth: int) -> JSONable:
    total = dict.__len__(value)
    pairs = dict_pairs(value, _kept(walker, total))
    return walker.build_object(pairs, max(total, len(pairs)), depth)


def dict_pairs(value: Any, count: int) -> _Pairs:
    """Return the first pairs of a dict or of a subclass, whose own code does not run."""
    if type(value) is dict or not issubclass(type(value), OrderedDict):
        return take(lambda: dict.items(value), count)
    # Its order can be another one. But it looks its keys up by their hash, which may be foreign code.
    plain = all(type(key) is str for key in islice(OrderedDict.__iter__(value), count))
    return take(lambda: OrderedDict.items(value) if plain else dict.items(value), count)


def _kept(walker: Walker, total: int | None) -> int:
    """Return how many entries are kept of a mapping: all, or the first of a large one."""
    limits = walker.limits
    return limits.max_items if total is None or total > limits.max_entries else limits.max_entries


def keep_mapping(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a mapping that is not a dict, as its own code gives them."""
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


def keep_proxy(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the mapping behind a `types.MappingProxyType`, by its own kind."""
    behind = gc.get_referents(value)  # there is no other way to it that runs no code of the mapping
    return walker.build_container(value, depth, lambda _, d: walker.node(behind[0], d))


def keep_chain(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the items of a `collections.ChainMap`; only its type if it is not made of dicts."""
    maps = _attributes_of(value).get("maps")
    if type(maps) is not list or not all(issubclass(type(each), dict) for each in maps):
        return {"$type": type_name(type(value))}

    def build(_: Any, level: int) -> JSONable:
        merged: dict[object, object] = {}
        total = 0
        for each in reversed(maps):
            total = max(total, dict.__len__(each))
            pairs = dict_pairs(each, _kept(walker, dict.__len__(each)))
            # By name and without a hash of a foreign key: of two such keys, both are kept.
            merged.update((key if type(key) is str else _Key(key), content) for key, content in pairs)
        unwrapped: _Pairs = [
            (key.key if isinstance(key, _Key) else key, content) for key, content in merged.items()
        ]
        return walker.build_object(unwrapped, max(total, len(unwrapped)), level)

    return walker.build_container(value, depth, build)


class _Key:
    """Holds a key whose own hash is not asked for."""

    __slots__ = ("key",)

    def __init__(self, key: object) -> None:
        self.key = key


def keep_data(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep what a `collections.UserDict` or `UserList` holds."""
    data = _attributes_of(value).get("data")
    if not issubclass(type(data), (dict, list)):
        return {"$type": type_name(type(value))}
    return walker.build_container(value, depth, lambda _, d: walker.node(data, d))


def _attributes_of(value: object) -> dict[str, Any]:
    """Return the dictionary of an object's attributes; an empty one if it has none, or computes it."""
    read = dict_reader(bases_of(type(value)))
    attributes = {} if read is None else read(value)
    return attributes if type(attributes) is dict else {}


# --- objects with fields ----------------------------------------------------------------------------------


class _Field:
    """How one field of a class is read.

    Parameters
    ----------
    bases
        The class and its bases.
    name
        The field.
    """

    __slots__ = ("_default", "_descriptor", "_read_slot", "name")

    def __init__(self, bases: tuple[type, ...], name: str) -> None:
        attribute = declared(bases, name)
        self.name = name
        self._read_slot = slot_reader(attribute)
        self._descriptor = type_name(type(attribute)) if is_computed(attribute) else None
        has_default = self._descriptor is None and self._read_slot is None
        self._default = attribute if has_default and any(name in namespace_of(b) for b in bases) else _UNSET

    def read(self, walker: Walker, value: object, attributes: dict[str, Any]) -> object:
        """Return what an object stores in the field; `_UNSET` if it stores nothing."""
        if self._read_slot is not None:
            try:
                return self._read_slot(value)
            except AttributeError:
                return _UNSET
        if self.name in attributes:
            return attributes[self.name]
        if self._descriptor is None:
            return self._default
        if walker.limits.object_reprs:
            return read_or_mark(functools.partial(object.__getattribute__, value, self.name))
        return NotRead(self._descriptor)


_UNSET = object()


class NotRead:
    """Stands for a field whose value a descriptor would compute."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: str) -> None:
        self.descriptor = descriptor


def keep_not_read(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the kind of the descriptor."""
    return {"$not_read": value.descriptor}


def fields_handler(names: tuple[str, ...], hidden: frozenset[str], bases: tuple[type, ...]) -> Handler:
    """Return the handler of a class with fields: a dataclass, msgspec Struct, attrs or pydantic class.

    Parameters
    ----------
    names
        The fields.
    hidden
        Those among them that the class leaves out of its repr. Of these are kept only numbers, and what
        reveals nothing.
    bases
        The class and its bases.
    """
    declared_names = frozenset(names)
    fields = [_Field(bases, name) for name in names]
    read_dict = dict_reader(bases)
    extra_readers = [slot_reader(declared(bases, "__pydantic_extra__")), read_dict]

    def build(walker: Walker, value: Any, depth: int) -> JSONable:
        attributes = {} if read_dict is None else read_dict(value)
        pairs: _Pairs = []
        unset = 0
        for field in fields[: _kept(walker, len(names))]:
            content = field.read(walker, value, attributes)
            if content is _UNSET:
                unset += 1
                continue
            is_hidden = field.name in hidden and walker.redactor.enabled
            is_hidden = is_hidden and walker.is_concealed(content, TOKEN_LIKE)
            pairs.append((field.name, HIDDEN if is_hidden else content))
        total = len(names) - unset
        for read in extra_readers:
            if read is not None:
                extras, count = _extras_of(walker, read, value, declared_names)
                pairs += extras
                total += count
        return walker.build_object(pairs, total, depth)

    return lambda walker, value, depth: walker.build_container(value, depth, lambda v, d: build(walker, v, d))


def _extras_of(
    walker: Walker, read: Callable[[Any], Any], value: Any, declared_names: frozenset[str]
) -> tuple[_Pairs, int]:
    """Return the first attributes that an object has besides its fields, and how many it has."""
    try:
        attributes = read(value)
    except AttributeError:  # an unset slot
        return [], 0
    if type(attributes) is not dict or attributes.keys() <= declared_names:
        return [], 0
    limits = walker.limits
    is_large = len(attributes) > limits.max_entries + len(declared_names)
    count = (limits.max_items if is_large else limits.max_entries) + len(declared_names)
    pairs: _Pairs = take(attributes.items, count)
    extras = [pair for pair in pairs if _is_attribute(pair[0]) and pair[0] not in declared_names]
    total = len(extras) + max(len(attributes) - count, 0)
    return extras[: _kept(walker, total)], total


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
    return walker.build_container(value, depth, lambda v, d: _build_dict(walker, _attributes_of(v), d))


# --- configurations of other kinds ------------------------------------------------------------------------


def attributes_handler(slots: tuple[str, ...], bases: tuple[type, ...], otherwise: Handler) -> Handler:
    """Return the handler of a class with `to_dict()`: a configuration, most likely.

    Its public attributes are kept, with its type. `to_dict()` is not called if there are any: for a data set
    it may load all of it, and for a metric it may wait for the device.

    Parameters
    ----------
    slots
        The attributes that the class declares by `__slots__`.
    bases
        The class and its bases.
    otherwise
        The handler of an object that has no public attributes.
    """
    readers = [(name, read) for name in slots if (read := slot_reader(declared(bases, name)))]
    read_dict = dict_reader(bases)
    declared_names = frozenset(slots)

    def build(walker: Walker, value: Any, depth: int) -> JSONable:
        pairs: _Pairs = []
        for name, read in readers:
            attribute = read_or_mark(functools.partial(read, value))
            if not isinstance(attribute, UnreadableAttribute):
                pairs.append((name, attribute))
        unseen = 0
        if read_dict is not None:
            extras, total = _extras_of(walker, read_dict, value, declared_names)
            pairs += extras
            unseen = total - len(extras)
        public = [pair for pair in pairs if not str(pair[0]).startswith("_")]
        if not public:
            return otherwise(walker, value, depth)
        form = walker.build_object(public[: _kept(walker, len(public))], len(public) + unseen, depth)
        return {"$type": type_name(type(value)), **form}

    return lambda walker, value, depth: walker.build_container(value, depth, lambda v, d: build(walker, v, d))


def keep_to_dict(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep what `to_dict()` returns, of an object of which else nothing but the type could be kept."""
    marker: dict[str, JSONable] = {"$type": type_name(type(value))}
    content = read_or_mark(lambda: type(value).to_dict(value))
    if isinstance(content, UnreadableAttribute):
        return {**marker, "read_error": content.reason}
    form = keep_dict(walker, content, depth) if isinstance(content, dict) else None
    return {**marker, **form} if isinstance(form, dict) else marker
