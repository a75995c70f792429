"""Markers: JSON objects for what JSON cannot hold, and for values that were cut or concealed.

Flows in: such values. Flows out: JSON objects whose first key begins with "$"; and, for readers, the Python
values that a marker stands for, where nothing was lost. A user's own key that begins with "$" gets a second
"$", so that it is never mistaken for a marker.

========================================  ====================================================================
marker                                    meaning
========================================  ====================================================================
{"$float": "NaN"}                         NaN, "Infinity", "-Infinity"
{"$int": "18446744073709551616"}          an integer beyond signed 64 bits; in hex from 2,048 bits on
{"$int_bits": 9001, "negative": false}    an integer that is too long to be kept
{"$complex": [re, im]}                    a complex number
{"$str": "…", "length": n}                the beginning of a string; `length` is that of the whole string
{"$str": "…", "escaped": true}            a string with lone surrogates, which UTF-8 cannot hold, as escapes
{"$bytes": n, "sha256": "…"}              length and digest of bytes; `digest_of_first`: of so many bytes
{"$redacted": true}                       a secret, recognized by its key
{"$cut": n}                               last in a list, or a key of an object: the whole has n items, and
                                          some are left out; true where their number is unknown. In the
                                          place of a container: all of it is left out
{"$budget": "bytes"}                      a key of what was used or generated: something in it is cut, as the
                                          record may have no more bytes, or take no more time ("time")
{"$cycle": true}, {"$depth": "list"}      the value holds itself; the value is nested too deeply
{"$enum": "Color.RED", "value": 1}        an enum member (but not of an int, str or float enum)
{"$range": [0, 9, 1]}, {"$slice": […]}    start, stop, step
{"$callable": "json.dumps"}               a function or method; {"$class": …}, {"$module": …} likewise
{"$partial": "f", "args", "keywords"}     a partial function
{"$exception": "ValueError", "message"}   an exception
{"$artifact": "…", "number", "kind", …}   an artifact: the id of its record, which ends with its number; its
                                          name and its path, as far as it has them
{"$type": "m.Q", "repr": "…"}             anything else; `repr` of known kinds, or if the settings ask
{"$type": "m.Q", "repr_error": "…"}       its repr raised; `read_error`: reading it raised
{"$type": "m.Q", "lr": 0.1, …}            an object with `to_dict()`, by its attributes
{"$read_error": "…"}                      a field or a key that raised when it was read
{"$not_read": "property"}                 a field whose value a descriptor of this kind would compute
========================================  ====================================================================
"""

from __future__ import annotations

import json
import math
from typing import TypeAlias, Union, cast

from flowprov.values.classes import module_of, qualname_of
from flowprov.values.redaction import redactor

# A string: the alias is recursive, and Python 3.10 has no lazy aliases.
JSONable: TypeAlias = Union[bool, int, float, str, "list[JSONable]", "dict[str, JSONable]", None]

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
# 617 digits: below the lowest limit that sys.set_int_max_str_digits accepts (640).
_DECIMAL_BITS = 2048
_HEX_BITS = 4096
_MAX_NAME = 200
_MAX_INT_TEXT = _HEX_BITS // 4 + 3  # characters, with sign and "0x"; nothing longer is written

_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def float_json(value: float) -> JSONable:
    """Return a float for JSON: as it is; NaN and the infinities as a marker."""
    if value - value == 0.0:
        return value
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return {"$float": "NaN"}
    return {"$float": "Infinity" if value > 0 else "-Infinity"}


def int_json(value: int) -> JSONable:
    """Return an integer for JSON: as it is; beyond signed 64 bits as a marker."""
    if INT_MIN <= value <= INT_MAX:
        return value
    bits = value.bit_length()
    if bits <= _DECIMAL_BITS:
        return {"$int": str(value)}
    if bits <= _HEX_BITS:
        return {"$int": hex(value)}
    return {"$int_bits": bits, "negative": value < 0}


def escape_surrogates(text: str) -> str:
    """Return the same object if UTF-8 can hold the text, else the text with lone surrogates escaped."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def type_name(cls: type) -> str:
    """Return the name of a class with its module; of a builtin without it. No code of the class runs."""
    module, name = module_of(cls), qualname_of(cls)
    return name_text(name if module in ("", "builtins") else f"{module}.{name}")


def name_text(name: str) -> str:
    """Return the name of a class, function or member as it is recorded: cut, and without secrets."""
    return escape_surrogates(redactor().start(str.__str__(name), _MAX_NAME))


def restore(value: JSONable) -> object:
    """Return a recorded value with those markers replaced that lost nothing.

    `{"$float": …}` becomes a float and `{"$int": …}` an int, and an escaped key becomes the user's own key.
    Every other marker and value stays as it is. The argument is not changed. It may be nested to any depth.

    Parameters
    ----------
    value
        What a JSON decoder returned for a recorded value.
    """
    holder: list[object] = [value]
    waiting: list[list[object] | dict[str, object]] = [holder]
    while waiting:
        container = waiting.pop()
        keys = range(len(container)) if isinstance(container, list) else list(container)
        for key in keys:
            child = _restore_one(container[key])  # type: ignore[index]
            container[key] = child  # type: ignore[index]
            if isinstance(child, (list, dict)):
                waiting.append(child)
    return holder[0]


def restore_object(value: dict[str, JSONable]) -> dict[str, object]:
    """Return a recorded object with its markers replaced, as :func:`restore` does.

    Raises
    ------
    ValueError
        If it is a marker as a whole: no writer leaves one in the place of an object.
    """
    restored = restore(value)
    if not isinstance(restored, dict):
        raise ValueError(f"a marker in the place of an object: {value}"[:200])  # noqa: TRY004 - of damaged data
    return restored


def to_json_text(value: object) -> str:
    """Return a restored value as JSON again, with `$float` and `$int` for what JSON cannot hold.

    Keys stay as they are. What is no recorded value is written as the text that `str` makes of it.
    """
    try:
        text = json.dumps(_marked(value), ensure_ascii=False, default=str)
    except RecursionError:
        text = json.dumps({"$depth": type_name(type(value))})
    return escape_surrogates(text)


def _marked(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _marked(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_marked(item) for item in value]
    if isinstance(value, float):
        return float_json(value)
    return int_json(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _restore_one(value: object) -> object:
    """Return a scalar or a marker's value; of another container a shallow copy with its keys unescaped."""
    if isinstance(value, list):
        return list(value)
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((key, content),) = value.items()
        if isinstance(content, str):
            if key == "$float":
                return _FLOATS.get(content, value)
            if key == "$int":
                return _restore_int(content, value)
    return {key[1:] if key.startswith("$$") else key: content for key, content in value.items()}


def _restore_int(text: str, marker: dict[str, object]) -> object:
    try:
        return int(text, 0) if len(text) <= _MAX_INT_TEXT else cast("object", marker)
    except ValueError:
        return cast("object", marker)
