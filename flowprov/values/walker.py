"""One pass over one value: containers, names, and the limits that bound what is kept.

Flows in: a value and the limits. Flows out: its recordable form, made of JSON's own kinds and marks. What a
single object becomes is decided in kinds.py, whose handlers are called with the walk; a fault in any of them
ends in a mark for that object alone.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from flowprov.values.markers import INT_MAX, INT_MIN, JSONable, encodable, type_name
from flowprov.values.redaction import (
    NOT_SECRET,
    TOKEN_LIKE,
    redact_repr,
    redact_start,
    redact_urls,
    secret_level,
)

Item = TypeVar("Item")
Handler: TypeAlias = "Callable[[Walker, Any, int], JSONable]"

_TRIES = 3  # at reading a container that another thread is changing
_SHORT = 200
_json = msgspec.json.Encoder().encode


class Limits(msgspec.Struct, frozen=True):
    """How much of one value is kept; what is beyond is cut, with a mark that says so."""

    max_string: int = 1_000
    """Characters of a string."""
    max_items: int = 100
    """Items of one container."""
    max_depth: int = 8
    """Containers inside one another."""
    max_nodes: int = 1_000
    """Values inside one value, and entries of a mapping of values."""
    max_repr: int = 200
    """Characters of a repr, a message or a key."""


class Kinds(NamedTuple):
    """Where a walk finds what becomes of an object; made in registry.py."""

    handlers: dict[type, Handler]
    """Of each type that was met before."""
    classify: Callable[[type], Handler]
    """Finds (and keeps) the handler of a new type."""
    silent: frozenset[Handler]
    """Those whose forms hold nothing of a value's content."""
    numbers: frozenset[Handler]
    """Those that keep a real number."""


class UnreadableAttribute:
    """Stands where an attribute of an object should be that raised when it was read."""

    __slots__ = ("fault",)

    def __init__(self, fault: BaseException) -> None:
        self.fault = describe_fault(fault)


class Walker:
    """The state of one pass.

    Parameters
    ----------
    limits, redact
        As the `Summariser` has them.
    arrays
        Gives the summary of a tensor or array as ready JSON, for encoding; None: summaries must be dicts.
    kinds
        What becomes of objects, by their types.
    names
        How keys are written.
    """

    __slots__ = ("_open", "arrays", "kinds", "limits", "names", "nodes", "redact")

    def __init__(
        self,
        limits: Limits,
        *,
        redact: bool,
        arrays: Callable[[Any], msgspec.Raw] | None,
        kinds: Kinds,
        names: Names,
    ) -> None:
        self.limits = limits
        self.redact = redact
        self.arrays = arrays
        self.kinds = kinds
        self.names = names
        self.nodes = 0
        self._open: set[int] = set()

    def node(self, value: object, depth: int) -> JSONable:
        """Make one value recordable; a fault while it is read becomes its mark."""
        self.nodes += 1
        try:
            return self.handler(type(value))(self, value, depth)
        except (KeyboardInterrupt, SystemExit):
            raise
        # Foreign code may raise anything, and a native extension panics with a BaseException of its own.
        except BaseException as fault:
            return {"$type": type_name(type(value)), "read_error": describe_fault(fault)}

    def handler(self, cls: type) -> Handler:
        """Find what makes instances of this class recordable."""
        return self.kinds.handlers.get(cls) or self.kinds.classify(cls)

    def node_named(self, value: object, name: str, depth: int) -> JSONable:
        """Make a value recordable that has a name; a secret becomes a mark."""
        level = self.names.secrecy(name)
        if level != NOT_SECRET and not self._cannot_tell(value, level):
            self.nodes += 1
            return {"$redacted": True}
        if level in (NOT_SECRET, TOKEN_LIKE) or self.arrays is None:
            return self.node(value, depth)
        # What a caller adds to the summary of a tensor may tell of its contents.
        arrays, self.arrays = self.arrays, None
        try:
            return self.node(value, depth)
        finally:
            self.arrays = arrays

    def _cannot_tell(self, value: object, level: int) -> bool:
        # Whether there is a password is no secret; tensors are never recorded by content; a number under the
        # name `token` is what language models work on.
        kind = type(value)
        if value is None or kind is bool:
            return True
        try:
            handler = self.handler(kind)
        except Exception:  # a metaclass may run any code; then the value counts as a secret
            return False
        return handler in self.kinds.silent or (level == TOKEN_LIKE and handler in self.kinds.numbers)

    def nested(self, value: object, depth: int, build: Callable[[Any, int], JSONable]) -> JSONable:
        """Build a container's form, unless it holds itself or lies too deep."""
        if depth >= self.limits.max_depth:
            return {"$depth": type_name(type(value))}
        mark = id(value)
        if mark in self._open:
            return {"$cycle": True}
        self._open.add(mark)
        try:
            return build(value, depth)
        finally:
            self._open.discard(mark)

    def sequence(self, items: Sequence[object], total: int | None, depth: int) -> JSONable:
        """Make a list of items, of which there are `total` in truth (None: more, nobody knows how many)."""
        if len(items) == total and self._plain(items):
            self.nodes += total
            return cast("JSONable", list(items))
        kept, cut = self.items(items, total, depth)
        return kept + cut

    def items(
        self, items: Sequence[object], total: int | None, depth: int
    ) -> tuple[list[JSONable], list[JSONable]]:
        """Make items recordable; apart, in a list, the mark that says how many there are in truth."""
        kept: list[JSONable] = []
        for item in items:
            if self.nodes >= self.limits.max_nodes:
                break
            kept.append(self.node(item, depth + 1))
        return kept, [] if len(kept) == total else [{"$cut": True if total is None else total}]

    def _plain(self, items: Sequence[object]) -> bool:
        if self.nodes + len(items) > self.limits.max_nodes:
            return False
        kinds = set(map(type, items))
        if kinds == {float}:
            total = sum(cast("Sequence[float]", items))
            return total - total == 0.0  # one NaN or infinity spoils the sum; an overflow only costs time
        if kinds == {int}:
            numbers = cast("Sequence[int]", items)
            return min(numbers) >= INT_MIN and max(numbers) <= INT_MAX
        return kinds <= {bool, type(None)}

    def mapping(
        self,
        pairs: Sequence[tuple[object, object]],
        total: int | None,
        depth: int,
        *,
        each_anew: bool = False,
    ) -> JSONable:
        """Make an object of pairs, of which there are `total` in truth (None: more, nobody knows how many).

        With `each_anew` the nodes of every value are counted from nought.
        """
        names, plain = self.names, self.names.safe_keys
        result: dict[str, JSONable] = {}
        for key, value in pairs:
            if each_anew:
                self.nodes = 0
            if self.nodes >= self.limits.max_nodes:
                break
            if type(key) is str and (key in plain or names.is_safe(key)):
                name = key
                if name in result:
                    name = unique_key(name, result)
                if type(value) is float and value - value == 0.0:  # the commonest kind, without three calls
                    self.nodes += 1
                    result[name] = value
                else:
                    result[name] = self.node(value, depth + 1)
            else:
                name = key if type(key) is str else self.key_text(key)
                result[unique_key(names.escaped_key(name), result)] = self.node_named(value, name, depth + 1)
        if len(result) != total:
            result["$cut"] = True if total is None else total
        return result

    def key_text(self, key: object) -> str:
        """Write a key that is no exact string: scalars as JSON writes them, others by name or type."""
        if type(key) is tuple and len(key) <= _SHORT // 10:
            parts = [self.node(part, self.limits.max_depth) for part in key]
            if all(isinstance(part, (str, int, float, type(None))) for part in parts):
                return _json(parts).decode()
        form = self.node(key, self.limits.max_depth)
        if isinstance(form, str):
            return form
        if isinstance(form, dict):
            first, content = next(iter(form.items()))
            known = first in {"$str", "$int", "$float", "$enum", "$class", "$callable", "$module"}
            return content if known and isinstance(content, str) else f"<{type_name(type(key))}>"
        if isinstance(form, (bool, int, float, type(None))):
            return _json(form).decode()
        return f"<{type_name(type(key))}>"

    def text(self, value: str) -> JSONable:
        """Keep an exact string: its beginning where it is long, without credentials in URLs."""
        limit = self.limits.max_string
        if len(value) <= limit and "://" not in value and value.isascii():
            return value
        if not self.redact:
            shown = value[:limit]
        else:  # a short one is not cut where the redaction makes it longer
            shown = redact_start(value, limit) if len(value) > limit else redact_urls(value)
        clean = encodable(shown)
        if clean is shown and len(value) <= limit:
            return clean
        mark: dict[str, JSONable] = {"$str": clean}
        if len(value) > limit:
            mark["length"] = len(value)
        if clean is not shown:
            mark["escaped"] = True
        return mark

    def short(self, text: str) -> str:
        """Cut a repr or a message and conceal credentials in it."""
        limit = self.limits.max_repr
        text = str.__str__(text)
        shown = redact_repr(text, limit) if self.redact else text[:limit]
        return encodable(shown + "…" if len(text) > limit else shown)


def take(iterate: Callable[[], Iterable[Item]], count: int) -> list[Item]:
    """Take the first items of a container that another thread may change meanwhile."""
    for _ in range(_TRIES - 1):
        try:
            return list(islice(iterate(), count))
        except RuntimeError:  # noqa: PERF203 - it changed size during iteration
            continue
    return list(islice(iterate(), count))


def describe_fault(fault: BaseException) -> str:
    """Say what was raised, short and without credentials; never raises itself."""
    name = type_name(type(fault))
    try:
        message = redact_repr(str.__str__(str(fault)), _SHORT)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # an exception's own __str__ is foreign code too
        return name
    return encodable(f"{name}: {message}") if message else name


_MAX_PLAIN = 4096


class Names:
    """Rules for names, and the names that were found to need none.

    Parameters
    ----------
    max_length
        Characters of a name that are kept.
    redact
        Whether secrets are concealed.
    """

    __slots__ = ("_max_length", "_redact", "safe_keys")

    def __init__(self, max_length: int, *, redact: bool) -> None:
        self._max_length = max_length
        self._redact = redact
        self.safe_keys: set[object] = set()

    def is_safe(self, key: object) -> bool:
        """Say whether a key is written as it is and never means a secret; if so it is remembered."""
        if type(key) is not str or self.escaped_key(key) is not key or self.secrecy(key) != NOT_SECRET:
            return False
        if len(self.safe_keys) >= _MAX_PLAIN:  # names made without end
            self.safe_keys.clear()
        self.safe_keys.add(key)
        return True

    def secrecy(self, name: str) -> int:
        """Say how far a name means a secret; never, where nothing is concealed."""
        return secret_level(name) if self._redact else NOT_SECRET

    def escaped_key(self, name: str) -> str:
        """Write a name: cut, without credentials, a leading "$" doubled; the same object where it stays."""
        limit = self._max_length
        if len(name) > limit:
            name = (redact_start(name, limit) if self._redact else name[:limit]) + "…"
        elif self._redact and "://" in name:
            name = redact_urls(name)
        name = encodable(name)
        return "$" + name if name.startswith("$") else name


def unique_key(name: str, taken: Container[str]) -> str:
    """Give a name that is not taken, so that of two keys with one text (1 and "1") both values are kept."""
    if name not in taken:
        return name
    ordinal = 2
    while f"{name}#{ordinal}" in taken:
        ordinal += 1
    return f"{name}#{ordinal}"
