"""Tests of telemetry begin without anything in the environment that chooses devices."""

from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def all_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the variables that choose devices."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What flowprov tells a person; ``said.messages`` has warnings only."""
    caplog.set_level(logging.WARNING, logger="flowprov")
    return caplog
