"""Digests of objects: by their elements, whatever memory holds them."""

from __future__ import annotations

from typing import Any

import pytest

from flowprov.contents.objects import read_object
from tests.contents.files import sha256

np = pytest.importorskip("numpy", reason='NO NUMPY: pip install -e ".[dev]"')
pd = pytest.importorskip("pandas", reason='NO PANDAS: pip install -e ".[dev]"')
torch = pytest.importorskip("torch", reason='NO TORCH: pip install -e ".[dev]"')


def _digest(value: Any) -> str | None:
    return read_object(value).content.sha256


def test_bytes_have_the_digest_of_a_file_that_holds_them() -> None:
    for value in (b"content", bytearray(b"content"), memoryview(b"content")):
        assert _digest(value) == sha256(b"content")


def test_an_array_is_the_same_in_any_order_of_memory_and_as_a_tensor() -> None:
    array = np.arange(24, dtype="float32").reshape(4, 6)
    same = [
        array,
        np.asfortranarray(array),
        array.astype(">f4"),
        torch.tensor(array),
        np.repeat(array, 2, 1)[:, ::2],
    ]
    assert len({_digest(value) for value in same}) == 1
    others = [array.reshape(6, 4), array.astype("float64"), array + 1]
    assert len({_digest(value) for value in [array, *others]}) == 4


def test_tensors_of_every_kind_have_one() -> None:
    kinds = [
        torch.tensor(3),
        torch.empty(0, 4),
        torch.randn(3).to(torch.bfloat16),
        torch.randn(3, requires_grad=True),
        torch.randn(3, 4).t(),
        torch.tensor([1 + 2j]),
        torch.tensor([True]),
    ]
    assert len({_digest(tensor) for tensor in kinds}) == len(kinds)
    assert read_object(kinds[0]).kind == "tensor"


def test_a_frame_is_the_same_however_it_was_put_together() -> None:
    whole = pd.DataFrame({"a": [1, 2, 3], "b": ["x", None, "z"], "c": pd.to_datetime(["2026-01-01"] * 3)})
    parts = pd.concat([whole[:1], whole[1:]])
    assert _digest(whole) == _digest(parts) == _digest(whole.copy())
    changed = whole.copy()
    changed.loc[1, "b"] = "y"
    assert _digest(changed) != _digest(whole) != _digest(whole.rename(columns={"a": "A"}))


def test_what_has_no_content_says_why() -> None:
    for value in (object(), [1], {"a": 1}, np.array([object()]), torch.empty(3, device="meta")):
        content = read_object(value).content
        assert (content.state, content.sha256) == ("skipped", None)
        assert content.reason


def test_large_objects_are_left_out_if_the_settings_say_so() -> None:
    assert read_object(bytes(100), max_bytes=99).content.state == "skipped"
    assert read_object(torch.zeros(100), max_bytes=99).content.state == "skipped"
