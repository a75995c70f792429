"""Validate a crate with roc-validator, without a network: ``python -m tests.export.validate_crate CRATE``.

It needs ``rocrate`` and ``roc-validator``. The two contexts that a crate names lie on servers. The package
``rocrate`` has the first one, in a later version, whose terms are put back to what they were; of the second
one a crate of flowprov uses a single term. What is missing is printed; the exit status is 1 then.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

_CRATE = "https://w3id.org/ro/crate/1.1/context"
_RUN = "https://w3id.org/ro/terms/workflow-run/context"
_HEADERS = {"Content-Type": "application/ld+json"}
_TERM = "https://w3id.org/ro/terms/workflow-run#sha256"


def _contexts() -> dict[str, Any]:
    package = Path(str(import_module("rocrate").__file__)).parent
    text = (package / "data" / "ro-crate.jsonld").read_text(encoding="utf-8")
    known = json.loads(text.replace("https://bioschemas.org/terms/", "https://bioschemas.org/"))  # as in 1.1
    return {_CRATE: {"@context": known["@context"]}, _RUN: {"@context": {"sha256": _TERM}}}


def _serve(contexts: dict[str, Any]) -> None:
    """Have the validator and its parser find the contexts here."""
    loader: Any = import_module("rdflib.plugins.shared.jsonld.context")
    original = loader.source_to_json

    def source_to_json(source: Any, *args: Any, **options: Any) -> Any:
        if str(source) in contexts:
            return contexts[str(source)], None
        return original(source, *args, **options)

    def get(_requester: Any, url: str, **_options: Any) -> Any:
        found = contexts.get(url)
        status = 404 if found is None else 200
        return SimpleNamespace(
            status_code=status, json=lambda: found, text=json.dumps(found), headers=_HEADERS
        )

    loader.source_to_json = source_to_json
    import_module("rocrate_validator.utils.http").HttpRequester.get = get


def main(crate: str) -> int:
    """Validate a crate against what the profile and those below it require."""
    _serve(_contexts())
    services = import_module("rocrate_validator.services")
    result = services.validate(
        {
            "rocrate_uri": crate,
            "profile_identifier": "provenance-run-crate-0.5",
            "requirement_severity": "REQUIRED",
            "offline": True,
        }
    )
    for issue in result.get_issues():
        print(f"{issue.check.identifier}: {issue.message}")  # noqa: T201 - it is a program
    passed = len(result.executed_checks) - len(result.failed_checks)
    print(f"{passed} of {len(result.executed_checks)} checks passed")  # noqa: T201
    return 0 if result.passed() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
