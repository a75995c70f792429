"""Data preparation: the same tensors each time, and exactly as many batches as were asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from llm_config import PARAMETERS
from llm_corpora import CorpusError
from llm_dataprep import batchify, build_vocabulary, dataprep_workflow, encode, tokenize
from llm_model import cut_batches

CONFIG: dict[str, Any] = {
    name: parameter.default for name, parameter in PARAMETERS.items() if parameter.for_data
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_text_becomes_lower_case_words_and_single_marks() -> None:
    assert tokenize("The capital of France is Paris.") == [
        "the",
        "capital",
        "of",
        "france",
        "is",
        "paris",
        ".",
    ]


def test_the_vocabulary_keeps_the_most_frequent_tokens_and_numbers_the_rest_zero() -> None:
    vocabulary = build_vocabulary(["b a a c", "a b"], 3)
    assert vocabulary == {"<unk>": 0, "a": 1, "b": 2}
    assert encode(["a c B"], vocabulary).tolist() == [1, 0, 2]


def test_columns_are_read_side_by_side_and_targets_are_one_ahead() -> None:
    data = batchify(torch.arange(30), batch_size=2, bptt=3, batches=2)
    assert data.t().tolist() == [[0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12, 13]]
    (src, targets), (last, _) = cut_batches(data, 3)
    assert src.tolist() == [[0, 7], [1, 8], [2, 9]]
    assert torch.equal(targets, src + 1)
    assert last.tolist() == [[3, 10], [4, 11], [5, 12]]


def test_all_batches_are_kept_where_none_are_named() -> None:
    data = batchify(torch.arange(103), batch_size=2, bptt=10)
    assert data.shape == (51, 2)
    assert [len(src) for src, _ in cut_batches(data, 10)] == [10] * 5


def test_a_corpus_that_is_too_small_is_told_with_the_mend() -> None:
    with pytest.raises(CorpusError, match=r"has 5 tokens and needs 14; .* smaller batch_size"):
        batchify(torch.arange(5), batch_size=2, bptt=3, batches=2)


@pytest.mark.parametrize("corpus", ["wikidata", "python-docs"])
def test_the_default_gives_two_batches_of_training_and_four_of_validation(
    corpus: str, tmp_path: Path
) -> None:
    prepared = dataprep_workflow(corpus, CONFIG, tmp_path / "data")
    paths = (prepared["train_path"], prepared["valid_path"], prepared["test_path"])
    train, valid, test = (torch.load(path, weights_only=True) for path in paths)
    assert [len(cut_batches(part, CONFIG["bptt"])) for part in (train, valid, test)] == [2, 4, 4]
    assert list(train.shape) == prepared["train_shape"]
    assert int(train.max()) < prepared["ntokens"] <= CONFIG["vocabulary_size"]


def test_preparing_twice_gives_the_same_data(tmp_path: Path) -> None:
    first = dataprep_workflow("wikidata", CONFIG, tmp_path / "one")
    second = dataprep_workflow("wikidata", CONFIG, tmp_path / "two")
    assert first["dataset_ref"] == second["dataset_ref"]
    assert torch.equal(
        torch.load(first["train_path"], weights_only=True),
        torch.load(second["train_path"], weights_only=True),
    )
