"""Arguments of a command line, by their names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprov.values.arguments import named_arguments
from flowprov.values.redaction import Redactor, redactor, set_redactor


@pytest.fixture
def own_rules() -> Iterator[None]:
    """A redactor by which "plan" means a secret, and "token" none."""
    before = redactor()
    set_redactor(Redactor(names=["plan"], allow=["token"]))
    yield
    set_redactor(before)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("--lr 0.1 --epochs=3 model.layers=2", {"lr": 0.1, "epochs": 3, "model.layers": 2}),
        ("+a.b=1e-3 ++c=x optimizer/scheduler=cosine db@e=f=g", {
            "a.b": 1e-3, "c": "x", "optimizer/scheduler": "cosine", "db@e": "f=g",
        }),
        ("--fast --no-cuda --lr -1 --verbose", {"fast": True, "no_cuda": True, "lr": -1, "verbose": True}),
        ("--tag a --tag=b --tag 3", {"tag": ["a", "b", 3]}),
        ("--layers 64 32 data.csv --name run 5", {"layers": [64, 32], "name": "run"}),
        ("--zip 007 --big 1e999 --nan nan --version 1.2.3 --empty=", {
            "zip": "007", "big": "1e999", "nan": "nan", "version": "1.2.3", "empty": "",
        }),
        ("data.csv -v -n 5 ./a=b https://host/x?y=z - ----", {}),
        ("--a 1 -- --b 2 c=3", {"a": 1}),
        ("--multirun lr=0.1 --set a=1", {"multirun": True, "lr": 0.1, "set": True, "a": 1}),
    ],
)  # fmt: skip
def test_options_and_overrides_have_names_and_numbers_are_numbers(line: str, named: dict[str, Any]) -> None:
    found = named_arguments(line.split())
    assert found == named
    assert list(map(type, found.values())) == list(map(type, named.values()))


@pytest.mark.parametrize(
    "line",
    [
        *("--password hunter2", "--password=hunter2", "password=hunter2", "+db.password=hunter2"),
        *("--api-key x --api-key hunter2", "-token a=hunter2", "--wandb hunter2", "--set password=hunter2"),
        *("--url https://user:hunter2@host/", "--password -hunter2", "--lr 1 --pin 42 --x hf_hunter2hunter2"),
    ],
)
def test_what_is_named_like_a_secret_is_not_among_them(line: str) -> None:
    found = repr(named_arguments([*line.split(), "--epochs", "3"]))
    assert "hunter2" not in found.replace("hf_hunter2hunter2", "")
    assert "42" not in found
    assert "'epochs': 3" in found


@pytest.mark.usefixtures("own_rules")
def test_the_rules_of_the_settings_hold() -> None:
    assert named_arguments(["--plan", "hunter2", "--token", "5"]) == {"plan": "***", "token": 5}


def test_so_many_names_are_kept() -> None:
    many = named_arguments(f"--name{number}=1" for number in range(5_000))
    assert len(many) == 200
    assert len(named_arguments(["--x=1"] * 5_000)["x"]) == 1_000


@given(st.lists(st.text(max_size=20) | st.sampled_from(["--lr", "0.1", "a=1", "--", "-5", "--b=2"])))
def test_any_arguments_are_taken(arguments: list[str]) -> None:
    found = named_arguments(arguments)
    assert all(name and "=" not in name for name in found)
