"""The profile of a model: its parameters, its modules, its architecture.

Flows in: a model. Flows out: a description of bounded size. Only shapes and types are read, no element of a
tensor, so nothing is copied and no device is waited for. Parameters that have no shape yet are counted apart.
Each part of the profile may fail without the others.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch

from flowprov import guard
from flowprov.capture.torch._torch_private import is_lazy
from flowprov.values.redaction import redactor

# The summarizer keeps a thousand nodes, a hundred items and a thousand characters of one value.
_MAX_MODULES = 100
_MAX_REPR = 1_000
_MAX_MODULES_FOR_REPR = 2_000  # beyond, the repr alone would cost more than the rest


def describe_model(model: torch.nn.Module) -> dict[str, Any]:
    """Describe a model; never raises.

    Returns
    -------
    dict
        ``class``; ``params`` and ``trainable_params``, in elements, shared ones counted once; ``bytes`` of
        the parameters and ``buffer_bytes``; ``by_dtype`` (``params`` and ``bytes`` of each); ``modules``,
        their number, and ``depth``, how deep they nest; ``tree``, the first hundred modules level by level;
        ``repr``, cut; ``architecture``, a digest that is equal for models of equal structure and shapes.
        Where parameters have no shape yet, ``uninitialized_params`` is the number of these tensors.
    """
    described: dict[str, Any] = {"class": f"{type(model).__module__}.{type(model).__qualname__}"}
    for part in (_parameters, _buffers, _modules, _repr, _architecture):
        try:
            described.update(part(model))
        except Exception as fault:  # noqa: PERF203 - modules may override all that is called here
            guard.pass_on(fault)
            described.setdefault("faults", {})[part.__name__.strip("_")] = type(fault).__name__
    return described


def _parameters(model: torch.nn.Module) -> dict[str, Any]:
    total = trainable = uninitialized = 0
    by_dtype: dict[str, dict[str, int]] = {}
    for parameter in model.parameters():
        if is_lazy(parameter):
            uninitialized += 1
            continue
        elements = parameter.numel()
        total += elements
        trainable += elements if parameter.requires_grad else 0
        sizes = by_dtype.setdefault(_dtype(parameter), {"params": 0, "bytes": 0})
        sizes["params"] += elements
        sizes["bytes"] += elements * parameter.element_size()
    return {
        "params": total,
        "trainable_params": trainable,
        "bytes": sum(sizes["bytes"] for sizes in by_dtype.values()),
        "by_dtype": by_dtype,
        **({"uninitialized_params": uninitialized} if uninitialized else {}),
    }


def _buffers(model: torch.nn.Module) -> dict[str, Any]:
    ready = (buffer for buffer in model.buffers() if not is_lazy(buffer))
    return {"buffer_bytes": sum(buffer.numel() * buffer.element_size() for buffer in ready)}


def _modules(model: torch.nn.Module) -> dict[str, Any]:
    tree: list[dict[str, Any]] = []
    count = depth = 0
    queue = deque([("", model, 0)])
    visited = {id(model)}
    while queue:
        path, module, level = queue.popleft()
        count += 1
        depth = max(depth, level)
        if len(tree) < _MAX_MODULES:
            own = (parameter for parameter in module.parameters(recurse=False) if not is_lazy(parameter))
            own_params = sum(parameter.numel() for parameter in own)
            tree.append({"path": path, "type": type(module).__name__, "own_params": own_params})
        for name, child in module.named_children():
            if id(child) not in visited:
                visited.add(id(child))
                queue.append((f"{path}.{name}" if path else name, child, level + 1))
    return {"modules": count, "depth": depth, "tree": tree}


def _repr(model: torch.nn.Module) -> dict[str, Any]:
    if sum(1 for _ in model.modules()) > _MAX_MODULES_FOR_REPR:
        return {}
    text = repr(model)
    return {"repr": text if len(text) <= _MAX_REPR else redactor().start(text, _MAX_REPR - 1) + "…"}


def architecture(model: torch.nn.Module) -> str | None:
    """Return a digest that is equal for models of equal structure and shapes; never raises."""
    try:
        return str(_architecture(model)["architecture"])
    except Exception as fault:  # modules may override all that is called here
        guard.pass_on(fault)
        return None


def _architecture(model: torch.nn.Module) -> dict[str, Any]:
    digest = hashlib.sha256()
    for path, module in model.named_modules():
        digest.update(
            f"{path}:{type(module).__module__}.{type(module).__qualname__}\n".encode(
                errors="backslashreplace"
            )
        )
    named: tuple[Callable[[], Iterable[tuple[str, torch.Tensor]]], ...] = (
        model.named_parameters,
        model.named_buffers,
    )
    for tensors in named:
        for path, tensor in tensors():
            shape = "?" if is_lazy(tensor) else tuple(tensor.shape)
            digest.update(f"{path}={shape} {_dtype(tensor)}\n".encode(errors="backslashreplace"))
    return {"architecture": digest.hexdigest()[:16]}


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
