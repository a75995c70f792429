"""Artifacts are delivered to servers, and read back from there as from files."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

import flowprov
from tests.cli.support import flowprov as command_line
from tests.sinks.server_process import ServerProcess
from tests.support import run

_PROGRAM = """
    import flowprov, pathlib
    pathlib.Path("data").write_text("data")
    pathlib.Path("folder").mkdir()
    pathlib.Path("folder/member").write_text("member")
    with flowprov.campaign("shipped"), flowprov.workflow("w"):
        flowprov.use_artifact("data")
        flowprov.log_artifact("folder", metadata={"a.b": {"$c": 1}})
"""


@pytest.fixture
def server(server: ServerProcess) -> ServerProcess:
    """A running server for one test."""
    server.start()
    return server


def test_artifacts_read_the_same_from_a_server(server: ServerProcess, tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path)
    assert command_line("ship", "--to", server.uri(), cwd=tmp_path).status == 0
    from_files = flowprov.artifacts(tmp_path / "flowprov_buffer")
    pd.testing.assert_frame_equal(flowprov.artifacts(server.uri()), from_files)
    found = flowprov.whence(tmp_path / "folder" / "member", server.uri())
    assert found is not None
    assert found.found_by == "member"
    assert command_line("verify", server.uri(), cwd=tmp_path).status == 0
