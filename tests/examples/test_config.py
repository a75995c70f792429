"""Hyperparameters on the command line: what they become, and what is said about a wrong one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_config import PARAMETERS, SMALL_GRID, ConfigError, expand, full_grid, parse_overrides


def test_without_overrides_there_is_one_configuration_of_four_epochs() -> None:
    (config,) = expand(full_grid({}))
    assert config == {name: parameter.default for name, parameter in PARAMETERS.items()}
    assert (config["epochs"], config["train_batches"], config["eval_batches"]) == (4, 2, 4)


def test_values_have_the_type_of_the_default() -> None:
    grid = parse_overrides(["emsize=64", "lr=1", "optimizer=sgd"])
    assert grid == {"emsize": [64], "lr": [1.0], "optimizer": ["sgd"]}
    assert isinstance(grid["lr"][0], float)


def test_commas_make_a_grid_of_every_combination_once() -> None:
    configurations = expand(full_grid(parse_overrides(["lr=0.1,0.01,0.1", "emsize=8,16"])))
    pairs = [(config["lr"], config["emsize"]) for config in configurations]
    assert sorted(pairs) == [(0.01, 8), (0.01, 16), (0.1, 8), (0.1, 16)]


def test_the_small_grid_is_a_search_over_known_parameters() -> None:
    assert len(expand(full_grid(SMALL_GRID))) == 4


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("emsiz=3", "unknown key 'emsiz'; did you mean emsize"),
        ("zzz=3", "the keys are emsize"),
        ("emsize", "expected key=value"),
        ("emsize=big", "emsize must be a whole number, not 'big'"),
        ("emsize=1.5", "emsize must be a whole number"),
        ("emsize=", "emsize must be a whole number"),
        ("emsize=0", "emsize must be at least 1"),
        ("lr=fast", "lr must be a number"),
        ("lr=nan", "lr must be at least 0"),
        ("lr=inf", "lr must be at least 0"),
        ("lr=0.1,fast", "lr must be a number, not 'fast'"),
        ("dropout=1", "at least 0 and below 1"),
        ("optimizer=adagrad", "optimizer must be one of adam, sgd"),
        ("batch_size=4,8", "batch_size takes one value"),
    ],
)
def test_a_wrong_word_is_told_with_what_was_expected(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_overrides([word])


@given(st.lists(st.text(max_size=20) | st.sampled_from([f"{name}=1" for name in PARAMETERS])))
def test_any_words_give_a_grid_or_the_one_error(words: list[str]) -> None:
    try:
        grid = parse_overrides(words)
    except ConfigError:
        return
    assert set(grid) <= set(PARAMETERS)
