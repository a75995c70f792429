"""The limits of control groups are found, in files written as a kernel writes them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowprov.telemetry import cgroups

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
CPU_MOUNT = "33 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct"
MEMORY_MOUNT = "34 30 0:31 / /sys/fs/cgroup/memory rw shared:11 - cgroup cgroup rw,memory"
OTHER_MOUNTS = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:21 / /sys rw - sysfs sysfs rw"


def kernel(root: Path, groups: str, mounts: str, files: Mapping[str, str]) -> Path:
    """Write the files of a kernel: our groups, the mounts, and files under /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups)
    (root / "proc/self/mountinfo").write_text(f"{OTHER_MOUNTS}\n{mounts}\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def limits(root: Path) -> tuple[float | None, int | None]:
    return cgroups.cpu_limit_cores(root), cgroups.memory_limit_bytes(root)


def test_the_limits_of_a_v2_group_are_read(tmp_path: Path) -> None:
    files = {"job/cpu.max": "150000 100000\n", "job/memory.max": "2147483648\n"}
    assert limits(kernel(tmp_path, "0::/job\n", V2_MOUNT, files)) == (1.5, 2 << 30)


def test_a_v2_group_without_limits_has_none(tmp_path: Path) -> None:
    files = {"job/cpu.max": "max 100000\n", "job/memory.max": "max\n"}
    assert limits(kernel(tmp_path, "0::/job\n", V2_MOUNT, files)) == (None, None)


def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    files = {
        "a/cpu.max": "50000 100000",
        "a/b/cpu.max": "max 100000",
        "a/b/c/cpu.max": "400000 100000",
        "a/memory.max": "max",
        "a/b/memory.max": "1000000",
        "a/b/c/memory.max": "3000000",
        "a/b/c/d/memory.max": "1",
        "beside/memory.max": "2",
    }
    assert limits(kernel(tmp_path, "0::/a/b/c\n", V2_MOUNT, files)) == (0.5, 1_000_000)


def test_in_a_namespace_of_its_own_the_group_is_at_the_mount_point(tmp_path: Path) -> None:
    files = {"cpu.max": "200000 100000", "memory.max": "4096"}
    assert limits(kernel(tmp_path, "0::/\n", V2_MOUNT, files)) == (2.0, 4096)


def test_the_limits_of_v1_groups_are_read_from_the_hierarchy_of_each_controller(tmp_path: Path) -> None:
    files = {
        "cpu,cpuacct/slurm/job_1/cpu.cfs_quota_us": "-1\n",
        "cpu,cpuacct/slurm/job_1/cpu.cfs_period_us": "100000\n",
        "cpu,cpuacct/slurm/cpu.cfs_quota_us": "300000\n",
        "cpu,cpuacct/slurm/cpu.cfs_period_us": "100000\n",
        "memory/slurm/job_1/memory.limit_in_bytes": "8589934592\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        "memory/elsewhere/memory.limit_in_bytes": "1\n",
    }
    groups = "4:memory:/slurm/job_1\n3:cpu,cpuacct:/slurm/job_1\n1:name=systemd:/elsewhere\n0::/elsewhere\n"
    assert limits(kernel(tmp_path, groups, f"{CPU_MOUNT}\n{MEMORY_MOUNT}", files)) == (3.0, 8 << 30)


@pytest.mark.parametrize("huge", ["9223372036854771712", "9223372036854710272", "18446744073709551615"])
def test_the_huge_numbers_of_v1_mean_no_limit(tmp_path: Path, huge: str) -> None:
    files = {"memory/memory.limit_in_bytes": huge}
    assert limits(kernel(tmp_path, "4:memory:/\n", MEMORY_MOUNT, files)) == (None, None)


def test_limits_are_read_from_v1_and_v2_groups_on_one_machine(tmp_path: Path) -> None:
    files = {"memory/job/memory.limit_in_bytes": "4096", "unified/job/cpu.max": "100000 50000"}
    unified = V2_MOUNT.replace("/sys/fs/cgroup rw", "/sys/fs/cgroup/unified rw")
    root = kernel(tmp_path, "4:memory:/job\n0::/job\n", f"{MEMORY_MOUNT}\n{unified}", files)
    assert limits(root) == (2.0, 4096)


def test_a_group_below_the_mounted_one_is_found(tmp_path: Path) -> None:
    mount = MEMORY_MOUNT.replace(" / /sys", " /docker/1 /sys")
    files = {"memory/inner/memory.limit_in_bytes": "4096", "memory/memory.limit_in_bytes": "8192"}
    assert limits(kernel(tmp_path, "4:memory:/docker/1/inner\n", mount, files)) == (None, 4096)


@pytest.mark.parametrize("own", ["/../other", "/docker/1/../2", "/kubepods/pod1"])
def test_if_our_group_is_not_visible_the_topmost_visible_one_counts(tmp_path: Path, own: str) -> None:
    mount = MEMORY_MOUNT.replace(" / /sys", " /docker/1 /sys")
    files = {"memory/memory.limit_in_bytes": "8192"}
    assert limits(kernel(tmp_path, f"4:memory:{own}\n", mount, files)) == (None, 8192)


def test_the_mount_that_shows_our_branch_counts(tmp_path: Path) -> None:
    other = MEMORY_MOUNT.replace(" / /sys/fs/cgroup/memory", " /other /sys/fs/cgroup/bound")
    files = {"bound/memory.limit_in_bytes": "1", "memory/job/memory.limit_in_bytes": "4096"}
    assert limits(kernel(tmp_path, "4:memory:/job\n", f"{other}\n{MEMORY_MOUNT}", files)) == (None, 4096)


def test_a_mount_with_a_space_in_its_path_is_found(tmp_path: Path) -> None:
    mount = V2_MOUNT.replace("/sys/fs/cgroup rw", r"/sys/fs/cgroup/my\040groups rw")
    assert limits(kernel(tmp_path, "0::/\n", mount, {"my groups/memory.max": "4096"})) == (None, 4096)


def test_files_that_cannot_be_read_are_no_limit(tmp_path: Path) -> None:
    root = kernel(tmp_path, "0::/job\n", V2_MOUNT, {"memory.max": "4096"})
    (root / "sys/fs/cgroup/job/memory.max").mkdir(parents=True)  # not even root can read a folder
    (root / "sys/fs/cgroup/job/cpu.max").mkdir()
    assert limits(root) == (None, 4096)


def test_without_any_file_there_is_no_limit(tmp_path: Path) -> None:
    assert limits(tmp_path) == (None, None)


@pytest.mark.parametrize(
    "text", ["", "nonsense", "0 100000", "100000 0", "-5", "1e5 100000", "max", "9" * 5000]
)
def test_nonsense_is_no_limit(tmp_path: Path, text: str) -> None:
    files = {"cpu.max": text, "memory.max": text.partition(" ")[2] if text.startswith("0") else text}
    cores, memory = limits(kernel(tmp_path, "0::/\n", V2_MOUNT, files))
    assert cores is None
    assert memory in (None, 100_000)


LINES = st.lists(
    st.text()
    | st.sampled_from(
        [V2_MOUNT, CPU_MOUNT, MEMORY_MOUNT, "0::/", "0::/a", "4:memory:/a", "3:cpu:/", "0::/\0"]
    )
    | st.from_regex(r"\A[0-9]*:(memory|cpu|):[/a.]*\Z")
).map(lambda parts: "\n".join(parts).encode(errors="replace"))
CONTENTS = LINES | st.binary()


@given(groups=CONTENTS, mounts=CONTENTS, cpu=CONTENTS, memory=CONTENTS)
@settings(max_examples=100)
def test_no_content_of_the_files_makes_reading_raise(
    groups: bytes, mounts: bytes, cpu: bytes, memory: bytes
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = kernel(Path(folder), "", "", {})
        (root / "proc/self/cgroup").write_bytes(groups)
        (root / "proc/self/mountinfo").write_bytes(mounts)
        for group in (root / "sys/fs/cgroup", root / "sys/fs/cgroup/a"):
            group.mkdir(parents=True)
            (group / "cpu.max").write_bytes(cpu)
            (group / "memory.max").write_bytes(memory)
        cores, limit = limits(root)
    assert cores is None or cores > 0
    assert limit is None or limit >= 0


def test_containers_are_recognized_by_their_files_and_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("SINGULARITY_CONTAINER", raising=False)
    assert cgroups.container_kinds(tmp_path) is None
    assert cgroups.describe_container(tmp_path) is None
    (tmp_path / ".dockerenv").touch()
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert cgroups.container_kinds(tmp_path) == ["docker", "kubernetes"]
    assert cgroups.describe_container(tmp_path) == {"kinds": ["docker", "kubernetes"]}


def test_the_description_holds_all_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_VARIABLE_OF_KIND", {})
    root = kernel(tmp_path, "0::/\n", V2_MOUNT, {"cpu.max": "50000 100000", "memory.max": "4096"})
    assert cgroups.describe_container(root) == {"cpu_limit_cores": 0.5, "memory_limit_bytes": 4096}
