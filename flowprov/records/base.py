"""What all records are made of: their base, the types of their fields, and how a task or workflow ended."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, TypeAlias

import msgspec

# Decoding refuses other numbers: no clock, process or count gives them, and not every reader could hold them.
Int64: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e12)]

LocalId: TypeAlias = Int64 | str
JsonObject: TypeAlias = dict[str, Any]


class Status(str, Enum):
    """What became of a task or workflow."""

    SUBMITTED = "SUBMITTED"
    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    ERROR = "ERROR"
    INTERRUPTED = "INTERRUPTED"
    CANCELLED = "CANCELLED"


class Error(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The exception that ended a task or workflow."""

    type: str
    message: str = ""
    traceback: str | None = None


class RecordBase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", gc=False):
    """Base of all lines of a journal.

    Values that were decoded from JSON hold no cycles, so the garbage collector does not track records. That
    halves the time to read a journal.
    """
