"""Tensors, arrays and data frames: what they are like, never what they hold.

Flows in: anything with a shape and a dtype. Flows out: its type, shape, dtype, device and size in bytes, as a
dict or as ready JSON. No framework is imported and no element is read, so nothing is computed, copied or
synchronised with a device.
"""

from __future__ import annotations

from typing import Any

import msgspec

from flowprov.values.markers import JSONable, encodable, type_name

_READY_SIZE = 4096
_MAX_DIMENSIONS = 64
_MAX_NAME = 200

_ready: dict[tuple[object, ...], msgspec.Raw] = {}
_encode = msgspec.json.Encoder().encode


def tensor_json(tensor: Any) -> bytes:
    """Give the JSON of a tensor's or an array's summary; never raises.

    Parameters
    ----------
    tensor
        A tensor or array of any framework. What it cannot tell (a sparse tensor its size, a nested tensor its
        shape) is left out.

    Returns
    -------
    bytes
        `{"type": "torch.Tensor", "shape": [8, 3], "dtype": "float32", "device": "cuda:0", "nbytes": 96}`, in
        general looked up rather than made. A dimension that is not known, or symbolic, is null.
    """
    return bytes(tensor_raw(tensor))


def tensor_raw(tensor: Any) -> msgspec.Raw:
    """Give what `tensor_json` gives, ready to stand inside a larger message."""
    try:
        # The size stands for the layout: a sparse tensor, which looks the same otherwise, raises here.
        key = (type(tensor), tensor.shape, tensor.dtype, tensor.device, tensor.nbytes)
        found = _ready.get(key)
        if found is not None:
            return found
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # the attributes are foreign code; a native extension may panic with any of these
        return msgspec.Raw(_encode(array_summary(tensor)))
    summary = array_summary(tensor)
    raw = msgspec.Raw(_encode(summary))
    shape = summary.get("shape")
    # A symbolic dimension prints the same for many tensors and holds on to its graph: not kept.
    if isinstance(shape, list) and None not in shape:
        if len(_ready) >= _READY_SIZE:
            _ready.clear()
        _ready[key] = raw
    return raw


def array_summary(array: Any) -> dict[str, JSONable]:
    """Describe a tensor or array; what it cannot tell is left out."""
    cls = type(array)
    name = type_name(cls)
    summary: dict[str, JSONable] = {"type": name}
    for attribute, read in (("shape", _shape), ("dtype", _dtype), ("device", _named), ("nbytes", _size)):
        try:
            summary[attribute] = read(getattr(array, attribute))
        except (KeyboardInterrupt, SystemExit):  # noqa: PERF203 - each attribute fails for itself
            raise
        except BaseException:  # tensors without storage raise in attributes; foreign code may raise anything
            if attribute == "device" and name.startswith("numpy."):
                summary[attribute] = "cpu"  # before 2.0 its arrays did not say so
    return summary


def frame_summary(frame: Any, max_columns: int) -> dict[str, Any]:
    """Describe a data frame by shape, and its first columns by name and dtype, not yet made recordable."""
    summary: dict[str, Any] = {"type": type_name(type(frame)), "shape": _shape(frame.shape)}
    columns, dtypes = [], []
    for position, (column, dtype) in enumerate(zip(frame.columns, frame.dtypes, strict=False)):
        if position >= max_columns:
            break
        columns.append(column)
        dtypes.append(_dtype(dtype))
    return {**summary, "columns": columns, "dtypes": dtypes}


def _shape(shape: object) -> JSONable:
    if not isinstance(shape, (tuple, list)):
        raise TypeError("a shape is a tuple")
    # Only true integers: turning a symbolic size into one would pin it in the graph that is being traced.
    return [int(size) if isinstance(size, int) else None for size in shape[:_MAX_DIMENSIONS]]


def _dtype(dtype: object) -> JSONable:
    name = _named(dtype)
    return name.removeprefix("torch.")


def _named(value: object) -> str:
    return encodable(str.__str__(str(value))[:_MAX_NAME])


def _size(size: object) -> JSONable:
    if not isinstance(size, int) or size.bit_length() > 63:
        raise TypeError("a size is an integer")
    return int(size)
