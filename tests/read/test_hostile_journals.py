"""Journals whose records lie, or are no records: all that reads goes on, and says what it could not read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import records
from flowprov.errors import JournalError
from flowprov.records import Campaign, Error, Footer, Sample, Workflow
from tests.cli.support import flowprov as command
from tests.fuzzing.everything import JSON, VERIFY, read_everything
from tests.journal.support import NS, header, step, write

_TASK = '{"type":"task","task_id":%s,"activity_id":"a","status":"FINISHED"%s}'


def _deep(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


HOSTILE_LINES = {
    "a time of 400 digits": _TASK % (1, ',"started_at":1' + "0" * 400),
    "a time before all clocks": _TASK % (1, f',"started_at":{-(2**63) - 1}'),
    "an id beyond 64 bits": _TASK % (2**64, ""),
    "a process id beyond 64 bits": _TASK % (1, f',"pid":{2**70}'),
    "a number of 20,000 digits": _TASK % (1, ',"used":{"x":' + "9" * 20_000 + "}"),
    "used nested 800 deep": _TASK % (1, ',"used":' + _deep(800)),
    "a machine nested 800 deep": '{"type":"machine","at":1,"values":' + _deep(800) + "}",
    "a sample nested 800 deep": '{"type":"sample","at":1,"changes":' + _deep(800) + "}",
    "lists nested 300 deep": _TASK % (1, ',"used":{"x":' + "[" * 300 + "]" * 300 + "}"),
    **{
        f"a marker in the place of {field}": _TASK
        % (1, f',"subtype":"iteration","used":{{"i":1}},"generated":{{"loss":1}},"{field}":{{"$int":"5"}}')
        for field in ("used", "generated", "custom_metadata", "telemetry_at_start")
    },
    "NaN": _TASK % (1, ',"used":{"x":NaN}'),
    "half a surrogate pair": _TASK % (1, r',"used":{"x":"\ud800"}'),
    "a lone surrogate in a name": _TASK % ('"\\udc00"', ""),
    "a field of another type": _TASK % (1, ',"tags":{"a":1}'),
    "an event count below zero": '{"type":"heartbeat","at":1,"captured":-1,"written":0}',
    "a campaign without an id": '{"type":"campaign"}',
    "a campaign whose id is a number": '{"type":"campaign","campaign_id":7}',
    "half a campaign": '{"type":"campaign","campaign_id":"c',
    "a type that is a text of a million characters": '{"type":"' + "x" * 1_000_000 + '"}',
}


@pytest.mark.parametrize("line", HOSTILE_LINES.values(), ids=HOSTILE_LINES)
@pytest.mark.parametrize("place", ["beginning", "end"])
def test_a_line_that_no_writer_writes_is_damage(line: str, place: str, tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0), step(1), Footer(at=9 * NS, captured=2, written=2))
    lines = path.read_bytes().splitlines(keepends=True)
    lines.insert(1 if place == "beginning" else -1, line.encode() + b"\n")
    path.write_bytes(b"".join(lines))
    findings = read_everything(tmp_path)
    assert findings.verdict == "INCOMPLETE"
    assert "1 damaged place" in findings.outputs[VERIFY]
    assert len(flowprov.read_buffer(tmp_path)) == 2


def test_bytes_that_are_not_utf_8_are_damage_in_the_name_of_a_field_too(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0), Footer(at=9 * NS, captured=1, written=1))
    path.write_bytes(path.read_bytes().replace(b'"status"', b'"statu\xff"'))
    assert read_everything(tmp_path).verdict == "INCOMPLETE"


ODD_BUT_TRUE = {
    "an integer too long for a text": step(
        0, used={"x": {"$int": "0x" + "f" * 20_000}, "y": {"$int": "9" * 20_000}}
    ),
    "an integer of 4,000 digits": step(0, used={"x": {"$int": "0x" + "f" * 3_000}}),
    "tags that are no texts": Workflow(workflow_id="w", custom_metadata={"tags": [{}, [1], None]}),
    "tags beside tags": Workflow(workflow_id="w", status="FINISHED", custom_metadata={"tags": 7}),
    "a workflow inside itself": Workflow(workflow_id="w", parent_workflow_id="w", started_at=1, ended_at=2),
    "an empty id": step("", parent_task_id=""),
    "an id with a NUL": Workflow(workflow_id="w\0002", status="FINISHED", started_at=1, ended_at=2),
    "an empty error": step(0, status="ERROR", error=Error(type="", message="")),
    "a time at the end of time": step(0, 0, started_at=2**63 - 1, ended_at=-(2**63)),
    "energy that is no number": Sample(
        at=NS, values={"gpu": {"0": {"energy_j": 10**300}, "1": {"energy_j": "x"}}}
    ),
    "readings that are lists": Sample(at=NS, values={"cpu": [1], "gpu": [], "process": {"user_s": 10**300}}),
    "exact readings that are anything": step(
        0, telemetry_at_start={"gpu": 1}, telemetry_at_end={"gpu": {"0": []}}
    ),
}


@pytest.mark.parametrize("record", ODD_BUT_TRUE.values(), ids=ODD_BUT_TRUE)
def test_a_record_that_no_program_means_is_read(record: Any, tmp_path: Path) -> None:
    write(tmp_path, header(), record, record, step(5), Sample(at=2 * NS, changes={"cpu": None}))
    assert len(read_everything(tmp_path).outputs[VERIFY]) < 10_000


LYING_HEADERS: dict[str, dict[str, Any]] = {
    "more ranks than there are atoms": {"rank": 0, "world_size": 2**62},
    "a start that is no number": {"process_started_at": "\u00b2"},
    "a start of 9,000 digits": {"process_started_at": "1" * 9_000},
    "a process of another program": {"pid": os.getpid(), "process_started_at": "1"},
    "no process": {"pid": -1},
    "a heart that beats never": {"heartbeat_s": 1e12},
    "ancestors that are itself": {"ancestors": [("j1", 0)] * 100, "first_number": 50},
    "the first number below zero": {"first_number": -(2**63)},
    "a thread, a program": {"thread": "\n", "program": "\x1b[2J"},
    "an empty id": {"journal_id": ""},
}


@pytest.mark.parametrize("fields", LYING_HEADERS.values(), ids=LYING_HEADERS)
def test_a_header_that_lies_is_read(fields: dict[str, Any], tmp_path: Path) -> None:
    write(
        tmp_path,
        header(**fields),
        step(0),
        step(-5, parent_task_id=7),
        Footer(at=9 * NS, captured=2, written=2),
    )
    findings = read_everything(tmp_path)
    assert findings.verdict
    assert len(findings.outputs[JSON]) < 20_000


@pytest.mark.parametrize(
    "damage", [b'"campaign_id":7', b'"campaign_id":', b'"campaign_id":"\xff"', b'"nobody":"c1"']
)
def test_a_damaged_campaign_record_costs_its_name_alone(damage: bytes, tmp_path: Path) -> None:
    campaign = Campaign(campaign_id="c1", name="nightly", started_at=NS)
    path = write(tmp_path, header(), campaign, step(0), Footer(at=9 * NS, captured=1, written=1))
    write(tmp_path, header("j2"), step(0), Footer(at=9 * NS, captured=1, written=1))
    path.write_bytes(path.read_bytes().replace(b'"campaign_id":"c1","name"', damage + b',"name"'))
    assert flowprov.Buffer(tmp_path).campaigns() == [Campaign(campaign_id="c1", started_at=NS)]
    shown = command("show", tmp_path, cwd=tmp_path)
    assert (shown.status, shown.out.splitlines()[0]) == (0, "campaign  c1")
    assert command("verify", tmp_path, cwd=tmp_path).verdict == "INCOMPLETE"


def test_what_is_no_file_beside_journals_is_named_and_holds_nobody_up(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0), Footer(at=9 * NS, captured=1, written=1))
    os.mkfifo(path.with_name("1-fifo.jsonl"))
    path.with_name("2-folder.jsonl").mkdir()
    path.with_name("3-zero.jsonl").symlink_to("/dev/zero")
    path.with_name("4-sparse.jsonl").touch()
    os.truncate(path.with_name("4-sparse.jsonl"), 20 << 30)
    verified = command("verify", tmp_path, cwd=tmp_path)
    assert (verified.status, verified.verdict) == (2, "INCOMPLETE")
    assert verified.out.count("no regular file") == 3
    assert command("show", tmp_path, cwd=tmp_path).status == 0
    assert len(flowprov.read_buffer(tmp_path)) == 1


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, Path.touch])
def test_a_source_that_is_no_journal_is_an_error_that_says_so(make: Any, tmp_path: Path) -> None:
    path = tmp_path / "1-j1.jsonl"
    make(path)
    read_everything(path)
    shown = command("show", path, cwd=tmp_path)
    assert shown.status in (0, 2)


def test_files_whose_names_are_not_utf_8_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, header(), step(0))
    path.rename(os.fsdecode(os.fsencode(path.parent) + b"/7-\xff\xfe.jsonl"))
    verified = command("verify", "--json", tmp_path, cwd=tmp_path)
    assert verified.json["journals"][0]["path"].endswith("7-\udcff\udcfe.jsonl")
    lost = write(tmp_path / "other", header("j2"), step(0))
    lost.write_bytes(records.encode(step(0)))
    lost.rename(os.fsdecode(os.fsencode(lost.parent) + b"/7-\xff\xfe.jsonl"))
    read_everything(tmp_path / "other")


def test_a_campaign_of_which_a_folder_cannot_be_listed_is_not_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, header(), step(0), Footer(at=9 * NS, captured=1, written=1))
    closed = path.parents[1] / "node-2"
    closed.mkdir()
    real = os.scandir

    def scandir(folder: Any) -> Any:
        if folder == closed:
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    findings = read_everything(tmp_path)
    assert findings.verdict == "INCOMPLETE"
    assert f"{closed}: Permission denied" in findings.outputs[VERIFY]


def test_a_journal_that_is_no_journal_at_all_raises_the_documented_error(tmp_path: Path) -> None:
    (tmp_path / "1-j.jsonl").write_bytes(b"\0" * 100)
    with pytest.raises(JournalError):
        flowprov.Buffer(tmp_path / "none")
    assert flowprov.Buffer(tmp_path).campaigns() == []
