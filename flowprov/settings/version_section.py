"""The section that says what is recorded of code, data and environment.

Flows in: nothing. Flows out: a struct with its defaults, and what a person is told of each key.
"""

# The annotations are evaluated at once: as texts they would be compiled at each import.
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from flowprov.settings.section import Key, Section
from flowprov.settings.value_types import Seconds


class VersionSettings(Section, frozen=True, kw_only=True):
    """What is recorded of the code, the data and the environment of a workflow."""

    when_null: ClassVar[Mapping[str, Any] | None] = {"code": False, "data": False, "packages": False}

    code: Annotated[
        bool,
        Key(
            "Whether the state of the git repository is recorded: commit, changed files, submodules.",
            "Git is asked in the background. It runs no code of the repository, and fetches nothing.",
        ),
    ] = True

    data: Annotated[
        bool,
        Key("Whether the data is recorded that DVC keeps for the repository."),
    ] = True

    packages: Annotated[
        bool,
        Key("Whether the names and versions of the installed packages are recorded, and lock files."),
    ] = True

    patch: Annotated[
        bool,
        Key(
            "Whether what is changed in files that git tracks is kept in the buffer, as a patch.",
            "A digest of it is recorded in any case. The patch may hold whatever you typed, secrets too.",
        ),
    ] = False

    timeout: Annotated[
        Seconds,
        Key(
            "The most seconds for looking at code and data.",
            "The program waits for it only at its end. What is not known by then is recorded as unknown.",
            expert=True,
        ),
    ] = 2.0

    check_data: Annotated[
        Literal["stat", "digest", "off"],
        Key(
            "How data is compared with what DVC says of it.",
            choices={
                "stat": "by its size and its number of files, which shows most changes",
                "digest": "by its md5, as DVC computes it; all data is read, so raise versions.timeout",
                "off": "not at all",
            },
        ),
    ] = "stat"
