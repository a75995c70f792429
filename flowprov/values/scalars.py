"""The handlers of scalars: numbers, text, bytes, times, enum members, and the like.

Flows in: an object and the walker that came to it. Flows out: the object's form in the record. Of a subclass
the value of the known class is kept, by the methods of that class, whatever the subclass overrides.
"""

from __future__ import annotations

from typing import Any

from flowprov.values.classes import bases_of, dict_reader
from flowprov.values.hidden import HIDDEN
from flowprov.values.markers import JSONable, float_json, int_json, name_text, type_name
from flowprov.values.secret_names import SECRET, TOKEN_LIKE
from flowprov.values.tensors import MAX_FIELDS
from flowprov.values.walker import TEXT_LOOKAHEAD, Walker

_MAX_DIGEST_BYTES = 2**18  # of one value
_MAX_VOID_BYTES = 1_000
_MAX_NAME = 200  # characters of an enum member's name that are looked at
_MAX_INT = 1_100  # bytes of JSON
_MAX_INT_BITS = 2**16
_MAX_DECIMAL_BYTES = 2_000
_MAX_FRACTION_BITS = 2_048


def keep_as_is(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep None and booleans."""
    return value  # type: ignore[no-any-return]


def keep_int(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep an integer."""
    bits = int.bit_length(value)
    if bits > 63:
        walker.spend(min(bits // 3, _MAX_INT) + 30)
    if bits > _MAX_INT_BITS:  # no copy of what is not kept
        return {"$int_bits": bits, "negative": int.__lt__(value, 0)}
    return int_json(int.__pos__(value))


def keep_float(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep a float."""
    return float_json(float.__pos__(value))


def keep_str(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep a string."""
    if type(value) is str:
        return walker.text(value)
    length = str.__len__(value)
    return walker.text(str.__getitem__(value, slice(0, walker.limits.max_string + TEXT_LOOKAHEAD)), length)


def keep_hidden_str(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep nothing of a string whose class does not show it in its repr."""
    return {"$redacted": True} if walker.redactor.enabled else keep_str(walker, value, depth)


def keep_complex(_walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the real and the imaginary part."""
    value = complex.__pos__(value)
    return {"$complex": [float_json(value.real), float_json(value.imag)]}


def keep_numpy_scalar(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep a numpy scalar as the number (or text) that it is."""
    dtype = value.dtype
    if dtype.kind in "mM":  # item() would return a bare integer of nanoseconds
        return walker.text(str(value))
    if dtype.kind == "V" and (value.nbytes > _MAX_VOID_BYTES or _count_fields(dtype) > MAX_FIELDS):
        return {"$type": type_name(type(value)), "nbytes": value.nbytes}
    item = value.item()
    if dtype.names:
        item = _hide_fields(walker, dtype, item)
    elif type(item) is type(value):  # Python has no type for long doubles
        item = complex(value) if dtype.kind == "c" else float(value)
    return walker.node(item, depth + 1)


def _hide_fields(walker: Walker, dtype: Any, record: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the items of a record of numpy with `HIDDEN` for those whose field is named like a secret."""
    shown: list[Any] = []
    for name, item in zip(dtype.names, record, strict=True):
        if walker.is_concealed(item, walker.key_rules.secrecy(name)):
            shown.append(HIDDEN)
        else:
            inner = dtype[name]
            shown.append(_hide_fields(walker, inner, item) if inner.names else item)
    return tuple(shown)


def keep_dtype(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the name of a dtype of numpy; of a structured one with very many fields, how many there are."""
    fields = _count_fields(value)
    if fields > MAX_FIELDS:
        return {"$type": type_name(type(value)), "fields": fields}
    return walker.text(str(value))


def _count_fields(dtype: Any) -> int:
    return len(dtype.names or ())


def keep_str_form(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep what `str` returns, for kinds where that is the complete and usual form."""
    return walker.text(str.__str__(str(value)))


def keep_decimal(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep a decimal as text, if it has no thousands of digits."""
    size = value.__sizeof__()
    if size > _MAX_DECIMAL_BYTES:
        return {"$type": type_name(type(value)), "nbytes": size}
    return keep_str_form(walker, value, depth)


def keep_fraction(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep a fraction as text, if its parts have no thousands of digits."""
    bits = max(value.numerator.bit_length(), value.denominator.bit_length())
    if bits > _MAX_FRACTION_BITS:
        return {"$type": type_name(type(value)), "bits": bits}
    return keep_str_form(walker, value, depth)


def keep_iso(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep a date or a time in its ISO form."""
    walker.count_container()  # it takes as long
    zone = getattr(value, "tzinfo", None)
    if zone is not None and not walker.is_known(type(zone)):  # the form asks the time zone for its offset
        naive = walker.text(value.replace(tzinfo=None).isoformat())
        return {"$type": type_name(type(value)), "naive": naive, "tzinfo": walker.node(zone, depth + 1)}
    return walker.text(str.__str__(value.isoformat()))


def keep_duration(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep a duration in its ISO form, in seconds."""
    if type(value).__module__.startswith("pandas."):  # down to nanoseconds
        return walker.text(str.__str__(value.isoformat()))
    micros = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    seconds, fraction_micros = divmod(abs(micros), 1_000_000)
    fraction = f".{fraction_micros:06d}" if fraction_micros else ""
    return f"{'-' if micros < 0 else ''}PT{seconds}{fraction}S"


def keep_enum(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the name and the value of an enum member, as its class keeps them in the member."""
    attributes_of = dict_reader(bases_of(type(value)))
    attributes: dict[str, Any] = {} if attributes_of is None else attributes_of(value)
    label = type_name(type(value))
    name, content = attributes.get("_name_"), attributes.get("_value_")
    if type(name) is str:  # a combination of flags may have no name
        label += "." + name
    if type(name) is str and not _is_own_name(name, content):
        return {"$enum": name_text(label), "value": walker.node_named(content, name, depth + 1)}
    return {"$enum": name_text(label), "value": walker.node(content, depth + 1)}


def keep_str_of_enum(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep the text of an enum member that is a string, unless its name means a secret."""
    attributes_of = dict_reader(bases_of(type(value)))
    name = None if attributes_of is None else attributes_of(value).get("_name_")
    if type(name) is str and not _is_own_name(name, str.__str__(value)):
        secrecy = walker.key_rules.secrecy(name)
        if secrecy in (TOKEN_LIKE, SECRET):
            return {"$redacted": True}
    return keep_str(walker, value, depth)


def _is_own_name(name: str, content: object) -> bool:
    """Whether the value of an enum member tells no more than its name, as in ``PASSWORD = "password"``."""
    return type(content) is str and _bare(content) == _bare(name)


def _bare(text: str) -> str:
    return "".join(filter(str.isalnum, text[:_MAX_NAME].lower()))


def keep_range(walker: Walker, value: Any, depth: int) -> JSONable:
    """Keep start, stop and step of a range or a slice."""
    marker = "$range" if type(value) is range else "$slice"
    return {marker: [walker.node(part, depth + 1) for part in (value.start, value.stop, value.step)]}


def keep_bytes(walker: Walker, value: Any, _depth: int) -> JSONable:
    """Keep the length, and a digest of the first 256 KiB, as far as the record may spend time on digests."""
    from hashlib import sha256  # costs a millisecond to import, and most programs record no bytes

    walker.spend(150)
    head: Any
    if issubclass(type(value), memoryview):
        length = value.nbytes
        if not value.contiguous:
            return {"$bytes": length}  # a digest would need a copy of all bytes
        head = value.cast("B") if length else b""
    else:
        base: Any = bytes if issubclass(type(value), bytes) else bytearray
        length = base.__len__(value)
        head = value if type(value) is base else base.__getitem__(value, slice(0, _MAX_DIGEST_BYTES))
    if not walker.may_digest(min(length, _MAX_DIGEST_BYTES)):
        return {"$bytes": length}
    head = bytes(head[:_MAX_DIGEST_BYTES])  # a copy: a bytearray with a view cannot be resized
    marker: dict[str, JSONable] = {"$bytes": length}
    marker["sha256"] = sha256(head, usedforsecurity=False).hexdigest()
    if length > len(head):
        marker["digest_of_first"] = len(head)
    return marker
