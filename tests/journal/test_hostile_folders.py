"""What other users place in a shared folder, and what other machines send, changes no file that is there."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowprov.errors import SettingsError
from flowprov.journal import folders
from flowprov.journal.format import find_journals
from flowprov.journal.liveness import expect_writer_until, is_writer_expected
from flowprov.journal.replica import Chunk, append_chunks, begins_journal
from flowprov.read.verify import verify
from flowprov.records import Footer, Header, encode
from flowprov.settings import load_settings
from flowprov.shipping.status import Report, ShipperFiles
from tests.support import only, run, tasks

OTHER = 65534
root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as two users")

_PROGRAM = """
import os
{before}
import flowprov
with flowprov.workflow("W", campaign_id="c1"):
    flowprov.task(lambda: 1)()
{after}
"""


def as_other(act: Callable[[], object]) -> int:
    """Do something in a process of another user; return its exit status: 0, or 1 if it raised."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(OTHER)
            os.setuid(OTHER)
            act()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def shared() -> Iterator[Path]:
    """Return a folder that all users may reach and write to."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("mine")
    return path


# -- what others place in a buffer -----------------------------------------------------------------------
PLANTS: dict[str, Callable[[Path, Path], object]] = {
    "a link": lambda path, target: path.symlink_to(target),
    "a link to nothing": lambda path, target: path.symlink_to(target.with_name("new")),
    "a pipe": lambda path, _: os.mkfifo(path),
    "a folder": lambda path, _: path.mkdir(),
    "a file": lambda path, _: path.write_text("forged"),
}


@root_only
@pytest.mark.parametrize("plant", PLANTS.values(), ids=PLANTS)
@pytest.mark.parametrize("suffix", [".new", ".json", ".lock", ".log"])
def test_what_others_place_for_the_files_of_the_shipper_is_not_followed(
    shared: Path, victim: Path, suffix: str, plant: Callable[[Path, Path], object]
) -> None:
    files = ShipperFiles(shared, ["redis://host"])
    target = shared / f"{files.log.stem}{suffix}"
    assert as_other(lambda: plant(target, victim)) == 0
    lock = files.take_lock()
    assert lock is not None
    with lock, files.open_log() as log:
        log.write(b"line")
        files.write_report(Report(pid=1))
        read = files.read_report()
    assert read is not None
    assert read.pid == 1
    assert victim.read_text() == "mine"
    assert not victim.with_name("new").exists()
    with contextlib.suppress(OSError):
        files.delete_report()


@root_only
def test_a_second_name_of_a_file_is_not_written_to(shared: Path) -> None:
    files = ShipperFiles(shared, ["redis://host"])
    mine = shared / "mine"
    mine.write_text("mine")
    os.link(mine, files.log)
    with files.open_log() as log:
        log.write(b"line")
    assert mine.read_text() == "mine"


@root_only
@pytest.mark.parametrize("level", ["campaign", "host"])
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_folder_that_others_place_for_a_campaign_is_not_used(shared: Path, level: str, kind: str) -> None:
    elsewhere = shared / "elsewhere"
    elsewhere.mkdir()
    buffer = shared / "buffer"
    buffer.mkdir()
    buffer.chmod(0o777)
    temporary = shared / "temporary"
    temporary.mkdir()
    name = folders_host()

    def plant() -> None:
        at = buffer / "c1"
        if level == "host":
            at.mkdir()
            at = at / name
        at.symlink_to(elsewhere) if kind == "link" else at.mkdir()
        for folder in (buffer / "c1", at):
            with contextlib.suppress(OSError):
                folder.chmod(0o777)

    assert as_other(plant) == 0
    environment = {"FLOWPROV__JOURNAL__PATH": str(buffer), "TMPDIR": str(temporary)}
    _, stderr = run(_PROGRAM.format(before="", after=""), shared, env=environment)
    assert "was placed there by another user" in stderr
    assert find_journals(elsewhere) == find_journals(buffer) == []
    assert len(tasks(temporary)) == 1
    assert any("lies in" in sentence for sentence in verify(only(find_journals(temporary))).missing) is False


def folders_host() -> str:
    from flowprov.journal.format import folder_name
    from flowprov.journal.liveness import host_name

    return folder_name(host_name())


@root_only
@pytest.mark.parametrize("kind", ["folder", "link", "file", "open"])
def test_a_folder_of_last_resort_that_is_not_ours_is_not_used(shared: Path, kind: str) -> None:
    temporary = shared / "temporary"
    temporary.mkdir()
    temporary.chmod(0o1777)
    (shared / "elsewhere").mkdir(mode=0o777)
    planted = temporary / "flowprov_buffer_0"

    def plant() -> None:
        if kind == "link":
            planted.symlink_to(shared / "elsewhere")
        elif kind == "file":
            planted.write_text("")
        else:
            planted.mkdir()

    if kind == "open":  # its owner is right, but everybody can write to it
        planted.mkdir()
        planted.chmod(0o777)
    else:
        assert as_other(plant) == 0
    environment = {"FLOWPROV__JOURNAL__PATH": "/proc/nowhere", "TMPDIR": str(temporary)}
    _, stderr = run(_PROGRAM.format(before="", after=""), shared, env=environment)
    journal = only(find_journals(temporary))
    assert planted not in journal.parents
    assert str(journal.parents[2]) in stderr
    assert stat.S_IMODE(journal.parents[2].stat().st_mode) == 0o700
    assert find_journals(shared / "elsewhere") == []
    assert len(tasks(temporary)) == 1


def test_a_buffer_that_its_user_reaches_by_a_link_is_used(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "flowprov_buffer").symlink_to("real")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "real" / "c1").symlink_to(tmp_path / "elsewhere")
    run(_PROGRAM.format(before="", after=""), tmp_path)
    assert len(tasks(tmp_path / "elsewhere")) == 1


# -- modes -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("mode", "umask", "folder_mode"),
    [
        (None, 0o022, 0o700),
        (None, 0, 0o700),
        ("0640", 0o077, 0o750),
        ("0660", 0o022, 0o770),
        ("640", 0o077, 0o750),
        ("0644", 0o077, 0o755),
        ("0664", 0, 0o775),
        ("0600", 0o777, 0o700),
    ],
)
@pytest.mark.parametrize("writer", ["mapped", "write"])
def test_files_and_folders_have_the_mode_of_the_settings(
    tmp_path: Path, mode: str | None, umask: int, folder_mode: int, writer: str
) -> None:
    environment = {"FLOWPROV__JOURNAL__WRITER": writer, "FLOWPROV__JOURNAL__MODE": mode or ""}
    run(_PROGRAM.format(before=f"os.umask({umask})", after=""), tmp_path, env=environment)
    journal = only(find_journals(tmp_path / "flowprov_buffer"))
    assert stat.S_IMODE(journal.stat().st_mode) == int(mode or "0600", 8) & ~0o022
    for folder in (*journal.parents[:3],):
        assert stat.S_IMODE(folder.stat().st_mode) == folder_mode
    assert verify(tmp_path / "flowprov_buffer").verdict == "COMPLETE"


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "flowprov_buffer").mkdir(mode=0o755)
    run(_PROGRAM.format(before="", after=""), tmp_path)
    assert stat.S_IMODE((tmp_path / "flowprov_buffer").stat().st_mode) == 0o755


@pytest.mark.parametrize("mode", ["0777", "0666", 0o666, 600.0, "rw", True, -1, 10**30, "0o640", "", None])
def test_a_mode_that_others_could_write_by_or_that_is_none_is_an_error(mode: object) -> None:
    with pytest.raises(SettingsError, match=r"journal\.mode: found .*expected one of 0600, 0640"):
        load_settings({"journal": {"mode": mode}}, environ={})


@pytest.mark.parametrize("mode", [0o640, 640, "0640"])
def test_a_mode_may_be_a_number_as_yaml_reads_it(mode: object) -> None:
    assert load_settings({"journal": {"mode": mode}}, environ={}).journal.file_mode == 0o640


@root_only
def test_nobody_else_can_read_a_journal_unless_the_settings_say_so(shared: Path) -> None:
    for mode, status in (("0600", 1), ("0644", 0)):
        environment = {"FLOWPROV__JOURNAL__MODE": mode, "FLOWPROV__JOURNAL__PATH": str(shared / mode)}
        run(_PROGRAM.format(before="", after=""), shared, env=environment)
        journal = only(find_journals(shared / mode))
        assert as_other(lambda path=journal: path.read_bytes()) == status  # type: ignore[misc]


def test_a_journal_is_none_of_the_standard_streams(tmp_path: Path) -> None:
    """Native code writes to the numbers 1 and 2, whatever file stands there."""
    before = "[os.close(number) for number in (0, 1, 2)]"
    after = """
links = {n: os.readlink(f"/proc/self/fd/{n}") for n in (0, 1, 2) if os.path.exists(f"/proc/self/fd/{n}")}
assert not any("jsonl" in link for link in links.values()), links
for number in (1, 2):
    try:
        os.write(number, b"stray")
    except OSError:
        pass
"""
    for writer in ("mapped", "write"):
        folder = tmp_path / writer
        folder.mkdir()
        run(_PROGRAM.format(before=before, after=after), folder, env={"FLOWPROV__JOURNAL__WRITER": writer})
        assert verify(folder / "flowprov_buffer").verdict == "COMPLETE"


# -- what other machines send ----------------------------------------------------------------------------
def _header(journal_id: str = "a", campaign_id: str = "c1") -> bytes:
    return encode(
        Header(
            schema=1,
            journal_id=journal_id,
            campaign_id=campaign_id,
            hostname="h",
            pid=1,
            started_at=1,
            monotonic_ns=1,
        )
    )


def test_a_journal_that_was_written_here_takes_nothing_from_elsewhere(tmp_path: Path) -> None:
    run(_PROGRAM.format(before="", after=""), tmp_path)
    run(_PROGRAM.format(before="", after="os._exit(0)"), tmp_path)
    for journal in find_journals(tmp_path / "flowprov_buffer"):
        before = journal.read_bytes()
        slot = before[: before.find(b"\n") + 1] + encode(Footer(at=1, captured=0, written=0)).ljust(2048)
        for chunk in (Chunk(len(before), b"{}\n"), Chunk(0, b"x" * 10), Chunk(0, slot), Chunk(5, b"y")):
            expect_writer_until(journal, 60)
            assert not is_writer_expected(journal)
            assert not append_chunks(journal, [chunk], 60)
        assert journal.read_bytes() == before


def test_a_finished_replica_is_not_changed(tmp_path: Path) -> None:
    path = tmp_path / "c1" / "h" / "1-a.jsonl"
    whole = _header() + encode(Footer(at=1, captured=0, written=0))
    assert append_chunks(path, [Chunk(0, whole)], 60)
    for chunk in (Chunk(len(whole), b"{}\n"), Chunk(0, b"x"), Chunk(0, whole)):
        assert not append_chunks(path, [chunk], 60)
    assert path.read_bytes() == whole


def test_a_replica_grows_at_its_end_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "c1" / "h" / "1-a.jsonl"
    head = _header()
    slot = encode(Footer(at=1, captured=0, written=0)).rstrip().ljust(2047) + b"\n"
    assert append_chunks(path, [Chunk(0, head + b" " * 2047 + b"\n")], 60)
    for data in (b"x" * len(head), _header("b") + slot, head + slot + b"more", head + slot[:-5]):
        append_chunks(path, [Chunk(0, data), Chunk(1, data), Chunk(10**6, data)], 60)
        assert path.read_bytes() == head + b" " * 2047 + b"\n"


@root_only
def test_a_link_in_place_of_a_replica_or_its_mark_is_not_followed(shared: Path, victim: Path) -> None:
    folder = shared / "c1" / "h"
    folder.mkdir(parents=True)
    for name in ("1-a.jsonl", "2-b.replica"):
        (folder / name).symlink_to(victim)
    (folder / "1-a.replica").touch()
    for name in ("1-a", "2-b"):
        with pytest.raises(OSError, match="Too many levels of symbolic links"):
            append_chunks(folder / f"{name}.jsonl", [Chunk(0, _header())], 60)
    assert victim.read_text() == "mine"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}\n",
        b"not json\n",
        _header("b"),
        _header(campaign_id="c2"),
        b"[" * 5000 + b"\n",
        b"\xff\n",
        encode(Footer(at=1, captured=0, written=0)),
    ],
)
def test_a_replica_begins_with_its_own_header(data: bytes) -> None:
    assert not begins_journal(Chunk(0, data), Path("1-a.jsonl"), "c1")
    assert begins_journal(Chunk(0, _header()), Path("1-a.jsonl"), "c1")


def test_a_file_that_is_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for flags in (os.O_RDONLY, os.O_RDWR):
        with pytest.raises(OSError, match="no regular file"):
            folders.open_no_link(tmp_path / "pipe", flags)
