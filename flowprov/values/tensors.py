"""Tensors, arrays and data frames: their type and shape, never their elements.

Flows in: anything with a shape and a dtype. Flows out: its type, shape, dtype, device and size in bytes, as a
dict or as JSON. No framework is imported and no element is read, so nothing is computed, copied or
synchronized with a device.
"""

from __future__ import annotations

from typing import Any

import msgspec

from flowprov.asynchronous import interrupted_reading
from flowprov.values.classes import package_of
from flowprov.values.markers import JSONable, escape_surrogates, type_name

_MAX_CACHED = 4096
_MAX_DIMENSIONS = 64
_MAX_NAME = 200
MAX_FIELDS = 50  # of a structured dtype whose text is kept

_json_cache: dict[tuple[object, ...], msgspec.Raw] = {}
_encode = msgspec.json.Encoder().encode


def tensor_json(tensor: Any) -> bytes:
    """Return the summary of a tensor or an array as JSON; never raise.

    Parameters
    ----------
    tensor
        A tensor or array of any framework. An attribute that it does not have (a sparse tensor has no size, a
        nested tensor no shape) is left out.

    Returns
    -------
    bytes
        `{"type": "torch.Tensor", "shape": [8, 3], "dtype": "float32", "device": "cuda:0", "nbytes": 96}`,
        from a cache where it holds one. An unknown or symbolic dimension is null.
    """
    return bytes(tensor_raw(tensor))


def tensor_raw(tensor: Any) -> msgspec.Raw:
    """Return what `tensor_json` returns, in the form that an encoder puts into a larger message as it is."""
    try:
        # `nbytes` tells a sparse tensor from a dense one: a sparse tensor raises here.
        key = (type(tensor), tensor.shape, tensor.dtype, tensor.device, tensor.nbytes)
        cached = _json_cache.get(key)
        if cached is not None:
            return cached
    except BaseException as error:  # foreign code; a native extension may panic in any of them
        if interrupted_reading(error):
            raise
        return msgspec.Raw(_encode(array_summary(tensor)))
    summary = array_summary(tensor)
    raw = msgspec.Raw(_encode(summary))
    shape = summary.get("shape")
    # Not cached with a symbolic dimension: it prints the same for many tensors and keeps its graph alive.
    if isinstance(shape, list) and None not in shape:
        if len(_json_cache) >= _MAX_CACHED:
            _json_cache.clear()
        _json_cache[key] = raw
    return raw


def array_summary(array: Any) -> dict[str, JSONable]:
    """Return a tensor's or an array's type, shape, dtype, device and size, as far as it has them."""
    cls = type(array)
    name = type_name(cls)
    summary: dict[str, JSONable] = {"type": name}
    for attribute, read in (("shape", _shape), ("dtype", _dtype), ("device", _text), ("nbytes", _size)):
        try:
            summary[attribute] = read(getattr(array, attribute))
        except BaseException as error:  # noqa: PERF203 - tensors without storage raise; foreign code may raise anything
            if interrupted_reading(error):
                raise
            if attribute == "device" and name.startswith("numpy."):
                summary[attribute] = "cpu"  # before numpy 2.0 arrays have no `device`
    return summary


def frame_summary(frame: Any, max_columns: int) -> dict[str, Any]:
    """Return a data frame's type and shape, and names and dtypes of its first columns as they are.

    The names may be of any type: the caller still has to make them recordable.
    """
    summary = frame_shape(frame)
    if package_of(type(frame)) == "polars" and frame.width > max_columns:
        frame = frame[:, :max_columns]  # its `dtypes` creates an object for each column
    elif package_of(type(frame)) == "pandas" and frame.shape[1] > max_columns:
        frame = frame.iloc[:0, :max_columns]  # so does that of pandas, and a copy of no rows is none
    columns, dtypes = [], []
    texts: dict[int, JSONable] = {}  # by the identity of a dtype, as many columns share one
    for index, (column, dtype) in enumerate(zip(frame.columns, frame.dtypes, strict=False)):
        if index >= max_columns:
            break
        columns.append(column)
        if id(dtype) not in texts:
            texts[id(dtype)] = _dtype(dtype)
        dtypes.append(texts[id(dtype)])
    return {**summary, "columns": columns, "dtypes": dtypes}


def frame_shape(frame: Any) -> dict[str, Any]:
    """Return a data frame's type and shape."""
    return {"type": type_name(type(frame)), "shape": _shape(frame.shape)}


def _shape(shape: object) -> JSONable:
    if not isinstance(shape, (tuple, list)):
        raise TypeError("a shape is a tuple")
    # Only real integers: converting a symbolic size would fix its value in the graph that is being traced.
    return [int(size) if isinstance(size, int) else None for size in shape[:_MAX_DIMENSIONS]]


def _dtype(dtype: object) -> JSONable:
    names = getattr(dtype, "names", None)  # of a structured dtype of numpy
    if type(names) is tuple and len(names) > MAX_FIELDS:
        return f"void of {len(names)} fields"  # its text would take milliseconds
    return _text(dtype).removeprefix("torch.")


def _text(value: object) -> str:
    return escape_surrogates(str.__str__(str(value))[:_MAX_NAME])


def _size(size: object) -> JSONable:
    if not isinstance(size, int) or size.bit_length() > 63:
        raise TypeError("a size is an integer")
    return int(size)
