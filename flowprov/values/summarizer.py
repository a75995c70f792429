"""The summarizer: values, and mappings of values, to their recordable form. Every event passes through it.

Flows in: what a program used and generated. Flows out: JSON, as objects or as bytes for a line of a journal.
Plain scalars need only the loop of `encode_mapping`; every other value goes through a walker.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from time import thread_time_ns
from typing import Any

import msgspec

from flowprov.asynchronous import interrupted_reading
from flowprov.values.budget import Limits, Spent, TimedJSON
from flowprov.values.fields import dict_pairs, first_pairs
from flowprov.values.handler_table import HANDLER_TABLE
from flowprov.values.handlers import is_number, keep_array, keep_numpy_array
from flowprov.values.key_rules import MAX_SAFE_KEYS, KeyRules
from flowprov.values.markers import INT_MAX, INT_MIN, JSONable, type_name
from flowprov.values.omegaconf import config_entries, first_entries
from flowprov.values.reading import exception_text
from flowprov.values.redaction import DEFAULT, Redactor
from flowprov.values.reentry import read_once
from flowprov.values.tensors import tensor_raw
from flowprov.values.walker import Walker

_handlers = HANDLER_TABLE.by_id
_encode = msgspec.json.Encoder().encode
# Stands for a value when the stack or the memory of the caller is exhausted.
_UNRECORDABLE: dict[str, JSONable] = {"$read_error": "could not be recorded"}
_UNRECORDABLE_JSON = b'{"$read_error":"could not be recorded"}'

# What is encoded without a walker keeps within the budget by itself: a name takes at most 202 bytes and a
# number 30, and of a string each character takes at most six.
_FEW = 8  # entries that may hold strings of any length that is not cut
_BYTES_OF_ENTRY, _BYTES_OF_CHARACTER = 232, 6
_TIME_OVER = b'"$budget":"time"}'  # the end of an encoded mapping
_MAX_ATTEMPTS = 3  # to keep within the budget, where the estimate of a value's bytes was too low


class Summarizer:
    """Turns any Python value into what a record keeps of it.

    It never raises, changes a value, consumes an iterator or waits for a device. Only `KeyboardInterrupt` and
    `SystemExit` pass through. Any number of threads may use it at once.

    Parameters
    ----------
    limits
        How much of a value is kept.
    redactor
        Conceals secrets: values that are named like secrets, at any depth, and what looks like one in text.
        Under such a name None, booleans and summaries of tensors are kept, because they reveal nothing; and
        numbers, if the name is that of a token.
    arrays
        Returns the summary of a tensor or array as JSON, when values are encoded. It must not raise.
    """

    __slots__ = (
        "_arrays",
        "_few_string",
        "_is_plain",
        "_key_rules",
        "_limits",
        "_many_string",
        "_max_few",
        "_max_many",
        "_plain_texts",
        "redactor",
    )

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        redactor: Redactor = DEFAULT,
        arrays: Callable[[Any], msgspec.Raw] = tensor_raw,
    ) -> None:
        self._arrays = arrays
        self._limits = limits = limits or Limits()
        self.redactor = redactor
        self._plain_texts, self._is_plain = redactor.plain_texts, redactor.is_plain
        self._key_rules = KeyRules(limits.max_repr, redactor)
        allowance = limits.allowance()
        self._max_few = min(_FEW, limits.max_items, allowance // _BYTES_OF_ENTRY)
        self._max_many = min(limits.max_items, allowance // _BYTES_OF_ENTRY)
        self._few_string = plain_string_limit(_FEW, limits)
        self._many_string = plain_string_limit(limits.max_items, limits)

    def with_arrays(self, arrays: Callable[[Any], msgspec.Raw]) -> Summarizer:
        """Return a summarizer that differs in how it encodes tensors and arrays."""
        return Summarizer(self._limits, redactor=self.redactor, arrays=arrays)

    def summarize(self, value: object, *, key: str | None = None) -> JSONable:
        """Return the recordable form of a value.

        Parameters
        ----------
        value
            Anything.
        key
            The name of the value, if it has one: secrets are recognized by their names.

        Returns
        -------
        JSONable
            New objects of JSON's own types; some are markers (see `flowprov.values.markers`).
        """
        try:
            return self._within_budget(value, key, raw=False)[0]
        except BaseException as error:  # the stack or the memory is exhausted: it is not raised
            if interrupted_reading(error):
                raise
            return dict(_UNRECORDABLE)

    def encode(self, value: object, *, key: str | None = None) -> bytes:
        """Return the recordable form of a value as JSON: one line of valid UTF-8."""
        try:
            return self._within_budget(value, key, raw=True)[1]
        except BaseException as error:  # as in summarize
            if interrupted_reading(error):
                raise
            return _UNRECORDABLE_JSON

    def _within_budget(self, value: object, key: str | None, *, raw: bool) -> tuple[JSONable, bytes]:
        limits = self._limits
        max_bytes = allowance = limits.allowance()
        walker = None
        for _ in range(_MAX_ATTEMPTS):
            walker = self._create_walker(max_bytes, raw=raw, before=walker)
            if key is None:
                form = read_once(walker.node, value, 0)
            else:
                form = read_once(walker.node_named, value, key, 0)
            encoded = _encode(form)
            if len(encoded) <= allowance:
                return form, encoded
            max_bytes = max_bytes * allowance // len(encoded) * 3 // 4
        return {"$cut": True}, b'{"$cut":true}'

    def encode_mapping(self, mapping: Mapping[str, object], spent: int = 0) -> bytes:
        """Return named values (what a task used or generated) as one JSON object.

        Parameters
        ----------
        mapping
            The values by their names. The limits on numbers of values hold for each value by itself, and the
            budget of bytes and time for all of them.
        spent
            Bytes that other parts of the same record have spent.
        """
        safe_keys = self._key_rules.safe_keys
        try:
            # Most mappings hold scalars under names that were seen before: these are encoded as they are.
            if type(mapping) is dict and len(mapping) <= self._max_few:
                max_string = self._few_string
                for key, value in mapping.items():
                    cls = type(value)
                    if key not in safe_keys or not (
                        (cls is float and value - value == 0.0)
                        or (cls is int and INT_MIN <= value <= INT_MAX)
                        or (
                            cls is str
                            and len(value) <= max_string
                            and (value in self._plain_texts or self._is_plain(value))
                        )
                        or cls is bool
                        or value is None
                    ):
                        break
                else:
                    return _encode(mapping)
            elif type(mapping) is dict and len(mapping) <= self._max_many and self._are_plain(mapping):
                return _encode(mapping)
            return self._encode_mixed(mapping, spent)
        except BaseException as error:  # a strange key, a lone surrogate, a change by another thread
            if interrupted_reading(error):
                raise
            return self._encode_carefully(mapping, spent)

    def _are_plain(self, mapping: dict[str, object]) -> bool:
        """Whether a larger mapping holds only scalars that are encoded as they are."""
        safe_keys, max_string = self._key_rules.safe_keys, self._many_string
        for key, value in mapping.items():
            cls = type(value)
            if key not in safe_keys or not (
                (cls is float and value - value == 0.0)  # type: ignore[operator]
                or (cls is int and INT_MIN <= value <= INT_MAX)  # type: ignore[operator]
                or (cls is str and len(value) <= max_string and self._is_plain(value))  # type: ignore[arg-type]
                or cls is bool
                or value is None
            ):
                return False
        return True

    def _encode_mixed(self, mapping: Mapping[str, object], spent: int) -> bytes:
        """Encode a mapping in which some values need a handler; raise what the encoder does."""
        walker: Walker | None = None
        safe_keys, limits = self._key_rules.safe_keys, self._limits
        size_limit = limits.max_nodes if self._key_rules.learned < MAX_SAFE_KEYS else limits.max_items
        if type(mapping) is not dict or len(mapping) > size_limit:
            return self._encode_carefully(mapping, spent)
        allowance = limits.allowance(spent)
        entries: dict[str, JSONable] = {}
        for key, value in mapping.items():
            if type(key) is not str or (key not in safe_keys and not self._key_rules.is_safe(key)):
                return self._encode_carefully(mapping, spent)
            cls = type(value)
            if (
                (cls is float and value - value == 0.0)
                # A lone surrogate makes the encoder raise.
                or (
                    cls is str
                    and len(value) <= limits.max_string
                    and (value in self._plain_texts or self._is_plain(value))
                )
                or (cls is int and INT_MIN <= value <= INT_MAX)
                or cls is bool
                or value is None
            ):
                entries[key] = value
            elif (handler := _handlers.get(id(cls))) is keep_array or (
                handler is keep_numpy_array and not is_number(value)
            ):
                entries[key] = self._arrays(value)  # type: ignore[assignment] # cast() is a call
            else:
                walker = walker or self._create_walker(allowance * 7 // 8, raw=True, spent=spent)
                walker.next_value()
                entries[key] = read_once(walker.node, value, 0)
                if walker.cut_by == "bytes" and _holds_several(mapping):  # then the small ones come first
                    return self._encode_carefully(mapping, spent, walker)
                if walker.over == "time" and len(mapping) > limits.max_items:
                    if not self._add_rest(entries, mapping):
                        return self._encode_carefully(mapping, spent)
                    break
        if walker is not None and (walker.cut_by or walker.started is not None):
            encoded = self._encode_slow(entries, len(mapping), walker)
        else:
            encoded = _encode(entries)
        return encoded if len(encoded) <= allowance else self._encode_carefully(mapping, spent, walker)

    def _encode_slow(self, entries: dict[str, JSONable], total: int, walker: Walker) -> bytes:
        """Encode the forms of named values, with marks of what was cut, and the time that they took."""
        if walker.cut_by:
            if len(entries) < total:
                entries["$cut"] = total
            entries["$budget"] = walker.cut_by
        return self._timed(_encode(entries), walker)

    def _add_rest(self, entries: dict[str, JSONable], mapping: dict[str, Any]) -> bool:
        """Add what is kept though time is over: scalars and arrays. Return whether all their names are safe.

        Parameters
        ----------
        entries
            The forms of the first values, to which is added.
        mapping
            The values by their names.
        """
        rest = _without_long(islice(mapping.items(), len(entries), None), self._limits.max_string)
        safe_keys = self._key_rules.safe_keys
        for key, value in rest:
            cls = type(value)
            handler = _handlers.get(id(cls))
            is_array = handler is keep_array or (handler is keep_numpy_array and not is_number(value))
            is_number_kept = (cls is float and value - value == 0.0) or (
                cls is int and INT_MIN <= value <= INT_MAX
            )
            is_text_kept = cls is str and (value in self._plain_texts or self._is_plain(value))
            if is_array or is_number_kept or is_text_kept or cls is bool or value is None:
                if type(key) is not str or (key not in safe_keys and not self._key_rules.is_safe(key)):
                    return False
                entries[key] = self._arrays(value) if is_array else value  # type: ignore[assignment]
        return True

    def _timed(self, encoded: bytes, walker: Walker) -> bytes:
        """Return encoded values, with the time that they took."""
        return walker.timed(encoded, self._limits.max_seconds)

    def _create_walker(
        self, max_bytes: int, *, raw: bool, spent: int = 0, before: Walker | None = None
    ) -> Walker:
        walker = Walker(
            self._limits.after(spent) if spent else self._limits,
            max_bytes,
            arrays=self._arrays if raw else None,
            handlers=HANDLER_TABLE,
            key_rules=self._key_rules,
            redactor=self.redactor,
        )
        if spent and walker.limits is not self._limits:  # there is little time: none is to pass uncounted
            walker.started = thread_time_ns()
        if before is not None:  # which did not keep within the budget: the time goes on
            walker.started, walker.apart = before.started or walker.started, before.apart
        return walker

    def _encode_carefully(
        self, mapping: Mapping[str, object], spent: int, before: Walker | None = None
    ) -> bytes:
        """Encode any mapping, entry by entry, each with a share of the budget."""
        try:
            encoded = read_once(self._encode_record, mapping, spent, before)
            return encoded if isinstance(encoded, bytes) else _encode(encoded)
        except BaseException as error:  # as in summarize
            if interrupted_reading(error):
                raise
            return _UNRECORDABLE_JSON

    def _encode_record(self, mapping: Mapping[str, object], spent: int, walker: Walker | None) -> bytes:
        limit = self._limits.max_nodes
        # In the least time there is, no more than the least bytes can be read.
        is_least = type(spent) is Spent and spent.part >= 1
        max_bytes = allowance = self._limits.allowance(sys.maxsize if is_least else spent)
        walker = self._create_walker(max_bytes, raw=True, spent=spent, before=walker)
        try:
            if issubclass(type(mapping), dict):
                pairs, total = dict_pairs(mapping, limit), dict.__len__(mapping)  # type: ignore[arg-type]
            else:
                entries, total = config_entries(mapping, limit, self.redactor.secrecy, walker)
                pairs = first_entries(entries, walker)
                if not pairs:
                    pairs = first_pairs(mapping, mapping.items, limit + 1)
                    total = len(pairs) if len(pairs) <= limit else max(len(mapping), limit + 1)
        except BaseException as error:  # a mapping of the user's may raise anything
            if interrupted_reading(error):
                raise
            return _encode({"$type": type_name(type(mapping)), "read_error": exception_text(error)})
        cut_by = walker.cut_by
        for _ in range(_MAX_ATTEMPTS):
            walker = self._create_walker(max_bytes, raw=True, spent=spent, before=walker)
            form = walker.build_record(pairs[:limit], max(total, len(pairs[:limit])))
            cut_by = walker.cut_by or cut_by
            if max_bytes < allowance or cut_by:
                form["$budget"] = cut_by or "bytes"
            encoded = _encode(form)
            if len(encoded) <= allowance:
                return self._timed(encoded, walker)
            max_bytes = max_bytes * allowance // len(encoded) * 3 // 4
        return self._timed(_encode({"$cut": total, "$budget": "bytes"}), walker)


def bytes_spent(encoded: bytes | None) -> int:
    """Return the bytes that a part of a record spent, with the time, if it was measured.

    If it was not, and the part was cut as its time was over, they are more than any.
    """
    if type(encoded) is bytes:
        return sys.maxsize if encoded.endswith(_TIME_OVER) else len(encoded)
    return encoded.spent if isinstance(encoded, TimedJSON) else 0


def _without_long(pairs: Iterable[tuple[Any, Any]], max_string: int) -> list[tuple[Any, Any]]:
    """Return pairs without those whose value is a dict, a list or a long text."""
    return [
        pair
        for pair in pairs
        if (cls := type(pair[1])) is not dict
        and cls is not list
        and (cls is not str or len(pair[1]) <= max_string)
    ]


def _holds_several(mapping: Mapping[str, object]) -> bool:
    """Whether a mapping holds more than one value that is no scalar."""
    classes = [type(value) for value in mapping.values()]
    return sum(1 for cls in classes if not (cls is float or cls is int or cls is str or cls is bool)) > 1


def plain_string_limit(count: int, limits: Limits | None = None) -> int:
    """Return how long the strings among named scalars may be, so that they keep within the budget.

    Parameters
    ----------
    count
        How many named values there may be.
    limits
        The limits; None for the default.
    """
    limits = limits or Limits()
    bytes_of_string = limits.allowance() // max(count, 1) - _BYTES_OF_ENTRY
    return max(min(limits.max_string, bytes_of_string // _BYTES_OF_CHARACTER), -1)
