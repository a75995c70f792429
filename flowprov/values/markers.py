"""Marks: how a record says that a value was cut, concealed or is none of JSON's own kinds; and back.

Flows in: what JSON cannot hold. Flows out: JSON objects whose first key begins with "$", and from them, for
readers, the Python values where that loses nothing. A user's own key that begins with "$" is written with one
"$" more, so a mark is never mistaken for data.

========================================  ====================================================================
mark                                      meaning
========================================  ====================================================================
{"$float": "NaN"}                         NaN, "Infinity", "-Infinity"
{"$int": "18446744073709551616"}          an integer beyond signed 64 bits; in hex from 2,048 bits on
{"$int_bits": 9001, "negative": false}    an integer too long to be kept
{"$complex": [re, im]}                    a complex number
{"$str": "…", "length": n}                a string cut to its beginning; `length` is the true one
{"$str": "…", "escaped": true}            lone surrogates, which UTF-8 cannot hold, stand as escapes
{"$bytes": n, "sha256": "…"}              bytes by length and digest; `digest_of_first` where cut
{"$redacted": true}                       a secret, by its key
{"$cut": n}                               last in a list, or a key of an object: n items in truth
{"$cycle": true}, {"$depth": "list"}      the value holds itself; nested too deeply
{"$enum": "Color.RED", "value": 1}        an enum member (of no int, str or float)
{"$range": [0, 9, 1]}, {"$slice": […]}    start, stop, step
{"$callable": "json.dumps"}               a function or method; {"$class": …}, {"$module": …} likewise
{"$partial": "f", "args", "keywords"}     a partial function
{"$exception": "ValueError", "message"}   an exception
{"$type": "m.Q", "repr": "…"}             anything else; no `repr` where it would say no more than the type
{"$type": "m.Q", "repr_error": "…"}       its repr failed; `read_error`: reading it failed
{"$read_error": "…"}                      a field of an object that failed to be read
========================================  ====================================================================
"""

from __future__ import annotations

import math
from typing import TypeAlias, Union, cast

# A string: the alias is recursive, and Python 3.10 has no lazy aliases.
JSONable: TypeAlias = Union[bool, int, float, str, "list[JSONable]", "dict[str, JSONable]", None]

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
# 617 digits: below the least limit that sys.set_int_max_str_digits takes (640).
_DECIMAL_BITS = 2048
_HEX_BITS = 4096

_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def float_json(value: float) -> JSONable:
    """Keep an exact float; NaN and the infinities as a mark."""
    if value - value == 0.0:
        return value
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return {"$float": "NaN"}
    return {"$float": "Infinity" if value > 0 else "-Infinity"}


def int_json(value: int) -> JSONable:
    """Keep an exact int; one beyond signed 64 bits as a mark."""
    if INT_MIN <= value <= INT_MAX:
        return value
    bits = value.bit_length()
    if bits <= _DECIMAL_BITS:
        return {"$int": str(value)}
    if bits <= _HEX_BITS:
        return {"$int": hex(value)}
    return {"$int_bits": bits, "negative": value < 0}


def encodable(text: str) -> str:
    """Give back the very text where UTF-8 can hold it, else with lone surrogates as backslash escapes."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def type_name(cls: type) -> str:
    """Name a class with its module; builtins without it."""
    try:
        module, name = cls.__module__, cls.__qualname__
    except Exception:  # a metaclass may run any code here
        return "?"
    if not isinstance(name, str):
        return "?"
    if not isinstance(module, str) or module == "builtins":
        return encodable(name[:200])
    return encodable(f"{module}.{name}"[:200])


def restore(value: JSONable) -> object:
    """Turn marks back into Python values where that loses nothing.

    `{"$float": …}` becomes a float, `{"$int": …}` an int, escaped keys their own selves; every other mark and
    value stays as it is. The argument is not changed; its depth does not matter.

    Parameters
    ----------
    value
        What a JSON decoder gives for a recorded value.
    """
    holder: list[object] = [value]
    waiting: list[list[object] | dict[str, object]] = [holder]
    while waiting:
        container = waiting.pop()
        places = range(len(container)) if isinstance(container, list) else list(container)
        for place in places:
            child = _open_mark(container[place])  # type: ignore[index]
            container[place] = child  # type: ignore[index]
            if isinstance(child, (list, dict)):
                waiting.append(child)
    return holder[0]


def _open_mark(value: object) -> object:
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
                return _int_from(content, value)
    return {key[1:] if key.startswith("$$") else key: content for key, content in value.items()}


def _int_from(text: str, mark: dict[str, object]) -> object:
    try:
        return int(text, 0)
    except ValueError:
        return cast("object", mark)
