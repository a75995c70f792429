"""The command line of the campaign: the default run, a failing configuration, and bad flags."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("torch")  # each configuration trains a model

from tests.examples.conftest import script_runner
from tests.examples.support import RunScript

EXAMPLE = Path(__file__).parents[2] / "examples" / "llm_campaign"


class Answer(NamedTuple):
    """How the command ended, what it printed, whether it ended by itself, and what was in its folder then."""

    status: int
    output: str
    exits: bool
    left: list[str]


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


def test_a_failing_configuration_costs_the_others_nothing_and_workers_use_the_settings_file(
    run: RunScript,
) -> None:
    done = run("nhead=5,2", "--epochs", "1", "--settings", str(EXAMPLE / "settings" / "step_3.yaml"))
    assert done.returncode == 0, done.stderr
    assert "failed: nhead=5" in done.stderr
    assert "best of 1: nhead=2" in done.stdout
    assert re.search(r"^ +1  task +model_train +ERROR$", done.stdout, re.MULTILINE)
    assert re.search(r"^ +1  task +epoch_iteration +FINISHED$", done.stdout, re.MULTILINE)
    assert "parent_forward" not in done.stdout  # of which the settings want none


BAD_FLAGS = [
    (["lr=fast"], "lr must be a number, not 'fast'"),
    (["--corpus", "wikipedia"], "unknown corpus"),
    (["--corpus", "text:nowhere"], "nowhere does not exist"),
    (["--epochs", "0"], "Invalid value for '--epochs'"),
    (["--settings", "nowhere.yaml"], "Invalid value for '--settings'"),
]
TOO_SMALL = ["--corpus", "text:short.txt"]
ALL_FAIL = ["nhead=5", "--epochs", "1"]
# Each in turn, in one process: what is imported costs more than the answers.
PLAYED = """
import json, sys
from pathlib import Path
from click.testing import CliRunner
sys.path.insert(0, sys.argv[1])
from llm_train_campaign import main
if __name__ == "__main__":
    for words in json.loads(sys.argv[2]):
        done = CliRunner().invoke(main, words)
        left = sorted(path.name for path in Path().iterdir())
        print(json.dumps([words, done.exit_code, done.output, isinstance(done.exception, SystemExit), left]))
"""


def test_a_bad_flag_is_told_without_a_traceback_and_leaves_nothing(run: RunScript, tmp_path: Path) -> None:
    done = run("emsiz=64")
    assert done.returncode == 2
    assert "did you mean emsize?" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """What the command answers to each of many command lines."""
    folder = tmp_path_factory.mktemp("answers")
    (folder / "played.py").write_text(PLAYED)
    (folder / "short.txt").write_text("too short\n")
    lines = [*(words for words, _ in BAD_FLAGS), TOO_SMALL, ALL_FAIL]
    done = script_runner(folder)(str(folder / "played.py"), str(EXAMPLE), json.dumps(lines))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(lines), done.stderr
    return {" ".join(words): Answer(*answer) for words, *answer in found}


@pytest.mark.parametrize(("words", "said"), BAD_FLAGS)
def test_every_bad_flag_is_told_in_words(answers: dict[str, Answer], words: list[str], said: str) -> None:
    answer = answers[" ".join(words)]
    assert (answer.status, said in answer.output) == (2, True), answer
    assert answer.left == ["played.py", "short.txt"]


def test_a_corpus_that_is_too_small_is_told_without_a_traceback(answers: dict[str, Answer]) -> None:
    answer = answers[" ".join(TOO_SMALL)]
    assert (answer.status, answer.exits) == (2, True)
    assert "the corpus is too small" in answer.output


def test_a_search_in_which_all_fail_ends_with_an_error(answers: dict[str, Answer]) -> None:
    answer = answers[" ".join(ALL_FAIL)]
    assert (answer.status, answer.exits) == (1, True)
    assert "no configuration finished" in answer.output


def test_the_test_of_the_best_checkpoint_is_recorded_where_asked_for(
    run: RunScript, run_script: RunScript
) -> None:
    done = run("--capture-test", "--epochs", "1")
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
