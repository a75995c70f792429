"""The sections that say how much of values is recorded, and what is kept out of records.

Flows in: nothing. Flows out: structs with their defaults, and what a person is told of each key.
"""

# The annotations are evaluated at once: as texts they would be compiled at each import.
from typing import Annotated, Literal

from flowprov.settings.section import Key, Section
from flowprov.settings.value_types import ByteBudget, Count, Patterns, Seconds, SecondsFromZero, ThreadCount


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
            "Two fifths are for what was used. What was generated has as much if that took little, and a "
            "tenth at least. The rest is for encoding and writing. What is not read by then is cut.",
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


class ArtifactsSettings(Section, frozen=True, kw_only=True):
    """What is recorded of files, folders and objects that a program logs as artifacts."""

    digest: Annotated[
        Literal["sha256"] | None,
        Key(
            "By which digest artifacts are known, wherever they lie.",
            'With "~" none is computed: an artifact is then only a path and what the file system says of it.',
            choices={"sha256": "SHA-256, in a thread beside your program"},
        ),
    ] = "sha256"

    max_bytes: Annotated[
        Count | None,
        Key(
            'The largest artifact that is read, in bytes; "~" is no limit.',
            "Of larger ones the record says that they were skipped.",
        ),
    ] = None

    threads: Annotated[
        ThreadCount,
        Key("How many threads read artifacts.", expert=True),
    ] = 1

    close_timeout: Annotated[
        SecondsFromZero,
        Key(
            "Seconds that a program waits at its end for digests that are not computed yet.",
            "The rest stays pending, and flowprov digest completes it.",
        ),
    ] = 5.0

    weights: Annotated[
        bool,
        Key(
            "Whether model files get a digest of their tensors, too.",
            "It is the same in safetensors, in shards and in a .bin or .pt of torch. Nothing is unpickled.",
        ),
    ] = True

    keep: Annotated[
        Literal["small", "all"] | None,
        Key(
            'Which artifacts are copied into the buffer, by their digest; "~" is none but those for which '
            "the program asks.",
            choices={"small": "those of at most 1 MB", "all": "all of them"},
        ),
    ] = None
