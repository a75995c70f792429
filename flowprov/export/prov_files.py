"""``prov-n`` and ``prov-json``: two notations of W3C PROV.

Flows in: campaigns. Flows out: a file, written statement by statement.

https://www.w3.org/TR/prov-n/ and https://www.w3.org/submissions/prov-json/ describe the notations.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from flowprov.export.campaigns import ExportedCampaign
from flowprov.export.new_file import written_beside
from flowprov.export.plain_values import to_json
from flowprov.export.prov_records import ELEMENTS, FORMAL, NAMESPACES, ProvRecords, Statement, TypeName

_INT = 2**31  # from there on a number is no xsd:int
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def write_prov_n(campaigns: Sequence[ExportedCampaign], path: Path) -> int:
    """Write campaigns in PROV-N, one statement a line; return how many tasks and workflows they have."""
    records = ProvRecords(campaigns)
    with written_beside(path) as new, new.open("w", encoding="utf-8", newline="\n") as file:
        file.write("document\n")
        file.writelines(f"  prefix {prefix} <{uri}>\n" for prefix, uri in NAMESPACES.items())
        file.writelines(f"  {_prov_n(statement)}\n" for statement in records.statements())
        file.write("endDocument\n")
    return records.activities


def write_prov_json(campaigns: Sequence[ExportedCampaign], path: Path) -> int:
    """Write campaigns in PROV-JSON; return how many tasks and workflows they have.

    PROV-JSON has a section for each kind of statement. Each is collected in a temporary file.
    """
    records = ProvRecords(campaigns)
    with written_beside(path) as new, new.open("w", encoding="utf-8") as file, ExitStack() as stack:
        sections: dict[str, TextIO] = {}
        for statement in records.statements():
            separator = ",\n"
            if statement.kind not in sections:
                sections[statement.kind] = stack.enter_context(
                    tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent)
                )
                separator = "\n"
            member = f"{to_json(statement.name)}:{to_json(_prov_json(statement))}"
            sections[statement.kind].write(f"{separator}{member}")
        file.write(f'{{"prefix":{to_json(NAMESPACES)}')
        for kind, section in sections.items():
            file.write(f',\n"{kind}":{{')
            section.seek(0)
            shutil.copyfileobj(section, file)
            file.write("}")
        file.write("}\n")
    return records.activities


def _prov_n(statement: Statement) -> str:
    formal = FORMAL[statement.kind]
    given = [*statement.arguments, *[None] * (len(formal) - len(statement.arguments))]
    arguments = ["-" if one is None else _as_text(one) for one in given]
    if statement.attributes:
        pairs = (f"{name}={_prov_n_value(value)}" for name, value in statement.attributes.items())
        arguments.append(f"[{', '.join(pairs)}]")
    if statement.kind in ELEMENTS:
        return f"{statement.kind}({', '.join([statement.name, *arguments])})"
    return f"{statement.kind}({statement.name}; {', '.join(arguments)})"


def _prov_n_value(value: Any) -> str:
    if isinstance(value, TypeName):
        return f"'{value.name}'"
    if isinstance(value, str):
        return f'"{value.translate(_ESCAPES)}"'
    text, kind = _typed(value)
    return text if kind == "xsd:int" else f'"{text}" %% {kind}'


def _prov_json(statement: Statement) -> dict[str, Any]:
    formal = zip(FORMAL[statement.kind], statement.arguments, strict=False)
    member: dict[str, Any] = {f"prov:{name}": _as_text(one) for name, one in formal if one is not None}
    return member | {name: _prov_json_value(value) for name, value in statement.attributes.items()}


def _prov_json_value(value: Any) -> Any:
    if isinstance(value, TypeName):
        return {"$": value.name, "type": "prov:QUALIFIED_NAME"}
    if isinstance(value, str):
        return value
    text, kind = _typed(value)
    return value if kind in ("xsd:int", "xsd:boolean") else {"$": text, "type": kind}


def _typed(value: float) -> tuple[str, str]:
    """Return a number or a truth value as XML Schema writes it, and its type there."""
    if isinstance(value, bool):
        return str(value).lower(), "xsd:boolean"
    if isinstance(value, int):
        return str(value), "xsd:int" if -_INT <= value < _INT else "xsd:long"
    return repr(value), "xsd:double"


def _as_text(argument: str | datetime) -> str:
    return argument.isoformat() if isinstance(argument, datetime) else argument
