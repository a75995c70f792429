"""The walker: one pass over one value, its containers and their keys, within the limits.

Flows in: a value and the limits. Flows out: its recordable form, made of JSON's own types and markers. The
handlers decide about each single object; the walker calls them, and they call it back for what an object
holds. An exception in a handler becomes a marker for that object alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast

import msgspec

from flowprov.asynchronous import interrupted_reading
from flowprov.values.key_rules import KeyRules, key_name, unique_key
from flowprov.values.markers import INT_MAX, INT_MIN, JSONable, escape_surrogates, type_name
from flowprov.values.redaction import Redactor, redactor
from flowprov.values.secret_forms import has_id_of_aws, is_secret_of_aws
from flowprov.values.secret_names import NOT_SECRET, SECRET, SERVICE, TOKEN_LIKE, looks_like_service_key

Item = TypeVar("Item")
Handler: TypeAlias = "Callable[[Walker, Any, int], JSONable]"

_MAX_TRIES = 3  # to read a container that another thread is changing
_MAX_SHORT_TEXT = 200
_SHORT_STRING = 100  # characters of a string, once a value has too many of them
_SCALARS = frozenset({bool, int, float, str, type(None)})
_json = msgspec.json.Encoder().encode


class Limits(msgspec.Struct, frozen=True):
    """How much of one value is kept. What goes beyond is cut, and a marker says so."""

    max_string: int = 1_000
    """Characters of a string."""
    max_items: int = 100
    """Items of one container; of a mapping or an object, those that are no scalars."""
    max_entries: int = 1_500
    """Entries of a mapping or an object that is kept whole; of a larger one `max_items` are kept."""
    max_depth: int = 8
    """Levels of containers in one another."""
    max_nodes: int = 1_000
    """Values in one value altogether, and entries of a mapping of values. The scalars in mappings and objects
    are not counted here: of these there may be `max_entries` besides, as a configuration is mostly these."""
    max_total: int = 20_000
    """Values in a mapping of values altogether."""
    max_text: int = 200_000
    """Characters of strings in one value or one mapping of values; beyond these, strings are cut shorter."""
    max_repr: int = 200
    """Characters of a repr, a message or a key."""


class HandlerTable(NamedTuple):
    """The handlers by type, as a walker needs them; `summarizer` builds it."""

    by_type: dict[type, Handler]
    """The handler of each type that was looked up before."""
    resolve: Callable[[type], Handler]
    """Finds the handler of a new type, and adds it to `by_type`."""
    contentless: frozenset[Handler]
    """The handlers that keep nothing of a value's content."""
    numeric: frozenset[Handler]
    """The handlers that keep a real number."""
    sometimes_numeric: dict[Handler, Callable[[Any], bool]]
    """The handlers that keep the number of some values, and nothing of the content of others: of which."""


class UnreadableAttribute:
    """Stands for an attribute that raised when it was read.

    Attributes
    ----------
    reason
        The exception, as text.
    unset
        Whether the exception says that there is no such attribute.
    """

    __slots__ = ("reason", "unset")

    def __init__(self, error: BaseException) -> None:
        self.reason = exception_text(error)
        self.unset = isinstance(error, AttributeError)


def read_or_mark(read: Callable[[], Any]) -> Any:
    """Return what a function returns, or an `UnreadableAttribute` of what it raises."""
    try:
        return read()
    except BaseException as error:  # a property or a mapping is foreign code
        if interrupted_reading(error):
            raise
        return UnreadableAttribute(error)


class Walker:
    """One pass over one value, with the state that it needs.

    Parameters
    ----------
    limits
        As for the `Summarizer`.
    arrays
        Returns the summary of a tensor or array as JSON, for encoding. If None, summaries are dicts.
    handlers
        The handlers by type.
    key_rules
        The rules for keys.
    redactor
        Conceals secrets in text.
    """

    __slots__ = (
        "_characters",
        "_finished",
        "_met_aws_id",
        "_open_ids",
        "arrays",
        "entries",
        "handlers",
        "key_rules",
        "limits",
        "nodes",
        "redactor",
    )

    def __init__(
        self,
        limits: Limits,
        *,
        arrays: Callable[[Any], msgspec.Raw] | None,
        handlers: HandlerTable,
        key_rules: KeyRules,
        redactor: Redactor,
    ) -> None:
        self.limits = limits
        self.redactor = redactor
        self.arrays = arrays
        self.handlers = handlers
        self.key_rules = key_rules
        self.nodes = 0  # so far, without the scalars of mappings and objects: those are entries
        self.entries = 0
        self._finished = 0  # of the values before this one
        self._characters = 0
        self._met_aws_id = False
        self._open_ids: set[int] = set()

    def next_value(self) -> None:
        """Begin another value of a mapping of values: the limits hold for each by itself."""
        self._finished += self.nodes + self.entries
        if self._finished < self.limits.max_total:
            self.nodes = self.entries = 0

    def node(self, value: object, depth: int) -> JSONable:
        """Return the recordable form of a value; a marker if the value raises while it is read."""
        self.nodes += 1
        try:
            return self.handler_of(type(value))(self, value, depth)
        # Foreign code may raise anything; a native extension that panics raises its own BaseException.
        except BaseException as error:
            if interrupted_reading(error):
                raise
            return {"$type": type_name(type(value)), "read_error": exception_text(error)}

    def handler_of(self, cls: type) -> Handler:
        """Return the handler of a class."""
        return self.handlers.by_type.get(cls) or self.handlers.resolve(cls)

    def node_named(self, value: object, name: str, depth: int) -> JSONable:
        """Return the recordable form of a value that has a name; a marker if it is a secret."""
        secrecy = self.key_rules.secrecy(name)
        if self.is_concealed(value, secrecy):
            self.nodes += 1
            return {"$redacted": True}
        if secrecy != SECRET or self.arrays is None:
            return self.node(value, depth)
        # `arrays` may add statistics, and those reveal something of a tensor's contents.
        arrays, self.arrays = self.arrays, None
        try:
            return self.node(value, depth)
        finally:
            self.arrays = arrays

    def is_concealed(self, value: object, secrecy: int) -> bool:
        """Whether a value is concealed under a name that is so far a secret."""
        if secrecy == SERVICE:
            return type(value) is str and looks_like_service_key(value)
        return secrecy != NOT_SECRET and not self._reveals_nothing(value, secrecy)

    def _reveals_nothing(self, value: object, secrecy: int) -> bool:
        """Whether a value may be kept under the name of a secret.

        Whether a password is set is no secret. The contents of tensors are not recorded. A number named
        `token` is one that a language model works on.
        """
        cls = type(value)
        if value is None or cls is bool:
            return True
        try:
            handler = self.handler_of(cls)
        except Exception as error:  # a metaclass may run any code; then the value counts as a secret
            if interrupted_reading(error):
                raise
            return False
        is_number = self.handlers.sometimes_numeric.get(handler)
        if handler in self.handlers.contentless or (is_number is not None and not is_number(value)):
            return True
        return secrecy == TOKEN_LIKE and (handler in self.handlers.numeric or is_number is not None)

    def build_container(self, value: object, depth: int, build: Callable[[Any, int], JSONable]) -> JSONable:
        """Return a container's form, which `build` returns; a marker if it holds itself or lies too deep."""
        if depth >= self.limits.max_depth:
            return {"$depth": type_name(type(value))}
        identity = id(value)
        if identity in self._open_ids:
            return {"$cycle": True}
        self._open_ids.add(identity)
        try:
            return build(value, depth)
        finally:
            self._open_ids.discard(identity)

    def build_list(self, items: Sequence[object], total: int | None, depth: int) -> JSONable:
        """Return the recordable form of a list.

        Parameters
        ----------
        items
            The items that are to be kept.
        total
            How many the list has; None if it has more than `items`, and their number is unknown.
        depth
            The level of the list.
        """
        if len(items) == total and self._is_plain_json(items):
            self.nodes += total
            return cast("JSONable", list(items))
        forms, cut_marker = self.build_items(self.key_rules.hide_in_list(items), total, depth)
        return forms + cut_marker

    def build_items(
        self, items: Sequence[object], total: int | None, depth: int
    ) -> tuple[list[JSONable], list[JSONable]]:
        """Return the forms of the items; and, in a list of its own, the marker if some were cut."""
        forms: list[JSONable] = []
        for item in items:
            if self.nodes >= self.limits.max_nodes:
                break
            forms.append(self.node(item, depth + 1))
        return forms, [] if len(forms) == total else [{"$cut": True if total is None else total}]

    def _is_plain_json(self, items: Sequence[object]) -> bool:
        """Whether a list is kept as it is.

        It is if it holds only finite floats, only 64-bit integers, or only booleans and None.
        """
        if self.nodes + len(items) > self.limits.max_nodes:
            return False
        classes = set(map(type, items))
        if classes == {float}:
            total = sum(cast("Sequence[float]", items))
            return total - total == 0.0  # also false if the sum overflows, which only costs time
        if classes == {int}:
            numbers = cast("Sequence[int]", items)
            return min(numbers) >= INT_MIN and max(numbers) <= INT_MAX
        return classes <= {bool, type(None)}

    def build_object(
        self,
        pairs: Sequence[tuple[object, object]],
        total: int | None,
        depth: int,
        *,
        each_by_itself: bool = False,
    ) -> JSONable:
        """Return the recordable form of a mapping.

        Parameters
        ----------
        pairs
            The keys and values that are to be kept.
        total
            How many the mapping has; None if it has more than `pairs`, and their number is unknown.
        depth
            The level of the mapping.
        each_by_itself
            Whether the limits hold for each value by itself.
        """
        rules, safe_keys, limits = self.key_rules, self.key_rules.safe_keys, self.limits
        result: dict[str, JSONable] = {}
        others = 0
        for key, value in pairs:
            cls = type(value)
            if each_by_itself:
                self.next_value()
            elif cls in _SCALARS:
                self.entries += 1
                if self.entries > limits.max_entries:
                    break
            else:
                others += 1
                if others > limits.max_items or self.nodes >= limits.max_nodes:
                    continue  # scalars behind it are kept
            if type(key) is str and (key in safe_keys or rules.is_safe(key)):
                name = key if key not in result else unique_key(key, result)
                # What most configurations consist of, without the three calls of `node`.
                if (
                    (cls is float and value - value == 0.0)  # type: ignore[operator]
                    or (cls is int and INT_MIN <= value <= INT_MAX)  # type: ignore[operator]
                    or cls is bool
                    or value is None
                ):
                    result[name] = value  # type: ignore[assignment]
                elif cls is str:
                    result[name] = self.text(value)  # type: ignore[arg-type]
                else:
                    result[name] = self.node(value, depth + 1)
            else:
                name = key if type(key) is str else self.key_text(key)
                form = self.node_named(value, key_name(key) or name, depth + 1)
                result[unique_key(rules.escaped_key(name), result)] = form
        rules.hide_named_value(result)
        if len(result) != total:
            result["$cut"] = True if total is None else total
        return result

    def key_text(self, key: object) -> str:
        """Return the text for a key of another type than `str`: a scalar's JSON, else a name or the type."""
        if type(key) is tuple and len(key) <= _MAX_SHORT_TEXT // 10:
            parts = [self.node(part, self.limits.max_depth) for part in key]
            if all(isinstance(part, (str, int, float, type(None))) for part in parts):
                return _json(parts).decode()
        form = self.node(key, self.limits.max_depth)
        if isinstance(form, str):
            return form
        if isinstance(form, dict):
            first, content = next(iter(form.items()))
            has_text = first in {"$str", "$int", "$float", "$enum", "$class", "$callable", "$module"}
            return content if has_text and isinstance(content, str) else f"<{type_name(type(key))}>"
        if isinstance(form, (bool, int, float, type(None))):
            return _json(form).decode()
        return f"<{type_name(type(key))}>"

    def text(self, value: str) -> JSONable:
        """Return the form of a string: without secrets, and cut if it is too long."""
        limit = self.limits.max_string
        self._characters += min(len(value), limit)
        if self._characters > self.limits.max_text:
            limit = min(limit, _SHORT_STRING)
        # A short string is not cut, even where its redaction is longer than the limit.
        clean = self.redactor
        redacted = clean.start(value, limit) if len(value) > limit else clean.text(value)
        if redacted is not value:
            self._met_aws_id = self._met_aws_id or has_id_of_aws(value[:limit])
        elif self._met_aws_id and is_secret_of_aws(value):
            return {"$redacted": True}
        text = escape_surrogates(redacted)
        if text is redacted and len(value) <= limit:
            return text
        marker: dict[str, JSONable] = {"$str": text}
        if len(value) > limit:
            marker["length"] = len(value)
        if text is not redacted:
            marker["escaped"] = True
        return marker

    def short_text(self, text: str) -> str:
        """Return a repr or a message without secrets, cut to `Limits.max_repr` characters."""
        limit = self.limits.max_repr
        text = str.__str__(text)
        start = self.redactor.start(text, limit)
        return escape_surrogates(start + "…" if len(text) > limit else start)


def take(iterate: Callable[[], Iterable[Item]], count: int) -> list[Item]:
    """Return the first items of a container, even if another thread changes it at the same time."""
    for _ in range(_MAX_TRIES - 1):
        try:
            return list(islice(iterate(), count))
        except RuntimeError:  # noqa: PERF203 - it changed size during iteration
            continue
    return list(islice(iterate(), count))


def exception_text(error: BaseException) -> str:
    """Return type and message of an exception, short and without secrets; never raise."""
    name = type_name(type(error))
    try:
        message = redactor().start(str.__str__(str(error)), _MAX_SHORT_TEXT)
    except BaseException as broken:  # an exception's `__str__` is foreign code too
        if interrupted_reading(broken):
            raise
        return name
    return escape_surrogates(f"{name}: {message}") if message else name
