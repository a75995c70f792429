"""Readings of the host and the process agree with procfs, read here by other means."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

import flowprov
from flowprov.runtime import runtime
from flowprov.telemetry import procfs_probes, psutil_probes
from flowprov.telemetry.probe import SLOW_EVERY, CompositeProbe, Probe
from tests.support import run
from tests.telemetry.support import ALL_HOST, all_samples

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = resource.getpagesize()
UNITS = ("_s", "_ms", "_bytes", "_count", "_mhz", "_packets")
PLAIN_COUNTS = {"errors", "dropped", "threads", "file_descriptors"}


def first_line(path: str) -> list[str]:
    return Path(path).read_text().splitlines()[0].split()


def procfs_cpu() -> dict[str, float]:
    """Return the seconds of all cores since the start of the machine; proc_stat(5)."""
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    return {f"{n}_s": int(t) / TICKS for n, t in zip(names, first_line("/proc/stat")[1:], strict=False)}


def procfs_memory() -> dict[str, int]:
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return {name: int(value.split()[0]) * 1024 for name, value in fields.items()}


def procfs_disks() -> dict[str, int]:
    """Return the bytes of whole disks; a sector has 512 (Documentation/admin-guide/iostats.rst of Linux)."""
    devices = [line.split() for line in Path("/proc/diskstats").read_text().splitlines()]
    disks = [
        fields for fields in devices if Path("/sys/block", fields[2].replace("/", "!"), "device").exists()
    ]
    return {
        "read_bytes": sum(int(fields[5]) for fields in disks) * 512,
        "write_bytes": sum(int(fields[9]) for fields in disks) * 512,
    }


def procfs_network() -> dict[str, int]:
    lines = [line.split(":") for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    rows = [counts.split() for name, counts in lines if name.strip() != "lo"]
    return {
        "received_bytes": sum(int(row[0]) for row in rows),
        "sent_bytes": sum(int(row[8]) for row in rows),
    }


def procfs_process() -> dict[str, float]:
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return {"user_s": int(fields[11]) / TICKS, "system_s": int(fields[12]) / TICKS}


Kinds = Mapping[str, Callable[[], Probe]]


@pytest.fixture(params=[procfs_probes, psutil_probes], ids=["procfs", "psutil"])
def kinds(request: pytest.FixtureRequest) -> Kinds:
    """The probes by procfs, and those by psutil for other systems."""
    probes: Kinds = request.param.KINDS
    return probes


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("cpu", procfs_cpu),
        ("disk", procfs_disks),
        ("network", procfs_network),
        ("process", procfs_process),
    ],
)
def test_counters_lie_between_those_of_procfs_before_and_after(
    kinds: Kinds, kind: str, read: Callable[[], dict[str, float]]
) -> None:
    if kind == "disk" and kinds is psutil_probes.KINDS:
        pytest.skip("psutil also counts devices on top of disks")
    probe = kinds[kind]()
    before = read()
    reading = probe.read()
    after = read()
    slack = 0.02 if kind in ("cpu", "process") else 0  # idle times of cores are rounded one by one
    for name, low in before.items():
        assert low - slack <= reading[name] <= after[name] + slack, name


def test_memory_agrees_with_procfs(kinds: Kinds) -> None:
    reading, expected = kinds["mem"]().read(), procfs_memory()
    assert reading["total_bytes"] == expected["MemTotal"]
    assert abs(reading["available_bytes"] - expected["MemAvailable"]) < 0.05 * expected["MemTotal"]


def test_swap_agrees_with_procfs(kinds: Kinds) -> None:
    reading, expected = kinds["swap"]().read(), procfs_memory()
    assert reading["total_bytes"] == expected["SwapTotal"]
    assert (
        abs(reading["used_bytes"] - (expected["SwapTotal"] - expected["SwapFree"]))
        <= 0.05 * expected["MemTotal"]
    )


def test_the_process_agrees_with_procfs(kinds: Kinds) -> None:
    reading = kinds["process"]().read()
    resident = int(first_line("/proc/self/statm")[1]) * PAGE
    assert abs(reading["rss_bytes"] - resident) < 50 << 20
    assert reading["peak_rss_bytes"] >= reading["rss_bytes"] - (1 << 20)
    assert reading["threads"] == len(list(Path("/proc/self/task").iterdir()))
    assert abs(reading["file_descriptors"] - len(os.listdir("/proc/self/fd"))) <= 2  # noqa: PTH208 - counted alike
    written = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    assert reading["write_bytes"] <= int(written["write_bytes"])


def test_the_busy_times_of_the_cores_add_up_to_that_of_all(kinds: Kinds) -> None:
    reading = kinds["cpu"]().read()
    busy = sum(reading[name] for name in ("user_s", "nice_s", "system_s", "irq_s", "softirq_s", "steal_s"))
    assert len(reading["per_core_busy_s"]) == os.cpu_count()
    assert sum(reading["per_core_busy_s"]) == pytest.approx(busy, abs=0.1)


@pytest.mark.parametrize("kind", procfs_probes.KINDS)
def test_names_end_with_their_unit_and_values_are_json(kinds: Kinds, kind: str) -> None:
    reading = kinds[kind]().read()
    assert reading
    assert all(name.endswith(UNITS) or name in PLAIN_COUNTS for name in reading)
    assert msgspec.json.decode(msgspec.json.encode(reading)) == reading


def test_the_readings_of_a_task_show_the_time_that_it_computes(buffer: Path) -> None:
    flowprov.configure(
        journal={"path": str(buffer)}, telemetry_capture={"process": True, "mode": "exact", "interval": 60}
    )

    @flowprov.task
    def burn(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    burn(0.5)
    computed = _growth(buffer, "user_s") + _growth(buffer, "system_s")
    assert 0.45 <= computed <= 0.75


def test_the_readings_of_a_task_show_the_memory_that_it_allocates(tmp_path: Path) -> None:
    program = """
        import flowprov

        flowprov.configure(telemetry_capture={"process": True, "mode": "exact", "interval": 60})
        kept = []

        @flowprov.task
        def allocate(size):
            kept.append(bytes([1]) * size)

        allocate(200 << 20)
    """
    run(program, tmp_path)  # alone: what earlier tests left must not be freed meanwhile
    assert 190 << 20 <= _growth(tmp_path / "flowprov_buffer", "rss_bytes") <= 220 << 20


def test_the_sampled_memory_follows_that_of_the_program(tmp_path: Path) -> None:
    program = """
        from pathlib import Path
        import flowprov
        from tests.telemetry.support import all_samples, await_samples

        buffer = Path("flowprov_buffer").absolute()
        flowprov.configure(telemetry_capture={"process": True, "interval": 0.02})
        with flowprov.workflow("W"):
            flowprov.task(len)("")
            await_samples(buffer, 2)
            block = bytes([1]) * (200 << 20)
            await_samples(buffer, len(all_samples(buffer)) + 2)
    """
    run(program, tmp_path)  # alone, as above
    resident = [sample["process"]["rss_bytes"] for sample in all_samples(tmp_path / "flowprov_buffer")]
    assert max(resident) - resident[0] > 190 << 20


@pytest.mark.parametrize("kind", procfs_probes.KINDS)
def test_each_part_of_a_kind_fails_alone(kinds: Kinds, kind: str) -> None:
    whole = kinds[kind]()
    assert isinstance(whole, CompositeProbe)
    parts = {**whole._parts, **whole._slow_parts}
    complete = set(whole.read())
    for broken in parts:

        def fail() -> Any:
            raise PermissionError("hidden")

        probe = CompositeProbe(kind, {name: fail if name == broken else part for name, part in parts.items()})
        lost = complete - set(probe.read())
        assert lost
        assert len(parts) == 1 or lost < complete


def test_readings_by_procfs_and_by_psutil_have_the_same_names() -> None:
    for kind, create in procfs_probes.KINDS.items():
        assert set(create().read()) == set(psutil_probes.KINDS[kind]().read())


def test_values_that_a_machine_does_not_have_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda **_: None)
    monkeypatch.setattr(psutil, "net_io_counters", lambda **_: {})
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    assert psutil_probes.KINDS["disk"]().read() == {}
    assert psutil_probes.KINDS["network"]().read() == {}
    assert "frequency_mhz" not in psutil_probes.KINDS["cpu"]().read()


def test_a_file_that_fails_is_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    file = procfs_probes.ProcfsFile(str(path))
    with pytest.raises(FileNotFoundError):
        file.read()
    path.write_bytes(b"1")
    assert file.read() == b"1"
    assert file._descriptor is not None
    os.close(file._descriptor)  # as a program does that closes all descriptors
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.read()
    assert file.read() == b"1"


def test_a_descriptor_that_became_another_file_is_not_closed() -> None:
    file = procfs_probes.ProcfsFile("/proc/self/stat")
    file.read()
    assert file._descriptor is not None
    os.close(file._descriptor)  # a program that becomes a daemon closes all its descriptors
    reader, writer = os.pipe()
    os.dup2(reader, file._descriptor)
    number = file._descriptor
    with pytest.raises(OSError, match="Illegal seek"):
        file.read()
    os.fstat(number)  # it is still open
    assert file.read()
    for descriptor in {reader, writer, number}:
        os.close(descriptor)


@pytest.mark.parametrize("size", [0, 1, 2047, 2048, 5000, 40_000, 100_000])
def test_files_of_every_size_are_read_whole(tmp_path: Path, size: int) -> None:
    path = tmp_path / "numbers"
    content = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    path.write_bytes(content)
    file = procfs_probes.ProcfsFile(str(path))
    assert file.read() == content
    assert file.read() == content


def test_files_that_the_kernel_returns_in_several_reads_are_read_whole() -> None:
    assert procfs_probes.ProcfsFile("/proc/kallsyms").read() == Path("/proc/kallsyms").read_bytes()


def test_counters_change_exactly_when_their_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "dev", procfs_probes.ProcfsFile
    monkeypatch.setattr(procfs_probes, "ProcfsFile", lambda _path: real(str(path)))
    probe = procfs_probes.network()
    received_bytes = []
    for received in (7, 7, 8, 7):
        counts = [received, 1, 0, 0, 0, 0, 0, 0, 5, 1, 0, 0, 0, 0, 0, 0]
        path.write_text(f"two\nheadings\n eth0: {' '.join(map(str, counts))}\n", encoding="ascii")
        received_bytes.append(probe.read()["received_bytes"])
    assert received_bytes == [7, 7, 8, 7]


def test_the_warning_names_a_number_that_the_kernel_does_not_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, real = tmp_path / "meminfo", procfs_probes.ProcfsFile
    path.write_text("MemTotal: 1 kB\n", encoding="ascii")
    monkeypatch.setattr(procfs_probes, "ProcfsFile", lambda _path: real(str(path)))
    assert procfs_probes.mem().read() == {}
    assert "the kernel does not report MemFree" in caplog.text


def test_slow_parts_are_read_only_at_every_nth_reading() -> None:
    calls: list[int] = []

    def slow_part() -> dict[str, int]:
        calls.append(1)
        return {"n_count": len(calls)}

    probe = CompositeProbe("cpu", {}, {"slow": slow_part})
    assert [probe.read()["n_count"] for _ in range(2 * SLOW_EVERY)] == [1] * SLOW_EVERY + [2] * SLOW_EVERY


def test_nothing_of_the_command_line_or_the_environment_is_sampled(
    buffer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "marker-of-a-secret")
    monkeypatch.setattr("sys.argv", ["program", "--password=marker-of-a-secret"])
    flowprov.configure(journal={"path": str(buffer)}, telemetry_capture=ALL_HOST)
    with flowprov.workflow("W"):
        pass
    runtime.reset()
    assert all_samples(buffer)
    assert not any(b"marker-of-a-secret" in path.read_bytes() for path in buffer.rglob("*.jsonl"))


def _growth(buffer: Path, name: str) -> float:
    row = next(row for row in flowprov.read_buffer(buffer, return_df=False) if row["type"] == "task")
    growth: float = row["telemetry_at_end"]["process"][name] - row["telemetry_at_start"]["process"][name]
    return growth
