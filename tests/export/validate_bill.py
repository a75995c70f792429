"""Validate a bill of materials: ``python -m tests.export.validate_bill FILE``.

It needs ``cyclonedx-python-lib[json-validation]``, which holds the JSON Schema of CycloneDX; its strict form
allows no unknown field. The schema says nothing of references: that each leads to something is checked here.
What is wrong is printed; the exit status is 1 then.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any


def _values(value: Any, name: str) -> Iterator[str]:
    """Yield each value under a name, wherever it stands."""
    if isinstance(value, list):
        for one in value:
            yield from _values(one, name)
    elif isinstance(value, dict):
        for key, one in value.items():
            if key == name and isinstance(one, str):
                yield one
            yield from _values(one, name)


def main(path: str) -> int:
    """Validate a file against the schema, and its references."""
    validators: Any = import_module("cyclonedx.validation.json")
    schema: Any = import_module("cyclonedx.schema")
    text = Path(path).read_text(encoding="utf-8")
    bill = json.loads(text)
    version = schema.SchemaVersion.from_version(bill["specVersion"])
    problem = validators.JsonStrictValidator(version).validate_str(text)
    known = list(_values(bill, "bom-ref"))
    depended = [one for each in bill.get("dependencies", ()) for one in each["dependsOn"]]
    dangling = sorted({*_values(bill, "ref"), *depended} - set(known))
    if problem is not None:
        print(f"the schema: {problem}")  # noqa: T201 - it is a program
    if len(known) != len(set(known)) or dangling:
        print(f"references: {len(known) - len(set(known))} twice, to nothing: {dangling}")  # noqa: T201
    print(f"CycloneDX {bill['specVersion']}: {len(known)} references")  # noqa: T201
    return int(problem is not None or len(known) != len(set(known)) or bool(dangling))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
