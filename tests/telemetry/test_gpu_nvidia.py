"""The probe of NVIDIA's GPUs reads what the devices have, on a stand-in for NVML."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pynvml
import pytest

from flowprov.telemetry.gpu import nvidia
from flowprov.telemetry.gpu.nvidia import NvidiaProbe
from tests.telemetry.nvml import GIB, UUIDS, Gpu, Nvml, divided_gpu

WHOLE = {
    "name": "NVIDIA H100 80GB HBM3",
    "uuid": UUIDS[0],
    "memory_total_bytes": 80 * GIB,
    "memory_used_bytes": 3 * GIB,
    "utilization_percent": 41,
    "memory_utilization_percent": 17,
    "temperature_c": 33,
    "power_w": 119.5,
    "energy_j": 7000.25,
}
# The functions that a test makes fail, with the values that are then missing.
METRICS = {
    "nvmlDeviceGetUtilizationRates": {"utilization_percent", "memory_utilization_percent"},
    "nvmlDeviceGetTemperatureV": {"temperature_c"},
    "nvmlDeviceGetPowerUsage": {"power_w"},
    "nvmlDeviceGetTotalEnergyConsumption": {"energy_j"},
    "nvmlDeviceGetMemoryInfo": {"memory_used_bytes"},
}
CONSTANTS = {
    "nvmlDeviceGetName": {"name"},
    "nvmlDeviceGetUUID": {"uuid"},
    "nvmlDeviceGetMemoryInfo": {"memory_total_bytes", "memory_used_bytes"},
    "nvmlDeviceGetMigMode": set(),
    "nvmlSystemGetDriverVersion": set(),
}
ERRORS: list[Callable[[], Exception]] = [
    pynvml.NVMLError_Unknown,
    pynvml.NVMLError_NoPermission,
    pynvml.NVMLError_InvalidArgument,
    pynvml.NVMLError_Timeout,
    pynvml.NVMLError_GpuIsLost,
    lambda: OSError("something else"),
    lambda: ValueError("an invalid reading"),
]


def _install(monkeypatch: pytest.MonkeyPatch, *gpus: Gpu, **fields: Any) -> Nvml:
    nvml = Nvml([Gpu(UUIDS[0])] if not gpus else list(gpus), **fields)
    monkeypatch.setattr(nvidia, "pynvml", nvml)
    return nvml


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Nvml:
    """A machine with three equal GPUs."""
    return _install(monkeypatch, *(Gpu(uuid) for uuid in UUIDS))


def test_the_stand_in_has_the_signatures_of_the_real_package() -> None:
    functions = [name for name in dir(Nvml) if name.startswith("nvml")]
    assert len(functions) > 15
    for name in functions:
        stand_in, real = (inspect.signature(getattr(module, name)) for module in (Nvml([]), pynvml))
        required = [p for p in real.parameters.values() if p.default is p.empty]
        assert len(required) <= len(stand_in.parameters) <= len(real.parameters), name


def test_every_metric_of_every_device_is_read(nvml: Nvml) -> None:
    probe = NvidiaProbe()
    assert probe.kind == "gpu"
    assert probe.read() == {str(n): {**WHOLE, "uuid": uuid} for n, uuid in enumerate(UUIDS)}


def test_readings_and_descriptions_are_json(nvml: Nvml) -> None:
    nvml.gpus[1].lost = True
    probe = NvidiaProbe()
    assert msgspec.json.decode(msgspec.json.encode(probe.read())) == probe.read()
    assert msgspec.json.decode(msgspec.json.encode(probe.describe())) == probe.describe()


def test_metrics_are_read_at_every_reading_and_constants_only_once(nvml: Nvml) -> None:
    probe = NvidiaProbe()
    probe.read()
    nvml.calls.clear()
    nvml.gpus[0].used, nvml.gpus[0].millijoules = 5 * GIB, 8_000_000
    assert probe.read()["0"]["memory_used_bytes"] == 5 * GIB
    assert probe.read()["0"]["energy_j"] == 8000.0
    assert not {"nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlInit", "nvmlDeviceGetCount"} & set(nvml.calls)


@pytest.mark.parametrize(
    ("text", "uuids"),
    [
        (None, UUIDS),
        ("", ()),
        ("-1", ()),
        ("NoDevFiles", ()),
        ("0", UUIDS[:1]),
        ("2,0", (UUIDS[2], UUIDS[0])),
        (" 1 ", UUIDS[1:2]),
        ("1,5,0", UUIDS[1:2]),
        (UUIDS[2], UUIDS[2:]),
        ("GPU-1f00d5e2,GPU-8932f937", (UUIDS[2], UUIDS[0])),
    ],
)
def test_the_devices_that_the_program_sees_are_read_under_the_numbers_of_torch(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, text: str | None, uuids: tuple[str, ...]
) -> None:
    if text is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    assert {key: reading["uuid"] for key, reading in NvidiaProbe().read().items()} == {
        str(number): uuid for number, uuid in enumerate(uuids)
    }


def test_a_variable_that_is_set_late_chooses_the_devices(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = NvidiaProbe()
    assert len(probe.read()) == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert [reading["uuid"] for reading in probe.read().values()] == [UUIDS[2]]


def test_a_variable_that_is_set_after_torch_has_started_cuda_changes_nothing(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = NvidiaProbe()
    monkeypatch.setattr(
        "flowprov.telemetry.gpu.base.initialized_backends", lambda: iter([("cuda", object())])
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert len(probe.read()) == 3


def test_a_warning_says_that_cuda_may_number_devices_of_several_kinds_differently(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    nvml.gpus[1].name = "NVIDIA T4"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", UUIDS[1])
    NvidiaProbe().close()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    NvidiaProbe().close()
    assert logged.messages == []
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    NvidiaProbe().close()
    NvidiaProbe().close()
    (message,) = logged.messages
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in message


@pytest.mark.parametrize("function", METRICS)
@pytest.mark.parametrize("error", ERRORS)
def test_every_metric_fails_alone_and_is_logged_once(
    nvml: Nvml, logged: pytest.LogCaptureFixture, function: str, error: Callable[[], Exception]
) -> None:
    probe = NvidiaProbe()
    nvml.fail(function, error(), UUIDS[0])
    for _ in range(3):
        readings = probe.read()
    assert readings["0"] == {name: value for name, value in WHOLE.items() if name not in METRICS[function]}
    assert readings["1"] == {**WHOLE, "uuid": UUIDS[1]}
    (message,) = logged.messages
    assert all(name in message for name in METRICS[function])
    assert "Traceback" not in logged.text


@pytest.mark.parametrize("function", METRICS)
def test_a_metric_that_fails_on_all_devices_is_logged_once(
    nvml: Nvml, logged: pytest.LogCaptureFixture, function: str
) -> None:
    probe = NvidiaProbe()
    nvml.fail(function)
    probe.read()
    assert len(logged.messages) == 1


@pytest.mark.parametrize("function", METRICS)
@pytest.mark.parametrize("error", [pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound])
def test_a_metric_that_a_device_does_not_have_is_left_out_without_a_warning(
    nvml: Nvml, logged: pytest.LogCaptureFixture, function: str, error: Callable[[], Exception]
) -> None:
    nvml.fail(function, error())
    nvml.fail("nvmlDeviceGetTemperature", error())  # the older function
    readings = NvidiaProbe().read()
    absent = METRICS[function] | CONSTANTS.get(function, set())
    assert readings["0"] == {name: value for name, value in WHOLE.items() if name not in absent}
    assert logged.messages == []


def test_a_device_that_this_user_may_not_read_is_not_lost(nvml: Nvml) -> None:
    for function in METRICS:
        nvml.fail(function, pynvml.NVMLError_NoPermission())
    assert NvidiaProbe().read()["0"] == {"name": WHOLE["name"], "uuid": UUIDS[0]}


@pytest.mark.parametrize("function", CONSTANTS)
@pytest.mark.parametrize("error", ERRORS)
def test_every_constant_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
    logged: pytest.LogCaptureFixture,
    function: str,
    error: Callable[[], Exception],
) -> None:
    _install(monkeypatch).fail(function, error())
    probe = NvidiaProbe()
    expected = {name: value for name, value in WHOLE.items() if name not in CONSTANTS[function]}
    assert probe.read() == {"0": expected}
    assert logged.messages
    assert probe.describe()["devices"]


def test_older_drivers_are_read_with_their_older_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = _install(monkeypatch)
    nvml.fail("nvmlDeviceGetMemoryInfo_v2", pynvml.NVMLError_FunctionNotFound())
    nvml.fail("nvmlDeviceGetTemperatureV", pynvml.NVMLError_FunctionNotFound())
    assert NvidiaProbe().read()["0"] == {**WHOLE, "memory_used_bytes": 4 * GIB}


def test_a_lost_device_is_logged_once_and_the_others_are_read(
    nvml: Nvml, logged: pytest.LogCaptureFixture
) -> None:
    probe = NvidiaProbe()
    probe.read()
    nvml.gpus[1].lost = True
    for _ in range(3):
        readings = probe.read()
    assert readings["1"] == {"name": WHOLE["name"], "uuid": UUIDS[1], "lost": True}
    assert readings["0"] == WHOLE
    assert readings["2"] == {**WHOLE, "uuid": UUIDS[2]}
    (message,) = logged.messages
    assert "GPU is lost" in message


@pytest.mark.parametrize("error", [pynvml.NVMLError_Unknown, pynvml.NVMLError_ResetRequired])
def test_a_device_of_which_every_metric_fails_is_lost(
    nvml: Nvml, logged: pytest.LogCaptureFixture, error: Callable[[], Exception]
) -> None:
    probe = NvidiaProbe()
    for function in METRICS:
        nvml.fail(function, error(), UUIDS[0])
    assert probe.read()["0"] == {"name": WHOLE["name"], "uuid": UUIDS[0], "lost": True}
    assert len(logged.messages) == 1


def test_a_device_that_comes_back_is_read_again(nvml: Nvml) -> None:
    probe = NvidiaProbe(retry_seconds=0)
    for _ in range(2):
        nvml.gpus[1].lost = True
        assert probe.read()["1"]["lost"] is True
        nvml.gpus[1].lost = False
        assert probe.read()["1"] == {**WHOLE, "uuid": UUIDS[1]}


def test_a_lost_device_is_not_looked_for_before_the_retry_time(nvml: Nvml) -> None:
    probe = NvidiaProbe(retry_seconds=3600)
    nvml.gpus[1].lost = True
    probe.read()
    nvml.gpus[1].lost = False
    nvml.calls.clear()
    assert probe.read()["1"]["lost"] is True
    assert "nvmlDeviceGetHandleByUUID" not in nvml.calls


def test_a_device_that_cannot_be_opened_does_not_change_the_numbers_of_the_others(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    nvml.gpus[0].lost = True
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    assert NvidiaProbe().read() == {"0": {**WHOLE, "uuid": UUIDS[2]}}
    assert len(logged.messages) == 1


def test_if_the_program_shuts_nvml_down_the_probe_starts_it_again(nvml: Nvml) -> None:
    probe = NvidiaProbe(retry_seconds=0)
    nvml.inits = 0
    assert probe.read()["0"]["lost"] is True
    assert probe.read()["0"] == WHOLE
    probe.close()


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount"])
@pytest.mark.parametrize("error", [pynvml.NVMLError_DriverNotLoaded, lambda: OSError("no library")])
def test_without_a_driver_the_probe_has_a_reason_and_reads_nothing(
    nvml: Nvml, function: str, error: Callable[[], Exception]
) -> None:
    nvml.fail(function, error())
    probe = NvidiaProbe()
    assert type(error()).__name__ in (probe.unavailable or "")
    assert probe.read() == {}
    assert probe.describe() == {}
    probe.close()
    assert nvml.inits == 0


def test_the_description_holds_the_devices_and_versions(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert NvidiaProbe().describe() == {
        "devices": [{"key": "0", "name": WHOLE["name"], "uuid": UUIDS[1], "memory_total_bytes": 80 * GIB}],
        "driver_version": "580.95.05",
        "cuda_driver_version": "13.0",
    }


@pytest.mark.parametrize("function", ["nvmlSystemGetDriverVersion", "nvmlSystemGetCudaDriverVersion_v2"])
def test_versions_fail_alone(nvml: Nvml, function: str) -> None:
    nvml.fail(function)
    assert len(NvidiaProbe().describe()) == 2


def test_closing_shuts_nvml_down_and_ends_reading(nvml: Nvml, logged: pytest.LogCaptureFixture) -> None:
    probe = NvidiaProbe()
    nvml.fail("nvmlShutdown")
    probe.close()
    del nvml.errors["nvmlShutdown", None]
    other = NvidiaProbe()
    other.close()
    other.close()
    assert nvml.calls.count("nvmlShutdown") == 2
    assert probe.read() == other.read() == {}
    assert logged.messages == []


def test_closing_while_another_thread_reads_logs_nothing(
    nvml: Nvml, monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    probe = NvidiaProbe()
    reading, closed = threading.Event(), threading.Event()

    def slow(_: Gpu) -> int:
        reading.set()
        closed.wait(10)
        raise pynvml.NVMLError_Uninitialized

    monkeypatch.setattr(nvml, "nvmlDeviceGetPowerUsage", slow)
    thread = threading.Thread(target=probe.read)
    thread.start()
    assert reading.wait(10)
    probe.close()
    closed.set()
    thread.join(10)
    assert logged.messages == []


def test_several_threads_can_read_at_the_same_time(nvml: Nvml) -> None:
    probe = NvidiaProbe()
    readings: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: readings.extend(probe.read() for _ in range(50))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(readings) == 200
    assert all(reading == readings[0] for reading in readings)


# Divided GPUs (MIG).

PARENT = {"name": WHOLE["name"], "uuid": UUIDS[0], "temperature_c": 33, "power_w": 119.5, "energy_j": 7000.25}


def test_an_instance_has_its_own_memory_and_the_other_metrics_of_its_gpu_as_parent(
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    gpu = divided_gpu()
    _install(monkeypatch, gpu, Gpu(UUIDS[1]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"MIG-{UUIDS[0]}/1/1")
    instance = (gpu.instances or [])[1]
    assert NvidiaProbe().read() == {
        "0": {
            "name": f"{WHOLE['name']} MIG 1g.10gb",
            "uuid": instance.uuid,
            "memory_total_bytes": 10 * GIB,
            "memory_used_bytes": instance.used,
            "parent": PARENT,
        }
    }
    assert logged.messages == []


@pytest.mark.parametrize(
    ("driver", "count"), [("580.95.05", 3), ("570.86.15", 3), ("535.129.03", 1), ("?", 3)]
)
def test_how_many_instances_are_visible_depends_on_the_driver(
    monkeypatch: pytest.MonkeyPatch, driver: str, count: int
) -> None:
    _install(monkeypatch, divided_gpu(), Gpu(UUIDS[1]), driver=driver)
    readings = NvidiaProbe().read()
    assert len(readings) == count
    assert readings["0"]["parent"] == PARENT


def test_an_instance_that_is_removed_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = divided_gpu()
    _install(monkeypatch, gpu)
    probe = NvidiaProbe(retry_seconds=0)
    instance = (gpu.instances or [])[0]
    instance.lost = True
    readings = probe.read()
    assert readings["0"] == {"name": instance.name, "uuid": instance.uuid, "lost": True}
    assert readings["1"]["parent"] == PARENT
    instance.lost = False
    assert probe.read()["0"]["memory_used_bytes"] == instance.used


@pytest.mark.parametrize(
    "function", sorted({*METRICS} - {"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUtilizationRates"})
)
def test_a_metric_of_a_divided_gpu_fails_alone(
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture, function: str
) -> None:
    _install(monkeypatch, divided_gpu()).fail(function)
    parent = NvidiaProbe().read()["0"]["parent"]
    assert parent == {name: value for name, value in PARENT.items() if name not in METRICS[function]}
    assert len(logged.messages) == 1


def test_if_the_instances_of_a_gpu_cannot_be_listed_the_other_gpus_are_read(
    monkeypatch: pytest.MonkeyPatch, logged: pytest.LogCaptureFixture
) -> None:
    _install(monkeypatch, divided_gpu(), Gpu(UUIDS[1])).fail("nvmlDeviceGetMaxMigDeviceCount")
    assert [reading["uuid"] for reading in NvidiaProbe().read().values()] == [UUIDS[1]]
    assert len(logged.messages) == 1
