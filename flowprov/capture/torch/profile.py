"""What a model is like: its parameters, its parts, its architecture.

Flows in: a model. Flows out: a description of bounded size. Only shapes and types are read, no element of a
tensor, so nothing is copied and no device is waited for; parameters that have no shape yet, or no storage,
are counted as what they are. Each part may fail without the others.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn.parameter import is_lazy

# The summary of one value holds no more than a thousand nodes, a hundred items and a thousand characters.
_MAX_MODULES = 100
_MAX_REPR = 1_000
_REPR_OF = 2_000  # modules: of a larger model the repr alone would cost more than the rest


def describe_model(model: torch.nn.Module) -> dict[str, Any]:
    """Describe a model; never raises.

    Returns
    -------
    dict
        ``class``; ``params`` and ``trainable_params``, in elements, shared ones counted once; ``bytes`` of
        the parameters and ``buffer_bytes``; ``by_dtype`` (``params`` and ``bytes`` of each); ``modules``,
        their number, and ``depth``, how deep they nest; ``tree``, the first hundred modules level by level;
        ``repr``, cut; ``architecture``, a digest that is equal for models of equal structure and shapes.
        Where parameters wait for their shape, ``uninitialized_params`` is how many tensors these are.
    """
    described: dict[str, Any] = {"class": f"{type(model).__module__}.{type(model).__qualname__}"}
    for part in (_parameters, _buffers, _modules, _repr, _architecture):
        try:
            described.update(part(model))
        except Exception as fault:  # noqa: PERF203 - modules may override all that is asked here
            described.setdefault("faults", {})[part.__name__.strip("_")] = type(fault).__name__
    return described


def _parameters(model: torch.nn.Module) -> dict[str, Any]:
    total = trainable = waiting = 0
    by_dtype: dict[str, dict[str, int]] = {}
    for parameter in model.parameters():
        if is_lazy(parameter):
            waiting += 1
            continue
        elements = parameter.numel()
        total += elements
        trainable += elements if parameter.requires_grad else 0
        held = by_dtype.setdefault(_dtype(parameter), {"params": 0, "bytes": 0})
        held["params"] += elements
        held["bytes"] += elements * parameter.element_size()
    return {
        "params": total,
        "trainable_params": trainable,
        "bytes": sum(held["bytes"] for held in by_dtype.values()),
        "by_dtype": by_dtype,
        **({"uninitialized_params": waiting} if waiting else {}),
    }


def _buffers(model: torch.nn.Module) -> dict[str, Any]:
    ready = (buffer for buffer in model.buffers() if not is_lazy(buffer))
    return {"buffer_bytes": sum(buffer.numel() * buffer.element_size() for buffer in ready)}


def _modules(model: torch.nn.Module) -> dict[str, Any]:
    tree: list[dict[str, Any]] = []
    count = depth = 0
    waiting = deque([("", model, 0)])
    met = {id(model)}
    while waiting:
        path, module, level = waiting.popleft()
        count += 1
        depth = max(depth, level)
        if len(tree) < _MAX_MODULES:
            own = (each for each in module.parameters(recurse=False) if not is_lazy(each))
            tree.append(
                {"path": path, "type": type(module).__name__, "own_params": sum(each.numel() for each in own)}
            )
        for name, child in module.named_children():
            if id(child) not in met:
                met.add(id(child))
                waiting.append((f"{path}.{name}" if path else name, child, level + 1))
    return {"modules": count, "depth": depth, "tree": tree}


def _repr(model: torch.nn.Module) -> dict[str, Any]:
    if sum(1 for _ in model.modules()) > _REPR_OF:
        return {}
    text = repr(model)
    return {"repr": text if len(text) <= _MAX_REPR else text[: _MAX_REPR - 1] + "…"}


def architecture(model: torch.nn.Module) -> str | None:
    """Give the digest that is equal for models of equal structure and shapes; never raises."""
    try:
        return str(_architecture(model)["architecture"])
    except Exception:  # modules may override all that is asked
        return None


def _architecture(model: torch.nn.Module) -> dict[str, Any]:
    digest = hashlib.sha256()
    for path, module in model.named_modules():
        digest.update(f"{path}:{type(module).__module__}.{type(module).__qualname__}\n".encode())
    named: tuple[Callable[[], Iterable[tuple[str, torch.Tensor]]], ...] = (
        model.named_parameters,
        model.named_buffers,
    )
    for tensors in named:
        for path, tensor in tensors():
            shape = "?" if is_lazy(tensor) else tuple(tensor.shape)
            digest.update(f"{path}={shape} {_dtype(tensor)}\n".encode())
    return {"architecture": digest.hexdigest()[:16]}


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
