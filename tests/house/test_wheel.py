"""A built wheel works without extras, in an environment of its own and outside the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import pytest

from tests.extras import FOR_DEVELOPMENT
from tests.support import REPOSITORY, clean_environment

_PROGRAM = """
    import flowprov
    assert "site-packages" in flowprov.__file__

    @flowprov.task
    def double(x):
        return 2 * x

    with flowprov.campaign("bare"), flowprov.workflow("W"):
        loop = flowprov.Loop(3)
        for i in loop:
            loop.end_iter({"doubled": double(i)})

    rows = flowprov.read_buffer(return_df=False)
    assert len(rows) == 7, rows
    for call, extra in (
        (flowprov.read_buffer, "pandas"),
        (lambda: flowprov.torch_capture, "torch"),
        (lambda: flowprov.DaskWorkerPlugin, "dask"),
        (lambda: __import__("flowprov.integrations.transformers"), "transformers"),
    ):
        try:
            call()
        except flowprov.MissingExtraError as error:
            assert f'pip install "flowprov[{extra}]"' in str(error), error
        else:
            raise AssertionError(extra)
    print("all well")
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the sources and install it; return the interpreter."""
    folder = tmp_path_factory.mktemp("wheel")
    sources, wheels = folder / "sources", folder / "wheels"
    shutil.copytree(
        REPOSITORY / "flowprov", sources / "flowprov", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, sources)
    environment = _environment()
    pip = ["-m", "pip", "-q", "--disable-pip-version-check"]
    build = [sys.executable, *pip, "wheel", "--no-deps", "-w", str(wheels), str(sources)]
    subprocess.run(build, check=True, env=environment)
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    (wheel,) = wheels.glob("*.whl")
    constraints = REPOSITORY / "constraints.txt"
    install = [str(python), *pip, "install", "-c", str(constraints), str(wheel)]
    subprocess.run(install, check=True, env=environment)
    return python


def _environment() -> dict[str, str]:
    """Return an environment in which only installed packages can be imported."""
    environment = clean_environment()
    environment.pop("PYTHONPATH")
    return environment


def test_the_wheel_records_and_reads_without_extras_and_names_those_it_lacks(
    bare: Path, tmp_path: Path
) -> None:
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(_PROGRAM))
    done = subprocess.run(
        [str(bare), str(script)],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "all well"), done.stderr


def test_each_extra_has_a_program_by_which_make_extras_uses_it() -> None:
    _, _, section = (REPOSITORY / "pyproject.toml").read_text().partition("[project.optional-dependencies]\n")
    extras = set(re.findall(r"^(\w+) = \[", section.partition("\n[")[0], re.MULTILINE))
    programs = {path.stem for path in (REPOSITORY / "tests" / "extras" / "programs").glob("*.py")}
    assert extras - set(FOR_DEVELOPMENT) == programs - {"__init__", "bare"}


def test_the_wheel_holds_the_package_and_its_type_marker_only(bare: Path) -> None:
    site = next((bare.parent.parent / "lib").glob("python*/site-packages"))
    assert (site / "flowprov" / "py.typed").exists()
    assert (site / "flowprov" / "settings" / "profiles" / "full.yaml").exists()
    assert not {"tests", "examples", "benchmarks"} & {path.name for path in site.iterdir()}
