"""What a person has who installs flowprov: the wheel, in an environment without anything of the repository.

Flows in: the tracked files. Flows out: a wheel, and environments that run programs.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

from tests.support import REPOSITORY, clean_environment

_PROGRAMS = Path(__file__).parent / "programs"
_MAX_SECONDS = 1800.0
_QUIETLY = ("-q", "--disable-pip-version-check")


class CommandFailedError(Exception):
    """A command failed, or did not say what it should."""


def run(*command: str | Path, folder: Path, fails: bool = False) -> str:
    """Run a command in a folder, without the repository on its path; return all that it prints."""
    environment = clean_environment(HF_HUB_OFFLINE="1")
    environment.pop("PYTHONPATH")
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_MAX_SECONDS,
        check=False,
    )
    if done.returncode and not fails:
        shown = " ".join(map(str, command))
        raise CommandFailedError(f"{shown} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """Build the archive of sources, and a wheel of it; return the wheel. It equals a wheel of the tree."""
    tree, archives, of_tree = folder / "tree", folder / "archives", folder / "of_tree"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True)
    for name in filter(None, tracked.stdout.decode().split("\0")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tree / name)
    run(sys.executable, "-m", "build", "-o", archives, tree, folder=folder)
    run(sys.executable, "-m", "pip", "wheel", *_QUIETLY, "--no-deps", "-w", of_tree, tree, folder=folder)
    (wheel,), (other,) = archives.glob("*.whl"), of_tree.glob("*.whl")
    if _contents(wheel) != _contents(other):
        names = sorted(_contents(wheel).items() ^ _contents(other).items())
        raise CommandFailedError(f"the archive of sources gives another wheel than the tree: {names[:5]}")
    return wheel


def _contents(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as archive:
        return {one.filename: one.CRC for one in archive.infolist()}


class Environment:
    """A virtual environment with the wheel.

    Parameters
    ----------
    folder
        Where it is made.
    wheel
        The wheel.
    extra
        One of its extras; empty for none.

    Attributes
    ----------
    packages, size
        How many packages the installation brought, and how many bytes.
    """

    def __init__(self, folder: Path, wheel: Path, extra: str = "") -> None:
        self.folder = folder
        folder.mkdir()
        venv.create(folder / "env", with_pip=True)
        before = self._bytes()
        # Other versions of torch are built for other machines, and gigabytes large.
        pins = (REPOSITORY / "constraints.txt").read_text().splitlines()
        constraints = folder / "torch.txt"
        constraints.write_text("".join(f"{pin}\n" for pin in pins if pin.startswith("torch==")))
        wanted = f"{wheel}[{extra}]" if extra else str(wheel)
        self.python("-m", "pip", "install", *_QUIETLY, "--no-compile", "-c", constraints, wanted)
        self.size = self._bytes() - before
        self.packages = len(self.python("-m", "pip", "freeze", *_QUIETLY).splitlines())
        self.python("-m", "pip", "check", *_QUIETLY)

    def python(self, *arguments: str | Path, fails: bool = False) -> str:
        """Run its Python in an empty folder; return all that it prints."""
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            return run(self.folder / "env" / "bin" / "python", *arguments, folder=Path(place), fails=fails)

    def program(self, name: str, *arguments: str, fails: bool = False, strictly: bool = False) -> str:
        """Run a program of ours, strictly so that a warning ends it; return all that it prints."""
        script = self.folder / "program.py"  # a copy: the others beside it have the names of packages
        shutil.copy(_PROGRAMS / f"{name}.py", script)
        return self.python(*(("-W", "error") if strictly else ()), script, *arguments, fails=fails)

    def _bytes(self) -> int:
        return sum(path.stat().st_size for path in (self.folder / "env").rglob("*") if path.is_file())


__all__ = ["CommandFailedError", "Environment", "build_wheel"]
