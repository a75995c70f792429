"""What is made from the keys of the settings: ``python -m tests.settings.generated`` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path

from flowprov.settings.explanation import keys_table, profiles_table
from flowprov.settings.json_schema import settings_schema
from flowprov.settings.yaml_document import delivered_yaml
from tests.support import REPOSITORY

PAGE = REPOSITORY / "docs" / "reference" / "settings.md"
_TABLES = {"profiles": profiles_table, "keys": keys_table}


def generated() -> dict[Path, str]:
    """Return the files that are made from the keys, or hold a part that is, and what should stand in them."""
    return {
        REPOSITORY / "settings.yaml": delivered_yaml(),
        PAGE.with_name("settings.schema.json"): json.dumps(settings_schema(), indent=1) + "\n",
        PAGE: _with_tables(PAGE.read_text(encoding="utf-8")),
    }


def _with_tables(text: str) -> str:
    for name, table in _TABLES.items():
        begin, end = f"<!-- {name}: made from the code -->\n", f"<!-- end of {name} -->"
        assert text.count(begin) == text.count(end) == 1, name
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{table()}\n\n{end}{rest.partition(end)[2]}"
    return text


if __name__ == "__main__":
    for path, content in generated().items():
        path.write_text(content, encoding="utf-8")
