"""Libraries with models that this project did not write: loaded without network, telemetry or chatter."""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any

import pytest

# Read when these libraries are imported.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}


def load(name: str) -> Any:
    """Return a library, or skip the tests that need it and say so."""
    os.environ.update(_ENVIRONMENT)
    try:
        library = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        pytest.skip(f'NO {name.upper()}: install it (pip install -e ".[dev]")', allow_module_level=True)
    logging.getLogger(name).setLevel(logging.ERROR)
    return library
