"""``flowprov whence``, ``lineage``, ``artifacts``, ``digest``, and what other commands know of artifacts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import flowprov as package
from tests.cli.support import flowprov
from tests.contents.files import sha256
from tests.support import run, start

_PROGRAM = """
    import flowprov, pathlib
    pathlib.Path("data.csv").write_text("data")
    pathlib.Path("odd\\x1b[31m.bin").write_bytes(b"odd")
    with flowprov.campaign("nightly", campaign_id="c1"), flowprov.workflow("train", used={"lr": 0.5}):
        flowprov.use_artifact("data.csv", kind="dataset")
        flowprov.log_artifact("odd\\x1b[31m.bin", keep=True)
        pathlib.Path("model.bin").write_bytes(b"model")
        flowprov.log_artifact("model.bin", "model", kind="checkpoint", epoch=3)
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a program that logged artifacts."""
    folder = tmp_path_factory.mktemp("artifacts")
    run(_PROGRAM, folder)
    return folder


def test_whence_tells_what_made_a_file(recorded: Path, tmp_path: Path) -> None:
    shutil.copy(recorded / "model.bin", tmp_path / "unknown")
    result = flowprov("whence", tmp_path / "unknown", cwd=recorded)
    assert result.status == 0
    for part in ("its digest", "workflow train", "nightly", "epoch 3", "lr 0.5", "data.csv"):
        assert part in result.out
    found = flowprov("whence", tmp_path / "unknown", "--json", cwd=recorded).json
    assert found["found_by"] == "digest"
    assert {"id", "type", "name", "digest", "likely"} <= set(found["nodes"][0])
    assert {"source", "target", "relation"} == set(found["edges"][0])
    named = flowprov("whence", "unknown", "--source", recorded / "flowprov_buffer", cwd=tmp_path)
    assert named.out == result.out


def test_whence_ends_with_status_1_for_a_file_that_nothing_knows(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "strange").write_bytes(b"strange")
    result = flowprov("whence", tmp_path / "strange", cwd=recorded)
    assert (result.status, result.out) == (1, "")
    assert "It looked in" in result.err
    assert flowprov("whence", tmp_path / "strange", "--json", cwd=recorded).out == "null\n"


def test_lineage_is_told_drawn_and_printed(recorded: Path) -> None:
    told = flowprov("lineage", "model.bin", cwd=recorded)
    assert told.status == 0
    assert "data.csv" in told.out
    down = flowprov("lineage", "--down", "data.csv", cwd=recorded)
    assert "model.bin" in down.out
    assert flowprov("lineage", "model.bin", "--dot", cwd=recorded).out.startswith("digraph lineage {\n")
    assert flowprov("lineage", "model.bin", "--mermaid", cwd=recorded).out.startswith("flowchart BT\n")
    digest = sha256(b"model")
    by_digest = flowprov("lineage", digest[:10], "--json", cwd=recorded).json
    assert digest in {node["id"] for node in by_digest["nodes"]}
    assert flowprov("lineage", "model.bin", "--dot", "--json", cwd=recorded).status == 2


def test_artifacts_are_listed_and_escaped(recorded: Path) -> None:
    result = flowprov("artifacts", cwd=recorded)
    assert result.status == 0
    assert "\x1b" not in result.out
    assert len(result.out.splitlines()) == 4
    lines = [json.loads(line) for line in flowprov("artifacts", "--json", cwd=recorded).out.splitlines()]
    assert [line["role"] for line in lines] == ["used", "generated", "generated"]
    assert lines[2]["digest"] == sha256(b"model")
    assert flowprov("artifacts", "--campaign", "c1", cwd=recorded).out == result.out


def test_show_counts_artifacts_and_lists_those_of_a_record(recorded: Path) -> None:
    assert "artifacts: 1 used, 2 generated" in flowprov("show", cwd=recorded).out
    workflow = str(package.artifacts(recorded / "flowprov_buffer")["workflow_id"][0])
    shown = flowprov("show", workflow, cwd=recorded)
    assert "generated_artifacts" in shown.out
    assert "model.bin" in shown.out
    record = flowprov("show", workflow, "--json", cwd=recorded).json
    assert record["used_artifacts"][0]["digest"] == sha256(b"data")


def test_rm_removes_the_copies_of_a_campaign_with_it_and_nothing_else(tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path)
    run(_PROGRAM.replace('"c1"', '"c2"'), tmp_path)
    buffer = tmp_path / "flowprov_buffer"
    (buffer / "c2" / "objects" / "mine.txt").write_text("of a person")
    assert list((buffer / "c1" / "objects").iterdir())
    assert flowprov("rm", "--yes", "c1", "c2", cwd=tmp_path).status == 0
    assert not (buffer / "c1").exists()
    assert [path.name for path in (buffer / "c2" / "objects").iterdir()] == ["mine.txt"]
    assert (tmp_path / "model.bin").exists()


_KILLED = """
    import flowprov, pathlib, time
    for name in ("kept", "changed", "gone"):
        pathlib.Path(name).write_text(name)
    with open("huge", "wb") as file:
        file.truncate(200 << 30)
    with flowprov.workflow("w"):
        flowprov.log_artifact("huge")
        for name in ("kept", "changed", "gone"):
            flowprov.log_artifact(name)
        print("logged", flush=True)
        time.sleep(600)
"""


def test_digest_completes_what_a_killed_program_left_pending(tmp_path: Path) -> None:
    with start(_KILLED, tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        running = flowprov("digest", cwd=tmp_path)
        assert (running.status, running.out) == (1, "4 running\n")
        process.kill()
    (tmp_path / "huge").unlink()
    (tmp_path / "changed").write_text("changed since")
    (tmp_path / "gone").unlink()
    result = flowprov("digest", "--json", cwd=tmp_path)
    assert result.status == 0
    assert result.json == {"missing": 2, "digested": 1, "changed_while_read": 1}
    frame = package.artifacts(tmp_path / "flowprov_buffer").set_index("path")
    assert frame["digest"][str(tmp_path / "kept")] == sha256(b"kept")
    assert frame["state"][str(tmp_path / "changed")] == "changed_while_read"
    assert flowprov("digest", cwd=tmp_path).out == "no digest is pending\n"
    assert flowprov("show", cwd=tmp_path).out.count("INTERRUPTED") == 1
