"""A real MLflow: its database, its server, its web page in a browser. ``make mlflow`` installs it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from tests.sinks.server_process import free_port
from tests.support import REPOSITORY, clean_environment, run, wait_until
from tests.versioning.conftest import GitRepository

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]
MLFLOW = Path(os.environ.get("FLOWPROV_TEST_MLFLOW", REPOSITORY / ".mlflow")) / "bin"

_STEP = """
    import pathlib, sys, flowprov
    step, time = sys.argv[1:]
    with flowprov.campaign("sentiment_analysis"), flowprov.workflow(step, used={"lr": 0.1, "t": int(time)}):
        if step == "DATA_CLEANING":
            pathlib.Path("clean.csv").write_text(time)
            flowprov.log_artifact("clean.csv", kind="dataset")
        elif step == "TRAINING":
            flowprov.use_artifact("clean.csv", kind="dataset")
            for epoch in flowprov.EpochLoop(5):
                flowprov.log_metrics(loss=1 / (epoch + 1), broken=float("nan"))
"""
_STEPS = ("DATA_CLEANING", "TRAINING", "REPORT")
_READ = """
import json, sys
from mlflow import MlflowClient
from mlflow.entities import ViewType
client, found = MlflowClient(sys.argv[1]), []
for experiment in client.search_experiments():
    for run in client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL):
        if sys.argv[2:] == [run.info.run_id]:
            client.delete_run(run.info.run_id)
        def read(folder=None):
            return {
                one.path: open(client.download_artifacts(run.info.run_id, one.path)).read()
                for one in client.list_artifacts(run.info.run_id, folder) if not one.is_dir
            }
        files = {path: json.loads(text) for path, text in read().items()}
        points = {name: len(client.get_metric_history(run.info.run_id, name)) for name in run.data.metrics}
        found.append({
            "experiment": experiment.name, "name": run.info.run_name, "status": run.info.status,
            "tags": run.data.tags, "params": run.data.params, "points": points, "files": files,
            "uploads": read("files"),
            "datasets": [one.dataset.name for one in run.inputs.dataset_inputs],
        })
print(json.dumps(found))
"""


class Project:
    """A pipeline of three steps that ran twice, in six processes, and an MLflow beside it."""

    def __init__(self, folder: Path, commit: str) -> None:
        self.folder, self.commit = folder, commit

    def command(self, *arguments: str, status: int = 0) -> tuple[str, str]:
        """Run ``flowprov`` of that environment."""
        done = subprocess.run(
            [MLFLOW / "python", "-m", "flowprov", *arguments],
            cwd=self.folder,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout, done.stderr

    def runs(self, uri: str = "sqlite:///mlflow.db", *delete: str) -> list[dict[str, Any]]:
        """Return all runs of an MLflow; delete the one with an id first."""
        environment = clean_environment(MLFLOW_DISABLE_TELEMETRY="true", MLFLOW_LOGGING_LEVEL="ERROR")
        done = subprocess.run(
            [MLFLOW / "python", "-c", _READ, uri, *delete],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a pipeline that was recorded, in a repository."""
    if not (MLFLOW / "python").exists():
        pytest.skip("NO MLFLOW: make mlflow")
    repository = GitRepository(tmp_path_factory.mktemp("pipeline"))
    ignored = "flowprov_buffer\nprogram.py\n*.csv\n*.db\nmlruns\n"
    commit = repository.commit(__gitignore=ignored, n="1")
    for time in ("1", "2"):
        for step in _STEPS:
            run(_STEP, repository.folder, step, time)
    return Project(repository.folder, commit)


@pytest.fixture
def project(recorded: Project, tmp_path: Path) -> Project:
    """Return a copy of that pipeline, for one test."""
    shutil.copytree(recorded.folder, tmp_path / "project")
    return Project(tmp_path / "project", recorded.commit)


@contextmanager
def _ui(project: Project) -> Iterator[str]:
    """Have ``mlflow ui`` show the database, and yield its address."""
    uri = f"http://127.0.0.1:{(port := free_port())}"

    def answers() -> bool:
        with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            try:
                connection.request("GET", "/health")
                return connection.getresponse().status == HTTPStatus.OK
            except (OSError, HTTPException):
                return False

    command: list[str | Path] = [
        MLFLOW / "mlflow",
        "ui",
        "--backend-store-uri",
        "sqlite:///mlflow.db",
        "--port",
        str(port),
    ]
    environment = clean_environment(MLFLOW_DISABLE_TELEMETRY="true")
    with (project.folder / "ui.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--workers", "1"],
            cwd=project.folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(answers, 120)
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def test_a_pipeline_is_an_experiment_with_its_steps_and_their_executions(project: Project) -> None:
    out, err = project.command("export", "mlflow", "--uri", "sqlite:///mlflow.db")
    assert out.startswith("sentiment_analysis: 3 steps, 6 new runs, 0 updated, 0 unchanged, 20 metric values")
    assert "/#/experiments/1?workflowType=machine_learning" in out
    assert err == ""
    found = project.runs()
    assert {one["experiment"] for one in found} == {"sentiment_analysis"}
    steps = {one["name"]: one for one in found if "mlflow.parentRunId" not in one["tags"]}
    assert set(steps) == set(_STEPS)
    for step, parent in steps.items():
        run_id = parent["tags"]["run_id"]
        children = [one for one in found if one["tags"].get("mlflow.parentRunId") == run_id]
        assert len(children) == 2
        for child in children:
            tags = child["tags"]
            assert re.fullmatch(r"\d{8}-\d{6}(-2)?", child["name"])
            assert (tags["run_name"], tags["base_run_name"]) == (child["name"], step)
            assert tags["run_id"]
            assert tags["flowprov.workflow_id"]
            assert tags["mlflow.source.git.commit"] == project.commit
            assert child["files"]["commit_history.json"] == {child["name"]: project.commit}
            assert child["datasets"] == ([] if step == "REPORT" else ["clean.csv"])
            assert child["points"] == ({"loss": 5, "broken": 5} if step == "TRAINING" else {})
        names = {child["name"] for child in children}
        assert parent["files"]["commit_history.json"] == dict.fromkeys(names, project.commit)
    assert {one["params"]["t"] for one in found if one["params"]} == {"1", "2"}
    assert {one["status"] for one in found} == {"FINISHED"}

    again = project.command("export", "mlflow", "--uri", "sqlite:///mlflow.db", "sentiment_analysis")[0]
    assert "0 new runs, 0 updated, 6 unchanged, 0 metric values" in again
    assert project.runs() == found

    deleted = next(one for one in found if one["points"])
    project.runs("sqlite:///mlflow.db", deleted["tags"]["run_id"])
    before = project.runs()
    last = project.command("export", "mlflow", "--uri", "sqlite:///mlflow.db")[0]
    assert f"deleted in MLflow, and stays so: TRAINING {deleted['name']}" in last
    assert "5 unchanged" in last
    assert project.runs() == before


def test_a_small_file_is_uploaded_once_to_a_database_and_to_a_server(project: Project) -> None:
    def export(uri: str) -> str:
        return project.command("export", "mlflow", "--uri", uri, "--upload-bytes", "1kB")[0]

    def uploads(uri: str) -> list[tuple[str, str]]:
        return [(path, text) for one in project.runs(uri) for path, text in one["uploads"].items()]

    assert "uploaded" not in project.command("export", "mlflow", "--uri", "sqlite:///mlflow.db")[0]
    assert "0 new runs, 0 updated, 6 unchanged" in (out := export("sqlite:///mlflow.db"))
    assert "\n  1 file uploaded\n" in out
    (found,) = uploads("sqlite:///mlflow.db")
    assert re.fullmatch("files/clean-[0-9a-f]{8}.csv", found[0])
    assert found[1] == "2"  # the first run's file was overwritten by the second one
    assert "uploaded" not in export("sqlite:///mlflow.db")
    with _ui(project) as uri:
        assert "uploaded" not in export(uri)
        assert uploads(uri) == [found]
        (project.folder / "new").mkdir()
        program = """
            import pathlib, flowprov
            with flowprov.campaign("served"), flowprov.workflow("WRITE"):
                pathlib.Path("model ü.bin").write_text("weights")
                flowprov.log_artifact("model ü.bin")
        """
        run(program, project.folder / "new")
        project.folder = project.folder / "new"
        assert "1 new run" in (out := export(uri))
        assert "\n  1 file uploaded\n" in out
        assert [text for path, text in uploads(uri) if "model__-" in path] == ["weights"]
        assert "uploaded" not in export(uri)


def test_verify_and_rm_ask_mlflow_for_the_runs(project: Project) -> None:
    setting = ("--set", "sinks.mlflow.uri=sqlite:///mlflow.db")
    campaigns = [json.loads(line)["campaign_id"] for line in project.command("ls", "--json")[0].splitlines()]
    waits = project.command(*setting, "verify", status=1)[0]
    assert "INCOMPLETE: 1 run waits for sqlite:///" in waits
    assert not (project.folder / "mlflow.db").exists()
    assert "is not delivered" in project.command(*setting, "rm", "--yes", campaigns[0], status=1)[1]
    assert "nothing waits" in project.command(*setting, "ship")[0]
    held = project.command(*setting, "verify")[0]
    assert "holds 1 of 1 run\n" in held
    assert "COMPLETE" in held
    assert project.command(*setting, "rm", "--yes", *campaigns)[0] == "removed 6 campaigns\n"


def test_the_web_page_shows_the_steps_and_takes_an_export(project: Project) -> None:
    project.command("export", "mlflow", "--uri", "sqlite:///mlflow.db")
    with _ui(project) as uri:
        out, _ = project.command("export", "mlflow", "--uri", uri)
        assert "0 new runs, 0 updated, 6 unchanged, 0 metric values" in out
        (link,) = re.findall(r"http://\S+", out)
        assert link == f"{uri}/#/experiments/1?workflowType=machine_learning"
        chromium = shutil.which("chromium")
        if chromium is None:
            pytest.skip("NO CHROMIUM: apt-get install chromium")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
        options += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        options += [f"--user-data-dir={project.folder / 'browser'}", "--window-size=1500,900"]
        command = [chromium, *options, "--virtual-time-budget=30000", "--dump-dom", link]

        def page() -> str | None:
            done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
            return done.stdout if "matching runs" in done.stdout else None

        shown = wait_until(page, 300)
        text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", shown))
        assert "9 matching runs" in text
        assert all(f" {step} " in text for step in _STEPS)
        assert len(re.findall(r"<button [^>]*runnamecellrenderer", shown)) == 3  # what unfolds a step


def test_a_campaign_that_is_followed_is_complete_when_its_program_has_ended(
    project: Project, tmp_path: Path
) -> None:
    program = """
        import sys, flowprov
        flowprov.configure({"sinks": {"mlflow": {"uri": "sqlite:///followed.db", "interval": 1}}})
        with flowprov.campaign("followed"), flowprov.workflow("LONG"):
            for epoch in flowprov.EpochLoop(3):
                flowprov.log_metrics(loss=epoch)
                print(epoch, flush=True)
                sys.stdin.readline()
    """
    script = tmp_path / "followed.py"
    script.write_text("\n".join(line[8:] for line in program.splitlines()))

    def stored() -> tuple[set[str], int]:
        try:
            with closing(sqlite3.connect(f"file:{tmp_path}/followed.db?mode=ro", uri=True)) as database:
                statuses = {one[0] for one in database.execute("select status from runs")}
                return statuses, database.execute("select count(*) from metrics").fetchone()[0]
        except sqlite3.Error:
            return set(), 0

    with subprocess.Popen(
        [MLFLOW / "python", script],
        cwd=tmp_path,
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        wait_until(lambda: stored() == ({"RUNNING"}, 1), 120)
        process.stdin.write("\n\n\n")
        process.stdin.flush()
        assert process.wait(timeout=60) == 0
    wait_until(lambda: stored() == ({"FINISHED"}, 3), 120)
    assert (tmp_path / "mlruns").is_dir()


def test_an_export_that_is_interrupted_is_completed_by_the_next(project: Project, tmp_path: Path) -> None:
    program = """
        import flowprov
        @flowprov.task
        def train(lr):
            for epoch in flowprov.EpochLoop(4_000):
                flowprov.log_metrics(loss=1 / (epoch + 1), acc=epoch)
        with flowprov.campaign("big"), flowprov.workflow("Search"):
            for lr in range(3):
                train(lr)
    """
    run(program, tmp_path)
    command: list[str | Path] = [
        MLFLOW / "python",
        "-m",
        "flowprov",
        "export",
        "mlflow",
        "--uri",
        "sqlite:///big.db",
    ]

    def points() -> int:
        try:
            with closing(sqlite3.connect(f"file:{tmp_path}/big.db?mode=ro", uri=True)) as database:
                return int(database.execute("select count(*) from metrics").fetchone()[0])
        except sqlite3.Error:
            return 0

    with subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: points() > 1_000 or process.poll() is not None, 120)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    if process.returncode == 130:  # else it had ended before
        assert "the same command writes the rest" in err
    project.folder = tmp_path
    project.command("export", "mlflow", "--uri", "sqlite:///big.db")
    found = project.runs("sqlite:///big.db")
    assert sorted(one["params"]["lr"] for one in found if one["params"]) == ["0", "1", "2"]
    assert [one["points"] for one in found if one["points"]] == [{"loss": 4_000, "acc": 4_000}] * 3
    assert points() == 24_000


def test_an_mlflow_that_cannot_be_written_is_one_line_with_the_mend(project: Project) -> None:
    def refused(*arguments: str) -> str:
        return project.command("export", "mlflow", *arguments, status=2)[1]

    away = refused("--uri", f"http://user:hunter2@127.0.0.1:{free_port()}")
    assert "cannot be reached. Start the server" in away
    assert "hunter2" not in away
    (project.folder / "notes.db").write_text("no database " * 100)
    assert "is no database" in refused("--uri", "sqlite:///notes.db")
    assert "names no MLflow" in refused("--uri", "mlruns")
    assert "no campaign 'nothing'" in refused("--uri", "sqlite:///mlflow.db", "nothing")
    with closing(sqlite3.connect(project.folder / "mlflow.db")) as database:
        database.execute("update alembic_version set version_num = 'cafe00000000'")
        database.commit()
    assert "another version of MLflow" in refused("--uri", "sqlite:///mlflow.db")


def test_an_experiment_comes_back_as_a_campaign(project: Project) -> None:
    project.command("export", "mlflow", "--uri", "sqlite:///mlflow.db")
    out, _ = project.command("import", "mlflow", "--uri", "sqlite:///mlflow.db", "-o", "back")
    assert out.startswith("sentiment_analysis: 6 new runs, 0 known, 20 metric values")
    assert (
        "0 new runs, 6 known"
        in project.command("import", "mlflow", "--uri", "sqlite:///mlflow.db", "-o", "back")[0]
    )
    columns = ("name", "status", "params.lr", "params.t", "metrics.loss", "git_commit")
    listed = [
        [
            {name: line.get(name) for name in columns}
            for line in map(json.loads, project.command("runs", "--json", *source)[0].splitlines())
        ]
        for source in ((), ("--source", "back"))
    ]
    assert listed[0] == listed[1]
    assert "COMPLETE" in project.command("verify", "back")[0]
