"""Probes of GPUs are created for both vendors, for one or for none; also with the real packages."""

from __future__ import annotations

import io
import sys
import threading
from pathlib import Path

import msgspec
import pynvml
import pytest

from flowprov.telemetry.gpu import discovery, nvidia
from flowprov.telemetry.gpu.discovery import (
    GpuProbe,
    LoadedAdapters,
    create_gpu_probes,
    describe_gpus,
    load_adapters,
)
from flowprov.telemetry.gpu.nvidia import NvidiaProbe
from flowprov.telemetry.gpu.torch_allocator import TorchAllocatorProbe
from tests.support import run
from tests.telemetry import amd_smi
from tests.telemetry.nvml import UUIDS, Gpu, Nvml
from tests.telemetry.support import import_anew


def _has_driver() -> bool:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return Path("/dev/kfd").exists()
    pynvml.nvmlShutdown()
    return True


no_driver = pytest.mark.skipif(_has_driver(), reason="this machine has a GPU's driver")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    """A machine with an NVIDIA GPU."""
    nvml = Nvml([Gpu(UUIDS[0])])
    monkeypatch.setattr(nvidia, "pynvml", nvml)
    return nvml


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch) -> amd_smi.AmdSmi:
    """A machine with an AMD GPU."""
    smi = amd_smi.AmdSmi([amd_smi.Gpu(amd_smi.UUIDS[0])])
    monkeypatch.setitem(sys.modules, "amdsmi", smi.module())
    import_anew(monkeypatch, "flowprov.telemetry.gpu.amd")
    return smi


def _uninstall(monkeypatch: pytest.MonkeyPatch, package: str, adapter: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    import_anew(monkeypatch, f"flowprov.telemetry.gpu.{adapter}")


@no_driver
def test_the_real_packages_without_a_driver_log_one_line_and_read_nothing(
    logged: pytest.LogCaptureFixture,
) -> None:
    for _ in range(2):
        probes = create_gpu_probes()
        assert [probe.read() for probe in probes] == [{}]
        assert describe_gpus(probes) == {}
    (message,) = logged.messages
    assert "flowprov can read no GPU here" in message
    assert "NVIDIA: " in message
    assert "AMD: " in message
    assert "\n" not in message
    assert "Traceback" not in logged.text


@no_driver
def test_nvml_without_a_driver_gives_a_reason(logged: pytest.LogCaptureFixture) -> None:
    probe = NvidiaProbe()
    assert "NVMLError_LibraryNotFound" in (probe.unavailable or "")
    assert probe.read() == probe.describe() == {}
    probe.close()
    assert logged.messages == []


def test_without_any_package_one_line_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    _uninstall(monkeypatch, "pynvml", "nvidia")
    _uninstall(monkeypatch, "amdsmi", "amd")
    probes = create_gpu_probes()
    assert [type(probe) for probe in probes] == [TorchAllocatorProbe]
    (message,) = logged.messages
    assert 'pip install "flowprov[nvidia]"' in message
    assert 'pip install "flowprov[amd]"' in message


def test_one_vendor_is_enough_and_no_warning_names_the_other(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    _uninstall(monkeypatch, "amdsmi", "amd")
    gpu, torch = create_gpu_probes()
    assert (gpu.kind, torch.kind) == ("gpu", "torch_allocator")
    assert gpu.read()["0"]["uuid"] == UUIDS[0]
    assert logged.messages == []


def test_the_devices_of_both_vendors_are_in_one_reading(nvml: Nvml, smi: amd_smi.AmdSmi) -> None:
    probes = create_gpu_probes(load_adapters())
    readings = probes[0].read()
    assert {key: reading["uuid"] for key, reading in readings.items()} == {
        "0": UUIDS[0],
        "amd:0": amd_smi.UUIDS[0],
    }
    machine = describe_gpus(probes)
    assert machine["nvidia"]["driver_version"] == "580.95.05"
    assert machine["amd"]["devices"][0]["uuid"] == amd_smi.UUIDS[0]
    assert msgspec.json.decode(msgspec.json.encode([readings, machine])) == [readings, machine]
    probes[0].close()
    assert nvml.inits == smi.inits == 0


def test_a_vendors_library_that_fails_costs_only_its_own_devices(
    nvml: Nvml, smi: amd_smi.AmdSmi, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    (gpu, _) = create_gpu_probes()

    def broken(_: NvidiaProbe) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(NvidiaProbe, "read", broken)
    assert list(gpu.read()) == list(gpu.read()) == ["amd:0"]
    assert len(logged.messages) == 1


def test_a_probe_without_a_driver_closes_its_library(nvml: Nvml) -> None:
    nvml.fail("nvmlDeviceGetCount")
    assert [type(probe) for probe in create_gpu_probes(LoadedAdapters((NvidiaProbe,), ()))] == [
        TorchAllocatorProbe
    ]
    assert nvml.inits == 0


def test_a_machine_whose_devices_are_all_hidden_reads_nothing_without_a_warning(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    (gpu, _) = create_gpu_probes(LoadedAdapters((NvidiaProbe,), ()))
    assert isinstance(gpu, GpuProbe)
    assert gpu.read() == {}
    assert logged.messages == []


def test_other_threads_print_while_amdsmi_is_silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output)
    with discovery._silenced():
        sys.stdout.write("what amdsmi prints\n")
        thread = threading.Thread(target=lambda: print("what the program prints", flush=True))  # noqa: T201
        thread.start()
        thread.join()
    assert output.getvalue() == "what the program prints\n"
    assert sys.stdout is output


def test_a_program_without_a_standard_output_can_be_silenced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with discovery._silenced():
        assert sys.stdout is None
    assert sys.stdout is None


FORK = """
import os, sys
from flowprov.telemetry.gpu import nvidia
from flowprov.telemetry.gpu.discovery import create_gpu_probes, load_adapters
from tests.telemetry.nvml import UUIDS, Gpu, Nvml
nvidia.pynvml = Nvml([Gpu(UUIDS[0])]) if sys.argv[1] == "stand-in" else nvidia.pynvml
loaded = load_adapters()
before = [probe.read() for probe in create_gpu_probes(loaded)]
child = os.fork()
if not child:
    probes = create_gpu_probes(loaded)
    same = [probe.read() for probe in probes] == before
    for probe in probes:
        probe.close()
    os._exit(0 if same else 3)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("nvml_of", ["stand-in", pytest.param("the machine", marks=no_driver)])
def test_a_forked_child_reads_with_probes_of_its_own(nvml_of: str, tmp_path: Path) -> None:
    run(FORK, tmp_path, nvml_of)
