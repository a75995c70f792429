"""On a machine with NVIDIA GPUs, readings agree with nvidia-smi, CUDA and torch."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flowprov.telemetry.gpu.discovery import create_gpu_probes, describe_gpus
from tests.support import clean_environment, run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="this machine has no NVIDIA GPU"),
]

MIB = 1024**2

# Prints the devices that CUDA itself shows and those that the probe reads, in one process.
VISIBLE = """
import ctypes, json
from flowprov.telemetry.gpu.nvidia import NvidiaProbe
readings = NvidiaProbe().read()
cuda = ctypes.CDLL("libcuda.so.1")
count = ctypes.c_int()
if cuda.cuInit(0) == 0:
    assert cuda.cuDeviceGetCount(ctypes.byref(count)) == 0
uuids = []
for number in range(count.value):
    uuid = (ctypes.c_ubyte * 16)()
    assert cuda.cuDeviceGetUuid_v2(uuid, number) == 0
    text = bytes(uuid).hex()
    uuids.append("-".join([text[:8], text[8:12], text[12:16], text[16:20], text[20:]]))
print(json.dumps([uuids, [r["uuid"].partition("-")[2] for r in readings.values()], list(readings)]))
"""


def _nvidia_smi(*names: str) -> list[dict[str, str]]:
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    rows = csv.reader(done.stdout.splitlines(), skipinitialspace=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_readings_agree_with_nvidia_smi() -> None:
    probes = create_gpu_probes()
    readings = probes[0].read()
    rows = _nvidia_smi(
        "uuid", "name", "memory.total", "memory.used", "temperature.gpu", "power.draw", "driver_version"
    )
    assert len(readings) == len(rows)
    for reading, row in zip(readings.values(), rows, strict=True):
        assert (reading["uuid"], reading["name"]) == (row["uuid"], row["name"])
        assert reading["memory_total_bytes"] / MIB == pytest.approx(float(row["memory.total"]), abs=2)
        assert reading["memory_used_bytes"] / MIB == pytest.approx(float(row["memory.used"]), abs=64)
        assert reading["temperature_c"] == pytest.approx(float(row["temperature.gpu"]), abs=5)
        assert reading["power_w"] == pytest.approx(float(row["power.draw"]), rel=0.5, abs=20)
        assert 0 <= reading["utilization_percent"] <= 100
        assert 0 <= reading["memory_utilization_percent"] <= 100
    assert describe_gpus(probes)["nvidia"]["driver_version"] == rows[0]["driver_version"]
    probes[0].close()


def test_energy_only_grows() -> None:
    probes = create_gpu_probes()
    before, after = probes[0].read(), probes[0].read()
    assert before["0"]["energy_j"] <= after["0"]["energy_j"]
    probes[0].close()


def _visible(text: str | None) -> Any:
    environment = clean_environment()
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    if text is not None:
        environment["CUDA_VISIBLE_DEVICES"] = text
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    done = subprocess.run(
        [sys.executable, "-c", VISIBLE],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=environment,
    )
    return json.loads(done.stdout)


FORMS = [
    None,
    "",
    " ",
    "-1",
    "NoDevFiles",
    "0",
    " 0 ",
    "+0",
    "00",
    "0x0",
    "0gpu",
    "0,0",
    "0,-1",
    "0,",
    ",0",
    "0,,0",
    "0,99",
    "99,0",
    "0-1",
    "{uuid}",
    " {uuid}",
    "{uuid},",
    "{uuid},{uuid}",
    "{prefix}",
    "{uuid},{prefix}",
    "{upper}",
    "{uuid},0",
    "0,{uuid}",
    "GPU-",
    "GPU-0000",
    "GPU-0000,{uuid}",
    "MIG-{uuid}/0/0",
]


@pytest.mark.parametrize("form", FORMS)
def test_the_probe_reads_the_devices_that_cuda_shows(form: str | None) -> None:
    uuid = _nvidia_smi("uuid")[0]["uuid"]
    text = None if form is None else form.format(uuid=uuid, prefix=uuid[:12], upper=uuid.upper())
    cuda_uuids, probe_uuids, keys = _visible(text)
    assert probe_uuids == cuda_uuids
    assert keys == [str(number) for number in range(len(cuda_uuids))]


ALLOCATOR = """
import sys
from flowprov.telemetry.gpu.torch_allocator import TorchAllocatorProbe
probe = TorchAllocatorProbe()
assert probe.read() == {}
import torch
assert probe.read() == {}
assert not torch.cuda.is_initialized()
tensor = torch.ones(4 * 1024**2, device="cuda")
reading = probe.read()["cuda:0"]
assert reading["allocated_bytes"] == torch.cuda.memory_allocated() >= 16 * 1024**2, reading
assert reading["reserved_bytes"] == torch.cuda.memory_reserved(), reading
del tensor
reading = probe.read()["cuda:0"]
assert reading["allocated_bytes"] == 0
assert reading["peak_allocated_bytes"] == torch.cuda.max_memory_allocated() >= 16 * 1024**2, reading
assert reading["peak_reserved_bytes"] == torch.cuda.max_memory_reserved(), reading
"""


def test_the_memory_that_torch_holds_is_read_without_starting_cuda(tmp_path: Path) -> None:
    run(ALLOCATOR, tmp_path, timeout=300)
