"""Every test starts fresh: without settings of the machine, without open scopes, in a buffer of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, settings

import flowprov
from flowprov.environment import code
from flowprov.environment.repository import Repository
from flowprov.runtime import encoders, runtime
from flowprov.settings import Settings
from flowprov.values import Limits, mappings
from tests.servers import own_mongodb, own_redis, shared_mongodb, shared_redis
from tests.support import REPOSITORY

_limits_of = encoders.limits_of
__all__ = ["own_mongodb", "own_redis", "shared_mongodb", "shared_redis"]

# With several test processes each has one core. More threads for torch than cores cost a fifth of the time:
# they spin while they wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is slow, so neither an example nor its generation has a deadline. All else is Hypothesis's:
# on CI, which it detects by itself, the examples are the same in every run.
settings.register_profile(
    "flowprov", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("flowprov")


@pytest.fixture(scope="session")
def temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Have this process, and those that it starts, use a temporary folder of their own.

    What cannot be written goes there, and every reader of the same user looks there.
    """
    tmp_path_factory.getbasetemp()  # pytest keeps its folders for a while: they stay where they are
    with tempfile.TemporaryDirectory(prefix="fp-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o1777)  # some tests are other users
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", folder)
            patch.setattr(tempfile, "tempdir", None)
            yield Path(folder)


@pytest.fixture(autouse=True)
def fresh_start(monkeypatch: pytest.MonkeyPatch, temporary_folder: Path, tmp_path: Path) -> Iterator[None]:
    """Remove the state of earlier tests and the settings of the machine."""
    for name in list(os.environ):
        if name.startswith("FLOWPROV") and not name.startswith("FLOWPROV_TEST"):
            monkeypatch.delenv(name)
    _skip_own_repository(monkeypatch)
    _never_cut_by_time(monkeypatch)
    runtime.reset()
    yield
    runtime.reset()
    for left in temporary_folder.glob("flowprov_buffer_*"):
        shutil.rmtree(left)


def _skip_own_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have git asked of no test in flowprov's own repository: those about versions make their own."""
    find = code.repository_of_program

    def repository_of_program() -> Repository | None:
        found = find()
        return None if found is None or found.folder == REPOSITORY else found

    monkeypatch.setattr(code, "repository_of_program", repository_of_program)


def _never_cut_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no value cut because the machine is busy: tests of the time that values may take set a limit."""
    usual = Settings().values.max_time

    def limits_of(settings: Settings) -> Limits:
        limits = _limits_of(settings)
        return (
            msgspec.structs.replace(limits, max_seconds=None) if settings.values.max_time == usual else limits
        )

    monkeypatch.setattr(encoders, "limits_of", limits_of)
    monkeypatch.setattr(mappings, "_RESOLVING_S", None)


@pytest.fixture
def buffer(tmp_path: Path) -> Path:
    """Return a buffer folder into which this process records."""
    folder = tmp_path / "buffer"
    flowprov.configure(journal={"path": str(folder)})
    return folder
