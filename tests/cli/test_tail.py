"""``flowprov tail``: records as they come, and what befalls a campaign meanwhile."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from flowprov.cli import main
from flowprov.journal.format import find_journals
from flowprov.records import Footer
from tests.cli.support import flowprov, run_and_kill, start_endless
from tests.cli.terminals import CTRL_C, terminal
from tests.journal.support import NS, header, step, write
from tests.support import clean_environment, run

_PROGRAM = """
    import sys
    import flowprov

    @flowprov.task
    def train(lr):
        loop = flowprov.EpochLoop(2)
        for epoch in loop:
            flowprov.log_metrics(acc=float("nan"), step=7)
            loop.end_iter(val_loss=lr / (epoch + 1), note="a")

    with flowprov.campaign("first", campaign_id="id-first"), flowprov.workflow("search") as search:
        train(0.1)
        search.set_generated(best=0.1)
    with flowprov.campaign("second", campaign_id="id-second"), flowprov.workflow("search"):
        train(0.2)
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The buffer of two campaigns."""
    folder = tmp_path_factory.mktemp("recorded")
    run(_PROGRAM, folder)
    return folder / "flowprov_buffer"


def tail(*arguments: str, source: Path) -> str:
    result = CliRunner().invoke(main, ["tail", *arguments, "--source", str(source)])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_the_latest_records_of_the_latest_campaign_are_printed_in_their_order(recorded: Path) -> None:
    opening, first, second, task, ending = tail(source=recorded).splitlines()
    assert opening[8:] == "  search  RUNNING"
    assert first.split()[1:3] == ["epoch_iteration", "FINISHED"]
    assert second.endswith("  epoch=1  -> val_loss=0.1 note=a")
    assert task.split()[1:3] == ["train", "FINISHED"]
    assert ending.split()[1:3] == ["search", "FINISHED"]
    assert tail("-n", "2", source=recorded).splitlines() == [task, ending]
    assert tail("-n", "0", source=recorded) == ""


@pytest.mark.parametrize("wanted", ["first", "id-first", "id-f", "d-first"])
def test_a_campaign_is_chosen_by_name_id_beginning_or_end(recorded: Path, wanted: str) -> None:
    assert tail(wanted, "-n", "1", source=recorded).endswith("  -> best=0.1\n")


def test_metrics_are_what_was_logged_and_what_iterations_generated(recorded: Path) -> None:
    lines = [line[10:] for line in tail("--metrics", source=recorded).splitlines()]
    assert lines == [
        "search  step 7  acc=nan",
        "search  epoch  step 0  val_loss=0.2",
        "search  step 7  acc=nan",
        "search  epoch  step 1  val_loss=0.1",
    ]


def test_json_has_the_columns_of_rows_and_for_metrics_the_values(recorded: Path) -> None:
    rows = [json.loads(line) for line in tail("--json", source=recorded).splitlines()]
    assert [row["type"] for row in rows] == ["workflow", "task", "task", "task", "workflow"]
    assert rows[0]["status"] == "RUNNING"
    assert rows[3]["used"] == {"lr": 0.2}
    assert rows[3]["ended_at"].endswith("+00:00")
    assert rows[4]["name"] == "search"
    assert rows[4]["duration"] > 0
    logged, measured, *_ = map(json.loads, tail("--json", "--metrics", source=recorded).splitlines())
    assert (logged["values"], logged["step"]) == ({"acc": "NaN"}, 7)
    assert (measured["type"], measured["loop"], measured["values"]) == ("metrics", "epoch", {"val_loss": 0.2})
    assert measured["task_id"] == rows[1]["task_id"]


def test_several_sources_are_read_together(recorded: Path, tmp_path: Path) -> None:
    write(
        tmp_path,
        header("j", "id-first"),
        step(0, 1, activity_id="elsewhere"),
        Footer(at=2 * NS, captured=1, written=1),
    )
    lines = tail("first", "--source", str(tmp_path), source=recorded).splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("00:00:02  elsewhere")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("id-", "-f"), "'id-' may mean id-first, id-second. Give the id of one."),
        (("fist", "-f"), "Did you mean id-first (first)?"),
        (("-f", "--source", "missing"), "missing does not exist"),
        (("-n", "-1"), "-1 is not in the range x>=0"),
    ],
)
def test_a_mistake_is_one_message_and_status_2(recorded: Path, arguments: tuple[str, ...], said: str) -> None:
    result = CliRunner().invoke(main, ["tail", "--source", str(recorded), *arguments])
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_nothing_to_read_is_an_error_without_follow(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["tail", "--source", str(tmp_path)])
    assert result.exit_code == 2
    assert "holds no journal with records" in result.stderr


@pytest.fixture
def running(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that is inside a task."""
    with start_endless(tmp_path) as process:
        yield process
        process.kill()


def test_ctrl_c_ends_it_without_a_word(running: subprocess.Popen[str], tmp_path: Path) -> None:
    with terminal("tail", "-f", cwd=tmp_path, env={"NO_COLOR": "1"}) as shown:
        before = shown.wait_for(lambda text: text.count("  step  FINISHED  ") == 5)
        shown.type(CTRL_C)
        assert shown.end() == (130, f"{before}^C\n")


def test_a_kill_is_said_and_the_next_process_is_followed(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    with terminal("tail", "nightly", "-f", cwd=tmp_path, env={"NO_COLOR": "1"}, columns=300) as shown:
        shown.wait_for("  Doomed  RUNNING")
        running.kill()
        shown.wait_for(f"flowprov tail: process {running.pid} on ")
        assert "as after a kill; interrupted: Doomed\n" in shown.wait_for("interrupted: ")
        (campaign,) = (tmp_path / "flowprov_buffer").iterdir()
        program = "import flowprov\nwith flowprov.workflow('Next'):\n    pass"
        run(program, tmp_path, env={"FLOWPROV_CAMPAIGN_ID": campaign.name})
        shown.wait_for("  Next  FINISHED")
        shutil.rmtree(campaign)
        status, text = shown.end()
    assert status == 2
    assert text.splitlines()[-1].startswith(f"Error: campaign {campaign.name} was removed from ")


def test_a_reader_that_goes_away_ends_it_though_nothing_comes(
    running: subprocess.Popen[str], tmp_path: Path
) -> None:
    arguments = [sys.executable, "-m", "flowprov", "tail", "-f", "--json"]
    with subprocess.Popen(
        arguments, cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["type"] == "workflow"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_it_waits_for_a_campaign_that_has_not_begun(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "flowprov_buffer")  # noqa: PTH102
    with terminal("tail", "-f", cwd=tmp_path) as shown:
        shown.wait_for("waiting for the first record")
        run("import flowprov\nwith flowprov.workflow('Late'):\n    pass", tmp_path)
        shown.wait_for("Late")
        shown.type(CTRL_C)
        assert shown.end()[0] == 130


def test_a_killed_campaign_is_printed_with_the_sentence(tmp_path: Path) -> None:
    run_and_kill(tmp_path)
    result = flowprov("tail", cwd=tmp_path)
    assert result.status == 0
    assert len(result.out.splitlines()) == 6
    assert "interrupted: Doomed" in result.err
    (path,) = find_journals(tmp_path)
    path.unlink()
    assert flowprov("tail", cwd=tmp_path).status == 2
