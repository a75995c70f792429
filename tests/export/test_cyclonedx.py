"""``flowprov export cyclonedx``: the bill of a model. ``test_validators`` has a validator look at some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.support import flowprov
from tests.contents.files import sha256
from tests.export.conftest import HOSTILE
from tests.support import run


def _bill(folder: Path, file: str | Path) -> dict[str, Any]:
    """Return the bill of a file; a second one is the same bytes."""
    outputs = [folder / "bill.json", folder / "again.json"]
    for output in outputs:
        exported = flowprov("export", "cyclonedx", file, "-o", output, cwd=folder)
        assert (exported.status, exported.err) == (0, "")
    texts = [output.read_bytes() for output in outputs]
    assert texts[0] == texts[1]
    bill: dict[str, Any] = json.loads(texts[0])
    return bill


def _properties(component: dict[str, Any]) -> dict[str, str]:
    return {one["name"].removeprefix("flowprov:"): one["value"] for one in component["properties"]}


@pytest.fixture(scope="module")
def bill(trained: Path) -> dict[str, Any]:
    """Return the bill of the model that was trained in two steps."""
    return _bill(trained, "model.safetensors")


def test_a_model_has_its_digest_its_data_its_parameters_and_its_metrics(
    trained: Path, bill: dict[str, Any]
) -> None:
    model = bill["metadata"]["component"]
    assert (bill["specVersion"], model["type"], model["name"]) == ("1.6", "machine-learning-model", "final")
    digest = sha256((trained / "model.safetensors").read_bytes())
    assert model["hashes"] == [{"alg": "SHA-256", "content": digest}]
    card = model["modelCard"]
    data = f"artifact/{sha256((trained / 'tuning.csv').read_bytes())}"
    assert card["modelParameters"]["datasets"] == [{"ref": data}]
    metrics = {one["type"]: one["value"] for one in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert metrics == {"loss": "0.25", "gap": "nan"}
    assert _properties(card) == {"parameter:lr": "0.5", "parameter:optimizer.name": "sgd"}


def test_an_early_checkpoint_has_the_metrics_of_its_epoch_and_what_the_run_came_to(tmp_path: Path) -> None:
    code = """
        from pathlib import Path
        import flowprov
        with flowprov.workflow("w"):
            loop = flowprov.EpochLoop(2)
            for epoch in loop:
                Path(f"{epoch}.bin").write_bytes(b"weights of epoch %d" % epoch)
                flowprov.log_artifact(f"{epoch}.bin", kind="checkpoint").wait()
                loop.end_iter(loss=1 / (epoch + 1), bias=0.5)
    """
    run(code, tmp_path)
    card = _bill(tmp_path, "0.bin")["metadata"]["component"]["modelCard"]
    metrics = {one["type"]: one["value"] for one in card["quantitativeAnalysis"]["performanceMetrics"]}
    assert metrics == {"bias": "0.5", "loss": "1.0"}
    assert _properties(card)["metric_at_end:loss"] == "0.5"
    assert "metric_at_end:bias" not in _properties(card)


def test_what_a_model_was_made_of_is_there_down_to_the_first_data(
    trained: Path, bill: dict[str, Any]
) -> None:
    refs = {
        name: f"artifact/{sha256((trained / name).read_bytes())}"
        for name in ("raw.csv", "base.safetensors", "tuning.csv")
    }
    components = {one["bom-ref"]: one for one in bill["components"] if one["type"] != "library"}
    assert {components[refs[name]]["type"]: name for name in refs} == {
        "data": "tuning.csv",
        "machine-learning-model": "base.safetensors",
    }
    assert set(components) == set(refs.values())
    depends = {one["ref"]: set(one["dependsOn"]) for one in bill["dependencies"]}
    assert depends == {
        "model": {refs["tuning.csv"], refs["base.safetensors"]},
        refs["base.safetensors"]: {refs["raw.csv"]},
    }
    (formula,) = bill["formulation"]
    made = {one["name"]: [out["resource"]["ref"] for out in one["outputs"]] for one in formula["workflows"]}
    assert made == {"tuning": ["model"], "pretraining": [refs["base.safetensors"]]}
    assert _properties(formula["workflows"][0])["status"] == "FINISHED"


def test_code_and_packages_are_those_of_the_run(trained: Path, bill: dict[str, Any]) -> None:
    commit = (trained / ".git" / "refs" / "heads" / "main").read_text().strip()
    (reference,) = bill["metadata"]["component"]["externalReferences"]
    assert (reference["type"], reference["url"]) == ("vcs", "ssh://git@example.com/me/my%20model.git")
    assert reference["comment"].startswith(f"commit {commit}, branch main")
    packages = {one["name"]: one for one in bill["components"] if one["type"] == "library"}
    click = packages["click"]
    assert click["purl"] == f"pkg:pypi/click@{click['version']}"


def test_a_converted_model_is_a_variant_of_the_one_that_was_recorded(trained: Path) -> None:
    bill = _bill(trained, "converted.zip")
    model = bill["metadata"]["component"]
    assert model["hashes"][0]["content"] == sha256((trained / "converted.zip").read_bytes())
    (variant,) = model["pedigree"]["variants"]
    assert variant["hashes"][0]["content"] == sha256((trained / "model.safetensors").read_bytes())
    assert model["modelCard"]["modelParameters"]["datasets"]
    (depends,) = [one for one in bill["dependencies"] if one["ref"] == variant["bom-ref"]]
    assert len(depends["dependsOn"]) == 2


def test_a_model_that_shares_tensors_has_no_parameters_and_metrics_of_the_other_one(trained: Path) -> None:
    bill = _bill(trained, "tuned.safetensors")
    model = bill["metadata"]["component"]
    assert "modelCard" not in model
    (ancestor,) = model["pedigree"]["ancestors"]
    assert _properties(ancestor["modelCard"])["parameter:lr"] == "0.5"
    assert bill["dependencies"][0] == {"ref": "model", "dependsOn": [ancestor["bom-ref"]]}


def test_names_that_hold_anything_are_texts(recorded: Path) -> None:
    bill = _bill(recorded, "odd\n<i>.bin")
    assert bill["metadata"]["component"]["name"] == "odd\n<i>.bin"
    assert (
        bill["formulation"][0]["workflows"][0]["tasks"][0]["name"]
        == HOSTILE.encode("utf-8", "backslashreplace").decode()
    )


def test_of_a_file_that_nobody_recorded_one_sentence_says_so(recorded: Path) -> None:
    (recorded / "bill.json").unlink(missing_ok=True)
    (recorded / "stranger.bin").write_bytes(b"never seen")
    exported = flowprov("export", "cyclonedx", "stranger.bin", "-o", "bill.json", cwd=recorded)
    whence = flowprov("whence", "stranger.bin", cwd=recorded)
    assert (exported.status, exported.out, exported.err) == (whence.status, "", whence.err)
    assert exported.err.count("nothing that is recorded knows") == 1
    assert not (recorded / "bill.json").exists()
    missing = flowprov("export", "cyclonedx", "nothing.bin", "-o", "bill.json", cwd=recorded)
    assert (missing.status, "nothing.bin" in missing.err) == (2, True)
