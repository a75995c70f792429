"""The walker: one pass over one value, its containers and their keys, within the limits.

Flows in: a value and the limits. Flows out: its recordable form, made of JSON's own types and markers. The
handlers decide about each single object; the walker calls them, and they call it back for what an object
holds. An exception in a handler becomes a marker for that object alone.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias, cast

import msgspec

from flowprov.asynchronous import interrupted_reading
from flowprov.values.budget import Budget, Limits
from flowprov.values.key_rules import KeyRules, key_name, unique_key
from flowprov.values.markers import INT_MAX, INT_MIN, JSONable, escape_surrogates, type_name
from flowprov.values.reading import exception_text
from flowprov.values.redaction import Redactor
from flowprov.values.secret_forms import has_id_of_aws, is_secret_of_aws
from flowprov.values.secret_names import NOT_SECRET, SECRET, SERVICE, TOKEN_LIKE, looks_like_service_key
from flowprov.values.sizes import escapes_in, is_scalar, length_of, size_of, size_of_plain, time_of_redaction

Handler: TypeAlias = "Callable[[Walker, Any, int], JSONable]"

# Bytes of JSON, about; the marker is that of a text of which nothing is kept.
_COST_OF_NODE, _COST_OF_MARKER = 12, 30
_SHORT = 50  # characters of a text of which nobody asks how they are encoded
_LONG = 200  # characters of a text or key that may take long to redact: the clock is read before
_NAMES_A_LOOK = 20  # names, and values of these, after which the clock is read
_VALUES_OFTEN = 5  # values after which it is read where there is little time
_TIME_FOR_NAMES, _TIME_FOR_LONG = 0.5, 0.5  # after these parts of it, no name or long text is begun
_TIME_OF_NAME = 8_000  # nanoseconds, to find out whether it means a secret, on a slow machine
_MAX_ESCAPE = 6  # bytes of a character as JSON
TEXT_LOOKAHEAD = 8_192  # characters of a string behind its limit that its redaction may have to see
_json = msgspec.json.Encoder().encode


class HandlerTable(NamedTuple):
    """The handlers by type, as a walker needs them; `summarizer` builds it."""

    by_id: dict[int, Handler]
    """The handler of each type that was looked up before, by the id of the type."""
    resolve: Callable[[type], Handler]
    """Finds the handler of a new type, and adds it to `by_id`."""
    is_known: Callable[[type], bool]
    """Whether the code of a type may run: it comes from a package that is known to be quick and harmless."""
    contentless: frozenset[Handler]
    """The handlers that keep nothing of a value's content."""
    numeric: frozenset[Handler]
    """The handlers that keep a real number."""
    sometimes_numeric: dict[Handler, Callable[[Any], bool]]
    """The handlers that keep the number of some values, and nothing of the content of others: of which."""


class Walker(Budget):
    """One pass over one value, or over several that are encoded at once, with the state that it needs.

    Parameters
    ----------
    limits
        As for the `Summarizer`.
    max_bytes
        How many bytes of JSON may come of it, about.
    arrays
        Returns the summary of a tensor or array as JSON, for encoding. If None, summaries are dicts.
    handlers
        The handlers by type.
    key_rules
        The rules for keys.
    redactor
        Conceals secrets in text.
    """

    __slots__ = ("_learned", "_met_aws_id", "_open_ids", "arrays", "handlers", "key_rules", "redactor")

    def __init__(
        self,
        limits: Limits,
        max_bytes: int,
        *,
        arrays: Callable[[Any], msgspec.Raw] | None,
        handlers: HandlerTable,
        key_rules: KeyRules,
        redactor: Redactor,
    ) -> None:
        super().__init__(limits, max_bytes)
        self.redactor = redactor
        self._met_aws_id = False
        self.arrays = arrays
        self.handlers = handlers
        self.key_rules = key_rules
        self._open_ids: set[int] = set()
        self._learned = key_rules.learned

    def credit(self) -> int:
        """Return the time that names took which were seen for the first time."""
        return (self.key_rules.learned - self._learned) * _TIME_OF_NAME

    def node(self, value: object, depth: int) -> JSONable:
        """Return the recordable form of a value; a marker if the value raises while it is read."""
        self.nodes += 1
        self.left -= _COST_OF_NODE
        if self.left < self._look_below:
            self.look()
        try:
            return self.handler_of(type(value))(self, value, depth)
        # Foreign code may raise anything; a native extension that panics raises its own BaseException.
        except BaseException as error:
            if interrupted_reading(error):
                raise
            return {"$type": type_name(type(value)), "read_error": exception_text(error)}

    def handler_of(self, cls: type) -> Handler:
        """Return the handler of a class."""
        return self.handlers.by_id.get(id(cls)) or self.handlers.resolve(cls)

    def is_known(self, cls: type) -> bool:
        """Whether code of a class may run, as it is known to be quick and harmless."""
        return self.limits.object_reprs or self.handlers.is_known(cls)

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
        """Return a container's form, which `build` returns; a marker if it may not be opened.

        It holds itself, or lies too deep, or the budget is spent.
        """
        if self.over:
            return {"$cut": length_of(value)}
        if depth >= self.limits.max_depth:
            return {"$depth": type_name(type(value))}
        identity = id(value)
        if identity in self._open_ids:
            return {"$cycle": True}
        self._open_ids.add(identity)
        self.count_container()
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
        if (
            len(items) == total
            and self.nodes + total <= self.limits.max_nodes
            and 0 < (cost := size_of_plain(items)) < self.left
        ):
            self.nodes += total
            self.spend(cost)
            return cast("JSONable", list(items))
        forms, cut_marker = self.build_items(self.key_rules.hide_in_list(items), total, depth)
        return forms + cut_marker

    def build_items(
        self, items: Sequence[object], total: int | None, depth: int
    ) -> tuple[list[JSONable], list[JSONable]]:
        """Return the forms of the items; and, in a list of its own, the marker if some were cut."""
        forms: list[JSONable] = []
        for item in items:
            if self.over or self.nodes >= self.limits.max_nodes:
                break
            forms.append(self.node(item, depth + 1))
        return forms, [] if len(forms) == total else [{"$cut": True if total is None else total}]

    def build_object(
        self, pairs: Iterable[tuple[object, object]], total: int | None, depth: int
    ) -> dict[str, JSONable]:
        """Return the recordable form of a mapping.

        Parameters
        ----------
        pairs
            The keys and values that are to be kept.
        total
            How many the mapping has; None if it has more than `pairs`, and their number is unknown.
        depth
            The level of the mapping.
        """
        rules, safe_keys, limits = self.key_rules, self.key_rules.safe_keys, self.limits
        result: dict[str, JSONable] = {}
        others = 0
        for key, value in pairs:
            if self.over:
                break
            cls = type(value)
            if cls is float or cls is str or cls is int or cls is bool or value is None:
                self.entries += 1
                if self.entries > limits.max_entries:
                    break
            else:
                others += 1
                if others > limits.max_items or self.nodes >= limits.max_nodes:
                    continue  # scalars behind it are kept
            if type(key) is str and (key in safe_keys or rules.is_safe(key)):
                name = key if key not in result else unique_key(key, result)
                self.left -= len(name) + _COST_OF_NODE
                if self.left < self._look_below:
                    self.look()
                # What most configurations consist of, without the three calls of `node`.
                if (
                    (cls is float and value - value == 0.0)  # type: ignore[operator]
                    or (cls is int and INT_MIN <= value <= INT_MAX)  # type: ignore[operator]
                    or cls is bool
                    or value is None
                ):
                    result[name] = value  # type: ignore[assignment]
                else:
                    result[name] = self.text(value) if cls is str else self.node(value, depth + 1)  # type: ignore[arg-type]
            else:
                self._add_entry(result, key, value, depth)
        rules.hide_named_value(result)
        if len(result) != total:
            result["$cut"] = True if total is None else total
        return result

    def _add_entry(self, result: dict[str, JSONable], key: object, value: object, depth: int) -> None:
        cls = type(key)
        may_be_long = cls is tuple or ((cls is str or cls is bytes) and len(key) > _LONG)  # type: ignore[arg-type]
        if may_be_long and self.is_over_time():
            return
        name, written = self._write_key(key, result)
        self.spend(len(_json(written)) + _COST_OF_NODE)
        result[written] = self.node_named(value, key_name(key) or name, depth + 1)

    def _write_key(self, key: object, taken: Container[str]) -> tuple[str, str]:
        """Return the text of a key, and as it is written beside those that are taken."""
        name = key if type(key) is str else self.key_text(key)
        return name, unique_key(self.key_rules.escaped_key(name), taken)

    def build_record(self, pairs: Sequence[tuple[object, object]], total: int | None) -> dict[str, JSONable]:
        """Return the recordable form of named values, each of which has its share of the bytes.

        The small ones come first, so that one large value costs none of the others. The names keep their
        order. The parameters are those of :meth:`build_object`.
        """
        entries: list[tuple[int, int, str, str, object]] = []
        result: dict[str, JSONable] = {}
        left = left_for_names = self.left
        for key, value in pairs:
            is_slow = type(key) is not str or len(key) > _LONG
            is_looked_at = is_slow or len(entries) % _NAMES_A_LOOK == 0
            if is_looked_at and self.has_spent(_TIME_FOR_NAMES) and entries:
                break
            name, written = self._write_key(key, result)
            if (left_for_names := left_for_names - (cost := len(_json(written)) + _COST_OF_NODE)) < 0:
                break
            result[written] = None
            entries.append((len(written) + size_of(value), cost, written, key_name(key) or name, value))
        entries.sort(key=itemgetter(0))
        values_a_look = _NAMES_A_LOOK if self.limits.max_begun is None else _VALUES_OFTEN
        for index, (_, cost, written, name, value) in enumerate(entries):
            if index % values_a_look == 0:
                self.look()
            if self.over == "time" and len(entries) > self.limits.max_items and not is_scalar(value):
                del result[written]
                continue
            share = max(left // (len(entries) - index), 0)
            self.next_value(share)
            self.spend(cost)
            result[written] = self.node_named(value, name, 0)
            left -= share - self.left
        self.key_rules.hide_named_value(result)
        if len(result) != total:
            result["$cut"] = True if total is None else total
        return result

    def key_text(self, key: object) -> str:
        """Return the text for a key of another type than `str`: a scalar's JSON, else a name or the type."""
        if type(key) is tuple and len(key) <= 20:
            parts = [self.node(part, self.limits.max_depth) for part in key]
            if all(isinstance(part, (str, int, float, type(None))) for part in parts):
                return _json(parts).decode()
        self.count_container()
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

    def text(self, value: str, length: int = -1) -> JSONable:
        """Return the form of a string: without secrets, and cut if it is too long.

        Parameters
        ----------
        value
            The string, or more than may be kept of it.
        length
            Characters of the whole string, if they are more than those of `value`.
        """
        length = max(length, len(value))
        limit = self.limits.max_string
        if length > _SHORT and (self.over == "time" or (length > _LONG and not self._may_redact(value))):
            self.left -= _COST_OF_MARKER
            return {"$str": "", "length": length}
        if self.left < self._short_below:
            limit //= 10
        start = value if len(value) <= limit else value[:limit]
        cost = len(start)
        if cost > _SHORT and not (start.isascii() and start.isprintable()):
            cost += escapes_in(start)
        if cost > self.left:
            cost = limit = min(limit, max(self.left // _MAX_ESCAPE, _SHORT))
        self.spend(cost)
        # A short string is not cut, even where its redaction is longer than the limit.
        clean = self.redactor
        redacted = clean.start(value, limit) if len(value) > limit else clean.text(value)
        if redacted is not value:
            self._met_aws_id = self._met_aws_id or has_id_of_aws(value[:limit])
        elif self._met_aws_id and is_secret_of_aws(value):
            return {"$redacted": True}
        text = escape_surrogates(redacted)
        if text is redacted and length <= limit:
            return text
        marker: dict[str, JSONable] = {"$str": text}
        if length > limit:
            marker["length"] = length
        if text is not redacted:
            marker["escaped"] = True
        return marker

    def _may_redact(self, text: str) -> bool:
        """Whether there is time to find the secrets in a long text."""
        if self.has_spent(_TIME_FOR_LONG):
            return False
        limits = self.limits
        return limits.max_begun is None or self.may_begin(time_of_redaction(text, limits.max_string))

    def short_text(self, text: str) -> str:
        """Return a repr or a message without secrets, cut to `Limits.max_repr` characters."""
        limit = self.limits.max_repr
        text = str.__str__(text)
        start = self.redactor.start(text, limit)
        return escape_surrogates(start + "…" if len(text) > limit else start)
