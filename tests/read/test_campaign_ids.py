"""A campaign is what the headers of its journals say, whatever its id looks like and wherever they lie."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowprov
from flowprov import records
from flowprov.journal.format import find_journals, folder_name
from flowprov.read import Buffer, read_buffer
from flowprov.read.verify import verify
from flowprov.records import Record
from tests.cli.support import flowprov as command
from tests.journal.support import header, step
from tests.read.locations import SERVERS, Location
from tests.support import run

# Ids of each group once had the same folder.
ALIKE = {
    "two Chinese names": ("\u5b9e\u9a8c\u4e00", "\u5b9e\u9a8c\u4e8c"),
    "a slash and a space": ("user/exp", "user exp", "user_exp", "user//exp"),
    "dots at the ends": (".exp", "exp", "exp."),
    "nothing but dots": ("..", ".", "_"),
    "long ones": ("x" * 120, "x" * 121, "x" * 300),
    "two forms of one letter": tuple(unicodedata.normalize(form, "\u00e9") for form in ("NFC", "NFD")),
}
groups = pytest.mark.parametrize("ids", ALIKE.values(), ids=ALIKE)


def record(campaign_id: str) -> None:
    with flowprov.campaign(campaign_id=campaign_id), flowprov.workflow(f"of {campaign_id}"):
        pass


def names(source: object, campaign_id: str) -> list[object]:
    return [row["name"] for row in read_buffer(source, campaign_id=campaign_id, return_df=False)]  # type: ignore[call-overload]


def write_into(folder: Path, name: str, *written: Record) -> Path:
    """Write a journal into a folder of a campaign that has some name."""
    path = folder / name / "node-1" / f"99-{written[0].journal_id}.jsonl"  # type: ignore[union-attr]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(records.encode, written)))
    return path


@groups
def test_ids_that_look_alike_are_campaigns_of_their_own(buffer: Path, ids: tuple[str, ...]) -> None:
    for campaign_id in ids:
        record(campaign_id)
    assert len({path.parent.parent for path in find_journals(buffer)}) == len(ids)
    assert [campaign.campaign_id for campaign in Buffer(buffer).campaigns()] == list(ids)
    for campaign_id in ids:
        assert names(buffer, campaign_id) == [f"of {campaign_id}"]
        assert verify(buffer, campaign_id=campaign_id).campaign.campaign_id == campaign_id
    assert names(buffer, folder_name(ids[0])) == [f"of {ids[0]}"]  # what somebody sees in the file system


@groups
def test_an_old_folder_that_several_campaigns_share_stays_readable(
    tmp_path: Path, ids: tuple[str, ...]
) -> None:
    for number, campaign_id in enumerate(ids):
        write_into(tmp_path, "_", header(f"j{number}", campaign_id), step(number))
        write_into(tmp_path, folder_name(campaign_id), header(f"n{number}", campaign_id), step(number))
    for number, campaign_id in enumerate(ids):
        rows = Buffer(tmp_path).records(campaign_id=campaign_id)
        assert f"n{number}-{number}" in {row.task_id for row in rows}  # type: ignore[union-attr]
        assert {
            check.report.header.campaign_id for check in verify(tmp_path, campaign_id=campaign_id).journals
        } == {campaign_id}
    old = ids[0]
    write_into(tmp_path / "alone", "_", header("old", old), step(7))
    (row,) = read_buffer(tmp_path / "alone", campaign_id=old, return_df=False)
    assert (row["task_id"], row["campaign_id"]) == ("old-7", old)


def test_the_journals_of_one_campaign_in_its_old_and_its_new_folder_are_read_together(tmp_path: Path) -> None:
    write_into(tmp_path, "user_exp", header("old", "user exp"), step(0))
    write_into(tmp_path, "user_exp", header("other", "user/exp"), step(0))
    write_into(tmp_path, folder_name("user exp"), header("new", "user exp"), step(1, 5))
    rows = read_buffer(tmp_path, campaign_id="user exp", return_df=False)
    assert [row["task_id"] for row in rows] == ["old-0", "new-1"]
    follower = Buffer(tmp_path).follow(campaign_id="user exp")
    assert {message.task_id for message in follower.available()} == {"old-0", "new-1"}  # type: ignore[union-attr]


@groups
def test_a_journal_that_lost_its_header_stays_with_its_campaign(tmp_path: Path, ids: tuple[str, ...]) -> None:
    for number, campaign_id in enumerate(ids):
        write_into(tmp_path, folder_name(campaign_id), header(f"j{number}", campaign_id), step(number))
        lost = write_into(
            tmp_path, folder_name(campaign_id), header(f"lost{number}", campaign_id), step(number)
        )
        lost.write_bytes(b"#" + lost.read_bytes())
    for number, campaign_id in enumerate(ids):
        rows = read_buffer(tmp_path, campaign_id=campaign_id, return_df=False)
        assert {row["task_id"] for row in rows} == {f"j{number}-{number}", f"lost{number}-{number}"}
        assert {row["campaign_id"] for row in rows} == {campaign_id}


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_keeps_ids_apart_that_look_alike(
    kind: str, buffer: Path, location_of: Callable[[str], Location]
) -> None:
    location = location_of(kind)
    ids = [*ALIKE["two Chinese names"], *ALIKE["a slash and a space"]]
    for campaign_id in ids:
        record(campaign_id)
    location.deliver(buffer)
    for campaign_id in ids:
        assert names(location.source, campaign_id) == [f"of {campaign_id}"]
        assert [m.name for m in location.buffer.follow(campaign_id=campaign_id).available()][:1] == [  # type: ignore[union-attr]
            f"of {campaign_id}"
        ]


def test_processes_of_one_campaign_and_the_command_line_agree_on_its_folder(tmp_path: Path) -> None:
    code = "import flowprov\nwith flowprov.workflow('W'):\n    pass"
    for campaign_id in ALIKE["a slash and a space"]:
        for _ in range(2):
            run(code, tmp_path, env={"FLOWPROV_CAMPAIGN_ID": campaign_id})
    assert len({path.parent for path in find_journals(tmp_path)}) == 4
    result = command("verify", "--campaign", "user/exp", cwd=tmp_path)
    assert result.out.splitlines()[0] == "campaign  user/exp"
    assert "2 journals" in result.out.splitlines()[-1]


@given(st.lists(st.text(max_size=150), min_size=2, max_size=6, unique=True))
def test_every_folder_name_can_be_used_and_is_had_by_one_text_only(texts: list[str]) -> None:
    folders = [folder_name(text) for text in texts]
    assert len(set(folders)) == len(texts)
    assert all(name.isascii() and "/" not in name and name not in (".", "..") for name in folders)
    assert all(0 < len(name.encode()) <= 255 for name in folders)


def test_an_ordinary_id_is_the_name_of_its_folder() -> None:
    for text in ("01a222cc-7045-720f-b38b-ab691b29563b", "exp-1.2", "node_7.cluster.local", "-x"):
        assert folder_name(text) == text
