"""Share equal values: most rows of a training have the same names, parents and shapes.

Flows in: texts, ids and JSON of one journal. Flows out: values, of which equal ones are one object as far as
is remembered. A million rows then take a third of the memory, and of the time to decode them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from flowprov.ids import full_id
from flowprov.records import Header, JsonObject
from flowprov.values import restore_object

_MAX_KNOWN = 8_192  # values of a kind that are remembered; beyond it all are forgotten
_MAX_JSON = 4_096  # bytes of a value that is remembered


class SharedTexts(dict[Any, Any]):
    """Remembers values that can be keys, and returns the first of equal ones."""

    def __missing__(self, value: Any) -> Any:
        """Remember a value."""
        if len(self) >= _MAX_KNOWN:
            self.clear()
        self[value] = value
        return value


class SharedIds(dict[Any, Any]):
    """Returns the full form of each id of a journal.

    Parameters
    ----------
    header
        The header of the journal.
    """

    def __init__(self, header: Header) -> None:
        super().__init__()
        self._numbering = (header.journal_id, header.ancestors, header.first_number)

    def __missing__(self, local: int | str | None) -> str | None:
        """Make the full form of an id, and remember it."""
        if len(self) >= _MAX_KNOWN:
            self.clear()
        full = None if local is None else full_id(local, *self._numbering)
        self[local] = full
        return full


class SharedObjects(dict[bytes, Any]):
    """Returns the object that some JSON holds, with its markers restored; None for null and for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._decode = msgspec.json.Decoder(JsonObject | None).decode

    def __missing__(self, text: bytes) -> Any:
        """Decode JSON, and remember what it holds.

        Raises
        ------
        msgspec.MsgspecError, ValueError, RecursionError
            If it is no object.
        """
        value: Any = self._decode(text) if text else None
        if b"$" in text:  # every marker begins with one, and most values have none
            value = restore_object(value)
        if len(text) <= _MAX_JSON:
            if len(self) >= _MAX_KNOWN:
                self.clear()
            self[text] = value
        return value
