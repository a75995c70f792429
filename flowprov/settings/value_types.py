"""The types of values that keys of the settings have, each with its words for a person.

Flows in: nothing. Flows out: annotated types for the sections.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

# The standard library's functions that wait overflow on much larger numbers. Thirty years are enough.
_MAX_SECONDS = 1e9
_MAX_COUNT = 2**63 - 1

Seconds = Annotated[float, Meta(gt=0, le=_MAX_SECONDS, description="seconds: a number above 0, at most 1e9")]
SecondsFromZero = Annotated[float, Meta(ge=0, le=_MAX_SECONDS, description="seconds: a number from 0 to 1e9")]
Count = Annotated[int, Meta(ge=1, le=_MAX_COUNT, description="a whole number from 1 (at most 63 bits)")]
CountFromZero = Annotated[
    int, Meta(ge=0, le=_MAX_COUNT, description="a whole number from 0 (at most 63 bits)")
]
ThreadCount = Annotated[int, Meta(ge=1, le=64, description="a whole number from 1 to 64")]
ByteBudget = Annotated[
    int, Meta(ge=4_096, le=2**30, description="a whole number of bytes from 4096 to 1073741824 (1 GiB)")
]
FileSize = Annotated[
    int, Meta(ge=16_384, le=_MAX_COUNT, description="a whole number of bytes from 16384 (at most 63 bits)")
]
FolderPath = Annotated[str, Meta(min_length=1, description="the path of a folder, as a string")]
RedisURI = Annotated[
    str, Meta(pattern="^(redis|rediss|unix)://", description="a redis://, rediss:// or unix:// URI")
]
MongoURI = Annotated[
    str, Meta(pattern=r"^mongodb(\+srv)?://", description="a mongodb:// or mongodb+srv:// URI")
]
TrackingURI = Annotated[
    str,
    Meta(
        pattern=r"^(https?|(sqlite|mysql|postgresql|mssql)(\+\w+)?)://",
        description="an http://, https:// or sqlite:/// URI, or that of another database of MLflow",
    ),
]
FileMode = Literal["0600", "0640", "0644", "0660", "0664"]
LoopDetail = Literal["default", "lightweight"]
_ClassName = Annotated[str, Meta(pattern=r"^[^\W\d]\w*(\.[^\W\d]\w*)*$")]
ExceptionNames = Annotated[
    tuple[_ClassName, ...],
    Meta(description="a list of classes of exceptions with their modules, as in [optuna.TrialPruned]"),
]
Patterns = Annotated[
    tuple[str, ...],
    Meta(description="a list of regular expressions that match no empty text, as in ['EMP-[0-9]{6}']"),
]
