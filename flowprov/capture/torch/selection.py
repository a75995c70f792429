"""Which child modules of a model are recorded, and how closely their tensors are looked at.

Flows in: ``depth``, ``include``, ``exclude`` and ``children_mode``, of the decorator or of the settings.
Flows out: modules with their paths.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

import msgspec
import torch

from flowprov import guard

# As in type("FSDPLinear", (FSDPModule, Linear), ...), which fully_shard gives a module as its class.
_WRAPPERS = frozenset({"FSDPModule", "ReplicateModule", "DDP"})


class ModuleSelection(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded of the modules in a model.

    Attributes
    ----------
    depth
        How many levels below the model; None: all.
    include
        Patterns over module paths, as :func:`fnmatch.fnmatchcase` has them ("*" stands for dots, too): only
        modules whose path fits one. Empty: all.
    exclude
        Patterns: no module whose path fits one.
    inspects
        Whether tensors are looked at more closely.
    measures
        Whether telemetry is recorded with them.
    """

    depth: int | None = 1
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    inspects: bool = False
    measures: bool = False

    def modules(self, model: torch.nn.Module, *, tell: bool = True) -> Iterator[tuple[str, torch.nn.Module]]:
        """Give the chosen modules with their paths, each once, the outer before the inner.

        Parameters
        ----------
        model
            The model.
        tell
            Say which patterns fit none.
        """
        beyond: dict[str, str] = {}
        fitting: set[str] = set()
        for found, module in model.named_modules():
            if not found or is_optimized_module(module):
                continue
            path = found.replace("._orig_mod", "")  # of what torch.compile made the original is the part
            fits = [pattern for pattern in self.include if fnmatchcase(path, pattern)]
            if self.include and not fits:
                continue
            if self.depth is not None and path.count(".") >= self.depth:
                for pattern in fits:
                    beyond.setdefault(pattern, path)
                continue
            fitting.update(fits)
            if not any(fnmatchcase(path, pattern) for pattern in self.exclude):
                yield path, module
        for pattern in self.include:
            if tell and pattern not in fitting:
                self._say_that_nothing_fits(pattern, type(model).__name__, beyond.get(pattern))

    def _say_that_nothing_fits(self, pattern: str, model: str, deeper: str | None) -> None:
        if deeper is None:
            mend = "The paths of modules are the names that model.named_modules() gives."
        else:
            mend = f'{deeper} does, below depth {self.depth}: give depth="all" or a larger number.'
        guard.warn_once(
            f"include {pattern} of {model}",
            "flowprov: include %r fits no child module of %s. %s",
            pattern,
            model,
            mend,
        )


def is_optimized_module(module: torch.nn.Module) -> bool:
    """Whether a module is what ``torch.compile`` made of another one."""
    cls = type(module)
    return cls.__name__ == "OptimizedModule" and cls.__module__.startswith("torch._dynamo")


def original_name(module: torch.nn.Module) -> str:
    """Give the name of a module's class, not of one that torch put in its place to shard it."""
    cls = type(module)
    if len(cls.__bases__) == 2 and cls.__bases__[0].__name__ in _WRAPPERS:
        return cls.__bases__[1].__name__
    return cls.__name__
