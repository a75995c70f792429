"""Have mlcroissant read a data set: ``python -m tests.export.validate_croissant FILE``.

It needs ``mlcroissant``, which is MLCommons' own reader and validator. An error raises; a property that it
recommends and does not find is none.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def main(path: str) -> None:
    """Read a file, and count its files."""
    mlcroissant: Any = import_module("mlcroissant")
    metadata = mlcroissant.Dataset(jsonld=path).metadata
    if metadata.ctx.issues.errors:
        sys.exit(metadata.ctx.issues.report())
    print(f"{len(metadata.distribution)} files read")  # noqa: T201 - it is a program


if __name__ == "__main__":
    main(sys.argv[1])
