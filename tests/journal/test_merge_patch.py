"""Merge patches: the patch between two samples turns the first into the second."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flowprov.journal.merge_patch import apply, diff

numbers = (
    st.integers(-3, 3)
    | st.floats(allow_nan=False)
    | st.text(max_size=2)
    | st.lists(st.integers(), max_size=3)
)
readings = st.dictionaries(
    st.sampled_from("abcd"),
    st.recursive(
        numbers, lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3), max_leaves=8
    ),
    max_size=4,
)


@given(readings, readings)
def test_a_patch_turns_the_first_sample_into_the_second(
    before: dict[str, object], after: dict[str, object]
) -> None:
    assert apply(before, diff(before, after)) == after


@given(readings)
def test_the_patch_between_equal_samples_is_empty(same: dict[str, object]) -> None:
    assert diff(same, same) == {}


def test_a_patch_holds_only_what_changed() -> None:
    before = {"cpu": {"user_s": 1.0, "system_s": 2.0}, "mem": {"used_bytes": 3}, "gpu": {"0": {"power_w": 4}}}
    after = {"cpu": {"user_s": 1.5, "system_s": 2.0}, "mem": {"used_bytes": 3}}
    assert diff(before, after) == {"cpu": {"user_s": 1.5}, "gpu": None}


def test_applying_a_patch_does_not_change_the_first_sample() -> None:
    before = {"cpu": {"user_s": 1.0}}
    assert apply(before, {"cpu": {"user_s": 2.0}}) == {"cpu": {"user_s": 2.0}}
    assert before == {"cpu": {"user_s": 1.0}}
