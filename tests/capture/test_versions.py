"""Every workflow has a record of the code, the data and the environment on which it ran."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import guard
from flowprov.capture import version_records
from flowprov.capture.version_records import finish_versions
from flowprov.journal.object_store import read_object
from flowprov.records import Header, Version, Workflow
from flowprov.runtime import runtime
from flowprov.versioning.examination import examine
from tests.support import PATIENCE_S, clean_environment, lines, of_type, only, run
from tests.versioning.conftest import GitRepository, repository

__all__ = ["repository"]

PROGRAM = """
import flowprov, pathlib, subprocess, sys
@flowprov.task
def step(x):
    return x
with flowprov.workflow("W"):
    step(1)
    {body}
"""


def versions_of(folder: Path) -> list[Any]:
    return of_type(lines(folder / "flowprov_buffer"), Version)


def record(folder: Path, body: str, *arguments: str, env: dict[str, str] | None = None) -> list[Any]:
    run(PROGRAM.replace("{body}", body), folder, *arguments, env=env)
    return versions_of(folder)


@pytest.fixture
def committed(repository: GitRepository) -> GitRepository:
    """Return a repository in which the program is committed, and the buffer is ignored."""
    (repository.folder / "program.py").write_text(PROGRAM.replace("{body}", "pass"))
    repository.commit(__gitignore="flowprov_buffer\n")
    return repository


def test_a_workflow_in_which_nothing_moves_has_one_record(committed: GitRepository) -> None:
    found = only(record(committed.folder, "pass", "--lr", "0.1"))
    assert found.moment == "start"
    assert (found.code["commit"], found.code["dirty"]) == (committed.git("rev-parse", "HEAD"), False)
    assert found.script == str(committed.folder / "program.py")
    assert found.working_folder == str(committed.folder)
    assert found.arguments == ["--lr", "0.1"]
    assert found.functions["__main__.step"]["line"] == 3
    assert found.took_ns > 0


def test_what_moves_meanwhile_is_recorded_at_the_end(committed: GitRepository) -> None:
    (committed.folder / "program.py").write_text(PROGRAM.replace("{body}", BODY))
    committed.commit()
    start, end = record(committed.folder, BODY)
    assert (start.moment, end.moment) == ("start", "end")
    assert start.workflow_id == end.workflow_id
    assert (start.code["dirty"], end.code["dirty"], end.code["changed"]) == (False, True, 1)


BODY = "import time; time.sleep(0.5); pathlib.Path('a.py').write_text('changed')"


def test_what_changes_right_after_the_opening_is_never_said_of_the_start(committed: GitRepository) -> None:
    body = "pathlib.Path('a.py').write_text('changed')"
    (committed.folder / "program.py").write_text(PROGRAM.replace("{body}", body))
    committed.commit()
    start, end = record(committed.folder, body)
    assert start.code["dirty"] in (None, False)
    assert end.code["dirty"] is True


def test_a_version_that_is_found_late_bears_the_time_of_its_workflow(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_ended = threading.Event()

    def examine_late(*args: Any, **kwargs: Any) -> Any:
        has_ended.wait(PATIENCE_S)
        return examine(*args, **kwargs)

    monkeypatch.setattr(version_records, "examine", examine_late)
    with flowprov.workflow("W"):
        pass
    has_ended.set()
    finish_versions()
    started, ended = of_type(lines(buffer), Workflow)
    (version,) = of_type(lines(buffer), Version)
    assert started.started_at <= version.at <= ended.ended_at


def test_a_commit_inside_a_process_is_seen_by_the_next_workflow(
    committed: GitRepository, monkeypatch: pytest.MonkeyPatch, buffer: Path
) -> None:
    monkeypatch.setattr(sys, "argv", [str(committed.folder / "program.py")])
    commits = []
    for _ in range(2):
        commits.append(committed.commit())
        with flowprov.workflow("W"):
            pass
    runtime.reset()
    recorded = of_type(lines(buffer), Workflow)
    assert [one.code_repository["commit"] for one in recorded if one.code_repository] == commits
    starts = [one for one in of_type(lines(buffer), Version) if one.moment == "start"]
    assert starts[-1].code["commit"] == commits[1]


def test_arguments_have_no_secrets(committed: GitRepository) -> None:
    given = ["--token", "abc1", "--api-key=sk-2", "+a.password=p3", "a.b.password=p4", "--hf_token=h5"]
    given += ["--password", "--verbose", "u=https://me:pw6@host/", "--max-tokens", "7", "model.token_ids=8"]
    found = record(committed.folder, "pass", *given)[0]
    shown = [*["--token", "***"], "--api-key=***", "+a.password=***", "a.b.password=***", "--hf_token=***"]
    shown += ["--password", "--verbose", "u=https://***@host/", "--max-tokens", "7", "model.token_ids=8"]
    assert found.arguments == shown


def test_packages_and_the_patch_are_kept_once_by_their_digests(committed: GitRepository) -> None:
    (committed.folder / "a.py").write_text("changed\n")
    (committed.folder / "requirements-dev.txt").write_text("x\n")
    for _ in range(2):
        found = record(committed.folder, "pass", env={"FLOWPROV__VERSIONS__PATCH": "true"})
    campaigns = [*(committed.folder / "flowprov_buffer").glob("*/objects")]
    assert len(campaigns) == 2
    campaign = campaigns[0].parent
    packages = read_object(campaign, found[0].packages_sha256 or "")
    assert packages is not None
    assert any(line.startswith(b"msgspec==") for line in packages.splitlines())
    patch = read_object(campaign, found[0].patch_sha256 or "")
    assert patch is not None
    assert b"+changed" in patch
    assert [Path(one["file"]).name for one in found[0].locks or ()] == ["requirements-dev.txt"]
    assert len(list((campaign / "objects").iterdir())) == 2
    assert (campaign / "objects" / found[0].patch_sha256).stat().st_mode & 0o777 == 0o600


def test_switched_off_nothing_is_recorded_and_git_is_not_asked(committed: GitRepository) -> None:
    assert record(committed.folder, "pass", env={"FLOWPROV__VERSIONS": "~"}) == []
    off = {f"FLOWPROV__VERSIONS__{name}": "false" for name in ("CODE", "DATA")}
    found = only(record(committed.folder, "pass", env={**off, "PATH": "/nonexistent"}))
    assert (found.code, found.data) == (None, None)
    assert found.packages_sha256


def test_a_script_elsewhere_counts_as_code_of_the_current_folder(
    committed: GitRepository, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "s.py").write_text(PROGRAM.replace("{body}", "pass"))
    subprocess.run(
        [sys.executable, str(elsewhere / "s.py")], cwd=committed.folder, env=clean_environment(), check=True
    )
    found = only(versions_of(committed.folder))
    assert found.script == str(elsewhere / "s.py")
    assert found.working_folder == found.code["folder"] == str(committed.folder)


def hanging_git(folder: Path) -> dict[str, str]:
    folder.mkdir()
    (folder / "git").write_text("#!/bin/sh\nsleep 60\n")
    (folder / "git").chmod(0o755)
    return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def test_a_git_that_hangs_delays_neither_the_opening_nor_the_end_for_long(
    committed: GitRepository, tmp_path: Path
) -> None:
    body = "import time; print(time.monotonic() - begun)"
    program = PROGRAM.replace("{body}", body).replace(
        "with flow", "import time; begun = time.monotonic()\nwith flow"
    )
    env = {**hanging_git(tmp_path / "bin"), "FLOWPROV__VERSIONS__TIMEOUT": "0.7"}
    begun = time.monotonic()
    stdout, _ = run(program, committed.folder, env=env)
    assert time.monotonic() - begun < 20  # and not 60
    assert float(stdout) < 0.6
    found = versions_of(committed.folder)
    assert [one.moment for one in found][:1] == ["start"]
    assert all((one.code["state"], one.code["dirty"]) == ("timeout", None) for one in found)
    assert found[0].code["commit"] == committed.git("rev-parse", "HEAD")
    assert found[0].packages_sha256


def test_thousands_of_workflows_share_what_is_found_out(committed: GitRepository) -> None:
    body = "pass\nfor i in range(1000):\n    with flowprov.workflow(f'w{i}'):\n        pass"
    stdout, stderr = run(PROGRAM.replace("{body}", body) + "\nprint('reached')", committed.folder)
    assert "reached" in stdout
    assert stderr == ""
    found = versions_of(committed.folder)
    workflows = {one.workflow_id for one in of_type(lines(committed.folder), Workflow)}
    assert {one.workflow_id for one in found} == workflows
    assert len({(one.code["commit"], one.code["dirty"]) for one in found}) <= 2


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_record_the_versions_of_their_own_workflows(committed: GitRepository, method: str) -> None:
    program = f"""
import flowprov, multiprocessing
def work(name):
    with flowprov.workflow(name):
        pass
if __name__ == "__main__":
    with flowprov.workflow("W"):
        process = multiprocessing.get_context("{method}").Process(target=work, args=("child",))
        process.start()
        process.join(60)
        assert process.exitcode == 0
"""
    run(program, committed.folder)
    found = versions_of(committed.folder)
    assert len({one.workflow_id for one in found if one.moment == "start"}) == 2


def test_a_fault_of_ours_is_counted_and_harms_nobody(
    buffer: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> Any:
        raise ValueError("no")

    monkeypatch.setattr("flowprov.capture.version_records.examine", fail)
    with flowprov.workflow("W"):
        pass
    finish_versions()
    assert "finding out the version" in caplog.text
    journal = only(flowprov.Buffer(buffer).journals())
    runtime.reset()
    journal = only(flowprov.Buffer(buffer).journals())
    assert journal.dropped.get("version", 0) >= 1


def test_the_first_of_the_ranks_records_for_all(committed: GitRepository) -> None:
    ranks = {"TORCHELASTIC_RUN_ID": "0123456789abcdef0123456789abcdef", "WORLD_SIZE": "2"}
    for rank in ("0", "1"):
        run(
            PROGRAM.replace("{body}", "pass"),
            committed.folder,
            env={**ranks, "RANK": rank, "LOCAL_RANK": rank},
        )
    found = of_type(lines(committed.folder / "flowprov_buffer"), Header)
    assert sorted(header.rank for header in found) == [0, 1]
    assert len(versions_of(committed.folder)) == 1


def test_a_script_of_dvc_is_recorded_with_its_data_and_stage(committed: GitRepository) -> None:
    (committed.folder / "data").mkdir()
    (committed.folder / "data" / "x").write_text("12345")
    out = {"md5": f"{'0' * 32}.dir", "size": 5, "nfiles": 1, "hash": "md5", "path": "data"}
    (committed.folder / "data.dvc").write_text(json.dumps({"outs": [out]}))
    body = "import time; time.sleep(0.4); open('data/x', 'w').write('1')"
    (committed.folder / "program.py").write_text(PROGRAM.replace("{body}", body))
    committed.commit(__gitignore="flowprov_buffer\ndata\n")
    start, end = record(committed.folder, body, env={"DVC_STAGE": "clean", "DVC_ROOT": "/r"})
    assert start.stage == {"name": "clean", "folder": "/r"}
    assert [only(one.data)["state"] for one in (start, end)] == ["unchecked", "modified"]
    assert (only(end.data)["md5"], only(end.data)["actual_size"]) == (out["md5"], 1)
    assert start.code["dirty"] is end.code["dirty"] is False


def test_versions_runs_diff_and_show_tell_what_a_workflow_ran_on(
    committed: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(committed.folder, "pass")
    (committed.folder / "a.py").write_text("changed")
    record(committed.folder, "pass")
    source = committed.folder / "flowprov_buffer"
    found = flowprov.versions(source)
    assert list(found["moment"]) == ["start", "start"]
    assert [one["dirty"] for one in found["code"]] == [False, True]
    assert any(package.startswith("msgspec==") for package in found["packages"][0])
    assert list(flowprov.Buffer(source).versions()["workflow_id"]) == list(found["workflow_id"])
    runs = flowprov.runs(source)
    assert list(runs["git_dirty"]) == [False, True]
    assert set(runs["git_commit"]) == {committed.git("rev-parse", "HEAD")}
    difference = flowprov.diff(runs["run_id"][0], runs["run_id"][1], source).to_dict()
    assert difference["code"]["dirty"] == [False, True]
    assert "environment" not in difference
    workflow = runs["workflow_id"][1]
    command = [sys.executable, "-m", "flowprov", "show", workflow]
    shown = subprocess.run(
        command, cwd=committed.folder, env=clean_environment(), capture_output=True, text=True, check=True
    )
    assert '"dirty": true' in shown.stdout
    as_json = subprocess.run(
        [*command, "--json"], cwd=committed.folder, env=clean_environment(), capture_output=True, check=True
    )
    assert json.loads(as_json.stdout)["version"]["start"]["commit"] == runs["git_commit"][0]


def test_packages_that_differ_are_named(committed: GitRepository, tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        other = tmp_path / version
        (other / f"Some_Package-{version}.dist-info").mkdir(parents=True)
        origin = {"url": "https://me:secret@host/p.git", "vcs_info": {"commit_id": "c0ffee"}}
        (other / f"Some_Package-{version}.dist-info" / "direct_url.json").write_text(json.dumps(origin))
        paths = os.pathsep.join([clean_environment()["PYTHONPATH"], str(other)])
        record(committed.folder, "pass", env={"PYTHONPATH": paths})
    source = committed.folder / "flowprov_buffer"
    first, second = flowprov.runs(source)["run_id"]
    difference = flowprov.diff(first, second, source).to_dict()
    pair = difference["environment"]["packages.some-package"]
    assert pair == [f"{version} @ https://***@host/p.git@c0ffee" for version in ("1.0", "2.0")]


def test_data_that_dvc_declared_otherwise_is_named(committed: GitRepository) -> None:
    digests = ["0" * 32, "1" * 32]
    for digest in digests:
        declared = f"outs:\n- md5: {digest}\n  hash: md5\n  size: 1\n  path: table.csv\n"
        (committed.folder / "table.csv.dvc").write_text(declared)
        record(committed.folder, "pass")
    source = committed.folder / "flowprov_buffer"
    first, second = flowprov.runs(source)["run_id"]
    assert flowprov.diff(first, second, source).to_dict()["data"] == {"table.csv": digests}


def test_what_is_read_of_compacted_journals_is_the_same(committed: GitRepository) -> None:
    pytest.importorskip("duckdb")
    record(committed.folder, "pass")
    source = committed.folder / "flowprov_buffer"
    before = flowprov.runs(source)["git_dirty"].to_list(), flowprov.versions(source).to_dict("records")
    command = [sys.executable, "-m", "flowprov", "compact", "--source", str(source)]
    subprocess.run(command, cwd=committed.folder, env=clean_environment(), capture_output=True, check=True)
    assert list(source.rglob("*.parquet"))
    after = flowprov.runs(source)["git_dirty"].to_list(), flowprov.versions(source).to_dict("records")
    assert after == before


def test_a_program_that_reads_its_own_records_finds_them_complete(
    committed: GitRepository, monkeypatch: pytest.MonkeyPatch, buffer: Path
) -> None:
    monkeypatch.setattr(sys, "argv", [str(committed.folder / "program.py")])
    with flowprov.workflow("W"):
        pass
    assert list(flowprov.runs(buffer)["git_dirty"]) == [False]
    with flowprov.workflow("W"):
        pass
    assert [one["dirty"] for one in flowprov.versions(buffer)["code"]] == [False, False]


def test_packages_that_no_disk_takes_are_no_fault_of_flowprov(
    buffer: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(version_records, "keep_object", fail)
    with flowprov.workflow("W"):
        pass
    runtime.reset()
    assert guard.internal_errors() == {}
    assert only(caplog.messages).startswith("flowprov could not keep the list of packages")
    assert only(of_type(lines(buffer), Version)).packages_sha256
