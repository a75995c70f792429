"""What the documentation says is so: its Python runs, its links lead somewhere, its commands exist."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import REPOSITORY, run


class Block(NamedTuple):
    """A piece of code in a document."""

    where: str
    code: str
    not_run: str | None


PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "examples").rglob("*.md")]
)
_FENCE = re.compile(r"(?:<!-- not run: (?P<reason>.*?) -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)

# Every block that is not run, with its reason: a new one has to be added here on purpose.
NOT_RUN = {
    "docs/how-to/deliver-to-servers.md": [
        "it needs a server; tests/sinks/test_shipping.py does the same",
        "it needs a server; tests/read/test_following_servers.py does the same",
    ],
    "docs/how-to/record-dask-cluster.md": [
        "it needs a cluster; tests/dask/test_fetch.py does the same with workers that share no folder",
        "it needs a cluster; tests/dask/test_fetch.py does the same with workers that share no folder",
    ],
    "docs/how-to/record-dask-tasks.md": [
        "it starts a cluster; examples/llm_campaign runs the same in a test",
    ],
    "docs/how-to/know-code-and-data.md": [
        "it needs DVC; tests/capture/test_data_commit.py does the same",
    ],
    "docs/how-to/use-ignite.md": [
        "it needs Ignite; tests/pipelines/test_more_adapters.py does the same",
    ],
    "docs/how-to/use-skorch.md": [
        "it needs skorch; tests/pipelines/test_more_adapters.py does the same",
    ],
    "docs/how-to/record-a-pipeline.md": [
        "it needs Dagster; tests/pipelines/test_dagster.py does the same",
    ],
    "docs/tutorial/README.md": [
        "it reads what the commands before it recorded; tests/house/test_tutorial.py runs it after them",
    ],
    "examples/recipe/README.md": [
        "it reads what the commands before it recorded; tests/examples/test_recipe.py does the same",
    ],
    "docs/how-to/use-lightning.md": [
        "Lightning warns of itself; tests/integrations/test_lightning.py does the same",
        "Lightning warns of itself; tests/torch/test_lightning.py does the same",
    ],
}


def _blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in _FENCE.finditer(text):
            line = text[: match.start("code")].count("\n") + 1
            found.append(Block(f"{page.relative_to(REPOSITORY)}:{line}", match["code"], match["reason"]))
    return found


@pytest.mark.parametrize(
    "block", [block for block in _blocks() if block.not_run is None], ids=lambda block: block.where
)
def test_a_python_block_runs(block: Block, tmp_path: Path) -> None:
    for library in ("torch", "transformers", "accelerate", "optuna"):
        imports_it = re.search(rf"^(import|from) {library}\b", block.code, re.MULTILINE)
        if imports_it and find_spec(library) is None:
            pytest.skip(f'NO {library.upper()}: install it (pip install -e ".[dev]")')
    _, stderr = run(block.code, tmp_path, env={"HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "error"})
    assert "flowprov met a fault" not in stderr


def test_blocks_that_are_not_run_are_these() -> None:
    found: dict[str, list[str]] = {}
    for block in _blocks():
        if block.not_run is not None:
            found.setdefault(block.where.partition(":")[0], []).append(block.not_run)
    assert found == NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_index_of_the_how_to_guides_lists_each_page_once() -> None:
    folder = REPOSITORY / "docs" / "how-to"
    listed = re.findall(r"^- \[.*?\]\((.*?)\)", (folder / "README.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(page.name for page in folder.glob("*.md") if page.name != "README.md")


def test_the_commands_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = re.findall(r"\bmake ([a-z]+)", (REPOSITORY / "README.md").read_text())
    assert {"campaign", "test"} <= set(named) <= targets


def test_ci_runs_the_test_command_of_the_readme() -> None:
    assert re.search(r"^make test\b(?! *s)", (REPOSITORY / ".ci" / "run").read_text(), re.MULTILINE)
