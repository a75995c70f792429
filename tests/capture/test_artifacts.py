"""Artifacts: their lines are there at once, their digests follow, and the program never waits or fails."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov import guard
from flowprov.capture.artifacts import calls, digester
from flowprov.contents import reading
from flowprov.records import Artifact, Digest, Footer, Task
from tests.contents.files import random_tensors, sha256, write_safetensors
from tests.support import lines, of_type, only, run, start, wait_until


def _artifacts(buffer: Path) -> list[Artifact]:
    return of_type(lines(buffer), Artifact)


def _digests(buffer: Path) -> dict[Any, Digest]:
    return {digest.number: digest for digest in of_type(lines(buffer), Digest)}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.bin"
    path.write_bytes(b"content")
    return path


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Return what lets the reading of artifacts begin."""
    go_on = threading.Event()
    actual = reading._pass

    def waiting(*arguments: Any) -> Any:
        assert go_on.wait(60)
        return actual(*arguments)

    monkeypatch.setattr(reading, "_pass", waiting)
    return go_on


def test_the_line_is_there_when_the_call_returns_and_the_digest_follows(
    buffer: Path, file: Path, slow: threading.Event
) -> None:
    @flowprov.task
    def save() -> Any:
        return flowprov.log_artifact(file, "model", kind="checkpoint", epoch=2, step=40, metadata={"a": 1})

    with flowprov.workflow("train") as workflow:
        artifact = save()
        line = only(_artifacts(buffer))
        assert not _digests(buffer)
        assert artifact.state == "pending"
        assert not artifact.wait(0.01)
        slow.set()
        assert artifact.digest == sha256(b"content")
    task = only(of_type(lines(buffer), Task))
    assert (line.workflow_id, line.task_id, line.role) == (workflow.workflow_id, task.task_id, "generated")
    assert (line.name, line.kind, line.path) == ("model", "checkpoint", str(file))
    assert (line.size, line.epoch, line.step, line.metadata) == (7, 2, 40, {"a": 1})
    digest = _digests(buffer)[line.number]
    assert digest.digests == {"sha256": sha256(b"content")}
    assert (digest.state, digest.size, digest.read_bytes) == ("digested", 7, 7)
    assert (artifact.path, artifact.name, artifact.kind, artifact.size) == (
        str(file),
        "model",
        "checkpoint",
        7,
    )


def test_it_belongs_to_the_innermost_task_and_names_those_around(buffer: Path, file: Path) -> None:
    with flowprov.workflow("w"):
        flowprov.use_artifact(file)
        with flowprov.task_scope("outer"):
            for _ in flowprov.EpochLoop([7]):
                flowprov.log_artifact(file)
    used, generated = _artifacts(buffer)
    assert (used.task_id, used.inside, used.role) == (None, None, "used")
    tasks = {task.activity_id: task.task_id for task in of_type(lines(buffer), Task)}
    assert generated.task_id == tasks["epoch_iteration"]
    assert generated.inside == [tasks["outer"]]
    assert generated.epoch == 7


def test_without_a_workflow_the_implicit_one_has_it(tmp_path: Path) -> None:
    run(
        """
        import flowprov, pathlib
        pathlib.Path("x").write_bytes(b"x")
        print(flowprov.log_artifact("x").digest)
        """,
        tmp_path,
    )
    line = only(_artifacts(tmp_path))
    assert line.path == str(tmp_path / "x")
    assert line.workflow_id


def test_what_stands_among_values_names_the_artifact(buffer: Path, file: Path) -> None:
    @flowprov.task
    def train(data: Any) -> Any:
        return flowprov.log_artifact(file, "model")

    with flowprov.workflow("w"):
        train(flowprov.use_artifact(file, "data", kind="dataset"))
    task = only(of_type(lines(buffer), Task))
    used, generated = _artifacts(buffer)
    assert task.used is not None
    assert task.used["data"]["number"] == used.number
    assert task.used["data"]["$artifact"].endswith(f"-{used.number}")
    assert {name: task.used["data"][name] for name in ("kind", "name", "path")} == {
        "kind": "dataset",
        "name": "data",
        "path": str(file),
    }
    assert task.generated is not None
    assert task.generated["result"]["number"] == generated.number


def test_a_file_that_is_replaced_has_the_digest_of_what_was_logged(
    buffer: Path, file: Path, slow: threading.Event
) -> None:
    with flowprov.workflow("w"):
        artifact = flowprov.log_artifact(file)
        file.with_name("new").write_bytes(b"newer content")
        file.with_name("new").replace(file)
        slow.set()
        assert artifact.digest == sha256(b"content")


def test_a_file_that_is_renamed_or_removed_after_the_call_has_its_digest(
    buffer: Path, file: Path, slow: threading.Event
) -> None:
    with flowprov.workflow("w"):
        artifact = flowprov.log_artifact(file)
        file.unlink()
        slow.set()
        assert artifact.digest == sha256(b"content")


def test_a_file_that_is_written_again_before_it_was_read_says_so(
    buffer: Path, file: Path, slow: threading.Event, tmp_path: Path
) -> None:
    (tmp_path / "first").write_bytes(b"1")
    with flowprov.workflow("w"):
        flowprov.log_artifact(tmp_path / "first")  # for which the thread waits
        artifact = flowprov.log_artifact(file)
        file.write_bytes(b"other content")
        slow.set()
        assert artifact.digest is None
        assert artifact.state == "changed_while_read"


def test_a_folder_that_changes_before_it_was_read_says_so(
    buffer: Path, slow: threading.Event, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    with flowprov.workflow("w"):
        artifact = flowprov.log_artifact(folder)
        (folder / "b").write_bytes(b"2")
        slow.set()
        assert artifact.wait(60)
    assert artifact.state in ("changed_while_read", "digested")  # as it was read, or not at all
    if artifact.state == "digested":
        assert len(only(list(_digests(buffer).values())).members) == 2


@pytest.mark.parametrize("odd", ["missing", "pipe", "folder without rights", "uri", "object", "nul"])
def test_what_cannot_be_read_is_recorded_with_the_reason(buffer: Path, tmp_path: Path, odd: str) -> None:
    given: Any = tmp_path / odd
    state = "unreadable"
    if odd == "missing":
        state = "missing"
    elif odd == "pipe":
        os.mkfifo(given)
    elif odd == "folder without rights":
        if os.geteuid() == 0:
            pytest.skip("ROOT READS EVERYTHING: run the tests as another user")
        given.mkdir(mode=0)
    elif odd == "uri":
        given, state = "s3://user:secret@bucket/model.bin?token=secret", "skipped"
    elif odd == "object":
        given, state = object(), "skipped"
    else:
        given = "with\0nul"
    with flowprov.workflow("w"):
        artifact = flowprov.use_artifact(given)
        assert artifact.digest is None
    line, digest = only(_artifacts(buffer)), only(list(_digests(buffer).values()))
    assert (digest.state, artifact.state) == (state, state)
    assert digest.reason
    assert "secret" not in repr(line)
    assert not guard.internal_errors()


def test_twenty_odd_artifacts_are_said_once_of_each_kind(
    buffer: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with caplog.at_level(logging.WARNING), flowprov.workflow("w"):
        for number in range(20):
            flowprov.log_artifact(tmp_path / f"none-{number}")
            flowprov.log_artifact(tmp_path / "pipe")
    assert len(caplog.records) == 2


def test_objects_are_recorded_with_their_content(buffer: Path) -> None:
    np = pytest.importorskip("numpy")
    with flowprov.workflow("w"):
        a = flowprov.log_artifact(b"bytes", "raw")
        b = flowprov.log_artifact(np.arange(3))
        c = flowprov.use_artifact(np.arange(3))
    assert a.digest == sha256(b"bytes")
    assert (a.kind, b.kind, a.path, a.size) == ("object", "tensor", None, 5)
    assert b.digest == c.digest is not None


def test_copies_are_kept_by_their_digest(tmp_path: Path, file: Path) -> None:
    buffer, folder = tmp_path / "buffer", tmp_path / "folder"
    flowprov.configure(
        journal={"path": str(buffer)}, versions={"packages": False}
    )  # their list lies there, too
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_bytes(b"member")
    with flowprov.workflow("w"):
        kept = [
            flowprov.log_artifact(file, keep=True),
            flowprov.log_artifact(b"bytes", keep=True),
            flowprov.log_artifact(folder, keep=True),
        ]
        for artifact in kept:
            artifact.wait()
        file.write_bytes(b"overwritten")
    store = only(list(buffer.glob("*/objects")))
    assert {path.name: path.read_bytes() for path in store.iterdir()} == {
        sha256(b"content"): b"content",
        sha256(b"bytes"): b"bytes",
        sha256(b"member"): b"member",
        kept[2].digest: b'[["sub/a",6,"%s"]]' % sha256(b"member").encode(),
    }
    assert all(path.stat().st_nlink == 1 for path in store.iterdir())


def test_the_settings_keep_small_ones(tmp_path: Path, file: Path) -> None:
    flowprov.configure(
        journal={"path": str(tmp_path / "buffer")},
        artifacts={"keep": "small"},
        versions={"packages": False},
    )
    large = tmp_path / "large"
    large.write_bytes(bytes(1_000_001))
    with flowprov.workflow("w"):
        flowprov.log_artifact(file)
        flowprov.log_artifact(large).wait()
    store = only(list((tmp_path / "buffer").glob("*/objects")))
    assert [path.name for path in store.iterdir()] == [sha256(b"content")]


def test_the_settings_limit_what_is_read(tmp_path: Path, file: Path) -> None:
    folder = str(tmp_path / "buffer")
    flowprov.configure(journal={"path": folder}, artifacts={"max_bytes": 6})
    with flowprov.workflow("w"):
        assert flowprov.log_artifact(file).digest is None
    flowprov.configure(journal={"path": folder}, artifacts={"digest": None})
    with flowprov.workflow("w"):
        assert flowprov.log_artifact(file).digest is None
    states = [digest.state for digest in of_type(lines(tmp_path / "buffer"), Digest)]
    assert states == ["skipped", "skipped"]


def test_nothing_is_recorded_where_capture_is_off(tmp_path: Path, file: Path) -> None:
    flowprov.configure(journal={"path": str(tmp_path / "buffer")}, instrumentation={"enabled": False})
    before = set(threading.enumerate())  # that of an earlier test may rest still
    artifact = flowprov.log_artifact(file)
    assert (artifact.path, artifact.size, artifact.digest) == (str(file), 7, None)
    assert flowprov.use_artifact(object()).digest is None
    assert not (tmp_path / "buffer").exists()
    assert set(threading.enumerate()) <= before


def test_a_pickle_knows_what_is_known_and_reads_the_rest(buffer: Path, file: Path) -> None:
    with flowprov.workflow("w"):
        artifact = flowprov.log_artifact(file, "m")
        early = pickle.loads(pickle.dumps(artifact))
        assert artifact.digest is not None
        late = pickle.loads(pickle.dumps(artifact))
        for copy in (early, late):
            assert (copy.path, copy.name, copy.size) == (str(file), "m", 7)
            assert copy.digest == artifact.digest
        file.write_bytes(b"changed since then")
        assert pickle.loads(pickle.dumps(artifact)).digest == artifact.digest
        flowprov.use_artifact(late)
    assert [line.role for line in _artifacts(buffer)] == ["generated", "used"]


def test_an_artifact_of_another_machine_keeps_its_digest(buffer: Path, file: Path) -> None:
    with flowprov.workflow("w"):
        artifact = flowprov.log_artifact(file)
        artifact.wait()
        file.unlink()
        assert flowprov.use_artifact(pickle.loads(pickle.dumps(artifact))).digest == sha256(b"content")
    assert {digest.state for digest in _digests(buffer).values()} == {"digested"}


def _in_child(artifact: Any, path: str, answers: Any) -> None:
    own = flowprov.log_artifact(path, "of the child")
    answers.put((artifact.digest, own.digest))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_children_read_what_is_theirs(buffer: Path, file: Path, slow: threading.Event, method: str) -> None:
    context: Any = multiprocessing.get_context(method)
    with flowprov.workflow("w"):
        artifact = flowprov.log_artifact(file, "of the parent")
        answers = context.Queue()
        slow.set()
        child = context.Process(target=_in_child, args=(artifact, str(file), answers))
        child.start()
        assert answers.get(timeout=60) == (sha256(b"content"), sha256(b"content"))
        child.join()
        assert artifact.digest == sha256(b"content")
    assert sorted(str(line.name) for line in _artifacts(buffer)) == ["of the child", "of the parent"]
    assert len(of_type(lines(buffer), Digest)) == 2


def test_the_end_of_the_program_waits_no_longer_than_the_settings_say(tmp_path: Path) -> None:
    _, error = run(
        """
        import flowprov
        with open("huge", "wb") as file:
            file.truncate(200 << 30)
        with flowprov.workflow("w"):
            flowprov.log_artifact("huge")
            flowprov.log_artifact(__file__)
        """,
        tmp_path,
        env={"FLOWPROV__ARTIFACTS__CLOSE_TIMEOUT": "0.2"},
    )
    assert "the digest of 2 artifacts is not computed yet" in error
    assert len(_artifacts(tmp_path)) == 2
    assert not _digests(tmp_path)
    footer = only(of_type(lines(tmp_path), Footer))
    assert (footer.captured, footer.written) == (4, 4)


def test_ctrl_c_while_the_program_waits_for_a_digest_reaches_it(tmp_path: Path) -> None:
    process = start(
        """
        import flowprov, signal
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
        with open("huge", "wb") as file:
            file.truncate(200 << 30)
        with flowprov.workflow("w"):
            artifact = flowprov.log_artifact("huge")
            try:
                print("waiting", flush=True)
                artifact.digest
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        """,
        tmp_path,
        env={"FLOWPROV__ARTIFACTS__CLOSE_TIMEOUT": "0"},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "interrupted\n"
        assert process.wait(60) == 0
    assert only(of_type(lines(tmp_path), Footer)).written == 3


def test_a_killed_program_leaves_the_line(tmp_path: Path) -> None:
    process = start(
        """
        import flowprov, time
        with open("huge", "wb") as file:
            file.truncate(200 << 30)
        with flowprov.workflow("w"):
            flowprov.log_artifact("huge")
            print("logged", flush=True)
            time.sleep(600)
        """,
        tmp_path,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    assert only(_artifacts(tmp_path)).size == 200 << 30


def test_a_journal_that_is_removed_goes_on_with_the_digest_in_another(
    buffer: Path, file: Path, slow: threading.Event
) -> None:
    with flowprov.workflow("w"):
        artifact = flowprov.log_artifact(file)
        slow.set()
        artifact.wait()
        only(list(buffer.rglob("*.jsonl"))).unlink()
        flowprov.current_workflow()
        flowprov.log_artifact(file).wait()
    assert not guard.internal_errors()


def test_a_fault_of_ours_costs_the_record_and_nothing_else(
    buffer: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a fault")

    with flowprov.workflow("w"):
        flowprov.log_artifact(file)
        monkeypatch.setattr(calls, "_tasks_around", fail)
        artifact = flowprov.log_artifact(file)
        assert (artifact.digest, artifact.artifact_id) == (None, None)
    monkeypatch.undo()
    assert guard.internal_errors() == {"recording an artifact: ZeroDivisionError": 1}
    flowprov.configure()
    assert only(of_type(lines(buffer), Footer)).dropped == {"fault": 1}


def test_where_no_thread_can_start_nobody_waits_for_a_digest(
    buffer: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(digester, "start_thread", refuse)
    with flowprov.workflow("w"):
        wait_until(lambda: not any(thread.is_alive() for thread in digester.DIGESTER._threads))
        artifact = flowprov.log_artifact(file)
        assert artifact.digest == sha256(b"content")  # read here, as it is asked for
    assert only(_artifacts(buffer)).role == "generated"
    assert not _digests(buffer)


def test_many_threads_log_at_once(buffer: Path, tmp_path: Path) -> None:
    def log(number: int) -> None:
        for index in range(20):
            path = tmp_path / f"{number}-{index}"
            path.write_bytes(os.urandom(100))
            flowprov.log_artifact(path)

    with flowprov.workflow("w"):
        threads = [threading.Thread(target=log, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wait_until(lambda: len(_digests(buffer)) == 80)
    numbers = [line.number for line in _artifacts(buffer)]
    assert len(set(numbers)) == 80
    assert set(_digests(buffer)) == set(numbers)


def test_threads_that_log_at_once_start_no_thread_that_is_not_listed(buffer: Path, file: Path) -> None:
    meeting = threading.Barrier(2)

    class Ended(threading.Thread):
        def is_alive(
            self,
        ) -> bool:  # both look at the list in the same moment, if nothing holds one of them up
            with contextlib.suppress(threading.BrokenBarrierError):
                meeting.wait(0.3)
            return False

    def running() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "flowprov-digester"}

    wait_until(lambda: not running())
    digester.DIGESTER._threads = [Ended()]
    with flowprov.workflow("w"):
        both = [threading.Thread(target=flowprov.log_artifact, args=(file,)) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
        assert running() <= set(digester.DIGESTER._threads)


def test_a_record_of_many_tensors_and_members_is_whole(buffer: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    write_safetensors(folder / "m.safetensors", random_tensors(300, 1024))
    for number in range(300):
        (folder / f"{number:0100}").write_bytes(b"")
    with flowprov.workflow("w"):
        artifact = flowprov.log_artifact(folder)
        assert artifact.weights is not None
        assert artifact.size == sum(path.stat().st_size for path in folder.iterdir())
    digest = only(list(_digests(buffer).values()))
    assert digest.members is not None
    assert digest.tensors is not None
    assert (len(digest.members), digest.files, len(digest.tensors)) == (301, 301, 300)


def test_a_program_that_logs_artifacts_is_complete(tmp_path: Path) -> None:
    run(
        """
        import flowprov
        with flowprov.workflow("w"):
            for number in range(5):
                flowprov.log_artifact(__file__)
        """,
        tmp_path,
    )
    done = subprocess.run(
        [sys.executable, "-m", "flowprov", "verify", str(tmp_path / "flowprov_buffer")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "all 7 events that were captured are there" in done.stdout
