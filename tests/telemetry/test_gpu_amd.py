"""The create_probe of AMD's GPUs reads what the devices have, on a stand-in for AMD SMI."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from flowprov.telemetry.gpu.base import DeviceProbe
from tests.telemetry.amd_smi import (
    GIB,
    UUIDS,
    AmdSmi,
    AmdSmiLibraryException,
    AmdSmiTemperatureType,
    Codes,
    Gpu,
)
from tests.telemetry.support import import_anew

WHOLE = {
    "name": "AMD Instinct MI250X",
    "uuid": UUIDS[0],
    "memory_total_bytes": 64 * GIB,
    "memory_used_bytes": 3 * GIB,
    "utilization_percent": 41,
    "memory_utilization_percent": 17,
    "temperature_c": 33,
    "power_w": 119,
    "energy_j": 15.3,
}
METRICS = {
    "amdsmi_get_gpu_activity": {"utilization_percent", "memory_utilization_percent"},
    "amdsmi_get_gpu_memory_usage": {"memory_used_bytes"},
    "amdsmi_get_temp_metric": {"temperature_c"},
    "amdsmi_get_power_info": {"power_w"},
    "amdsmi_get_energy_count": {"energy_j"},
}
CONSTANTS = {
    "amdsmi_get_gpu_device_uuid": {"uuid"},
    "amdsmi_get_gpu_asic_info": {"name"},
    "amdsmi_get_gpu_memory_total": {"memory_total_bytes"},
}
UNKNOWN_ERROR = 0xFFFFFFFF
ERRORS: list[Callable[[], Exception]] = [
    lambda: AmdSmiLibraryException(UNKNOWN_ERROR),
    lambda: AmdSmiLibraryException(Codes.AMDSMI_STATUS_NO_PERM),
    lambda: KeyError("gfx_activity"),
    lambda: OSError("no such device"),
]


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch) -> AmdSmi:
    """A machine with two equal GPUs."""
    smi = AmdSmi([Gpu(UUIDS[0]), Gpu(UUIDS[1], serial="0x99ABCDEF01234567")])
    monkeypatch.setitem(sys.modules, "amdsmi", smi.module())
    import_anew(monkeypatch, "flowprov.telemetry.gpu.amd")
    return smi


@pytest.fixture
def create_probe(smi: AmdSmi) -> Callable[..., DeviceProbe]:
    """A function that creates a create_probe on that machine."""

    def create(**options: Any) -> DeviceProbe:
        created: DeviceProbe = importlib.import_module("flowprov.telemetry.gpu.amd").AmdProbe(**options)
        return created

    return create


CreateProbe = Callable[..., DeviceProbe]


def test_every_metric_of_every_device_is_read_under_the_names_of_nvidia(create_probe: CreateProbe) -> None:
    probe = create_probe()
    assert probe.kind == "gpu"
    assert probe.read() == {"amd:0": WHOLE, "amd:1": {**WHOLE, "uuid": UUIDS[1]}}


def test_readings_and_descriptions_are_json(create_probe: CreateProbe) -> None:
    probe = create_probe()
    assert msgspec.json.decode(msgspec.json.encode(probe.read())) == probe.read()
    assert msgspec.json.decode(msgspec.json.encode(probe.describe())) == probe.describe()


@pytest.mark.parametrize(
    ("variables", "uuids"),
    [
        ({}, UUIDS),
        ({"ROCR_VISIBLE_DEVICES": "1"}, UUIDS[1:]),
        ({"ROCR_VISIBLE_DEVICES": ""}, ()),
        ({"HIP_VISIBLE_DEVICES": "1,0"}, UUIDS[::-1]),
        ({"HIP_VISIBLE_DEVICES": "-1"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "1"}, UUIDS[1:]),
        ({"CUDA_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "0"}, UUIDS[:1]),
        ({"ROCR_VISIBLE_DEVICES": "1,0", "HIP_VISIBLE_DEVICES": "0"}, UUIDS[1:]),
        ({"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "1"}, ()),
        ({"ROCR_VISIBLE_DEVICES": "GPU-99abcdef01234567"}, UUIDS[1:]),
        ({"ROCR_VISIBLE_DEVICES": "GPU-45ABCDEF01234567"}, UUIDS[:1]),
        ({"ROCR_VISIBLE_DEVICES": f"GPU-{UUIDS[1]}"}, UUIDS[1:]),
    ],
)
def test_the_devices_that_the_program_sees_are_read(
    create_probe: CreateProbe,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    uuids: tuple[str, ...],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert {key: reading["uuid"] for key, reading in create_probe().read().items()} == {
        f"amd:{number}": uuid for number, uuid in enumerate(uuids)
    }


def test_devices_are_numbered_in_the_order_of_hip(
    smi: AmdSmi, create_probe: CreateProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    smi.gpus[0].hip_id, smi.gpus[1].hip_id = 1, 0
    assert [reading["uuid"] for reading in create_probe().read().values()] == list(UUIDS[::-1])
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "0")
    assert [reading["uuid"] for reading in create_probe().read().values()] == [UUIDS[1]]


def test_devices_are_numbered_as_amd_smi_lists_them_if_it_does_not_know_the_order_of_hip(
    smi: AmdSmi, create_probe: CreateProbe
) -> None:
    smi.fail("amdsmi_get_gpu_enumeration_info", AttributeError("no such function"))
    assert [reading["uuid"] for reading in create_probe().read().values()] == list(UUIDS)


@pytest.mark.parametrize("function", METRICS)
@pytest.mark.parametrize("error", ERRORS)
def test_every_metric_fails_alone_and_is_logged_once(
    smi: AmdSmi,
    create_probe: CreateProbe,
    logged: pytest.LogCaptureFixture,
    function: str,
    error: Callable[[], Exception],
) -> None:
    probe = create_probe()
    smi.fail(function, error(), UUIDS[0])
    for _ in range(3):
        readings = probe.read()
    assert readings["amd:0"] == {
        name: value for name, value in WHOLE.items() if name not in METRICS[function]
    }
    assert readings["amd:1"] == {**WHOLE, "uuid": UUIDS[1]}
    assert len(logged.messages) == 1


@pytest.mark.parametrize("function", METRICS)
@pytest.mark.parametrize(
    "code",
    [Codes.AMDSMI_STATUS_NOT_SUPPORTED, Codes.AMDSMI_STATUS_NOT_YET_IMPLEMENTED, Codes.AMDSMI_STATUS_NO_DATA],
)
def test_a_metric_that_a_device_does_not_have_is_left_out_without_a_warning(
    smi: AmdSmi, create_probe: CreateProbe, logged: pytest.LogCaptureFixture, function: str, code: int
) -> None:
    smi.fail(function, AmdSmiLibraryException(code))
    expected = {name: value for name, value in WHOLE.items() if name not in METRICS[function]}
    assert create_probe().read()["amd:0"] == expected
    assert logged.messages == []


@pytest.mark.parametrize("function", CONSTANTS)
@pytest.mark.parametrize("error", ERRORS)
def test_every_constant_fails_alone(
    smi: AmdSmi, create_probe: CreateProbe, function: str, error: Callable[[], Exception]
) -> None:
    smi.fail(function, error())
    expected = {name: value for name, value in WHOLE.items() if name not in CONSTANTS[function]}
    assert create_probe().read()["amd:0"] == expected


@pytest.mark.parametrize("missing", ["N/A", 0xFFFF, 0xFFFFFFFF, 2**64 - 1, None])
def test_values_that_amd_smi_marks_as_missing_are_left_out_without_a_warning(
    smi: AmdSmi, create_probe: CreateProbe, logged: pytest.LogCaptureFixture, missing: Any
) -> None:
    gpu = smi.gpus[0]
    gpu.activity = {"gfx_activity": missing, "umc_activity": 17}
    gpu.power = {"current_socket_power": missing, "average_socket_power": missing}
    gpu.energy = {"energy_accumulator": missing, "counter_resolution": 15.3}
    gpu.market_name = "N/A"
    reading = create_probe().read()["amd:0"]
    absent = {"name", "utilization_percent", "power_w", "energy_j"}
    assert reading == {name: value for name, value in WHOLE.items() if name not in absent}
    assert logged.messages == []


@pytest.mark.parametrize(
    "power",
    [
        {"current_socket_power": 119, "average_socket_power": 1},
        {"current_socket_power": "N/A", "average_socket_power": 119, "socket_power": "N/A"},
        {"socket_power": 119},
    ],
)
def test_power_is_read_from_whichever_field_has_it(
    smi: AmdSmi, create_probe: CreateProbe, power: dict[str, Any]
) -> None:
    smi.gpus[0].power = power
    assert create_probe().read()["amd:0"]["power_w"] == 119


def test_energy_is_also_read_under_its_older_name(smi: AmdSmi, create_probe: CreateProbe) -> None:
    smi.gpus[0].energy = {"power": 2_000_000, "counter_resolution": 15.3}
    assert create_probe().read()["amd:0"]["energy_j"] == 30.6


def test_the_hotspot_is_read_if_there_is_no_sensor_at_the_edge(
    smi: AmdSmi, create_probe: CreateProbe
) -> None:
    smi.gpus[0].sensors = (AmdSmiTemperatureType.HOTSPOT,)
    assert create_probe().read()["amd:0"]["temperature_c"] == 44


def test_a_lost_device_is_logged_once_and_read_again_when_it_comes_back(
    smi: AmdSmi, create_probe: CreateProbe, logged: pytest.LogCaptureFixture
) -> None:
    probe = create_probe(retry_seconds=0)
    smi.gpus[0].lost = True
    for _ in range(3):
        readings = probe.read()
    assert readings["amd:0"] == {"name": WHOLE["name"], "uuid": UUIDS[0], "lost": True}
    assert readings["amd:1"] == {**WHOLE, "uuid": UUIDS[1]}
    assert len(logged.messages) == 1
    smi.gpus[0].lost = False
    assert probe.read()["amd:0"] == WHOLE


def test_a_device_that_disappeared_from_the_list_stays_lost(smi: AmdSmi, create_probe: CreateProbe) -> None:
    probe = create_probe(retry_seconds=0)
    absent = smi.gpus.pop(0)
    absent.lost = True
    assert [probe.read()["amd:0"].get("lost") for _ in range(2)] == [True, True]


@pytest.mark.parametrize("function", ["amdsmi_init", "amdsmi_get_processor_handles"])
def test_without_a_driver_the_probe_has_a_reason_and_reads_nothing(
    smi: AmdSmi, create_probe: CreateProbe, function: str
) -> None:
    smi.fail(function)
    probe = create_probe()
    assert "AmdSmiLibraryException" in (probe.unavailable or "")
    assert probe.read() == probe.describe() == {}
    probe.close()
    assert smi.inits == 0


def test_the_description_holds_the_devices_and_the_version_of_the_driver(
    smi: AmdSmi, create_probe: CreateProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "1")
    device = {"key": "amd:0", "name": WHOLE["name"], "uuid": UUIDS[1], "memory_total_bytes": 64 * GIB}
    assert create_probe().describe() == {"devices": [device], "driver_version": "6.12.12"}
    smi.fail("amdsmi_get_gpu_driver_info")
    assert create_probe().describe() == {"devices": [device]}
    monkeypatch.setenv("HIP_VISIBLE_DEVICES", "")
    assert create_probe().describe() == {"devices": []}


def test_closing_shuts_amd_smi_down_and_ends_reading(smi: AmdSmi, create_probe: CreateProbe) -> None:
    probe = create_probe()
    probe.close()
    assert smi.inits == 0
    assert probe.read() == {}
