"""Names: whatever a program gives as the name or id of something, as text that can be recorded.

Flows in: what the program gives as the name of a workflow, loop, task, tag, subtype, item or campaign, and as
the id of a workflow, campaign or parent task. Flows out: plain text that UTF-8 can hold. All names go through
here, so that a strange one costs neither its record nor the program.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from itertools import islice
from typing import overload

from flowprov.asynchronous import interrupted_reading
from flowprov.values.markers import escape_surrogates, type_name
from flowprov.values.redaction import DEFAULT, redactor

_MAX_LENGTH = 1_000  # characters of a name
_MAX_NAMES = 1_000
_BINARY = (bytes, bytearray, memoryview)


@overload
def as_name(value: object, default: str) -> str: ...
@overload
def as_name(value: object, default: None = None) -> str | None: ...
def as_name(value: object, default: str | None = None) -> str | None:
    """Return a name as plain text; it never raises.

    Parameters
    ----------
    value
        What the program gave: text of any class, an enum member (its name is taken), bytes (decoded, with
        backslashes for what is no UTF-8), or anything else (what ``str`` returns for it).
    default
        The name that None stands for.

    Returns
    -------
    str or None
        An exact ``str`` of at most 1,000 characters, without secrets, with lone surrogates escaped. If
        ``str`` raises, a text that says so.
    """
    text = _as_text(value)
    if text is None:
        return default
    if len(text) <= _MAX_LENGTH:
        return redactor().text(text)
    return redactor().start(text, _MAX_LENGTH - 1) + "…"


def as_id(value: object) -> str | None:
    """Return an id as plain text; None if there is none, which an empty text means too.

    Ids travel to child processes in environment variables. These cannot hold NUL, and not a text of any
    length: what is longer than a name ends with its digest, so that different ids stay different. Secrets are
    concealed whatever the settings say, as a reader need not have the settings of the writer.
    """
    text = _as_text(value)
    text = text and DEFAULT.text(text)
    if not text:
        return None
    if "\0" in text:
        text = text.replace("\0", "\\x00")
    if len(text) > _MAX_LENGTH:
        from hashlib import sha256  # costs a millisecond to import, and hardly any program needs it here

        digest = sha256(text.encode(), usedforsecurity=False).hexdigest()
        text = f"{text[: _MAX_LENGTH - len(digest) - 1]}…{digest}"
    return text


def as_names(values: object) -> list[str]:
    """Return several names, tags for example; it never raises.

    Parameters
    ----------
    values
        An iterable of names, of which a None is left out. A mapping gives a name ``key=value`` for each of
        its items. None means no names, and anything else is a single name.
    """
    if values is None:
        return []
    try:
        cls = type(values)
        if issubclass(cls, (str, Enum, *_BINARY)) or not issubclass(cls, Iterable):
            return [as_name(values, "")]
        if issubclass(cls, Mapping):
            values = [f"{as_name(key, '')}={as_name(value, '')}" for key, value in values.items()]  # type: ignore[attr-defined]
        names = [as_name(value, "") for value in islice(values, _MAX_NAMES + 1) if value is not None]  # type: ignore[call-overload]
    except BaseException as error:  # the code of the iterable or of its class: then it is a single name
        if interrupted_reading(error):
            raise
        return [as_name(values, "")]
    return names if len(names) <= _MAX_NAMES else [*names[:_MAX_NAMES], "…"]


def _as_text(value: object) -> str | None:
    if value is None:
        return None
    if type(value) is str:
        return value if value.isascii() else escape_surrogates(value)
    try:
        return escape_surrogates(str.__str__(_text_of(value)))
    except BaseException as error:  # the value's own code; there must be a name all the same
        if interrupted_reading(error):
            raise
        return f"<{type_name(type(value))} without a readable name: {type_name(type(error))}>"


def _text_of(value: object) -> str:
    cls = type(value)
    if issubclass(cls, Enum):
        name: str | None = value._name_  # type: ignore[attr-defined]  # documented; a class may override `name`
        return str(value) if name is None else name  # a combination of flags may have no name
    if issubclass(cls, _BINARY):
        return bytes(value).decode("utf-8", "backslashreplace")  # type: ignore[call-overload, no-any-return]
    return str(value)
