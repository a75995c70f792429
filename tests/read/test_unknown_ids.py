"""An id that is not there is an error that names the nearest, in Python and on the command line."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.errors import FlowprovError, JournalError, UnknownIdError
from flowprov.read import Buffer, ancestors, children, read_buffer
from flowprov.read.verify import verify
from tests.cli.support import flowprov as command
from tests.journal.support import header, step, write
from tests.read.locations import SERVERS, Location
from tests.support import run

_PROGRAM = """
    import flowprov

    for name in ("baseline", "wide", "deep"):
        with flowprov.campaign(name, campaign_id=f"search-{name}"):
            with flowprov.workflow("Training", workflow_id=f"{name}-training"):
                pass
            with flowprov.workflow("Evaluation", workflow_id=f"{name}-eval"):
                pass
"""

_MANY_TASKS = """
    import flowprov

    @flowprov.task
    def prepare(number):
        return number

    with flowprov.campaign("Suche nach lr", campaign_id="c1"), flowprov.workflow("train", workflow_id="w1"):
        for number in range(30):
            prepare(number)
"""

CALLS: dict[str, Callable[[Path, str], Any]] = {
    "read_buffer": lambda folder, wrong: read_buffer(folder, campaign_id=wrong),
    "dicts": lambda folder, wrong: read_buffer(folder, campaign_id=wrong, return_df=False),
    "records": lambda folder, wrong: Buffer(folder).records(campaign_id=wrong),
    "frame": lambda folder, wrong: Buffer(folder).frame(campaign_id=wrong, merge=True),
    "messages": lambda folder, wrong: Buffer(folder).messages(campaign_id=wrong),
    "telemetry": lambda folder, wrong: Buffer(folder).telemetry(campaign_id=wrong),
    "machines": lambda folder, wrong: Buffer(folder).machines(campaign_id=wrong),
    "journals": lambda folder, wrong: Buffer(folder).journals(campaign_id=wrong),
    "damages": lambda folder, wrong: Buffer(folder).damages(campaign_id=wrong),
    "verify": lambda folder, wrong: verify(folder, campaign_id=wrong),
    "show": lambda folder, wrong: _raise_output(
        command("show", str(folder), "--campaign", wrong, cwd=folder)
    ),
    "flowprov verify": lambda folder, wrong: _raise_output(
        command("verify", str(folder), "--campaign", wrong, cwd=folder)
    ),
}


def _raise_output(result: Any) -> None:
    assert result.status == 2
    assert result.out == ""
    raise UnknownIdError(result.err)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("unknown")
    run(_PROGRAM, where)
    return where / "flowprov_buffer"


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_an_unknown_campaign_is_an_error_everywhere(call: Callable[[Path, str], Any], folder: Path) -> None:
    with pytest.raises(UnknownIdError) as caught:
        call(folder, "search-wdie")
    assert "holds no campaign 'search-wdie'" in str(caught.value)
    assert "Did you mean search-wide (wide)" in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("wide", "search-wide"), ("search-d", "search-deep"), ("SEARCH-BASELINE", "search-baseline")],
    ids=["its name", "its beginning", "another case"],
)
def test_what_people_give_in_place_of_an_id_leads_to_it(wrong: str, meant: str, folder: Path) -> None:
    with pytest.raises(UnknownIdError, match=rf"Did you mean {meant}"):
        read_buffer(folder, campaign_id=wrong)


def test_without_anything_near_the_ids_are_listed(folder: Path) -> None:
    with pytest.raises(UnknownIdError, match=r"it holds search-baseline \(baseline\), .*search-deep"):
        read_buffer(folder, campaign_id="01a2237c-68b2-7631-9e34-6450318a1f4e")


def test_generated_ids_are_not_near_because_they_were_made_at_about_the_same_time(tmp_path: Path) -> None:
    known = "01a2237c-68b2-7631-9e34-6450318a1f4e"
    write(tmp_path, header("a", known), step(0))
    with pytest.raises(UnknownIdError) as caught:
        read_buffer(tmp_path, campaign_id="01a2237c-68b2-7631-a6b1-79c29fd83b07")
    assert "Did you mean" not in str(caught.value)
    for almost in (known[:8], known[:-1] + "f", known.replace("7631", "7613")):
        with pytest.raises(UnknownIdError, match=f"Did you mean {known}"):
            read_buffer(tmp_path, campaign_id=almost)


@pytest.mark.parametrize("wrong", ["deep-trainig", "Training", "deep-t"])
def test_an_unknown_workflow_is_an_error_that_names_the_nearest(wrong: str, folder: Path) -> None:
    for read in (
        read_buffer,
        lambda source, **ids: list(Buffer(source).records(**ids)),
        lambda s, **i: Buffer(s).frame(**i),
    ):
        with pytest.raises(UnknownIdError, match=r"no workflow .*Did you mean deep-training \(Training\)"):
            read(folder, workflow_id=wrong)
        with pytest.raises(UnknownIdError, match=r"campaign search-wide in .*no workflow"):
            read(folder, campaign_id="search-wide", workflow_id="deep-training")


def test_campaigns_and_runs_are_listed_before_tasks(tmp_path: Path) -> None:
    run(_MANY_TASKS, tmp_path)
    (tmp_path / "flowprov_buffer").rename(tmp_path / "runs")
    with pytest.raises(UnknownIdError, match=r"'zzz'; it holds c1 \(Suche nach lr\), w1 \(train\), .*-"):
        flowprov.diff("zzz", "c1", tmp_path / "runs")
    result = command("report", "zzz", "--source", tmp_path / "runs", cwd=tmp_path)
    assert f"{tmp_path / 'runs'} holds no campaign or run 'zzz'; it holds c1 (Suche nach lr), " in result.err


@pytest.mark.parametrize("beginning", ["Suche", "suche n", "SUC"])
def test_the_beginning_of_a_name_leads_to_it(beginning: str, tmp_path: Path) -> None:
    run(_MANY_TASKS, tmp_path)
    result = command("show", beginning, cwd=tmp_path)
    assert result.status == 2
    assert f"{beginning!r}. Did you mean c1 (Suche nach lr)" in result.err


def test_a_workflow_of_which_only_tasks_are_left_is_known(tmp_path: Path) -> None:
    write(tmp_path, header(), step(0, workflow_id="w1"))
    assert len(read_buffer(tmp_path, workflow_id="w1")) == 1


@pytest.mark.parametrize("kind", SERVERS)
def test_a_server_says_the_same(kind: str, folder: Path, location_of: Callable[[str], Location]) -> None:
    location = location_of(kind)
    location.deliver(folder)
    with pytest.raises(UnknownIdError, match="Did you mean search-wide"):
        read_buffer(location.source, campaign_id="search-wid")


def test_an_unknown_id_among_rows_is_an_error(folder: Path) -> None:
    rows = read_buffer(folder)
    for look in (ancestors, children):
        with pytest.raises(UnknownIdError, match="Did you mean deep-eval"):
            look(rows, "deep-evl")


def test_the_error_is_one_that_is_caught_as_before() -> None:
    assert issubclass(UnknownIdError, JournalError)
    assert issubclass(UnknownIdError, FlowprovError)
    assert issubclass(UnknownIdError, LookupError)


def test_a_follower_of_a_campaign_that_is_not_there_says_so_and_waits(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    follower = Buffer(tmp_path).follow(campaign_id="c1")
    assert list(follower.available()) == list(follower.available()) == []
    assert caplog.text.count("follows campaign c1") == 1
    write(tmp_path, header(), step(0))
    assert len(list(follower.available())) == 1


@pytest.mark.parametrize("value", ["1", "y", "YES", "on", "t", "Enabled"])
def test_a_program_that_is_switched_off_is_told_why_it_reads_nothing(value: str, tmp_path: Path) -> None:
    code = """
        import flowprov

        with flowprov.workflow("W") as workflow:
            pass
        assert len(flowprov.read_buffer()) == 0
        ids = {"campaign_id": workflow.campaign_id, "workflow_id": workflow.workflow_id}
        assert len(flowprov.read_buffer(**ids)) == 0
    """
    _, err = run(code, tmp_path, env={"FLOWPROV_DISABLED": value})
    assert "FLOWPROV_DISABLED" in err
    assert "found no records" in err
    assert "Traceback" not in err


def test_a_program_that_is_switched_off_is_told_that_it_reads_an_earlier_run(tmp_path: Path) -> None:
    code = "import flowprov\nwith flowprov.workflow('W'):\n    pass\nprint(len(flowprov.read_buffer()))"
    assert run(code, tmp_path) == ("1\n", "")
    for env in ({"FLOWPROV_DISABLED": "true"}, {"FLOWPROV__INSTRUMENTATION__ENABLED": "false"}):
        out, err = run(code, tmp_path, env=env)
        assert out == "1\n"
        assert "earlier run" in err
        assert "Capture is off" in err


def test_a_buffer_that_holds_nothing_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "flowprov"):
        assert read_buffer(tmp_path, return_df=False) == []
    assert f"no records in {tmp_path}" in caplog.text
