"""Random folders for the digests of DVC: each is made from its number alone.

``python -m tests.versioning.trees PYTHON`` has the real DVC digest the folders of both tables, with the
interpreter of an environment in which DVC is installed, and writes the tables anew.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

TABLE = Path(__file__).with_name("dvc_table.json")
IGNORED_TABLE = Path(__file__).with_name("dvc_ignore_table.json")
RECORDED = 60
_NAMES = (
    "a",
    "b.txt",
    ".hidden",
    "ü",
    "日本",
    "x y",
    'q"uote',
    "back\\slash",
    "new\nline",
    "é́",
    "Z",
    "10",
    "2",
)
_CONTENTS = (
    b"",
    b"\r\n",
    b"text\r\nwith\r\nends\r\n",
    b"\x00\r\n",
    bytes(range(256)),
    b"plain\n",
    "ünï\r\n".encode() * 40,
    b"a" * (1 << 20) + b"\r\n",
    b"b" * ((1 << 20) - 1) + b"\r\n" + b"c" * 700,
)
# What DVC computes, as `dvc add` does, without a cache: for many folders in one process.
_PROGRAM = """
import json, sys
from dvc.fs import localfs
from dvc.repo import Repo
from dvc_data.hashfile.build import build
repo = Repo(sys.argv[1])
found = {}
for path in json.load(sys.stdin):
    for name in ("md5", "md5-dos2unix"):
        odb = repo.cache.local if name == "md5" else repo.cache.legacy
        try:
            _, meta, obj = build(odb, path, localfs, name, ignore=repo.dvcignore, dry_run=True)
            found.setdefault(path, []).append([obj.hash_info.value, meta.size, meta.nfiles])
        except Exception as error:
            found.setdefault(path, []).append(None)
json.dump(found, sys.stdout)
"""


def make_tree(folder: Path, number: int) -> None:
    """Make the folder of a number: files of all kinds, folders, links, and what DVC leaves out."""
    chance = random.Random(number)  # noqa: S311 - of folders, not of secrets
    folder.mkdir(parents=True)
    folders = [folder]
    for _ in range(chance.randrange(12)):
        where = chance.choice(folders)
        path = where / chance.choice(_NAMES)
        if os.path.lexists(path):
            continue
        kind = chance.randrange(10)
        if kind < 5:
            path.write_bytes(chance.choice(_CONTENTS))
        elif kind < 8:
            path.mkdir()
            folders.append(path)
        elif kind == 8:
            files = [one for one in folder.rglob("*") if one.is_file() and not one.is_symlink()]
            if files:
                path.symlink_to(os.path.relpath(chance.choice(files), where))
        else:
            _make_odd(chance, where, folder)


def _make_odd(chance: random.Random, where: Path, folder: Path) -> None:
    odd = chance.choice((".git", ".hg", ".dvc", "link", "broken", ".dvcignore", ".git file"))
    path = where / odd.split()[0]
    if os.path.lexists(path):
        return
    if odd in (".git", ".hg", ".dvc"):
        if odd == ".dvc" and where == folder:
            return  # that is tested by itself
        path.mkdir()
        (path / "config").write_text("x")
    elif odd == "link":
        path.symlink_to(folder)
    elif odd == "broken":
        path.symlink_to("nowhere")
    else:
        path.write_text("x")


_PLAIN = ("a", "b", "c.txt", "d.log", "sub", "x y", "[z]")
_PATTERNS = (
    *(
        "a",
        "b/",
        "/a",
        "/data/a",
        "*.txt",
        "!c.txt",
        "!*.log",
        "sub/",
        "sub",
        "!sub/",
        "/sub/a",
        "data/sub/b",
    ),
    *("**/a", "data/**", "**/sub/**", "data/**/b", "sub/*", "*/a", "?", "[ab]", "[!ab]*", "[a-c].txt", "x y"),
    *(
        "\\[z\\]",
        "[z-a]",
        "# a",
        "\\#a",
        "",
        "   ",
        "/",
        "*",
        "**",
        "*/",
        "!a",
        "!b/",
        "data",
        "c.t?t",
        "*.log ",
    ),
)


def make_ignored(folder: Path, number: int) -> Path:
    """Make a folder of a number, of which patterns around leave something out; return it."""
    chance = random.Random(number)  # noqa: S311 - of folders, not of secrets
    top = folder / "data"
    places = [top, top / "sub", top / "sub" / "b", top / "b", top / "e" / "sub"]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    for place in places:
        for name in chance.sample(_PLAIN, 4):
            if not (place / name).exists():
                (place / name).write_text(name)
    lines = chance.choices(_PATTERNS, k=chance.randrange(1, 5))
    (folder / ".dvcignore").write_text("".join(f"{line}\n" for line in lines))
    return top


def make_all_ignored(folder: Path, first: int) -> list[Path]:
    """Make some of these folders in one repository, which has patterns of its own."""
    folder.mkdir(exist_ok=True)
    (folder / ".dvc").mkdir(exist_ok=True)
    (folder / ".dvcignore").write_text("*.log\n!data/sub/d.log\n/1/data/a\n")
    return [make_ignored(folder / str(number), first + number) for number in range(RECORDED)]


Result = list[list[object] | None]


def real_digests(python: str, folder: Path, trees: Sequence[Path]) -> dict[str, Result]:
    """Return what the real DVC says of some folders in a folder: md5, size and number of files, twice."""
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    subprocess.run([python, "-m", "dvc", "init", "-q", "-f"], cwd=folder, check=True)
    done = subprocess.run(
        [python, "-c", _PROGRAM, str(folder)],
        input=json.dumps([str(tree) for tree in trees]),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Result] = json.loads(done.stdout)
    return found


def write_table(table: Path, folder: Path, trees: Sequence[Path]) -> None:
    """Write what the real DVC says of some folders."""
    results = real_digests(sys.argv[1], folder, trees)
    rows = ",\n".join(json.dumps(results[str(tree)]) for tree in trees)
    table.write_text(f"[\n{rows}\n]\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        places = [Path(temporary, str(number)) for number in range(RECORDED)]
        for number, place in enumerate(places):
            make_tree(place, number)
        write_table(TABLE, Path(temporary), places)
    with tempfile.TemporaryDirectory() as temporary:
        write_table(IGNORED_TABLE, Path(temporary), make_all_ignored(Path(temporary), 0))
