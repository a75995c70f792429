"""Fixtures for tests of telemetry: no environment variable chooses devices, and warnings are captured."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the environment variables that choose devices."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log of flowprov; ``logged.messages`` has warnings only."""
    caplog.set_level(logging.WARNING, logger="flowprov")
    return caplog
