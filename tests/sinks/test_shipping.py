"""From a program's journals to a server and back: every record once, through every failure of the server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pandas as pd
import pytest

import flowprov
from tests.cli.support import flowprov as command_line
from tests.processes import has_delivery_error
from tests.sinks.kinds import RedisKind
from tests.sinks.server_process import ServerProcess
from tests.support import run, start, start_command, wait_until


@pytest.fixture
def server(server: ServerProcess) -> ServerProcess:
    """A running server for one test."""
    server.start()
    return server


_PROGRAM = """
    import os, sys, time
    import flowprov

    @flowprov.task
    def step(number):
        return {"number": number, "odd.name$": float("nan"), "big": 2 ** 80, "text": "\\u00e9"}

    with flowprov.campaign("shipped"), flowprov.workflow("W", used={"a.b": {"$c": 1}}) as workflow:
        loop = flowprov.Loop(int(sys.argv[1]), name="trial")
        for number in loop:
            step(number)
            loop.end_iter({"loss": 1 / (number + 1)})
            if sys.argv[2:] == ["die"] and number == 20:
                os.kill(os.getpid(), 9)
            if sys.argv[2:] == ["slowly"]:
                time.sleep(0.004)
                if number == 200:
                    print("step 200", flush=True)
                    sys.stdin.readline()
        workflow.set_generated(best=1)
"""


def shipped(folder: Path, *arguments: str) -> tuple[int, str]:
    result = command_line("ship", *arguments, cwd=folder)
    return result.status, result.out + result.err


def assert_equal_frames(uri: str, folder: Path) -> pd.DataFrame:
    from_buffer = flowprov.read_buffer(folder / "flowprov_buffer")
    from_server = flowprov.read_buffer(uri)
    pd.testing.assert_frame_equal(from_server, from_buffer)
    return from_server


def test_a_finished_run_is_delivered_once_and_reads_the_same_from_the_server(
    server: ServerProcess, tmp_path: Path
) -> None:
    run(_PROGRAM, tmp_path, "700")
    status, text = shipped(tmp_path, "--to", server.uri())
    assert (status, "nothing waits" in text) == (0, True), text
    frame = assert_equal_frames(server.uri(), tmp_path)
    assert len(frame) == 1401
    status, text = shipped(tmp_path, "--to", server.uri())
    assert (status, "0 entries delivered" in text) == (0, True), text
    as_json = command_line("ship", "--json", "--to", server.uri(), cwd=tmp_path).json
    assert as_json | {"sink": ""} == {"sink": "", "delivered": 0, "waiting": 0, "error": None}
    assert len(assert_equal_frames(server.uri(), tmp_path)) == 1401


def test_a_killed_run_is_delivered_and_reads_interrupted(server: ServerProcess, tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path, "100", "die", status=None)
    status, text = shipped(tmp_path, "--to", server.uri())
    assert status == 0, text
    rows = flowprov.Buffer(server.uri()).frame()
    assert len(rows) == 43  # the iteration that was open, too: something was given to it
    assert rows.loc[0, "name"] == "W"
    trials = rows[rows["activity_id"] == "trial_iteration"]
    assert trials.iloc[-1]["generated"] == {"loss": 1 / 21}
    assert trials.iloc[-1]["status"] != "FINISHED"


def test_following_a_run_delivers_it_while_the_server_dies_and_comes_back(
    server: ServerProcess, tmp_path: Path
) -> None:
    with start(_PROGRAM, tmp_path, "700", "slowly", stdin=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == "step 200\n"
        arguments = ("ship", "--follow", "--to", server.uri(), "flowprov_buffer")
        with start_command(*arguments, cwd=tmp_path) as follower:
            wait_until(lambda: flowprov.Buffer(server.uri()).campaigns())
            program.stdin.close()
            server.kill()
            wait_until(lambda: has_delivery_error(tmp_path / "flowprov_buffer"))
            server.start()
            assert program.wait(60) == 0
            printed, complained = follower.communicate(timeout=60)
    assert follower.returncode == 0, printed + complained
    assert len(assert_equal_frames(server.uri(), tmp_path)) == 1401


def test_with_a_server_that_is_away_all_records_wait_and_the_command_says_so(
    server: ServerProcess, tmp_path: Path
) -> None:
    run(_PROGRAM, tmp_path, "10")
    server.kill()
    status, text = shipped(tmp_path, "--to", server.uri())
    assert status == 1
    assert "wait" in text
    assert "the same command delivers them later" in text
    server.start()
    status, text = shipped(tmp_path, "--to", server.uri())
    assert status == 0, text
    assert len(assert_equal_frames(server.uri(), tmp_path)) == 21


@pytest.mark.parametrize("kind", [RedisKind], indirect=True, ids=["redis"])
def test_one_sink_that_is_down_does_not_hold_up_another(server: ServerProcess, tmp_path: Path) -> None:
    run(_PROGRAM, tmp_path, "10")
    result = command_line(
        "ship", "--json", "--to", "redis://127.0.0.1:1/0", "--to", server.uri(), cwd=tmp_path
    )
    assert (result.status, result.err) == (1, "")
    down, up = map(json.loads, result.out.splitlines())
    assert (down["sink"], up["error"], up["waiting"]) == ("redis://127.0.0.1:1/0", None, 0)
    assert down["waiting"] == up["delivered"] > 0
    assert down["error"]
    assert len(assert_equal_frames(server.uri(), tmp_path)) == 21


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "there is no sink"),
        (["--to", "postgres://h"], "names no sink"),
        (["--to", "redis://h", "/nowhere"], "does not exist"),
    ],
)
def test_a_delivery_that_cannot_begin_is_refused_with_advice(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "flowprov_buffer").mkdir()
    status, text = shipped(tmp_path, *arguments)
    assert status == 2
    assert message in text
    assert "Traceback" not in text
