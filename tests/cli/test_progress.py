"""A command that works for a while says so to a person who waits, and to nobody else."""

from __future__ import annotations

import io
import sys

import pytest

from flowprov.cli.progress import progress
from tests.support import wait_until


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_seconds_are_shown_and_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", shown := _Terminal())
    with progress("reading", after=0):
        wait_until(lambda: "reading: " in shown.getvalue())
    assert shown.getvalue().endswith(f"\r{'':19}\r")


def test_quick_work_and_pipes_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, after in ((_Terminal(), 60.0), (io.StringIO(), 0.0)):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress("reading", after):
            pass
        assert stream.getvalue() == ""


def test_what_fails_meanwhile_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", _Terminal())
    with pytest.raises(KeyboardInterrupt), progress("reading", after=0):
        raise KeyboardInterrupt
