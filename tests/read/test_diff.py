"""What differs between two runs."""

from __future__ import annotations

import contextlib
import math
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowprov
from flowprov.display import cut_apart
from flowprov.errors import UnknownIdError, UsageError
from flowprov.read.answers.changed_files import changed_files
from flowprov.read.answers.difference import Difference

pytest.importorskip("pandas")


@flowprov.task
def train(lr: float, layers: int = 2, *, losses: Any = (), model: Any = None) -> None:
    """A training whose losses are given."""
    loop = flowprov.EpochLoop(len(losses))
    for epoch in loop:
        loop.end_iter(loss=losses[epoch])


@pytest.fixture
def ids(buffer: Path) -> list[str]:
    """Two runs that part at step 1, and one that is like the first."""
    with flowprov.campaign("tuning", campaign_id="tune"), flowprov.workflow("search", used={"seed": 1}):
        for lr, losses in (
            (0.1, [3.0, 2.0, math.nan]),
            (0.2, [3.0, 1.0, math.nan]),
            (0.1, [3.0, 2.0, math.nan]),
        ):
            train(lr, losses=losses, model={"kind": "lstm", "size": 100 * lr})
    return list(flowprov.runs()["run_id"])


def test_parameters_and_metrics_that_differ_are_told(ids: list[str]) -> None:
    told = flowprov.diff(ids[0], ids[1]).to_dict()
    assert told["params"]["lr"] == [0.1, 0.2]
    assert told["params"]["model.size"] == [10.0, 20.0]
    assert set(told["params"]) == {"lr", "model.size", "losses"}
    assert told["metrics"]["loss"]["parts_at"] == 1
    assert told["metrics"]["loss"]["min"] == [2.0, 1.0]
    assert "max" in told["metrics"]["loss"]
    assert "settings" not in told
    assert len(told["durations"]["duration"]) == 2


def test_what_is_equal_is_left_out(ids: list[str]) -> None:
    assert set(flowprov.diff(ids[0], ids[2]).to_dict()) <= {"durations"}
    same = flowprov.diff(ids[0], ids[0])
    assert not same
    assert same.to_dict() == {}
    title = f"run train {ids[0]}"
    assert str(same) == f"A  {title}\nB  {title}\nnothing that is recorded of them differs"


def _cells(difference: Difference) -> dict[str, list[str]]:
    """Return the values of each row of a printed difference, by its label."""
    rows = (line.split("  ") for line in str(difference).splitlines()[1:])
    return {label: [cell.strip() for cell in cells if cell.strip()] for label, *cells in rows}


def _end(name: str, error: BaseException | None = None, **resume: Any) -> None:
    """Record a campaign whose workflow ends in some way."""
    with (
        contextlib.suppress(RuntimeError, SystemExit),
        flowprov.campaign(campaign_id=f"campaign-{name}"),
        flowprov.workflow(name, workflow_id=f"id-{name}"),
    ):
        if resume:
            flowprov.resume_from(**resume)
        if error is not None:
            raise error


@pytest.mark.parametrize("kind", ["id", "campaign"])
def test_how_two_ended_is_told_first(buffer: Path, kind: str) -> None:
    _end("good")
    _end("bad", RuntimeError("boom"))
    found = flowprov.diff(f"{kind}-good", f"{kind}-bad")
    assert next(iter(found.to_dict().items())) == (
        "outcome",
        {"status": ["FINISHED", "ERROR"], "error": [None, "RuntimeError: boom"]},
    )
    assert str(found).splitlines()[3].split() == ["outcome.status", "FINISHED", "ERROR"]


def test_what_ended_a_run_and_its_attempts_are_told(buffer: Path) -> None:
    _end("good")
    _end("left", SystemExit(0))
    _end("cut", RuntimeError("boom"))
    _end("resumed", step=0, workflow_id="id-cut")
    assert flowprov.diff("id-good", "id-left").to_dict()["outcome"] == {"ended_by": [None, "SystemExit"]}
    assert flowprov.diff("id-good", "id-cut").to_dict()["outcome"] == {"attempts": [1, 2]}


def test_a_task_that_failed_is_told(buffer: Path) -> None:
    @flowprov.task
    def step(*, fails: bool) -> None:
        if fails:
            raise ValueError("no")

    with flowprov.workflow("w"):
        step(fails=False)
        with contextlib.suppress(ValueError):
            step(fails=True)
    ids = flowprov.read_buffer()["task_id"].dropna()
    assert flowprov.diff(*ids).to_dict()["outcome"]["error"] == [None, "ValueError: no"]


def test_values_that_begin_alike_are_shown_where_they_differ(buffer: Path) -> None:
    long = "/data/w/somewhere/with/a/long/path/campaign_runs/01a22cf4-4911-75a1-8f"
    values: list[dict[str, Any]] = [
        {"path": f"{long}{end}/checkpoint.pt", "lr": lr, "size": size, "flag": flag}
        for end, lr, size, flag in (("aa", 0.1, "1", None), ("bb", 0.100000000001, 1, "-"))
    ]
    for number, used in enumerate(values):
        with flowprov.campaign(campaign_id=f"c{number}"), flowprov.workflow("w", used=used):
            pass
    found = flowprov.diff("c0", "c1")
    cells = _cells(found)
    first, second = cells["params.path"]
    assert first.startswith("…")
    assert first.endswith("8faa/checkpoint.pt")
    assert second.endswith("8fbb/checkpoint.pt")
    assert cells["params.lr"] == ["0.1", "0.100000000001"]
    assert cells["params.size"] == ["'1'", "1"]
    assert cells["params.flag"] == ["-", "'-'"]
    assert found.to_dict()["params"] == {name: [one[name] for one in values] for name in values[0]}


@given(st.text("ab", max_size=90), st.text("ab", max_size=90), st.text("ab", max_size=90))
def test_texts_that_differ_are_cut_so_that_it_is_seen(head: str, a: str, b: str) -> None:
    texts = cut_apart(head + a, head + b, 60)
    assert (texts[0] == texts[1]) == (a == b)
    assert all(len(text) <= 60 for text in texts)


def test_of_a_metric_the_values_that_are_equal_are_left_out_of_the_table(ids: list[str]) -> None:
    found = flowprov.diff(ids[0], ids[1])
    assert found.to_dict()["metrics"]["loss"]["max"] == [3.0, 3.0]
    assert _cells(found)["metrics.loss min"] == ["2", "1"]
    assert "metrics.loss max" not in _cells(found)


def test_data_that_both_miss_is_no_difference(
    buffer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, folder in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / folder)
        with flowprov.workflow(name):
            flowprov.use_artifact("no_such_file.csv", kind="dataset").wait()
    (tmp_path / "x" / "no_such_file.csv").write_text("1")
    monkeypatch.chdir(tmp_path / "x")
    with flowprov.workflow("d"):
        flowprov.use_artifact("no_such_file.csv", kind="dataset").wait()
    assert "data" not in flowprov.diff("a", "b").to_dict()
    (pair,) = flowprov.diff("a", "c").to_dict()["data"].values()
    assert pair == [f"missing: {tmp_path}/{folder}/no_such_file.csv" for folder in "xy"]
    (pair,) = flowprov.diff("a", "d").to_dict()["data"].values()
    assert pair == ["missing", sha256(b"1").hexdigest()[:16]]


def test_weights_of_one_place_are_told_by_their_digests(
    buffer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        torch.save({"a": torch.arange(1000.0) + number}, "model.pt")
        with flowprov.workflow(f"w{number}"):
            flowprov.log_artifact("model.pt").wait()
    first, second = flowprov.diff("w0", "w1").to_dict()["weights"]["last"]
    assert len(first) == len(second) == 16
    assert first != second


def test_it_prints_as_a_table_and_escapes_what_it_shows(buffer: Path) -> None:
    with flowprov.campaign(campaign_id="a"), flowprov.workflow("w\x1b[2J", used={"<b>": "<i>\x1b", "n": 1}):
        pass
    with flowprov.campaign(campaign_id="b"), flowprov.workflow("v", used={"n": 1.5}):
        pass
    found = flowprov.diff("a", "b")
    lines = str(found).splitlines()
    assert lines[:2] == ["A  campaign a", "B  campaign b"]
    assert lines[2].split() == ["A", "B"]
    assert any(line.split() == ["params.n", "1", "1.5"] for line in lines)
    assert "\x1b" not in str(found)
    assert "<i>" not in found._repr_html_()
    assert "&lt;i&gt;" in found._repr_html_()


def test_ids_may_be_cut_and_names_work(buffer: Path) -> None:
    for name in ("one", "two", "two"):
        with flowprov.campaign(campaign_id=f"id-{name}"), flowprov.workflow(name, used={"n": name}):
            pass
    assert flowprov.diff("one", "id-tw").to_dict()["params"] == {"n": ["one", "two"]}
    with pytest.raises(UnknownIdError, match="'two' may mean"):
        flowprov.diff("one", "two")
    with pytest.raises(UnknownIdError, match="'id-' may mean"):
        flowprov.diff("one", "id-")
    with pytest.raises(UnknownIdError, match="no run, task, workflow or campaign 'three'"):
        flowprov.diff("one", "three")


def test_ids_may_be_cut_to_an_end_of_six_characters_that_fits_only_one(ids: list[str]) -> None:
    first, second = (identifier[-6:] for identifier in ids[:2])
    assert flowprov.diff(first, second).to_dict()["params"]["lr"] == [0.1, 0.2]
    with pytest.raises(UnknownIdError, match="holds no run, task, workflow or campaign"):
        flowprov.diff(first, second[1:])
    for name in ("one", "two"):
        with flowprov.campaign(campaign_id=f"{name}-nightly"), flowprov.workflow(name):
            pass
    with pytest.raises(UnknownIdError, match="'nightly' may mean campaign one-nightly"):
        flowprov.diff(first, "nightly")


def test_a_name_is_meant_before_the_end_of_an_id(buffer: Path) -> None:
    with flowprov.campaign(campaign_id="of-evaluation"), flowprov.workflow("training"):
        pass
    with flowprov.campaign(campaign_id="other"), flowprov.workflow("evaluation", used={"n": 1}):
        pass
    assert flowprov.diff("of-evaluation", "evaluation").to_dict()["params"] == {"n": [None, 1]}


def test_settings_and_workflows_are_compared(tmp_path: Path) -> None:
    for number, depth in enumerate((1, 2)):
        flowprov.configure(
            journal={"path": str(tmp_path / "buffer")}, instrumentation={"torch": {"depth": depth}}
        )
        with flowprov.campaign(campaign_id=f"c{number}"), flowprov.workflow(workflow_id=f"w{number}"):
            flowprov.log_params(n=number)
    told = flowprov.diff("w0", "w1").to_dict()
    assert told["settings"] == {"instrumentation.torch.depth": [1, 2]}
    assert told["params"] == {"n": [0, 1]}


def _git(folder: Path, *words: str) -> str:
    name = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *name, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def commits(tmp_path: Path) -> list[dict[str, Any]]:
    """Two commits of a repository, as workflows record them."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    folder = tmp_path / "repository"
    folder.mkdir()
    _git(folder, "init", "-q")
    found = []
    for files in ({"a.py": "1", "b.py": "1", "c d.py": "1"}, {"a.py": "2", "e.py": "1"}):
        for path in folder.glob("*.py"):
            if path.name == "b.py":
                path.unlink()
        for name, text in files.items():
            (folder / name).write_text(text)
        _git(folder, "add", "-A")
        _git(folder, "commit", "-q", "-m", "m")
        found.append({"folder": str(folder), "commit": _git(folder, "rev-parse", "HEAD")})
    return found


def test_the_files_that_changed_between_two_commits_are_named(commits: list[dict[str, Any]]) -> None:
    changed = changed_files(*commits)
    assert list(changed) == ["a.py", "b.py", "e.py"]
    assert all(changed["a.py"])
    assert changed["b.py"][1] is None
    assert changed["e.py"][0] is None


def test_git_runs_nothing_that_the_repository_names(commits: list[dict[str, Any]], tmp_path: Path) -> None:
    folder, ran = Path(commits[0]["folder"]), tmp_path / "ran"
    for key in ("core.fsmonitor", "diff.external", "core.pager", "core.sshCommand", "diff.x.textconv"):
        _git(folder, "config", key, f"touch {ran}; true")
    (folder / ".gitattributes").write_text("* diff=x\n")
    _git(folder, "config", "remote.origin.promisor", "true")
    _git(folder, "config", "remote.origin.url", f"ext::sh -c 'touch {ran}'")
    assert list(changed_files(*commits)) == ["a.py", "b.py", "e.py"]
    assert changed_files(commits[0], {**commits[1], "commit": "0" * 40}) == {}
    assert not ran.exists()


@pytest.mark.parametrize("commit", [None, "HEAD", "--output=x", "a" * 40, "0" * 64, 7])
@pytest.mark.parametrize("folder", [None, "/", "\0", "nowhere", 7])
def test_what_is_no_commit_or_no_repository_changes_nothing(
    commits: list[dict[str, Any]], commit: Any, folder: Any
) -> None:
    odd = {"folder": folder, "commit": commit}
    assert changed_files({**commits[0], "folder": folder}, odd) == {}


def _train(name: str, *, given: str, loss: float, phases: tuple[str, ...], weights: Any) -> None:
    """Record a run that used a file, measured a loss twice, and logged weights."""
    with flowprov.workflow(name):
        Path("data.txt").write_text(given)
        flowprov.use_artifact("data.txt", kind="dataset").wait()
        batches = flowprov.BatchLoop(range(2))
        for batch in batches:
            for phase in phases:
                with flowprov.task_scope(phase):
                    pass
            batches.end_iter(loss=loss + batch)
        flowprov.log_artifact(weights, "weights").wait()


def test_artifacts_phases_and_weights_that_differ_are_told(
    buffer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    shared = {"a": torch.arange(1000.0)}
    phases = ("forward", "backward")
    _train("plain", given="1", loss=1.0, phases=phases, weights={**shared, "b": torch.randn(1000)})
    _train("same", given="1", loss=1.0, phases=phases, weights=shared)
    _train(
        "fused", given="2", loss=1.000001, phases=("fused_step",), weights={**shared, "b": torch.randn(999)}
    )
    found = flowprov.diff("plain", "fused").beyond(1e-5).with_phases()
    told = found.to_dict()
    (pair,) = told["data"].values()
    assert pair == [sha256(text.encode()).hexdigest()[:16] for text in "12"]
    assert {name: one["count"] for name, one in told["phases"].items()} == {
        "forward": [2, None],
        "backward": [2, None],
        "fused_step": [None, 2],
    }
    assert told["weights"]["equal tensors"] == "1 of 2"
    assert "metrics" not in told
    assert "1 of 2" in str(found)
    assert flowprov.diff("plain", "fused").to_dict()["metrics"]["loss"]["parts_at"] == 0
    assert not {"data", "phases", "metrics"} & set(flowprov.diff("plain", "same").with_phases().to_dict())


@pytest.mark.parametrize("tolerance", [-1, 1, float("nan"), "1e-5"])
def test_a_tolerance_is_a_share(ids: list[str], tolerance: Any) -> None:
    difference = flowprov.diff(*ids[:2])
    with pytest.raises(UsageError, match="tolerance"):
        difference.beyond(tolerance)
