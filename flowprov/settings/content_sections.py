"""The sections that say how much of values is recorded, and what is kept out of records.

Flows in: nothing. Flows out: structs with their defaults, and what a person is told of each key.
"""

# The annotations are evaluated at once: as texts they would be compiled at each import.
from typing import Annotated

from flowprov.settings.section import Key, Section
from flowprov.settings.value_types import ByteBudget, Patterns, Seconds


class ValuesSettings(Section, frozen=True, kw_only=True):
    """How much is recorded of the values that a program uses and generates, and what that may cost it."""

    max_bytes: Annotated[
        ByteBudget,
        Key(
            "Bytes that the values of one record may have.",
            "What is beyond them is cut, and the record says so.",
            expert=True,
        ),
    ] = 65_536

    max_time: Annotated[
        Seconds,
        Key(
            "Seconds of processor time that the values of one record may take.",
            "Two fifths are for what was used, two for the rest, one for encoding and writing. What is not "
            "read by then is cut.",
            expert=True,
        ),
    ] = 0.001

    object_reprs: Annotated[
        bool,
        Key(
            "Whether objects of unknown classes are recorded by what they say of themselves.",
            "That is their repr, the items of a mapping, to_dict() and properties. It runs their code, which "
            "may take long, query a database, or change something. If not, their type is recorded.",
            expert=True,
        ),
    ] = False


class PrivacySettings(Section, frozen=True, kw_only=True):
    """What is kept out of records."""

    redact: Annotated[
        bool,
        Key(
            "Whether passwords, tokens and the like are removed from the records.",
            "Set it to false only if nobody else can read the records. docs/reference/secrets.md says what "
            "is found and what is not.",
            off_in_words=True,
        ),
    ] = True

    names: Annotated[
        tuple[str, ...],
        Key(
            "Further names of secrets: values of arguments, keys and fields of these names are not recorded.",
            'Case, "_" and "-" make no difference.',
        ),
    ] = ()

    patterns: Annotated[
        Patterns,
        Key(
            "Further forms of secrets: what these regular expressions match in any text is not recorded.",
            "A pattern that takes long takes the time of your program.",
            expert=True,
        ),
    ] = ()

    allow: Annotated[
        tuple[str, ...],
        Key(
            "Names that are no secrets (session_key), and forms that are not looked for (jwt).",
            "docs/reference/secrets.md has the names of the forms.",
            expert=True,
        ),
    ] = ()
