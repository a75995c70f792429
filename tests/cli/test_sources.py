"""Where commands look for records: what they read, what they change, and what they say where nothing is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flowprov.cli import main
from flowprov.cli.commands import COMMANDS
from flowprov.cli.export import FORMATS
from flowprov.journal import folders
from flowprov.journal.format import find_journals
from tests.cli.support import flowprov
from tests.journal.support import header, step, write
from tests.support import only, run

_PROGRAM = """
    import flowprov

    with flowprov.campaign("Search", campaign_id="id-search"), flowprov.workflow("train"):
        open("weights.bin", "wb").write(b"weights")
        flowprov.log_artifact("weights.bin")
"""


@pytest.fixture
def last_resort(tmp_path: Path) -> Path:
    """The folder of last resort, with a campaign; in the current folder, nothing was recorded."""
    (tmp_path / "elsewhere").mkdir()
    run(_PROGRAM, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "flowprov_buffer").rename(folders.fallback_folder())
    return folders.fallback_folder()


def _files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "argument"),
    [
        (("rm", "--keep", "0", "--yes"), "--source "),
        (("rm", "Search", "--yes"), "--source "),
        (("compact",), "--source "),
        (("digest",), ""),
        (("digest", "--campaign", "id-search"), ""),
        (("ship", "--to", "redis://localhost:1/0"), ""),
    ],
    ids=" ".join,
)
def test_what_changes_a_buffer_leaves_the_folder_of_last_resort(
    arguments: tuple[str, ...], argument: str, last_resort: Path, tmp_path: Path
) -> None:
    before = _files(last_resort)
    result = flowprov(*arguments, cwd=tmp_path)
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        f"Error: {tmp_path / 'flowprov_buffer'} does not exist. Records of programs that could not write "
        f"their own folder are in {last_resort}: give {argument}{last_resort} if you mean those.\n"
    )
    assert _files(last_resort) == before


@pytest.mark.parametrize("arguments", [("rm", "--keep", "0", "--yes"), ("digest", "--campaign", "id-search")])
def test_an_own_buffer_is_changed_and_nothing_else(
    arguments: tuple[str, ...], last_resort: Path, tmp_path: Path
) -> None:
    before = _files(last_resort)
    (tmp_path / "flowprov_buffer").mkdir()
    flowprov(*arguments, cwd=tmp_path)
    write(tmp_path / "flowprov_buffer", header(), step(0))
    flowprov(*arguments, cwd=tmp_path)
    assert _files(last_resort) == before


def test_the_folder_of_last_resort_is_changed_if_it_is_named(last_resort: Path, tmp_path: Path) -> None:
    assert flowprov("digest", last_resort, cwd=tmp_path).out == "no digest is pending\n"
    result = flowprov("rm", "--keep", "0", "--yes", "--source", last_resort, cwd=tmp_path)
    assert (result.status, result.out, find_journals(last_resort)) == (0, "removed 1 campaign\n", [])


@pytest.mark.parametrize("command", ["compact", "digest", "rm"])
def test_a_missing_buffer_is_not_taken_for_an_empty_one(command: str, tmp_path: Path) -> None:
    arguments = ("--keep", "0") if command == "rm" else ()
    result = flowprov(command, *arguments, cwd=tmp_path)
    assert (result.status, result.out) == (2, "")
    assert f"{tmp_path / 'flowprov_buffer'} does not exist: give " in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("lineage", "nowhere"),
        ("whence", "unknown"),
        ("diff", "nowhere", "nowhere"),
        ("report", "nowhere"),
        ("show", "nowhere"),
        ("verify", "--campaign", "nowhere"),
        ("runs", "--campaign", "nowhere"),
        ("export", "prov-n", "nowhere", "-o", "x"),
        ("history", "nowhere"),
        ("tail", "nowhere"),
    ],
    ids=" ".join,
)
def test_what_is_said_of_the_folder_of_last_resort_names_it(
    arguments: tuple[str, ...], last_resort: Path, tmp_path: Path
) -> None:
    (tmp_path / "unknown").write_text("of nobody")
    result = flowprov(*arguments, cwd=tmp_path)
    notice, *said = result.err.splitlines()
    assert f"found no records in {tmp_path / 'flowprov_buffer'}. It reads {last_resort} instead" in notice
    assert str(last_resort) in only(said)
    assert str(tmp_path / "flowprov_buffer") not in only(said)


def test_whence_counts_one_as_one(last_resort: Path, tmp_path: Path) -> None:
    (tmp_path / "unknown").write_text("of nobody")
    err = flowprov("whence", "unknown", "--source", last_resort, cwd=tmp_path).err
    assert f"looked in {last_resort}: 1 use or generation of artifacts in 1 journal, by digest" in err
    run(_PROGRAM.replace("id-search", "id-next"), tmp_path)
    err = flowprov("whence", "unknown", cwd=tmp_path).err
    assert "1 use or generation of artifacts in 1 journal, by digest" in err
    run(_PROGRAM.replace("id-search", "id-other"), tmp_path)
    err = flowprov("whence", "unknown", cwd=tmp_path).err
    assert "2 uses and generations of artifacts in 2 journals, by digest" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "train.py"),
        ("verify", "train.py"),
        ("ls", "--source", "train.py"),
        ("runs", "--source", "train.py"),
        ("whence", "train.py", "--source", "train.py"),
        ("tail", "--source", "train.py"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("text", [_PROGRAM, "", '{"text": "of another program"}\n', "\0" * 20])
def test_a_file_of_something_else_is_no_journal(
    arguments: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(text)
    result = _invoke(tmp_path, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Error: train.py is no journal: its first line is no header of flowprov. Give a .jsonl journal, a "
        "buffer folder or the URI of a server.\n"
    )


def test_a_journal_is_known_by_its_header_or_its_name(last_resort: Path, tmp_path: Path) -> None:
    journal = only(find_journals(last_resort))
    shutil.copy(journal, tmp_path / "copy.txt")
    (tmp_path / "lost.jsonl").write_bytes(journal.read_bytes().partition(b"\n")[2])
    for name in ("copy.txt", "lost.jsonl"):
        assert _invoke(tmp_path, "show", name).exit_code == 0
    assert "its beginning is missing, the header with it" in _invoke(tmp_path, "verify", "lost.jsonl").stdout


def _invoke(folder: Path, *arguments: str | Path) -> Result:
    """Run a command in this process, as its present user."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        return CliRunner().invoke(main, [*map(str, arguments)])
    finally:
        os.chdir(before)


@pytest.fixture
def closed_buffer(last_resort: Path) -> Iterator[Path]:
    """A buffer that belongs to root, which this process is not while the test runs."""
    base = Path(tempfile.mkdtemp())  # pytest's folders are private: another user cannot get through them
    base.chmod(0o755)
    closed = base / "flowprov_buffer"
    last_resort.rename(closed)
    closed.chmod(0o700)
    for info in (*COMMANDS.values(), *FORMATS.values()):  # that user may not read Python's own files
        import_module(f"flowprov.cli.{info.module}")
    os.seteuid(65534)
    try:
        yield closed
    finally:
        os.seteuid(0)
        shutil.rmtree(base)


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to become another user and back")
@pytest.mark.parametrize(
    "arguments",
    [
        ("ls",),
        ("ls", "--source", "{}"),
        ("runs",),
        ("runs", "--campaign", "id-search"),
        ("artifacts",),
        ("whence", "/etc/hostname"),
        ("lineage", "id-search"),
        ("query", "select * from runs"),
        ("query", "select 1", "--campaign", "Search"),
        ("history",),
        ("diff", "a", "b"),
        ("report", "-o", "-"),
        ("report", "-o", "-", "--source", "{}"),
        ("tail",),
        ("rm", "--keep", "0", "--yes"),
        ("rm", "--keep", "0", "--yes", "--source", "{}"),
        ("compact",),
        ("export", "trace", "-o", "/dev/null"),
        ("show",),
        ("show", "id-search"),
        ("show", "{}"),
        ("ui", "--port", "0"),
        ("verify",),
        ("verify", "{}", "--campaign", "id-search"),
        ("digest",),
    ],
    ids=" ".join,
)
def test_a_buffer_that_cannot_be_listed_is_one_sentence(
    arguments: tuple[str, ...], closed_buffer: Path
) -> None:
    result = _invoke(closed_buffer.parent, *(one.format(closed_buffer) for one in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"Error: {closed_buffer} cannot be listed (Permission denied): it belongs to root and has mode 0700. "
        "Read it as root, or have root open it: by chmod what is there, by journal.mode what will be "
        "recorded (0640: the group may read, 0644: all).\n"
    )


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to become another user and back")
def test_a_user_without_right_to_the_buffer_reads_the_own_folder_of_last_resort(closed_buffer: Path) -> None:
    own = folders.own_fallback_folder()
    os.seteuid(0)
    shutil.copytree(closed_buffer, own, dirs_exist_ok=True)
    for path in (own, *own.rglob("*")):
        os.chown(path, 65534, -1)
    os.seteuid(65534)
    result = _invoke(closed_buffer.parent, "ls", "--json")
    assert (result.exit_code, '"campaign_id":"id-search"' in result.stdout) == (0, True)


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to become another user and back")
def test_a_folder_inside_that_cannot_be_listed_is_a_warning(
    closed_buffer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.seteuid(0)
    inside = closed_buffer / "c1" / "node-1"
    write(closed_buffer, header(), step(0)).chmod(0o644)
    for folder in (closed_buffer, inside.parent, inside):
        folder.chmod(0o755)
    (closed_buffer / "id-search").chmod(0o700)
    os.seteuid(65534)
    for command in ("ls", "artifacts"):
        caplog.clear()
        assert _invoke(closed_buffer.parent, command).exit_code == 0
        said = [line for line in caplog.messages if "cannot list" in line]
        assert str(closed_buffer / "id-search") in only(said)
