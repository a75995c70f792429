"""The command line of the campaign: the default run, a failing configuration, and bad flags."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("torch")  # each configuration trains a model

from tests.examples.support import RunScript

EXAMPLE = Path(__file__).parents[2] / "examples" / "llm_campaign"


@pytest.fixture
def run(run_script: RunScript) -> RunScript:
    """Run the campaign with some words on its command line."""
    return partial(run_script, str(EXAMPLE / "llm_train_campaign.py"))


def test_without_arguments_it_trains_four_epochs_and_says_what_was_recorded(
    run: RunScript, tmp_path: Path
) -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("train_loss") == 4
    assert "best of 1: the default configuration" in done.stdout
    assert "SearchWorkflow" in done.stdout
    assert f"flowprov.read_buffer('{tmp_path.resolve() / 'flowprov_buffer'}')" in done.stdout
    checkpoints = list(tmp_path.glob("campaign_runs/*/checkpoints/run_0.pt"))
    assert [str(path) in done.stdout for path in checkpoints] == [True]


def test_a_configuration_that_fails_does_not_cost_the_others(run: RunScript) -> None:
    done = run("nhead=5,2", "--epochs", "1")
    assert done.returncode == 0, done.stderr
    assert "failed: nhead=5" in done.stderr
    assert "best of 1: nhead=2" in done.stdout


def test_a_search_in_which_all_fail_ends_with_an_error(run: RunScript) -> None:
    done = run("nhead=5", "--epochs", "1")
    assert done.returncode == 1
    assert "no configuration finished" in done.stderr


BAD_FLAGS = [
    (["lr=fast"], "lr must be a number, not 'fast'"),
    (["--corpus", "wikipedia"], "unknown corpus"),
    (["--corpus", "text:nowhere"], "nowhere does not exist"),
    (["--epochs", "0"], "Invalid value for '--epochs'"),
    (["--settings", "nowhere.yaml"], "Invalid value for '--settings'"),
]


def test_a_bad_flag_is_told_without_a_traceback_and_leaves_nothing(run: RunScript, tmp_path: Path) -> None:
    done = run("emsiz=64")
    assert done.returncode == 2
    assert "did you mean emsize?" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_every_bad_flag_is_told_in_words(run_script: RunScript, tmp_path: Path) -> None:
    program = """
import json, sys
from click.testing import CliRunner
sys.path.insert(0, sys.argv[1])
from llm_train_campaign import main
for words in json.loads(sys.argv[2]):
    done = CliRunner().invoke(main, words)
    print(json.dumps([done.exit_code, done.output]))
"""
    done = run_script("-c", program, str(EXAMPLE), json.dumps([words for words, _ in BAD_FLAGS]))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(BAD_FLAGS), done.stderr
    for (words, said), (status, output) in zip(BAD_FLAGS, answers, strict=True):
        assert (status, said in output) == (2, True), (words, output)
    assert list(tmp_path.iterdir()) == []


def test_a_corpus_that_is_too_small_is_told_without_a_traceback(run: RunScript, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("too short\n")
    done = run("--corpus", "text:short.txt")
    assert done.returncode == 2
    assert "the corpus is too small" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_settings_file_is_used_by_the_workers_too(run: RunScript) -> None:
    done = run("--settings", str(EXAMPLE / "settings" / "step_3.yaml"))
    assert done.returncode == 0, done.stderr
    assert "recorded: 8 rows" in done.stdout


def test_the_test_of_the_best_checkpoint_is_recorded_where_asked_for(
    run: RunScript, run_script: RunScript
) -> None:
    done = run("--capture-test")
    assert done.returncode == 0, done.stderr
    script = (
        "import flowprov; rows = flowprov.read_buffer(return_df=False);"
        "print(sum(r['name'] == 'TransformerModel' for r in rows if r['type'] == 'workflow'));"
        "task, = {r['task_id'] for r in rows if r['type'] == 'task' and r['subtype'] == 'dask_task'};"
        "print(sum(r['subtype'] == 'parent_forward' and r['parent_task_id'] == task for r in rows"
        " if r['type'] == 'task'))"
    )
    read = run_script("-c", script)
    assert read.stdout.split() == ["2", "4"]
