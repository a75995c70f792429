"""The stand-in equals the real amdsmi, and flowprov copes with amdsmi without ROCm."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.support import run
from tests.telemetry.amd_smi import AmdSmi, names_to_check

pytestmark = pytest.mark.skipif(
    find_spec("amdsmi") is None, reason='NO AMDSMI: install it (pip install -e ".[dev]")'
)

# Imports the package with mocks in place of ROCm's libraries; only names and signatures are read.
LOOK = """
import ctypes, inspect, json, sys
from unittest.mock import MagicMock
ctypes.CDLL = lambda *_, **__: MagicMock()
import amdsmi
asked = json.load(sys.stdin)
print(json.dumps({
    "functions": {name: list(inspect.signature(getattr(amdsmi, name)).parameters) for name in asked["functions"]},
    "codes": {name: getattr(amdsmi.amdsmi_wrapper, name) for name in asked["codes"]},
    "kinds": {kind: [m for m in members if hasattr(getattr(amdsmi, kind), m)] for kind, members in asked["kinds"].items()},
    "error": amdsmi.AmdSmiLibraryException(2).err_code,
}))
"""  # noqa: E501 - a program


def _look_up_in_real_package(asked: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_stand_in_has_the_names_signatures_and_codes_of_the_real_package() -> None:
    functions = {
        name: list(inspect.signature(getattr(AmdSmi([]), name)).parameters)
        for name in dir(AmdSmi)
        if name.startswith("amdsmi_")
    }
    expected = names_to_check()
    found = _look_up_in_real_package(
        {"functions": list(functions), "codes": expected.codes, "kinds": expected.kinds}
    )
    assert found == {"functions": functions, "codes": expected.codes, "kinds": expected.kinds, "error": 2}


def test_importing_amdsmi_without_rocm_gives_a_reason_and_prints_nothing(tmp_path: Path) -> None:
    if Path("/dev/kfd").exists():
        pytest.skip("ROCm is here")
    code = "from flowprov.telemetry.gpu.discovery import load_adapters; print(load_adapters().reasons)"
    printed, stderr = run(code, tmp_path)
    (line,) = printed.splitlines()
    assert "AMD: amdsmi cannot be used here" in line
    assert stderr == ""
