"""The description of a machine is right, limited in size, and holds nothing private."""

from __future__ import annotations

import getpass
import os
import platform
import re
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowprov import guard, records
from flowprov.environment import host
from flowprov.telemetry import cgroups, machine
from tests.support import run

MARKER = "zq7marker"
X86 = (
    "processor\t: {0}\nmodel name\t: Some CPU @ 2 GHz\nphysical id\t: {1}\ncore id\t\t: {2}\nflags\t: fpu\n\n"
)
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd4f\n\n"


def cpuinfo(root: Path, text: str) -> Path:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc/cpuinfo").write_text(text)
    return root


def test_the_description_agrees_with_the_system() -> None:
    description = machine.describe_machine()
    assert description["system"] == platform.system()
    assert description["release"] == platform.release()
    assert description["machine"] == platform.machine()
    assert description["cpu_count"] == os.cpu_count()
    assert description["cpus_usable"] == len(os.sched_getaffinity(0))
    assert description["python"] == platform.python_version()
    assert description["python_implementation"] == platform.python_implementation()


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="there is no procfs here")
def test_the_description_agrees_with_procfs() -> None:
    description = machine.describe_machine()
    total = next(
        line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")
    )
    assert description["memory_bytes"] == int(total.split()[1]) * 1024
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    if models:
        assert description["cpu_model"] == models[0]
    assert 1 <= description.get("cpu_count_physical", 1) <= (os.cpu_count() or 1)


def test_the_affinity_is_followed() -> None:
    usable = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(usable)})
        assert machine.describe_machine()["cpus_usable"] == 1
    finally:
        os.sched_setaffinity(0, usable)


def test_the_description_includes_the_facts_that_a_workflow_records() -> None:
    description = machine.describe_machine()
    assert {name: description[name] for name in host.FACTS} == host.machine_info()


def test_cores_that_hyper_threads_share_are_counted_once(tmp_path: Path) -> None:
    blocks = [(cpu, cpu % 4 // 2, cpu % 2) for cpu in range(8)]  # two sockets, two cores each, twice
    root = cpuinfo(tmp_path, "".join(X86.format(*block) for block in blocks))
    assert machine.cpu_count_physical(root) == 4
    assert machine.cpu_model(root) == "Some CPU @ 2 GHz"


def test_a_processor_without_a_name_is_described_by_its_numbers(tmp_path: Path) -> None:
    root = cpuinfo(tmp_path, ARM)
    assert machine.cpu_model(root) == "implementer 0x41 part 0xd4f"


def test_cores_that_cpuinfo_does_not_list_are_counted_by_their_siblings(tmp_path: Path) -> None:
    root = cpuinfo(tmp_path, ARM)
    for cpu, siblings in enumerate(("0-1", "0-1", "2-3", "2-3")):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(siblings)
    assert machine.cpu_count_physical(root) == 2


@given(content=st.binary() | st.from_regex(rb"\A((physical id|core id|model name|MemTotal)[:\t ]*\w*\n)*\Z"))
@settings(max_examples=100)
def test_no_content_of_procfs_makes_reading_raise(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "proc").mkdir()
        for name in ("cpuinfo", "meminfo"):
            (root / "proc" / name).write_bytes(content)
        machine.cpu_model(root)
        machine.cpu_count_physical(root)
        machine.memory_bytes(root)


def test_the_description_holds_the_gpus_and_drivers_that_the_caller_names() -> None:
    description = machine.describe_machine([{"model": "H100", "memory_bytes": 80 << 30}], {"nvidia": "570.1"})
    assert description["gpus"] == [{"model": "H100", "memory_bytes": 80 << 30}]
    assert description["drivers"] == {"nvidia": "570.1"}
    assert not {"gpus", "drivers"} & set(machine.describe_machine())


def test_a_batch_job_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURMD_NODENAME", "node017")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[017-018]")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_PROCID", "3")
    monkeypatch.setenv("SLURM_JOB_PARTITION", "gpu")
    assert machine.describe_machine()["slurm"] == {
        "job_id": "4711",
        "step_id": "0",
        "node_name": "node017",
        "node_list": "node[017-018]",
        "tasks": 8,
        "procid": 3,
        "partition": "gpu",
    }


def test_outside_of_a_batch_job_there_is_none_in_the_description(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables in machine.VARIABLES.values():
        for variable in variables.values():
            monkeypatch.delenv(variable, raising=False)
    assert not {"slurm", "environment"} & set(machine.describe_machine())


def test_the_variables_that_decide_on_determinism_are_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    assert machine.describe_machine()["environment"] == {
        "PYTHONHASHSEED": "0",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }


NAMES = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ_", min_size=1, max_size=20)


@given(names=st.lists(NAMES, max_size=20))
@settings(max_examples=30)
def test_no_other_variable_of_the_environment_is_told(names: list[str]) -> None:
    allowed = {variable for part in machine.VARIABLES.values() for variable in part.values()}
    private = [
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "GITHUB_TOKEN",
        "HF_TOKEN",
        "DATABASE_URL",
        "USER",
        "LOGNAME",
        "HOME",
        "HOSTNAME",
        "PWD",
        "KUBERNETES_SERVICE_HOST",
        "SINGULARITY_CONTAINER",
        "SLURM_JOB_USER",
        "SLURM_JOB_ACCOUNT",
        "SLURM_SUBMIT_DIR",
        "SLURM_SUBMIT_HOST",
        *names,
    ]
    with pytest.MonkeyPatch.context() as patch:
        for name in set(private) - allowed:
            patch.setenv(name, f"{MARKER}-{name}")
        assert MARKER.encode() not in msgspec.json.encode(machine.describe_machine())


def test_no_user_folder_host_or_command_line_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"{MARKER}.py", f"--password={MARKER}"])
    monkeypatch.setattr(getpass, "getuser", lambda: MARKER)
    monkeypatch.setattr(socket, "gethostname", lambda: MARKER)
    monkeypatch.setattr(platform, "node", lambda: MARKER)
    text = msgspec.json.encode(machine.describe_machine()).decode()
    assert MARKER not in text
    assert str(Path.home()) not in text or len(str(Path.home())) < 3
    assert not re.search(rf'"{re.escape(os.uname().nodename)}"', text)


def test_the_description_can_be_recorded_and_read_back() -> None:
    values = machine.describe_machine([{"model": "H100"}], {"nvidia": "570.1"})
    record = records.Machine(at=1, values=values)
    assert records.decode(records.encode(record)) == record


def test_the_description_is_limited_in_size_and_can_be_encoded_whatever_it_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variables in machine.VARIABLES.values():
        for variable in variables.values():
            monkeypatch.setenv(variable, "\udcff" + "x" * 20_000)
    gpus: list[dict[str, Any]] = [{"model": "y" * 20_000, "odd": object(), "huge": 10**400}] * 500
    encoded = msgspec.json.encode(machine.describe_machine(gpus, {"nvidia": "\udcff"}))
    assert len(encoded) < 150_000
    assert len(msgspec.json.encode(machine.describe_machine())) < 20_000


def test_the_description_stays_the_same_if_nothing_changes() -> None:
    gpus = [{"model": "H100"}]
    assert machine.describe_machine(gpus) == machine.describe_machine(gpus)


def test_a_caller_that_changes_a_description_does_not_change_the_next() -> None:
    description = machine.describe_machine()
    before = msgspec.json.encode(description)
    for part in description.values():
        if isinstance(part, dict):
            part.clear()
    assert msgspec.json.encode(machine.describe_machine()) == before


def test_a_fact_that_fails_costs_no_other_fact(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("no such thing")

    guard.reset()
    monkeypatch.setattr(cgroups, "describe_container", broken)
    monkeypatch.setattr(machine, "cpu_model", broken)
    description = machine.describe_machine()
    machine.describe_machine()
    assert not {"container", "cpu_model"} & set(description)
    assert description["cpu_count"] == os.cpu_count()
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert all(any(name in message for message in messages) for name in ("container", "cpu_model"))


def test_a_description_loads_no_framework_and_starts_no_process(tmp_path: Path) -> None:
    printed, _ = run(
        """
        import sys
        def watch(event, arguments):
            assert event not in ("subprocess.Popen", "os.fork", "os.system", "os.posix_spawn"), event
        sys.addaudithook(watch)
        from flowprov.telemetry import machine
        description = machine.describe_machine()
        assert "torch" not in description and description["versions"] == {}, description
        assert "cpu_count" in description and "memory_bytes" in description, description
        loaded = {name.partition(".")[0] for name in sys.modules}
        print(sorted(loaded & {"torch", "numpy", "pandas", "dask", "distributed", "psutil", "pynvml"}))
        """,
        tmp_path,
    )
    assert printed.strip() == "[]"
