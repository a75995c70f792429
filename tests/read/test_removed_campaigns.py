"""A campaign that is removed while it is read gives the answer without it, or one sentence."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import flowprov
from benchmarks.read_sizes import Layout, make_buffer
from flowprov.cli import main
from flowprov.errors import FlowprovError
from flowprov.read import parquet_files
from flowprov.read.compaction import compact
from flowprov.read.parquet_writer import ParquetWriter
from flowprov.read.source import Source

pytest.importorskip("duckdb")
pytest.importorskip("pandas")

_EVENTS = ("open", "os.scandir", "os.listdir")


class _Removal:
    """Removes a folder when something in it is opened or listed, or before duckdb runs a statement."""

    folder: Path | None = None
    moments_left = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and self.folder is not None and str(arguments[0]).startswith(str(self.folder)):
            self.pass_moment()

    def pass_moment(self) -> None:
        self.moments_left -= 1
        if self.moments_left < 0 and self.folder is not None:
            folder, self.folder = self.folder, None
            shutil.rmtree(folder)


_removal = _Removal()
sys.addaudithook(_removal)  # it cannot be removed, and costs next to nothing outside these tests


class _Connection:
    """A connection to duckdb; each of its statements is a moment."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def execute(self, *arguments: Any) -> Any:
        _removal.pass_moment()
        return self._connection.execute(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def _command(*arguments: str) -> Callable[[Path], object]:
    def run(buffer: Path) -> None:
        result = CliRunner().invoke(main, [*arguments, "--source", str(buffer)])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        assert "Traceback" not in result.output

    return run


_READS: dict[str, Callable[[Path], object]] = {
    "read_buffer": lambda buffer: flowprov.read_buffer(buffer, campaign_id="campaign-001"),
    "records": lambda buffer: flowprov.read_buffer(buffer, return_df=False),
    "runs": flowprov.runs,
    "metrics": flowprov.metrics,
    "campaigns": flowprov.campaigns,
    "query": lambda buffer: flowprov.query("select count(*) from tasks", buffer),
    "query of values": lambda buffer: flowprov.query("select generated->>'$.loss' from tasks", buffer),
    "diff": lambda buffer: flowprov.diff("workflow-0", "workflow-1", buffer),
    "verify": lambda buffer: CliRunner().invoke(main, ["verify", str(buffer)], catch_exceptions=False),
    "show": lambda buffer: CliRunner().invoke(main, ["show", str(buffer)], catch_exceptions=False),
    "ls": _command("ls"),
    "compact": _command("compact"),
}


@pytest.fixture
def _moments(monkeypatch: pytest.MonkeyPatch) -> None:
    duckdb = parquet_files.import_duckdb()
    connect = duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda **options: _Connection(connect(**options)))


def _check(folder: Path, name: str, moments: Iterable[int], *, is_compacted: bool) -> None:
    original = folder / "original"
    make_buffer(original, 160, Layout(journals=4, campaigns=2))
    if is_compacted:
        for campaign in ("campaign-000", "campaign-001"):
            compact(Source(original).campaign(campaign), {}, ParquetWriter())
    for moment in moments:
        buffer = folder / str(moment)
        shutil.copytree(original, buffer)
        _removal.moments_left, _removal.folder = moment, buffer / "campaign-001"
        try:
            with contextlib.suppress(FlowprovError):
                _READS[name](buffer)
        finally:
            is_over, _removal.folder = _removal.folder is not None, None
        shutil.rmtree(buffer)
        if is_over:
            break


@pytest.mark.usefixtures("_moments")
@pytest.mark.parametrize("is_compacted", [False, True], ids=["journals", "compacted"])
@pytest.mark.parametrize("name", list(_READS))
def test_a_campaign_that_is_removed_meanwhile_is_no_traceback(
    tmp_path: Path, name: str, *, is_compacted: bool
) -> None:
    _check(tmp_path, name, range(1, 200, 7), is_compacted=is_compacted)


@pytest.mark.soak
@pytest.mark.usefixtures("_moments")
@pytest.mark.parametrize("is_compacted", [False, True], ids=["journals", "compacted"])
@pytest.mark.parametrize("name", list(_READS))
def test_a_campaign_that_is_removed_at_any_moment_is_no_traceback(
    tmp_path: Path, name: str, *, is_compacted: bool
) -> None:
    _check(tmp_path, name, range(200), is_compacted=is_compacted)
