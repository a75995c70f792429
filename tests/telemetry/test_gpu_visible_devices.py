"""CUDA_VISIBLE_DEVICES, in all its forms, shows the same devices to flowprov as to CUDA."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprov.telemetry.gpu.visible_devices import (
    Device,
    Instance,
    VisibleDevice,
    names_by_number,
    visible_devices,
)

A = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
B = "GPU-89aa0b1c-0b21-4d3e-9a55-0d7f6a1e2b3c"
C = "GPU-1f00d5e2-77aa-4c0b-8e44-5c6d7e8f9a0b"
THREE = [Device(0, A), Device(1, B), Device(2, C)]

M10, M11, M20 = (
    Instance(f"MIG-{gi}{ci}c4b2a1-5e3d-5f6a-8b9c-0d1e2f3a4b5c", gi, ci) for gi, ci in ((1, 0), (1, 1), (2, 0))
)
DIVIDED = Device(0, A, instances=(M10, M11, M20))
MIXED = [DIVIDED, Device(1, B)]


def _indices(text: str | None) -> list[int]:
    return [visible.device.index for visible in visible_devices(text, THREE)]


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        (None, [0, 1, 2]),
        ("", []),
        (" ", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("none", []),
        ("0", [0]),
        ("0,2", [0, 2]),
        ("2,1", [2, 1]),
        (" 0 , 2 ", [0, 2]),
        ("0,2,-1,1", [0, 2]),  # the example of the CUDA Programming Guide
        ("0,7,1", [0]),
        ("0,,1", [0]),
        ("0,1,", [0, 1]),
        ("+1", [1]),
        ("1gpu2,2ampere", [1, 2]),
        ("0-2", [0]),
        ("0,x,1", [0]),
        ("0,1,1", []),
        ("2,1,2,0", []),
        ("0,9,0", [0]),
        ("99999999999999999999", []),
        ("1" * 5000, []),
    ],
)
def test_numbers_choose_devices(text: str | None, indices: list[int]) -> None:
    assert _indices(text) == indices


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        (A, [0]),
        (f"{C},{A}", [2, 0]),
        (f" {C} , {A} ", [2, 0]),
        ("GPU-1f00d5e2", [2]),
        ("GPU-1", [2]),
        ("GPU-893", [0]),
        ("GPU-89", []),  # two UUIDs begin with this
        ("GPU-1,GPU-89,GPU-893", [2]),
        ("GPU-", []),
        ("GPU-0000", []),
        (f"{A},{A}", []),
        (f"{A},GPU-893", []),
        (f"{A},1", [0]),  # all entries of a list are of one kind
        (f"1,{A}", [1]),
        (f"{A},MIG-1", [0]),
        (A.removeprefix("GPU-"), []),
    ],
)
def test_uuids_choose_devices(text: str, indices: list[int]) -> None:
    assert _indices(text) == indices


def test_the_prefix_gpu_alone_is_enough_if_there_is_only_one_device() -> None:
    assert visible_devices("GPU-", THREE[:1]) == [VisibleDevice(THREE[0])]


@pytest.mark.parametrize(
    ("text", "instances"),
    [
        (M11.uuid, [M11]),
        (f"{M20.uuid},{M10.uuid}", [M20, M10]),
        ("MIG-20c4", [M20]),
        ("MIG-1", []),
        (f"MIG-{A}/1/1", [M11]),
        ("MIG-GPU-8932f937/2/0", [M20]),
        (f"MIG-{A}/3/0", []),
        (f"MIG-{A}/1", []),
        (f"MIG-{B}/1/1", []),
        (f"{M20.uuid},{M20.uuid}", []),
        (f"{M20.uuid},0", [M20]),
        (f"MIG-{A}/1/0,MIG-{A}/2/0", [M10, M20]),
        ("0", [M10, M20]),
        (A, [M10, M20]),
    ],
)
def test_entries_choose_instances_of_a_divided_gpu(text: str, instances: list[Instance]) -> None:
    assert visible_devices(text, MIXED) == [VisibleDevice(DIVIDED, instance) for instance in instances]


def test_one_compute_instance_of_each_gpu_instance_is_visible_and_so_are_whole_gpus() -> None:
    assert visible_devices(None, MIXED) == [
        VisibleDevice(DIVIDED, M10),
        VisibleDevice(DIVIDED, M20),
        VisibleDevice(MIXED[1]),
    ]
    assert visible_devices(f"{M11.uuid},{M10.uuid}", MIXED) == [VisibleDevice(DIVIDED, M11)]


def test_older_drivers_show_one_instance_and_nothing_else() -> None:
    assert visible_devices(None, list(reversed(MIXED)), single_instance=True) == [VisibleDevice(DIVIDED, M10)]
    assert visible_devices("1", MIXED, single_instance=True) == [VisibleDevice(MIXED[1])]


def test_a_divided_gpu_without_instances_is_not_visible() -> None:
    assert visible_devices(None, [Device(0, A, instances=()), Device(1, B)]) == [VisibleDevice(Device(1, B))]


def test_a_device_whose_uuid_is_unknown_is_chosen_by_its_number() -> None:
    assert visible_devices("0", [Device(0)]) == [VisibleDevice(Device(0))]
    assert visible_devices("GPU-", [Device(0)]) == []


def test_numbers_are_those_of_the_driver_even_if_an_earlier_device_cannot_be_opened() -> None:
    assert visible_devices("1", [Device(1, B)]) == [VisibleDevice(Device(1, B))]


@pytest.mark.parametrize(
    ("text", "by_number"), [(None, True), ("0", True), (A, False), (f" {M10.uuid}", False)]
)
def test_lists_of_numbers_are_distinguished_from_lists_of_uuids(text: str | None, by_number: bool) -> None:  # noqa: FBT001
    assert names_by_number(text) is by_number


ENTRIES = st.one_of(
    st.integers(-3, 5).map(str),
    st.sampled_from(
        [A, B, C, M10.uuid, M11.uuid, M20.uuid, f"MIG-{A}/1/1", "NoDevFiles", "GPU-", "MIG-", " "]
    ),
    st.builds(lambda uuid, length: uuid[:length], st.sampled_from([A, B, C, M10.uuid]), st.integers(0, 40)),
    st.text(max_size=8),
)


@given(st.one_of(st.none(), st.text(), st.lists(ENTRIES).map(",".join)), st.booleans(), st.booleans())
def test_any_text_shows_only_existing_devices_and_each_once(
    text: str | None,
    divided: bool,  # noqa: FBT001
    single: bool,  # noqa: FBT001
) -> None:
    devices = MIXED if divided else THREE
    shown = visible_devices(text, devices, single_instance=single)
    assert all(visible.device in devices for visible in shown)
    assert all((visible.instance is None) == (visible.device.instances is None) for visible in shown)
    assert len({(visible.device.index, visible.instance) for visible in shown}) == len(shown)


@given(st.permutations([0, 1, 2]), st.integers(0, 3))
def test_numbers_and_uuids_choose_the_same_devices_in_the_same_order(order: list[int], count: int) -> None:
    chosen = order[:count]
    by_number = visible_devices(",".join(str(index) for index in chosen), THREE)
    by_uuid = visible_devices(",".join(THREE[index].uuid for index in chosen), THREE)
    assert by_number == by_uuid == [VisibleDevice(THREE[index]) for index in chosen]


@given(st.lists(st.integers(0, 2), unique=True), st.sampled_from(["-1", "x", "", "7", "GPU-8"]), st.text())
def test_entries_after_one_that_names_no_device_choose_nothing(
    chosen: list[int], bad: str, rest: str
) -> None:
    text = ",".join([*(str(index) for index in chosen), bad, rest])
    assert _indices(text) == chosen
