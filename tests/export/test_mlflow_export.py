"""Campaigns become experiments: a run for each step, under it one for each run of that step."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from flowprov.errors import UnknownIdError
from flowprov.export.mlflow.campaign_export import export_campaigns
from flowprov.export.mlflow.exporter import EXPORTED, HISTORY_FILE
from tests.export.memory_store import MemoryStore
from tests.support import run, start
from tests.versioning.conftest import GitRepository

_PIPELINE = """
    import contextlib, pathlib, flowprov

    for time in (1, 2):
        for step in ("CLEAN", "TRAIN", "REPORT"):
            settings = {"lr": 0.1, "model": {"layers": [2, 3]}, "names[0]": "x" * 7_000, "none": None}
            with (
                contextlib.suppress(ZeroDivisionError),
                flowprov.campaign("sentiment"),
                flowprov.workflow(step, used=settings, custom_metadata={"tags": ["nightly"]}),
            ):
                if step == "CLEAN":
                    pathlib.Path("clean.csv").write_text(str(time))
                    flowprov.log_artifact("clean.csv", kind="dataset")
                elif step == "TRAIN":
                    flowprov.use_artifact("clean.csv", kind="dataset")
                    for epoch in flowprov.EpochLoop(3):
                        flowprov.log_metrics(loss=1 / (epoch + 1), broken=float("nan"), huge=float("inf"))
                elif time == 2:
                    1 / 0

    @flowprov.task
    def trial(lr):
        for _ in flowprov.EpochLoop(2):
            flowprov.log_metrics(acc=lr)

    with flowprov.campaign("search"), flowprov.workflow("Search", used={"seed": 1}):
        for lr in (1, 2, 3):
            trial(lr)
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a buffer with a pipeline that ran twice and with a search, and the commit."""
    repository = GitRepository(tmp_path_factory.mktemp("pipeline"))
    ignored = "flowprov_buffer\nprogram.py\nclean.csv\n"
    commit = repository.commit(__gitignore=ignored, n="1")
    run(_PIPELINE, repository.folder)
    return repository.folder / "flowprov_buffer", commit


@pytest.fixture
def store(recorded: tuple[Path, str]) -> MemoryStore:
    """Return what an export of that buffer gives."""
    store = MemoryStore()
    export_campaigns(store, recorded[0])
    return store


def test_campaigns_of_one_name_are_one_experiment_with_a_run_for_each_step(store: MemoryStore) -> None:
    assert [one.name for one in store.experiments()] == ["sentiment", "search"]
    assert list(store.steps()) == ["CLEAN", "TRAIN", "REPORT", "trial"]
    assert [len(store.children(step)) for step in store.steps()] == [2, 2, 2, 3]


_SEARCH = """
    import contextlib, flowprov

    @flowprov.task
    def trial(nhead):
        assert 8 % nhead == 0, "no divisor"
        for _ in flowprov.EpochLoop(2):
            flowprov.log_metrics(acc=nhead)

    with flowprov.campaign("heads"), flowprov.workflow("Search"):
        for nhead in (2, 5):
            with contextlib.suppress(AssertionError):
                trial(nhead)
"""


def test_a_trial_that_failed_before_its_loop_is_a_failed_run(tmp_path: Path) -> None:
    run(_SEARCH, tmp_path)
    store = MemoryStore()
    export_campaigns(store, tmp_path / "flowprov_buffer")
    children = store.children("trial")
    assert [(child.status, child.params["nhead"]) for child in children] == [
        ("FINISHED", "2"),
        ("FAILED", "5"),
    ]
    assert children[1].tags["flowprov.error"] == "AssertionError: no divisor"


def test_a_child_is_named_by_its_time_and_tells_whose_it_is(
    store: MemoryStore, recorded: tuple[Path, str]
) -> None:
    for step in ("CLEAN", "TRAIN", "REPORT"):
        names = [child.name for child in store.children(step)]
        for child in store.children(step):
            assert child.name[8] == "-"
            assert child.tags["run_name"] == child.name
            assert child.tags["base_run_name"] == step
            assert child.tags["run_id"] == child.mlflow_id
            assert child.tags["flowprov.workflow_id"] == child.tags["flowprov.run_id"]
            assert child.tags["mlflow.source.git.commit"] == recorded[1]
            assert json.loads(child.tags["flowprov.tags"]) == ["nightly"]
            assert store.files[child.mlflow_id, HISTORY_FILE] == {child.name: recorded[1]}
        parent = store.steps()[step].mlflow_id
        assert store.files[parent, HISTORY_FILE] == dict.fromkeys(names, recorded[1])


def test_runs_of_one_second_have_names_of_their_own(store: MemoryStore) -> None:
    assert len({child.name for child in store.children("trial")}) == 3


def test_params_metrics_and_status_are_there_as_they_were_recorded(store: MemoryStore) -> None:
    train = store.children("TRAIN")[0]
    assert train.params["lr"] == "0.1"
    assert train.params["model.layers"] == "[2, 3]"
    cut = next(value for name, value in train.params.items() if name.startswith("names"))
    assert cut.endswith("x… [cut: 7,000 characters]")
    assert list(json.loads(train.tags["flowprov.renamed"]).values()) == ["names[0]"]
    assert json.loads(train.tags["flowprov.infinite"]) == {"huge": 3}
    loss = store.history(train.mlflow_id, "loss")
    assert [(point.step, point.value) for point in loss] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]
    assert train.ended_at is not None
    assert all((train.started_at or 0) <= point.at <= train.ended_at for point in loss)
    assert [child.status for child in store.children("REPORT")] == ["FINISHED", "FAILED"]
    assert "division" in store.children("REPORT")[1].tags["flowprov.error"]
    assert [child.params["lr"] for child in store.children("trial")] == ["1", "2", "3"]
    assert {child.params["seed"] for child in store.children("trial")} == {"1"}


def test_steps_with_data_have_data_sets_and_others_have_none(store: MemoryStore) -> None:
    def uses(step: str) -> list[list[tuple[str, str]]]:
        return [
            [(one["name"], one["context"]["mlflow.data.context"]) for one in child.datasets]
            for child in store.children(step)
        ]

    assert uses("CLEAN") == [[("clean.csv", "generated")]] * 2
    assert uses("TRAIN") == [[("clean.csv", "used")]] * 2
    assert uses("REPORT") == [[], []]
    first, second = (child.datasets[0]["digest"] for child in store.children("TRAIN"))
    assert first != second


def test_a_second_export_gives_nothing_new(store: MemoryStore, recorded: tuple[Path, str]) -> None:
    before, calls = store.content(), store.calls
    reports = export_campaigns(store, recorded[0])
    assert store.calls == calls
    assert store.content() == before
    assert [(one.created, one.updated, one.unchanged) for one in reports] == [(0, 0, 6), (0, 0, 3)]


def test_what_a_person_deleted_stays_deleted_and_is_said(
    store: MemoryStore, recorded: tuple[Path, str]
) -> None:
    child, parent = store.children("TRAIN")[1], store.steps()["REPORT"]
    child.deleted = parent.deleted = True
    before = store.content()
    sentiment, search = export_campaigns(store, recorded[0])
    assert store.content() == before
    assert sentiment.deleted == [f"TRAIN {child.name}", "REPORT, with its 2 runs"]
    store.found["2"].deleted = True
    assert export_campaigns(store, recorded[0])[1].deleted == ["the experiment search"]
    assert store.content() == before
    assert search.experiment_id == "2"


def test_an_interrupted_export_is_completed_and_doubles_nothing(
    store: MemoryStore, recorded: tuple[Path, str]
) -> None:
    for number in range(1, store.calls + 1, 7):
        again = MemoryStore()
        again.interrupted_at = number
        with pytest.raises(KeyboardInterrupt):
            export_campaigns(again, recorded[0])
        export_campaigns(again, recorded[0])
        assert list(again.steps()) == list(store.steps())
        for step in store.steps():
            expected, found = store.children(step), again.children(step)
            assert [one.name for one in found] == [one.name for one in expected]
            assert [one.params for one in found] == [one.params for one in expected]
            assert [one.tags.keys() for one in found] == [one.tags.keys() for one in expected]
            assert [one.status for one in found] == [one.status for one in expected]
            for one, other in zip(found, expected, strict=True):
                assert repr(again.points[one.mlflow_id]) == repr(store.points[other.mlflow_id])
                assert one.datasets == other.datasets


def test_campaigns_are_chosen_by_name_or_id(recorded: tuple[Path, str]) -> None:
    store = MemoryStore()
    (report,) = export_campaigns(store, recorded[0], ["search"])
    assert (report.name, report.created) == ("search", 3)
    with pytest.raises(UnknownIdError, match="no campaign 'serch'"):
        export_campaigns(store, recorded[0], ["serch"])


def test_a_param_that_changed_keeps_its_first_value_and_the_other_is_told(
    store: MemoryStore, recorded: tuple[Path, str]
) -> None:
    child = store.children("TRAIN")[0]
    child.params["lr"], child.tags[EXPORTED] = "5", "something else"
    report, _ = export_campaigns(store, recorded[0])
    assert (report.updated, report.changed_params, child.params["lr"]) == (1, 1, "5")
    assert json.loads(child.tags["flowprov.changed_params"]) == {"lr": "0.1"}


_GROWING = """
    import sys, flowprov
    with flowprov.campaign("growing"), flowprov.workflow("LONG"):
        for number in range(3):
            flowprov.log_metrics(loss=number)
            print(number, flush=True)
            sys.stdin.readline()
"""


def test_a_run_that_goes_on_gets_what_is_new(tmp_path: Path) -> None:
    store = MemoryStore()
    with start(_GROWING, tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for number in range(3):
            process.stdout.readline()
            export_campaigns(store, tmp_path / "flowprov_buffer")
            (child,) = store.children("LONG")
            assert child.status == store.steps()["LONG"].status == "RUNNING"
            assert [point.value for point in store.points[child.mlflow_id]] == list(range(number + 1))
            process.stdin.write("\n")
            process.stdin.flush()
    (report,) = export_campaigns(store, tmp_path / "flowprov_buffer")
    (child,) = store.children("LONG")
    assert (child.status, report.updated, report.points) == ("FINISHED", 1, 0)
