"""Write `data/wikidata_sample.json` from the tables of `sample_tables.py`.

Flows in: the hand-written tables. Flows out: a file in the layout of Wikidata's JSON dump (a JSON array, one
entity a line, each line but the last with a comma at its end). Run it after a change to the tables::

    python make_sample.py

The item ids are invented. They are far above the ids that Wikidata uses, so nobody can confuse them. The
property ids and their labels are Wikidata's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sample_tables as tables

SAMPLE = Path(__file__).parent / "data" / "wikidata_sample.json"
FIRST_ID = 900_000_000
NOTICE = (
    "this file is a sample written for an example of flowprov in the layout of the JSON dump of Wikidata ; "
    "it is no extract of Wikidata and its item ids are invented"
)
# What the value of a property is, if the value has no table of its own.
KINDS = {
    "P30": "continent",
    "P37": "language",
    "P101": "academic discipline",
    "P206": "body of water",
    "P279": "class",
    "P282": "writing system",
    "P31": "class",
    "P36": "city",
    "P403": "body of water",
    "P4552": "mountain range",
    "unit": "unit of measurement",
}

Claim = tuple[str, str, str]  # property id, value as text, unit ("" for none)


def rows(table: str) -> Iterator[list[list[str]]]:
    """Yield each line of a table as a list of columns, each a list of values."""
    for line in table.strip().splitlines():
        yield [[value.strip() for value in column.split(";") if value.strip()] for column in line.split("|")]


def things() -> Iterator[tuple[str, str, list[Claim]]]:
    """Yield every thing that has a line of its own: its name, its description and its claims."""
    capitals = {}
    for (name,), (continent,), (capital,), languages, millions, native in rows(tables.COUNTRIES):
        capitals[capital] = name
        yield (
            name,
            f"country in {continent}",
            [
                *claims("P31", ["sovereign state"]),
                *claims("P30", [continent]),
                *claims("P36", [capital]),
                *claims("P37", languages),
                *claims("P1082", [f"{number}000000" for number in millions]),
                *claims("P1705", native),
            ],
        )
    for (name,), country, water in rows(tables.CITIES):
        countries = country or [capitals[name]]
        kind = "capital city" if name in capitals else "city"
        yield (
            name,
            f"{kind} of {countries[0]}" if name in capitals else f"{kind} in {countries[0]}",
            [*claims("P31", [kind]), *claims("P17", countries), *claims("P206", water)],
        )
    yield from nature()
    yield from science()


def nature() -> Iterator[tuple[str, str, list[Claim]]]:
    """Yield the rivers, the mountains, the bodies of the sky and the animals."""
    for (name,), length, mouth, countries in rows(tables.RIVERS):
        found = [*claims("P31", ["river"]), *claims("P2043", length, "kilometre")]
        yield (
            name,
            f"river that flows into the {mouth[0]}",
            [*found, *claims("P403", mouth), *claims("P17", countries)],
        )
    for (name,), elevation, ranges, countries in rows(tables.MOUNTAINS):
        found = [*claims("P31", ["mountain"]), *claims("P2044", elevation, "metre")]
        where = " and ".join(countries)
        yield name, f"mountain in {where}", [*found, *claims("P4552", ranges), *claims("P17", countries)]
    for (name,), (kind,), centre, period, radius, discoverers, year in rows(tables.SKY):
        found = [*claims("P31", [kind]), *claims("P397", centre), *claims("P2146", period, "day")]
        found += [*claims("P2120", radius, "kilometre"), *claims("P61", discoverers), *claims("P575", year)]
        yield name, f"{kind} of {centre[0]}" if kind == "moon" else f"{kind} of the solar system", found
    for (name,), taxon, (kind,), others in rows(tables.ANIMALS):
        names = [f"en:{other}" for other in others]
        yield (
            name,
            f"species of {kind}",
            [*claims("P279", [kind]), *claims("P225", taxon), *claims("P1843", names)],
        )


def science() -> Iterator[tuple[str, str, list[Claim]]]:
    """Yield the elements, the people, the languages and the programming languages."""
    for (name,), symbol, number, discoverers, year in rows(tables.ELEMENTS):
        found = [*claims("P31", ["chemical element"]), *claims("P246", symbol), *claims("P1086", number)]
        yield (
            name,
            f"chemical element with symbol {symbol[0]}",
            [*found, *claims("P61", discoverers), *claims("P575", year)],
        )
    for (name,), fields, born, died in rows(tables.PEOPLE):
        found = [*claims("P31", ["human"]), *claims("P101", fields)]
        yield (
            name,
            f"scholar of {' and '.join(fields)}",
            [*found, *claims("P569", born), *claims("P570", died)],
        )
    for (name,), (family,), script in rows(tables.LANGUAGES):
        yield (
            name,
            f"{family} written in the {script[0]}",
            [*claims("P279", [family]), *claims("P282", script)],
        )
    for (name,), designers, year, origin in rows(tables.PROGRAMMING_LANGUAGES):
        found = [*claims("P31", ["programming language"]), *claims("P287", designers)]
        yield (
            name,
            f"programming language that appeared in {year[0]}",
            [*found, *claims("P571", year), *claims("P138", origin)],
        )


def claims(property_id: str, values: list[str], unit: str = "") -> list[Claim]:
    """Return a claim for each value of a property."""
    return [(property_id, value, unit) for value in values]


class Ids:
    """The item id of each name, in the order of first use, and what each new name is."""

    def __init__(self) -> None:
        self.by_name: dict[str, str] = {}
        self.kinds: dict[str, str] = {}

    def of(self, name: str, kind: str = "") -> str:
        """Return the id of a name, and keep the first kind that is passed for it."""
        if name not in self.by_name:
            self.by_name[name] = f"Q{FIRST_ID + len(self.by_name) + 1}"
        if kind:
            self.kinds.setdefault(name, kind)
        return self.by_name[name]


def entity(identifier: str, kind: str, label: str, description: str) -> dict[str, Any]:
    """Create an entity of the dump without claims."""
    texts = {"labels": label, "descriptions": description}
    return {
        "type": kind,
        "id": identifier,
        **{part: {"en": {"language": "en", "value": text}} for part, text in texts.items() if text},
        "aliases": {},
        "claims": {},
    }


def data_value(datatype: str, value: str, unit: str, ids: Ids, kind: str) -> dict[str, Any]:
    """Create the `datavalue` of a claim in Wikidata's layout."""
    if datatype == "wikibase-item":
        body = {"entity-type": "item", "id": ids.of(value, kind)}
        return {"value": body, "type": "wikibase-entityid"}
    if datatype == "quantity":
        target = f"http://www.wikidata.org/entity/{ids.of(unit, KINDS['unit'])}" if unit else "1"
        return {"value": {"amount": f"+{value}", "unit": target}, "type": "quantity"}
    if datatype == "monolingualtext":
        language, _, text = value.partition(":")
        return {"value": {"text": text, "language": language}, "type": "monolingualtext"}
    if datatype == "time":
        sign = "-" if value.startswith("-") else "+"
        year, _, day = value.lstrip("-").partition("-")
        stamp = f"{sign}{int(year):04}-{day or '00-00'}T00:00:00Z"
        precision = {"time": stamp, "timezone": 0, "before": 0, "after": 0, "precision": 11 if day else 9}
        calendar = "http://www.wikidata.org/entity/Q1985727"
        return {"value": {**precision, "calendarmodel": calendar}, "type": "time"}
    return {"value": value, "type": "string"}


def build() -> list[dict[str, Any]]:
    """Create every entity of the sample: the notice, the properties, the things and what they refer to."""
    properties = {
        identifier: (label, datatype) for (identifier,), (label,), (datatype,) in rows(tables.PROPERTIES)
    }
    entities = [entity(f"Q{FIRST_ID}", "item", "sample notice", NOTICE)]
    for identifier, (label, datatype) in properties.items():
        entities.append({**entity(identifier, "property", label, ""), "datatype": datatype})
    ids = Ids()
    described = list(things())
    for name, _, _ in described:
        ids.of(name)
    for name, description, found in described:
        item = entity(ids.of(name), "item", name, description)
        for property_id, value, unit in found:
            datatype = properties[property_id][1]
            snak = {
                "snaktype": "value",
                "property": property_id,
                "datavalue": data_value(datatype, value, unit, ids, KINDS.get(property_id, "")),
                "datatype": datatype,
            }
            item["claims"].setdefault(property_id, []).append(
                {"mainsnak": snak, "type": "statement", "rank": "normal"}
            )
        entities.append(item)
    own = {name for name, _, _ in described}
    entities += [
        entity(identifier, "item", name, ids.kinds.get(name, ""))
        for name, identifier in ids.by_name.items()
        if name not in own
    ]
    return entities


def dump(entities: list[dict[str, Any]]) -> str:
    """Return entities in the layout of Wikidata's JSON dump."""
    lines = [json.dumps(item, ensure_ascii=False, separators=(",", ":")) for item in entities]
    return "[\n" + ",\n".join(lines) + "\n]\n"


if __name__ == "__main__":
    SAMPLE.write_text(dump(build()), encoding="utf-8")
    print(f"{SAMPLE.name}: {len(build())} entities, {SAMPLE.stat().st_size} bytes")
