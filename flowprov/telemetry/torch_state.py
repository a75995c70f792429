"""Describe what decides whether a run with torch can be repeated: versions, seeds and flags.

Flows in: torch, if the program has loaded it. Flows out: facts that JSON can hold. Reading them imports
nothing, does not initialize CUDA, waits for no device, and does not make torch warn the program.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from operator import attrgetter, methodcaller
from types import ModuleType
from typing import Any

from flowprov.environment import host
from flowprov.telemetry.probe import read_each
from flowprov.threads import start_thread

_THREAD_TIMEOUT_S = 1.0


def describe_torch() -> dict[str, Any] | None:
    """Return the versions, seeds and flags of torch; None if torch is not loaded.

    ``cudnn`` and ``cuda_seeds`` are included only once CUDA is in use: reading ``cudnn`` loads its library.
    """
    torch = host.loaded("torch")
    if torch is None:
        return None
    values = _read(torch, _FACTS)
    if torch.cuda.is_initialized():
        values |= _read(torch, _CUDA_FACTS)
    return {**values, **_precision(torch)}


def _thread_count(torch: ModuleType) -> int | None:
    """Return the number of threads of one operation on the CPU; None if it cannot be read.

    A thread keeps the number that it saw at its first call, so only a new thread sees the program's last
    ``set_num_threads``. When the interpreter ends, no thread can be started and the number is left out.
    """
    counts: list[int] = []
    thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()), daemon=True)
    try:
        start_thread(thread)
    except RuntimeError:
        return None
    thread.join(_THREAD_TIMEOUT_S)
    return counts[0] if counts else None


def _cuda_seeds(torch: ModuleType) -> list[int]:
    """Return the seed of each GPU's generator; it is in the host's memory, so no device is asked."""
    return [generator.initial_seed() for generator in torch.cuda.default_generators]


def _precision(torch: ModuleType) -> dict[str, Any]:
    """Return the settings for the precision with which 32-bit floats are multiplied.

    From torch 2.9 each backend has a setting of its own (``fp32_precision``). The older flags must not be
    read there: that warns, and raises if the program has set the newer ones (``Context.cpp`` of torch 2.9).
    """
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        return _read(torch, _FLAGS_BEFORE_2_9)
    precisions = _read(torch, _PRECISION)
    flags = {
        flag: precisions[name] == "tf32"
        for flag, name in (("allow_tf32_matmul", "cuda_matmul"), ("allow_tf32_conv", "cuda_conv"))
        if name in precisions
    }
    return {**flags, "float32_precision": precisions}


def _read(torch: ModuleType, facts: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    return read_each("torch", {name: partial(read, torch) for name, read in facts.items()})


_FACTS: Mapping[str, Callable[[Any], Any]] = {
    "cuda": attrgetter("version.cuda"),
    "hip": attrgetter("version.hip"),
    "threads": _thread_count,
    "seed": methodcaller("initial_seed"),
    "deterministic_algorithms": methodcaller("are_deterministic_algorithms_enabled"),
    "deterministic_warn_only": methodcaller("is_deterministic_algorithms_warn_only_enabled"),
    "cudnn_deterministic": attrgetter("backends.cudnn.deterministic"),
    "cudnn_benchmark": attrgetter("backends.cudnn.benchmark"),
}
_CUDA_FACTS: Mapping[str, Callable[[Any], Any]] = {
    "cudnn": lambda torch: torch.backends.cudnn.version(),
    "cuda_seeds": _cuda_seeds,
}
_PRECISION: Mapping[str, Callable[[Any], Any]] = {
    "cuda_matmul": attrgetter("backends.cuda.matmul.fp32_precision"),
    "cuda_conv": attrgetter("backends.cudnn.conv.fp32_precision"),
    "cpu_matmul": attrgetter("backends.mkldnn.matmul.fp32_precision"),
}
_FLAGS_BEFORE_2_9: Mapping[str, Callable[[Any], Any]] = {
    "allow_tf32_matmul": attrgetter("backends.cuda.matmul.allow_tf32"),
    "allow_tf32_conv": attrgetter("backends.cudnn.allow_tf32"),
    "float32_matmul_precision": methodcaller("get_float32_matmul_precision"),
}
