"""What decides whether a run with torch can be repeated: its versions, seeds and flags.

Flows in: torch, where the program has loaded it. Flows out: JSON-able facts. Nothing is imported, CUDA is not
initialised, no device is waited for, and no setting is read in a way that makes torch warn the program.
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

_PATIENCE_S = 1.0


def describe_torch() -> dict[str, Any] | None:
    """Tell the versions, seeds and flags of torch; None where it is not loaded.

    ``cudnn`` and ``cuda_seeds`` are told once CUDA is in use: to ask for the former loads its library.
    """
    torch = host.loaded("torch")
    if torch is None:
        return None
    values = _read(torch, _FACTS)
    if torch.cuda.is_initialized():
        values |= _read(torch, _CUDA_FACTS)
    return {**values, **_precision(torch)}


def _threads(torch: ModuleType) -> int | None:
    """Count the threads of one operation on the CPU.

    Each thread keeps the number that held when it first asked, so only a new one hears of the program's last
    ``set_num_threads``. At the interpreter's end no thread can be started: it is left out then.
    """
    heard: list[int] = []
    thread = threading.Thread(target=lambda: heard.append(torch.get_num_threads()), daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    thread.join(_PATIENCE_S)
    return heard[0] if heard else None


def _cuda_seeds(torch: ModuleType) -> list[int]:
    """Give the seed of each GPU's generator, which is kept in the memory of the host."""
    return [generator.initial_seed() for generator in torch.cuda.default_generators]


def _precision(torch: ModuleType) -> dict[str, Any]:
    """Tell how exactly 32-bit floats are multiplied.

    From torch 2.9 each backend has a word of its own (``fp32_precision``). The older flags must not be read
    there: that warns, and raises where the program set the newer ones (``Context.cpp`` of torch 2.9).
    """
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        return _read(torch, _FLAGS_BEFORE_2_9)
    words = _read(torch, _PRECISION)
    derived = {
        flag: words[name] == "tf32"
        for flag, name in (("allow_tf32_matmul", "cuda_matmul"), ("allow_tf32_conv", "cuda_conv"))
        if name in words
    }
    return {**derived, "float32_precision": words}


def _read(torch: ModuleType, facts: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    return read_each("torch", {name: partial(tell, torch) for name, tell in facts.items()})


_FACTS: Mapping[str, Callable[[Any], Any]] = {
    "cuda": attrgetter("version.cuda"),
    "hip": attrgetter("version.hip"),
    "threads": _threads,
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
