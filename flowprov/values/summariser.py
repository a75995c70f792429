"""The way in: values and mappings of values to their recordable form, on the hot path of every event.

Flows in: what a program used and generated. Flows out: JSON, as objects or as bytes that can be put into a
journal's line. Plain scalars never leave the first loop; everything else takes a walk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import msgspec

from flowprov.values.arrays import tensor_raw
from flowprov.values.kinds import keep_array
from flowprov.values.marks import INT_MAX, INT_MIN, JSONable, type_name
from flowprov.values.names import Names
from flowprov.values.registry import KINDS
from flowprov.values.walk import Limits, Walk, describe, take

_handlers = KINDS.handlers
_encode = msgspec.json.Encoder().encode
# When nothing else could be said: the caller's stack or memory is at its end.
_LOST: dict[str, JSONable] = {"$read_error": "could not be recorded"}
_LOST_JSON = b'{"$read_error":"could not be recorded"}'


class Summariser:
    """Turns any Python value into what a record keeps of it.

    Nothing it does raises, changes the value, consumes an iterator or waits for a device; only
    `KeyboardInterrupt` and `SystemExit` pass through. It can be used from any number of threads.

    Parameters
    ----------
    limits
        How much of a value is kept.
    redact
        Whether secrets are concealed: values by their names (at any depth), credentials in URLs. Under the
        name of a secret None, booleans and summaries of tensors are kept, as they tell nothing of it, and
        numbers where the name is that of a token.
    arrays
        Gives what is kept of a tensor or array when values are encoded, as ready JSON; it must not raise.
    """

    __slots__ = ("_arrays", "_limits", "_names", "_redact")

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        redact: bool = True,
        arrays: Callable[[Any], msgspec.Raw] = tensor_raw,
    ) -> None:
        self._arrays = arrays
        self._limits = limits or Limits()
        self._redact = redact
        self._names = Names(self._limits.max_repr, redact=redact)

    def summarise(self, value: object, *, key: str | None = None) -> JSONable:
        """Give the recordable form of a value.

        Parameters
        ----------
        value
            Anything.
        key
            The name of the value, if it has one; a secret is told by it.

        Returns
        -------
        JSONable
            Fresh objects of JSON's own kinds, marks among them (see `flowprov.values.marks`).
        """
        try:
            return self._form(self._walk(raw=False), value, key)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # never into the program; what is left here is a stack or memory at its end
            return dict(_LOST)

    def encode(self, value: object, *, key: str | None = None) -> bytes:
        """Give the recordable form of a value as JSON: valid UTF-8 in one line."""
        try:
            return _encode(self._form(self._walk(raw=True), value, key))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # as in summarise
            return _LOST_JSON

    def encode_mapping(self, mapping: Mapping[str, object]) -> bytes:
        """Give named values (what a task used or generated) as one JSON object.

        Parameters
        ----------
        mapping
            The values by their names; each value has the limits for itself.
        """
        plain, limits = self._names.plain, self._limits
        try:
            # Most mappings hold scalars under names seen before: these go to the encoder as they are.
            if type(mapping) is dict and len(mapping) <= limits.max_items:
                longest = limits.max_string
                for key, value in mapping.items():
                    kind = type(value)
                    if key not in plain or not (
                        (kind is float and value - value == 0.0)
                        or (kind is int and INT_MIN <= value <= INT_MAX)
                        or (kind is str and len(value) <= longest and "://" not in value)
                        or kind is bool
                        or value is None
                    ):
                        break
                else:
                    return _encode(mapping)
            return self._encode_mixed(mapping)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a strange key, a lone surrogate, a change by another thread
            return self._encode_carefully(mapping)

    def _encode_mixed(self, mapping: Mapping[str, object]) -> bytes:
        """Encode a mapping some of whose values need the rules."""
        walk: Walk | None = None
        plain, limits = self._names.plain, self._limits
        try:
            if type(mapping) is not dict or len(mapping) > limits.max_nodes:
                return self._encode_carefully(mapping)
            entries: dict[str, JSONable] = {}
            for key, value in mapping.items():
                if type(key) is not str or (key not in plain and not self._names.is_plain(key)):
                    return self._encode_carefully(mapping)
                kind = type(value)
                if (
                    (kind is float and value - value == 0.0)
                    # A lone surrogate makes the encoder raise.
                    or (kind is str and len(value) <= limits.max_string and "://" not in value)
                    or (kind is int and INT_MIN <= value <= INT_MAX)
                    or kind is bool
                    or value is None
                ):
                    entries[key] = value
                elif _handlers.get(kind) is keep_array:
                    entries[key] = cast("JSONable", self._arrays(value))
                else:
                    walk = walk or self._walk(raw=True)
                    walk.nodes = 0
                    entries[key] = walk.node(value, 0)
            return _encode(entries)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # a strange key, a lone surrogate, a change by another thread
            return self._encode_carefully(mapping)

    def _walk(self, *, raw: bool) -> Walk:
        arrays = self._arrays if raw else None
        return Walk(self._limits, redact=self._redact, arrays=arrays, kinds=KINDS, names=self._names)

    def _form(self, walk: Walk, value: object, key: str | None) -> JSONable:
        return walk.node(value, 0) if key is None else walk.named(value, key, 0)

    def _encode_carefully(self, mapping: Mapping[str, object]) -> bytes:
        try:
            return _encode(self._entries(mapping))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # as in summarise
            return _LOST_JSON

    def _entries(self, mapping: Mapping[str, object]) -> JSONable:
        limit = self._limits.max_nodes
        try:
            pairs = take(mapping.items, limit + 1)
            total = len(pairs) if len(pairs) <= limit else max(len(mapping), limit + 1)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as fault:  # a mapping of the user's may raise anything
            return {"$type": type_name(type(mapping)), "read_error": describe(fault)}
        return self._walk(raw=True).mapping(pairs[:limit], total, -1, each_anew=True)
