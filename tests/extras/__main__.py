"""Install the wheel with each extra in a clean environment, and use it: ``python -m tests.extras [EXTRA…]``.

Flows in: the tracked files, and the extras of pyproject.toml. Flows out: a table with a line for each extra;
the exit status is 1 if one of them failed. Nothing is left: all lies in a temporary folder.

The program of an extra runs with the bare wheel first, and must name what mends it; then with the extra, and
must do its work. Environments get the newest packages that pyproject.toml allows, but the torch of
constraints.txt.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.parser import Parser
from pathlib import Path

import pytest

from tests.extras import FOR_DEVELOPMENT
from tests.extras.environments import CommandFailedError, Environment, build_wheel
from tests.sinks.mongodb_server import MongoServer
from tests.sinks.redis_server import RedisServer
from tests.sinks.server_process import ServerProcess

_SERVERS: Mapping[str, Callable[[Path], ServerProcess]] = {"redis": RedisServer, "mongodb": MongoServer}
# What a program says without its extra, where that is not the line of MissingExtraError.
_WITHOUT = {
    "telemetry": 'flowprov needs psutil to read cpu, mem, process: pip install "flowprov[telemetry]"',
    "nvidia": 'nvidia-ml-py is not installed: pip install "flowprov[nvidia]"',
    "amd": 'amdsmi is not installed: pip install "flowprov[amd]"',
    "rich": "done: plain",
    "all": 'Install it with: pip install "flowprov[',
}
_WITH = {"rich": "done: in colors"}


def main(chosen: Sequence[str]) -> int:
    """Print the table; return 1 if an extra failed, else 0."""
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="extras-") as folder:
        place = Path(folder)
        wheel = build_wheel(place)
        extras = _extras_of(wheel)
        if unknown := set(chosen) - set(extras):
            sys.exit(f"pyproject.toml has no extra {', '.join(sorted(unknown))}; it has {', '.join(extras)}")
        _print("| extra | packages | MB | verdict |\n|---|---:|---:|---|")
        bare = Environment(place / "bare", wheel)
        _print(_row("(none)", bare, _verdict(bare.program("bare", strictly=True), "done: ")))
        for extra in chosen or extras:
            try:
                environment = Environment(place / extra, wheel, extra)
                _print(_row(extra, environment, _use(extra, bare, environment)))
            except CommandFailedError as error:
                failures.append(f"{extra}: {error}")
                _print(f"| `{extra}` | | | FAILED |")
            shutil.rmtree(place / extra)
    _print(*failures)
    return int(bool(failures))


def _use(extra: str, bare: Environment, environment: Environment) -> str:
    """Use an extra, without it and with it; return the verdict."""
    if extra in FOR_DEVELOPMENT:
        return "installed"
    with _arguments(extra, environment.folder / "server") as arguments:
        mend = _WITHOUT.get(extra, f'Install it with: pip install "flowprov[{extra}]"')
        _verdict(bare.program(extra, *arguments, fails=True), mend)
        said = environment.program(extra, *arguments)
    if f"flowprov[{extra}]" in said:
        raise CommandFailedError(f"with the extra it still asks for it:\n{said}")
    return _verdict(said, _WITH.get(extra, "done: "))


def _verdict(said: str, expected: str) -> str:
    """Return the last line of what a program said, which holds what is expected."""
    if expected not in said:
        raise CommandFailedError(f"it does not say {expected!r}, but:\n{said}")
    return said.splitlines()[-1].removeprefix("done: ")


@contextmanager
def _arguments(extra: str, folder: Path) -> Iterator[list[str]]:
    """Return the arguments of a program: the address of its server, which runs meanwhile."""
    if extra not in _SERVERS:
        yield []
        return
    try:
        server = _SERVERS[extra](folder)
    except pytest.skip.Exception as reason:
        raise CommandFailedError(str(reason)) from reason
    server.start()
    try:
        yield [server.uri()]
    finally:
        server.kill()


def _extras_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    return metadata.get_all("Provides-Extra", [])


def _row(extra: str, environment: Environment, verdict: str) -> str:
    return f"| `{extra}` | {environment.packages} | {environment.size / 1e6:,.0f} | {verdict} |"


def _print(*lines: str) -> None:
    for line in lines:
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
