"""A configuration is recorded with the origin of each leaf."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import flowprov
from flowprov.capture.config_origins import Origins, leaves_of
from tests.support import run


@dataclass
class Optimizer:
    """Part of the parameters."""

    lr: float = 0.1
    kind: str = "sgd"


@dataclass
class Params:
    """The parameters of a training."""

    optimizer: Optimizer = field(default_factory=Optimizer)
    batch_size: int = 8
    seed: int = 1


def recorded() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the only workflow used, and its configuration."""
    (workflow,) = flowprov.read_buffer(return_df=False)
    return workflow["used"], workflow["custom_metadata"]["config"]


def test_each_leaf_has_the_origin_of_its_value(buffer: Path, tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text("batch_size: 2\noptimizer: {lr: 0.5}\n")
    params = Params(Optimizer(0.02, "adam"), 2)
    with flowprov.workflow("w"):
        assert flowprov.log_config(params, file=file, overrides=["optimizer.lr=0.02"]) is params
    used, config = recorded()
    assert used["config"]["optimizer"] == {"lr": 0.02, "kind": "adam"}
    assert used["overrides"] == ["optimizer.lr=0.02"]
    assert config == {
        "optimizer.lr": {"value": 0.02, "origin": "override optimizer.lr=0.02"},
        "optimizer.kind": {"value": "adam", "origin": "default Params"},
        "batch_size": {"value": 2, "origin": str(file)},
        "seed": {"value": 1, "origin": "default Params"},
    }


def test_options_of_a_command_line_are_overrides_and_the_later_file_counts(
    buffer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text("lr: 1\nseed: 2\n")
    Path("more.yaml").write_text("seed: 3\n")
    values = argparse.Namespace(lr=0.1, seed=3, batch_size=4, other=[1, 2])
    with flowprov.workflow("w"):
        flowprov.log_config(
            values, file=["base.yaml", "more.yaml"], overrides=["--lr", "0.1", "--batch-size=4"]
        )
    _, config = recorded()
    assert {leaf: entry["origin"] for leaf, entry in config.items()} == {
        "lr": "override --lr=0.1",
        "seed": "more.yaml",
        "batch_size": "override --batch-size=4",
        "other": "code",
    }


def test_secrets_in_values_and_overrides_are_redacted(buffer: Path) -> None:
    secret = "qq-" + "17" * 6
    with flowprov.workflow("w"):
        flowprov.log_config(
            {"x": {"password": secret}}, overrides=[f"+x.password={secret}", "--token", secret]
        )
    for path in buffer.rglob("*.jsonl"):
        assert secret.encode() not in path.read_bytes()
    _, config = recorded()
    assert config["x.password"]["origin"].startswith("override +x.password=")


def test_a_configuration_of_a_thousand_leaves_is_kept_and_a_larger_one_says_where_it_was_cut(
    buffer: Path,
) -> None:
    with flowprov.workflow("w"):
        flowprov.log_config({f"group{n}": {f"key{m}": m for m in range(20)} for n in range(40)})
    _, config = recorded()
    assert len(config) == 800
    with flowprov.workflow("v", campaign_id="other"):
        flowprov.log_config({f"key{n}": "x" * 200 for n in range(1_000)})
    row = flowprov.read_buffer(campaign_id="other", return_df=False)[0]
    assert row["custom_metadata"]["config"]["$cut"] is True


HYDRA = """
    import hydra, flowprov

    @hydra.main(version_base=None, config_path="conf", config_name="config")
    def main(cfg):
        with flowprov.workflow("app"):
            flowprov.log_config(cfg)

    main()
"""


def test_hydra_tells_overrides_and_the_files_of_its_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hydra")
    (tmp_path / "conf/training").mkdir(parents=True)
    (tmp_path / "conf/config.yaml").write_text(
        "defaults: [{training: small}, _self_]\ncommand: run\nhome: ${oc.env:HOME}\n"
    )
    (tmp_path / "conf/training/small.yaml").write_text("lr: 1\n")
    (tmp_path / "conf/training/big.yaml").write_text("lr: 0.5\nmissing: ???\n")
    run(HYDRA, tmp_path, "command=compile", "training=big", "+x.y=1.2")
    (workflow,) = flowprov.read_buffer(tmp_path / "flowprov_buffer", return_df=False)
    assert workflow["used"]["overrides"] == ["command=compile", "training=big", "+x.y=1.2"]
    assert workflow["used"]["config"]["training"]["lr"] == 0.5
    assert workflow["used"]["config"]["home"] == "${oc.env:HOME}"
    origins = {leaf: entry["origin"] for leaf, entry in workflow["custom_metadata"]["config"].items()}
    assert origins["training.lr"] == "conf/training/big.yaml (training=big)"
    assert origins["x.y"] == "override +x.y=1.2"
    assert origins["command"] == "override command=compile"
    assert origins["home"] == "conf/config.yaml"


@pytest.mark.parametrize("content", [b"[" * 10_000, b"\xff\xfe", b"a: &a [*a]\n", b"- 1\n", b"", None])
def test_a_file_that_cannot_be_used_costs_nothing_but_its_origins(
    buffer: Path, tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "c.yaml"
    if content is not None:
        file.write_bytes(content)
    with caplog.at_level(logging.ERROR), flowprov.workflow("w"):
        flowprov.log_config({"lr": 1}, file=file, defaults=int)
    assert recorded()[1] == {"lr": {"value": 1, "origin": "code"}}
    assert caplog.messages == []


@given(st.lists(st.text()) | st.text() | st.dictionaries(st.text(), st.integers()), st.text())
def test_any_overrides_are_borne(overrides: Any, leaf: str) -> None:
    assert Origins(None, overrides, None).of(leaf)


def test_lists_and_markers_are_leaves() -> None:
    values = {"a": {"b": [1, {"c": 2}]}, "d": {"$type": "T"}, "e": {}, "f": {"$$x": 1}}
    assert dict(leaves_of(values)) == {
        "a.b": [1, {"c": 2}],
        "d": {"$type": "T"},
        "e": {},
        "f.$$x": 1,
    }
