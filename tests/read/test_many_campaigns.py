"""The cost of reading one campaign does not depend on how many others lie beside it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.capture.version_records import finish_versions
from flowprov.errors import UnknownIdError
from flowprov.journal.format import folder_name
from flowprov.read import Buffer, read_buffer
from flowprov.read.verify import verify
from tests.cli.support import flowprov as command
from tests.journal.support import header, step, write

_PATH_EVENTS = ("open", "os.listdir", "os.scandir")
_counting: list[str] | None = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _counting is not None and event in _PATH_EVENTS:
        _counting.append(str(arguments[0]))


sys.addaudithook(_hook)  # it cannot be removed, and costs next to nothing outside these tests


def paths_touched(call: Callable[[], Any]) -> list[str]:
    """Return the paths that a call opens and lists."""
    global _counting  # noqa: PLW0603 - an audit hook takes no arguments
    call()  # what is imported or read once only
    _counting = []
    try:
        call()
        return _counting
    finally:
        _counting = None


def buffer_of(folder: Path, count: int) -> Path:
    for number in range(count):
        for host in range(2):
            first = header(f"j{number}-{host}", f"c{number}", hostname=f"node-{host}")
            write(folder, first, step(0, number + 1))
    return folder


READS: dict[str, Callable[[Path, str], Any]] = {
    "read_buffer": lambda folder, campaign_id: read_buffer(folder, campaign_id=campaign_id, return_df=False),
    "one Buffer for all": lambda folder, campaign_id: list(_shared(folder).records(campaign_id=campaign_id)),
    "messages": lambda folder, campaign_id: list(Buffer(folder).messages(campaign_id=campaign_id)),
    "journals": lambda folder, campaign_id: Buffer(folder).journals(campaign_id=campaign_id),
    "follow": lambda folder, campaign_id: list(Buffer(folder).follow(campaign_id=campaign_id).available()),
}
_buffers: dict[Path, Buffer] = {}


def _shared(folder: Path) -> Buffer:
    return _buffers.setdefault(folder, Buffer(folder))


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_reading_one_campaign_touches_nothing_of_the_others(
    read: Callable[[Path, str], Any], tmp_path: Path
) -> None:
    few, many = buffer_of(tmp_path / "few", 2), buffer_of(tmp_path / "many", 100)
    assert len(read(many, "c1")) == 2
    among_few = [path for path in paths_touched(lambda: read(few, "c1")) if path.startswith(str(few))]
    among_many = [path for path in paths_touched(lambda: read(many, "c1")) if path.startswith(str(many))]
    assert len(among_many) == len(among_few) < 30
    assert not [path for path in among_many if f"{many}/" in path and f"{many}/c1" not in path]


def test_reading_campaign_after_campaign_grows_with_their_number_and_no_faster(tmp_path: Path) -> None:
    def touched(count: int) -> int:
        folder = buffer_of(tmp_path / str(count), count)
        calls = [partial(read_buffer, folder, campaign_id=f"c{number}") for number in range(count)]
        # The path of the program's own buffer, and what other threads open, do not belong to it.
        return sum(path.startswith(str(folder)) for call in calls for path in paths_touched(call))

    few = touched(10)  # the first calls of a process also load what they need
    assert touched(40) <= 4 * few


def test_a_campaign_with_an_id_that_names_no_folder_is_found_as_fast(buffer: Path) -> None:
    for campaign_id in ("\u5b9e\u9a8c", "user/exp", "c3"):
        with flowprov.campaign(campaign_id=campaign_id), flowprov.workflow("W"):
            pass
    finish_versions()  # a thread finds them out, and keeps lists of packages in the folders
    for campaign_id in ("\u5b9e\u9a8c", "user/exp"):
        touched = paths_touched(partial(read_buffer, campaign_id=campaign_id))
        own = str(buffer / folder_name(campaign_id))
        assert all(path.startswith(own) for path in touched if path.startswith(str(buffer)))


def test_a_folder_of_buffers_is_read_as_before(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(tmp_path / name / "flowprov_buffer", header(name, "c1"), step(0))
    write(tmp_path / "first" / "flowprov_buffer", header("other", "c2"), step(0))
    assert len(read_buffer(tmp_path, campaign_id="c1")) == 2
    with pytest.raises(UnknownIdError, match=r"it holds c1, c2|it holds c2, c1"):
        read_buffer(tmp_path, campaign_id="zzz")


def test_a_host_with_the_name_of_the_campaign_is_not_taken_for_its_folder(tmp_path: Path) -> None:
    write(tmp_path, header("a", "c1", hostname="c1"), step(0))
    write(tmp_path, header("b", "c1", hostname="c2"), step(0))
    assert len(read_buffer(tmp_path / "c1", campaign_id="c1")) == 2


def test_journals_outside_the_folder_of_their_campaign_are_checked_and_named(tmp_path: Path) -> None:
    write(tmp_path, header("a", "c1"), step(0))
    archived = write(tmp_path / "archive", header("b", "c1"), step(0, 3))
    assert len(read_buffer(tmp_path, campaign_id="c1")) == 1
    result = verify(tmp_path, campaign_id="c1")
    assert len(result.journals) == 2
    assert result.misplaced == [archived]
    printed = command("verify", str(tmp_path), "--campaign", "c1", cwd=tmp_path)
    assert "outside the folder of the campaign" in printed.out
    assert str(archived) in printed.out
