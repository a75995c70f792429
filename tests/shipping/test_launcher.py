"""A program whose settings name a sink: delivery starts by itself and holds the program up only as set."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import flowprov
from flowprov.shipping.status import Report, ShipperFiles
from tests.cli.support import flowprov as command_line
from tests.processes import has_delivery_error, shippers
from tests.sinks.redis_server import RedisServer
from tests.sinks.server_process import started
from tests.support import WITHOUT_VERSIONS, only, run, start, wait_until

_DEAD = "redis://127.0.0.1:1/0"
NOISE_S = 20.0  # more than a busy machine adds to anything

# Prints for each workflow how long its closing took, and how much of that flowprov slept. A busy machine adds
# to the first and not to the second.
_PROGRAM = """
    import os, sys, time
    import flowprov

    sleeps, sleep = [], time.sleep

    def counting(seconds):
        if sys._getframe(1).f_globals["__name__"].startswith("flowprov."):
            sleeps.append(seconds)
        sleep(seconds)

    time.sleep = counting

    @flowprov.task
    def step(number):
        return {"number": number}

    for _ in range(int(os.environ.get("WORKFLOWS", "1"))):
        with flowprov.workflow("W"):
            for number in range(10):
                step(number)
            if "GATE" in os.environ:
                sys.stdin.read()
            sleeps.clear()
            closing = time.monotonic()
        print("held up for", time.monotonic() - closing, sum(sleeps))
"""


@pytest.fixture
def server(own_redis: RedisServer) -> RedisServer:
    return own_redis


@pytest.fixture(autouse=True)
def none_left(tmp_path: Path) -> Iterator[None]:
    """Kill shippers that a test left."""
    yield
    for process in shippers(tmp_path):
        process.kill()


def to(uri: str, **more: str) -> dict[str, str]:
    return {"FLOWPROV__SINKS__REDIS__URI": uri, **more}


class HeldUp(NamedTuple):
    """How long the closing of a workflow took, and how long flowprov slept in it, in seconds."""

    seconds: float
    slept: float


def held_up(printed: str) -> list[HeldUp]:
    pairs = [line.split()[-2:] for line in printed.splitlines() if line.startswith("held up")]
    return [HeldUp(float(seconds), float(slept)) for seconds, slept in pairs]


def run_past_error(folder: Path, environment: dict[str, str]) -> tuple[str, str]:
    """Run the program; its first workflow closes when the shipper has reported an error."""
    with start(_PROGRAM, folder, env={**environment, "GATE": ""}, stdin=subprocess.PIPE) as process:
        wait_until(lambda: has_delivery_error(folder / "flowprov_buffer"))
        printed, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    return printed, stderr


def test_a_workflow_that_closed_can_be_read_from_the_server(server: RedisServer, tmp_path: Path) -> None:
    _, stderr = run(_PROGRAM, tmp_path, env=to(server.uri()))
    assert stderr == ""
    assert len(flowprov.read_buffer(server.uri())) == 11
    wait_until(lambda: not shippers(tmp_path))
    assert flowprov.Buffer(server.uri()).journals()[0].footer is not None


def test_records_outside_a_workflow_are_waited_for_at_the_end_of_the_program(
    server: RedisServer, tmp_path: Path
) -> None:
    program = """
        import flowprov
        step = flowprov.task(lambda: 1)
        step()
        step()
    """
    run(program, tmp_path, env=to(server.uri()))
    assert len(flowprov.read_buffer(server.uri())) == 3


def test_a_workflow_that_is_never_closed_is_waited_for_at_the_end_of_the_program(
    server: RedisServer, tmp_path: Path
) -> None:
    program = """
        import flowprov
        flowprov.workflow("W").start()
        flowprov.task(lambda: 1)()
    """
    run(program, tmp_path, env=to(server.uri()))
    assert len(flowprov.read_buffer(server.uri())) == 2


def test_waiting_records_of_a_workflow_that_is_never_closed_are_reported(tmp_path: Path) -> None:
    program = """
        import flowprov
        flowprov.workflow("W").start()
        flowprov.task(lambda: 1)()
    """
    _, stderr = run(program, tmp_path, env=to(_DEAD, FLOWPROV__SINKS__STOP_TIMEOUT="0.2"))
    assert "records wait" in stderr


def test_the_program_has_no_child_and_no_zombie(server: RedisServer, tmp_path: Path) -> None:
    program = (
        _PROGRAM
        + """
    try:
        os.wait()
    except ChildProcessError:
        print("no children")
    """
    )
    assert "no children" in run(program, tmp_path, env=to(server.uri()))[0]


def test_a_server_that_is_away_holds_the_program_up_once_and_is_reported_once(tmp_path: Path) -> None:
    environment = to(_DEAD, WORKFLOWS="4", FLOWPROV__SINKS__STOP_TIMEOUT="1", **WITHOUT_VERSIONS)
    printed, stderr = run_past_error(tmp_path, environment)
    first, *later = held_up(printed)
    assert first.seconds >= 1
    assert 0 < first.slept < 1.1
    assert [each.slept for each in later] == [0, 0, 0]
    assert max(first.seconds - 1, *(each.seconds for each in later)) < NOISE_S
    warnings = [line for line in stderr.splitlines() if "records wait" in line]
    assert len(warnings) == 1, stderr
    assert f"flowprov ship {tmp_path / 'flowprov_buffer'} --to {_DEAD}" in warnings[0]
    assert "cannot be reached" in warnings[0]
    assert " 13 to " in warnings[0]  # the header, the opening and the ending of the workflow, ten tasks


def test_a_program_that_does_not_wait_is_not_held_up(server: RedisServer, tmp_path: Path) -> None:
    printed, _ = run(_PROGRAM, tmp_path, env=to(server.uri(), FLOWPROV__SINKS__STOP_TIMEOUT="0"))
    assert only(held_up(printed)).slept == 0
    assert only(held_up(printed)).seconds < NOISE_S
    wait_until(lambda: len(flowprov.Buffer(server.uri()).campaigns()) == 1)
    wait_until(lambda: not shippers(tmp_path))
    assert len(flowprov.read_buffer(server.uri())) == 11


def test_an_event_loop_is_not_held_up(tmp_path: Path) -> None:
    program = """
        import asyncio, time
        import flowprov

        async def ticks(times):
            while True:
                times.append(time.monotonic())
                await asyncio.sleep(0.01)

        async def main():
            times = []
            ticking = asyncio.create_task(ticks(times))
            with flowprov.workflow("W"), flowprov.task_scope("t"):
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.1)
            ticking.cancel()
            print("longest pause", max(b - a for a, b in zip(times, times[1:])), flush=True)

        asyncio.run(main())
    """
    environment = to(_DEAD, FLOWPROV__SINKS__STOP_TIMEOUT="100")
    with start(program, tmp_path, env=environment) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.kill()  # it waits for the server at its end
    assert float(line.split()[-1]) < NOISE_S


def test_many_processes_share_one_shipper_and_children_do_not_wait(
    server: RedisServer, tmp_path: Path
) -> None:
    program = """
        import multiprocessing, sys, time
        import flowprov

        @flowprov.task
        def step(number):
            time.sleep(0.05)
            return number

        if __name__ == "__main__":
            with flowprov.workflow("W"):
                with multiprocessing.get_context(sys.argv[1]).Pool(3) as pool:
                    pool.map(step, range(12))
                    pool.close()
                    pool.join()
    """
    for method in ("fork", "spawn"):
        (tmp_path / method).mkdir()
        run(program, tmp_path / method, method, env=to(server.uri()))
        wait_until(lambda: not shippers(tmp_path))
        frame = flowprov.read_buffer(server.uri())
        assert len(frame) == 13, method
        log = next((tmp_path / method / "flowprov_buffer").glob(".ship-*.log")).read_text()
        assert log.count("nothing waits") == 1, log


def test_a_killed_shipper_is_replaced_while_the_program_runs(server: RedisServer, tmp_path: Path) -> None:
    program = """
        import sys, time
        import flowprov
        step = flowprov.task(lambda: 1)
        with flowprov.workflow("W"):
            step()
            print("begun", flush=True)
            for line in sys.stdin:
                step()
    """
    environment = to(server.uri(), FLOWPROV__JOURNAL__HEARTBEAT="0.2")
    script = tmp_path / "program.py"
    with start(program, tmp_path, env=environment, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        killed: list[int] = []
        for _ in range(2):
            living = wait_until(lambda: [one for one in shippers(tmp_path) if one.pid not in killed])[0]
            killed.append(living.pid)
            living.kill()
            process.stdin.write("\n")
            process.stdin.flush()
        process.stdin.close()
        assert process.wait(30) == 0
    assert script.exists()
    wait_until(lambda: not shippers(tmp_path))
    assert len(flowprov.read_buffer(server.uri())) == 4


def test_a_password_is_in_no_process_list_no_file_and_no_message(tmp_path: Path) -> None:
    secret = "open-sesame"  # noqa: S105
    with started(RedisServer(tmp_path / "server", "--requirepass", "another")) as server:
        uri = server.uri().replace("redis://", f"redis://:{secret}@")
        _, stderr = run_past_error(tmp_path, to(uri, FLOWPROV__SINKS__STOP_TIMEOUT="0.5"))
        assert "records wait" in stderr
        assert "--to" not in stderr
        assert secret not in stderr
        for process in shippers(tmp_path):
            assert secret not in " ".join(process.cmdline())
        files = [path for path in (tmp_path / "flowprov_buffer").rglob("*") if path.is_file()]
        assert len(files) >= 4
        for path in files:
            assert secret not in path.read_text()


def test_a_missing_client_library_is_reported_without_waiting(tmp_path: Path) -> None:
    (tmp_path / "shadow" / "redis").mkdir(parents=True)
    (tmp_path / "shadow" / "redis" / "__init__.py").write_text("raise ImportError('not here')")
    paths = f"{tmp_path / 'shadow'}{os.pathsep}{Path(flowprov.__file__).parent.parent}"
    environment = to(_DEAD, PYTHONPATH=paths, FLOWPROV__SINKS__STOP_TIMEOUT="100")
    printed, stderr = run(_PROGRAM, tmp_path, env=environment)
    assert only(held_up(printed)).seconds < 2 * NOISE_S, "another process has to start and to report"
    assert 'pip install "flowprov[redis]"' in stderr


def test_a_shipper_that_cannot_be_started_is_reported_with_the_command(tmp_path: Path) -> None:
    program = "import sys; sys.executable = ''\n" + _PROGRAM.replace("\n    ", "\n")
    printed, stderr = run(program, tmp_path, env=to(_DEAD, FLOWPROV__SINKS__STOP_TIMEOUT="0.5"))
    assert len(held_up(printed)) == 1
    assert "cannot start" in stderr
    assert "flowprov ship" in stderr


def test_a_module_of_the_program_does_not_shadow_one_that_the_shipper_needs(
    server: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "queue.py").write_text("raise ImportError('this is the program\\'s own')")
    program = "import sys; sys.path.pop(0)\n" + _PROGRAM.replace("\n    ", "\n")
    run(program, tmp_path, env=to(server.uri()))
    assert len(flowprov.read_buffer(server.uri())) == 11


def test_without_a_sink_nothing_is_started(tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path)
    assert not list((tmp_path / "flowprov_buffer").glob(".ship*"))


def test_following_a_buffer_twice_prints_a_message_and_succeeds(tmp_path: Path) -> None:
    files = ShipperFiles(tmp_path, [_DEAD])
    lock = files.take_lock()
    assert lock is not None
    with lock:
        assert files.take_lock() is None
        result = command_line("ship", "--follow", "--to", _DEAD, tmp_path, cwd=tmp_path)
        assert result.status == 0
        assert "delivers this buffer already" in result.out
    again = files.take_lock()
    assert again is not None
    again.close()


def test_a_report_is_read_whole_or_not_at_all(tmp_path: Path) -> None:
    files = ShipperFiles(tmp_path, [_DEAD])
    assert files.read_report() is None
    (tmp_path / f"{files.log.stem}.json").write_text(json.dumps({"pid": "x"}))
    assert files.read_report() is None


def test_a_report_that_cannot_be_written_to_the_buffer_is_read_from_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, buffer = tmp_path / "temporary", tmp_path / "buffer"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    writer, reader = ShipperFiles(buffer, [_DEAD]), ShipperFiles(buffer, [_DEAD])
    writer.write_report(
        Report(pid=1)
    )  # the buffer does not exist, and so refuses the report as a full disk does
    assert reader.read_report() == Report(pid=1)
    buffer.mkdir()
    writer.write_report(Report(pid=2))
    assert reader.read_report() == Report(pid=2)
    assert not list(temporary.rglob("*.json"))
    buffer.rename(tmp_path / "away")
    writer.write_report(Report(pid=3))
    reader.delete_report()
    assert reader.read_report() is None


def test_a_temporary_folder_that_others_may_write_to_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    planted = tmp_path / f"flowprov-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    files = ShipperFiles(tmp_path / "nowhere", [_DEAD])
    with pytest.raises(PermissionError, match="this user's alone"):
        files.write_report(Report(pid=1))
    assert files.read_report() is None


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 10_000, b'{"pid":1e400}', b'{"pid":"x"}', None])
def test_a_report_of_somebody_else_s_making_is_none(content: bytes | None, tmp_path: Path) -> None:
    files = ShipperFiles(tmp_path, ["redis://localhost"])
    if content is None:
        os.mkfifo(files._report)  # who reads it would wait for ever
    else:
        files._report.write_bytes(content)
    assert files.read_report() is None
