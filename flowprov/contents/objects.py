"""The content of objects: arrays, tensors, frames, bytes and the state of a model, by their elements.

Flows in: an object. Flows out: its content, the same however its memory is laid out or chunked, or the reason
why it has none. Frameworks are recognized by the names of their classes; only their own objects are asked.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from flowprov.contents.content import TELLING_BYTES, Content, Tensors, is_pattern, unite


class ObjectContent(NamedTuple):
    """The content of an object, and what kind of artifact it is."""

    kind: str
    content: Content


_NONE = "objects of this kind have no digest: give a file, an array, a tensor, a frame or bytes"


def read_object(value: Any, max_bytes: int | None = None) -> ObjectContent:
    """Return the content of an object. Errors of the object's own code pass."""
    began = time.monotonic_ns()
    kind, content = _read(value, max_bytes)
    if content.sha256 is None:
        return ObjectContent(kind, content)
    took = time.monotonic_ns() - began
    return ObjectContent(kind, msgspec.structs.replace(content, took_ns=took, read_bytes=content.size or 0))


def _read(value: Any, max_bytes: int | None) -> ObjectContent:
    package = _package_of(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return ObjectContent("object", _limited(memoryview(value).nbytes, max_bytes) or _of_bytes(value))
    if package in ("numpy", "torch") and hasattr(value, "shape") and hasattr(value, "dtype"):
        return ObjectContent("tensor", _limited(_size_of(value), max_bytes) or _of_tensor(value))
    if _is_state(value):
        size = sum(_size_of(tensor) for tensor in value.values())
        return ObjectContent("model", _limited(size, max_bytes) or _of_state(value))
    if package == "pandas" and hasattr(value, "columns") and hasattr(value, "index"):
        size = int(value.memory_usage(index=True).sum())
        return ObjectContent("frame", _limited(size, max_bytes) or _of_frame(value))
    return ObjectContent("object", Content(state="skipped", reason=_NONE))


def _package_of(value: Any) -> str:
    return type(value).__module__.partition(".")[0]


def _limited(size: int, max_bytes: int | None) -> Content | None:
    if max_bytes is None or size <= max_bytes:
        return None
    reason = f"{size} bytes are more than artifacts.max_bytes ({max_bytes})"
    return Content(state="skipped", reason=reason, size=size)


def _of_bytes(value: bytes | bytearray | memoryview) -> Content:
    data = memoryview(value).cast("B") if memoryview(value).contiguous else bytes(value)
    digest = hashlib.sha256(data, usedforsecurity=False).hexdigest()
    return Content(state="digested", sha256=digest, size=len(data))


def _size_of(tensor: Any) -> int:
    return int(getattr(tensor, "nbytes", 0))


def _is_state(value: Any) -> bool:
    """Whether an object is the state of a model: a mapping of names to tensors."""
    if not isinstance(value, Mapping) or not value:
        return False
    return all(
        type(name) is str and _package_of(tensor) == "torch" and hasattr(tensor, "dtype")
        for name, tensor in value.items()
    )


def _elements(tensor: Any) -> bytes | memoryview:
    """Return the bytes of a tensor or an array, in the order of its elements.

    Raises
    ------
    TypeError
        If its elements are objects, or it has no memory.
    """
    if _package_of(tensor) == "torch":
        torch: Any = sys.modules["torch"]
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        tensor = flat.view(torch.uint8).numpy() if flat.numel() else b""
    elif tensor.dtype.hasobject:
        raise TypeError("its elements are objects")
    else:
        tensor = tensor.astype(tensor.dtype.newbyteorder("<"), order="C", copy=False).tobytes()
    return memoryview(tensor).cast("B") if not isinstance(tensor, bytes) else tensor


def _shape_of(tensor: Any) -> str:
    """Return type and shape of a tensor; those of numpy and torch are the same."""
    dtype = tensor.dtype
    fields = getattr(dtype, "fields", None)
    name = str(dtype.newbyteorder("<")) if fields else getattr(dtype, "name", str(dtype))
    name = name.removeprefix("torch.")
    return json.dumps([name, list(map(int, tensor.shape))], separators=(",", ":"))


def _of_tensor(tensor: Any) -> Content:
    try:
        data = _elements(tensor)
    except (TypeError, RuntimeError) as error:
        return Content(state="skipped", reason=f"no digest: {error}")
    whole = hashlib.sha256(_shape_of(tensor).encode() + b"\n", usedforsecurity=False)
    whole.update(data)
    return Content(state="digested", sha256=whole.hexdigest(), size=len(data), tensors=_tensors_of(data))


def _of_state(state: Mapping[str, Any]) -> Content:
    whole = hashlib.sha256(usedforsecurity=False)
    size, parts = 0, []
    for name in sorted(state):
        try:
            data = _elements(state[name])
        except (TypeError, RuntimeError) as error:
            return Content(state="skipped", reason=f"no digest: {name}: {error}")
        part = _tensors_of(data)
        line = [name, _shape_of(state[name]), hashlib.sha256(data, usedforsecurity=False).hexdigest()]
        whole.update(json.dumps(line).encode() + b"\n")
        size += len(data)
        parts.append(part)
    return Content(state="digested", sha256=whole.hexdigest(), size=size, tensors=unite(parts))


def _tensors_of(data: bytes | memoryview) -> Tensors:
    digests = frozenset([hashlib.sha256(data, usedforsecurity=False).digest()] if len(data) else [])
    tells = len(data) >= TELLING_BYTES and not (is_pattern(bytes(data[:64])) and is_pattern(bytes(data)))
    return Tensors(digests, digests if tells else frozenset())


def _of_frame(frame: Any) -> Content:
    """Return the content of a frame of pandas: index and columns, each with name, type and values."""
    whole = hashlib.sha256(usedforsecurity=False)
    size = 0
    for name, column in [("", frame.index), *((str(name), frame[name]) for name in frame.columns)]:
        data = _values_of(column)
        whole.update(json.dumps([name, str(column.dtype), len(column), len(data)]).encode() + b"\n")
        whole.update(data)
        size += len(data)
    return Content(state="digested", sha256=whole.hexdigest(), size=size)


def _values_of(column: Any) -> bytes:
    kind = getattr(column.dtype, "kind", "O")
    if kind in "biufc" and type(column.dtype).__module__.startswith("numpy"):
        return bytes(_elements(column.to_numpy()))
    if kind in "mM" and type(column.dtype).__module__.startswith("numpy"):
        return bytes(_elements(column.to_numpy().astype("int64")))
    # A text may hold anything: JSON tells where each of them ends.
    missing = column.isna()
    return json.dumps(
        [None if none else str(value) for value, none in zip(column, missing, strict=True)]
    ).encode()
