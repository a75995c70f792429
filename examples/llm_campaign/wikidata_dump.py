"""Read English statements from Wikidata's JSON dump.

Flows in: a dump or a part of one (a JSON array with one entity in each line, or JSON lines; plain, gzip or
bz2). Flows out: sentences such as "the capital of France is Paris .". The file is read once, as a stream.
Only labels and statements are kept, so a statement can refer to an entity whose label comes later.
"""

from __future__ import annotations

import bz2
import gzip
import json
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

# The number of statements that are read. A full dump has over a billion, far more than an example can use.
MAX_STATEMENTS = 200_000
# A part of a dump rarely holds the properties that it uses. Labels in the file override these.
COMMON_PROPERTIES = {
    "P17": "country",
    "P19": "place of birth",
    "P20": "place of death",
    "P21": "sex or gender",
    "P27": "country of citizenship",
    "P30": "continent",
    "P31": "instance of",
    "P36": "capital",
    "P37": "official language",
    "P38": "currency",
    "P47": "shares border with",
    "P50": "author",
    "P57": "director",
    "P61": "discoverer or inventor",
    "P69": "educated at",
    "P101": "field of work",
    "P106": "occupation",
    "P112": "founded by",
    "P131": "located in the administrative territorial entity",
    "P136": "genre",
    "P138": "named after",
    "P159": "headquarters location",
    "P166": "award received",
    "P170": "creator",
    "P175": "performer",
    "P225": "taxon name",
    "P279": "subclass of",
    "P361": "part of",
    "P407": "language of work or name",
    "P495": "country of origin",
    "P569": "date of birth",
    "P570": "date of death",
    "P571": "inception",
    "P577": "publication date",
    "P625": "coordinate location",
    "P800": "notable work",
    "P1082": "population",
    "P1412": "languages spoken, written or signed",
    "P1705": "native label",
    "P2044": "elevation above sea level",
    "P2046": "area",
    "P2048": "height",
}
# Not from `calendar`, whose names are in the language of the user.
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
# A property that ends with one of these reads as "X is part of Y", any other as "the capital of X is Y".
LINKING_WORDS = {"of", "by", "in", "at", "after", "from", "with", "to"}


class DumpError(Exception):
    """A file holds no readable statements."""


class Value(NamedTuple):
    """The value of a statement: a text, then an entity (the object, or the unit of a quantity)."""

    text: str
    entity: str = ""


class Statement(NamedTuple):
    """The label of a subject, a property id, and a value that may refer to an entity."""

    subject: str
    property_id: str
    value: Value


def read_statements(path: Path, limit: int = MAX_STATEMENTS) -> list[str]:
    """Return at most `limit` statements of a dump as English sentences.

    Parameters
    ----------
    path
        The file.
    limit
        The number of statements after which reading stops.

    Raises
    ------
    DumpError
        If the file cannot be read, or no line of it holds a statement.
    """
    labels = dict(COMMON_PROPERTIES)
    statements: list[Statement] = []
    for entity in _entities(path):
        label = _english(entity.get("labels"))
        if not label:
            continue
        labels[str(entity.get("id"))] = label
        if entity.get("type") != "property":
            statements += _statements(entity, label)
        if len(statements) >= limit:
            break
    sentences = [sentence for statement in statements[:limit] if (sentence := _sentence(statement, labels))]
    if not sentences:
        raise DumpError(f"{path} holds no English statement in the layout of Wikidata's JSON dump")
    return sentences


def _open(path: Path) -> IO[str]:
    """Open a file by its contents, not by its name."""
    with path.open("rb") as file:
        start = file.read(3)
    if start[:2] == b"\x1f\x8b":
        return cast("IO[str]", gzip.open(path, "rt", encoding="utf-8", errors="replace"))
    if start == b"BZh":
        return cast("IO[str]", bz2.open(path, "rt", encoding="utf-8", errors="replace"))
    return path.open(encoding="utf-8", errors="replace")


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file; a compressed file that was cut off ends there, with a warning."""
    try:
        with _open(path) as lines:
            yield from lines
    except EOFError:
        warnings.warn(f"{path} is cut off; it was read up to there", stacklevel=2)
    except (OSError, zlib.error) as error:
        raise DumpError(f"{path} cannot be read: {error}") from error


def _entities(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the entities of a dump; other lines are counted, and one warning reports them."""
    bad = total = 0
    try:
        for line in _lines(path):
            text = line.strip().rstrip(",")
            if text in {"", "[", "]"}:
                continue
            total += 1
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                bad += 1
                continue
            entities = found if isinstance(found, list) else [found]
            good = [entity for entity in entities if isinstance(entity, dict) and "id" in entity]
            bad += len(good) < len(entities)
            yield from good
    finally:
        if bad:
            warnings.warn(f"{path}: {bad} of {total} lines are no entities and were skipped", stacklevel=2)


def _english(texts: Any) -> str:
    """Return the English text of labels or descriptions, or "" if there is none."""
    english = texts.get("en") if isinstance(texts, dict) else None  # the dump writes an empty map as []
    value = english.get("value") if isinstance(english, dict) else None
    return value if isinstance(value, str) else ""


def _statements(entity: dict[str, Any], label: str) -> Iterator[Statement]:
    """Yield the statements of an entity."""
    description = _english(entity.get("descriptions"))
    if description:
        yield Statement(label, "description", Value(description))
    claims = entity.get("claims")
    if not isinstance(claims, dict):
        return
    for property_id, found in claims.items():
        for claim in found if isinstance(found, list) else []:
            value = _value(claim)
            if value is not None:
                yield Statement(label, property_id, value)


def _value(claim: Any) -> Value | None:  # noqa: PLR0911 -- one for each kind of value
    """Return the value of a claim in English, or None if it has none or was withdrawn."""
    try:
        snak = claim["mainsnak"]
        if claim.get("rank") == "deprecated" or snak["snaktype"] != "value":
            return None
        kind, body = snak["datavalue"]["type"], snak["datavalue"]["value"]
        if kind == "wikibase-entityid":
            return Value("", str(body["id"]))
        if kind == "quantity":
            unit = body["unit"].rpartition("/")[2]
            return Value(body["amount"].removeprefix("+"), "" if unit == "1" else unit)
        if kind == "time":
            return _date(body["time"], body["precision"])
        if kind == "monolingualtext":
            return Value(body["text"]) if body["language"] == "en" else None
        # Identifiers, addresses and file names are strings too, but not English.
        return Value(body) if kind == "string" and snak.get("datatype", "string") == "string" else None
    except (KeyError, TypeError, AttributeError, ValueError):  # one damaged claim must not lose the others
        return None


def _date(time: str, precision: int) -> Value | None:
    """Return a time such as ``+1867-11-07T00:00:00Z`` as a person writes it, to its precision."""
    year_text, month, day = time[1:].partition("T")[0].split("-")
    year = f"{int(year_text)}{' BC' if time.startswith('-') else ''}"
    if precision < 9:  # decades and centuries
        return None
    if precision == 9 or month == "00":
        return Value(year)
    month_name = MONTHS[int(month) - 1]
    return Value(f"{month_name} {year}" if precision == 10 else f"{int(day)} {month_name} {year}")


def _sentence(statement: Statement, labels: dict[str, str]) -> str:
    """Return a statement as a sentence, or "" if a label that it needs is missing."""
    subject, property_id, value = statement
    if property_id == "description":
        return f"{subject} is described as {value.text} ."
    label = labels.get(property_id, "")
    target = labels.get(value.entity, "") if value.entity else ""
    if not label or (value.entity and not target):
        return ""
    text = f"{value.text} {target}".strip()
    if label.split()[-1] in LINKING_WORDS:
        return f"{subject} is {label} {text} ."
    return f"the {label} of {subject} is {text} ."
