"""``flowprov export croissant``: the data of a campaign. ``test_validators`` has mlcroissant read some."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.cli.support import flowprov
from tests.contents.files import random_tensors, sha256, write_torch_zip
from tests.support import run


def _dataset(folder: Path, campaign: str, output: Path) -> dict[str, Any]:
    exported = flowprov("export", "croissant", campaign, "-o", output, cwd=folder)
    assert (exported.status, exported.err) == (0, "")
    dataset: dict[str, Any] = json.loads(output.read_text())
    assert exported.out == f"{output}: {len(dataset['distribution'])} files\n".replace(
        ": 1 files", ": 1 file"
    )
    return dataset


def test_the_data_that_a_campaign_used_are_files_with_their_digests(trained: Path, tmp_path: Path) -> None:
    dataset = _dataset(trained, "m1", tmp_path / "data.json")
    again = _dataset(trained, "models", tmp_path / "again.json")
    assert (dataset, dataset["name"]) == (again, "models")
    files = {one["name"]: one for one in dataset["distribution"]}
    # Models are no data, and of a folder each file is there.
    assert set(files) == {"raw.csv", "tuning.csv", "images/2.png", "images/a b/1.png"}
    for one in files.values():
        content = Path(unquote(urlsplit(one["contentUrl"]).path)).read_bytes()
        assert (one["sha256"], one["contentSize"]) == (sha256(content), f"{len(content)} B")
    assert files["raw.csv"]["encodingFormat"] == "text/csv"
    assert files["images/a b/1.png"]["encodingFormat"] == "image/png"


def test_tensors_that_a_program_calls_a_data_set_are_data(tmp_path: Path) -> None:
    write_torch_zip(tmp_path / "data.pt", random_tensors(2))
    code = """
        import flowprov
        with flowprov.campaign("c", campaign_id="c"), flowprov.workflow("w"):
            flowprov.use_artifact("data.pt", kind="dataset").wait()
    """
    run(code, tmp_path)
    assert [one["name"] for one in _dataset(tmp_path, "c", tmp_path / "data.json")["distribution"]] == [
        "data.pt"
    ]


def test_a_campaign_without_data_is_told_how_to_have_some(recorded: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import flowprov\nwith flowprov.campaign('bare'), flowprov.workflow('w'):\n    pass\n"
    )
    flowprov("run", "program.py", cwd=tmp_path)
    exported = flowprov("export", "croissant", "-o", "data.json", cwd=tmp_path)
    assert (exported.status, "flowprov.use_artifact(path" in exported.err) == (2, True)
    several = flowprov("export", "croissant", "c1", "k1", "-o", tmp_path / "data.json", cwd=recorded)
    assert (several.status, "A data set is of one campaign, not of 2" in several.err) == (2, True)
    assert not (tmp_path / "data.json").exists()
