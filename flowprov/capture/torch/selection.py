"""Which child modules of a model are recorded, and how closely.

Flows in: ``depth``, ``include``, ``exclude`` and ``children_mode``, of the decorator or of the settings.
Flows out: modules with their paths.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase

import msgspec
import torch

from flowprov import guard
from flowprov.capture.torch._torch_private import (
    COMPILER,
    OPTIMIZED_MODULE,
    ORIGINAL_MODULE,
    WRAPPER_CLASSES,
)


class ModuleSelection(msgspec.Struct, frozen=True, kw_only=True):
    """Which modules in a model are recorded, and how.

    Attributes
    ----------
    depth
        The number of levels below the model; None: all.
    include
        Patterns over module paths, as :func:`fnmatch.fnmatchcase` has them ("*" stands for dots too). Only
        modules whose path fits one are recorded; if there are none, all are.
    exclude
        Patterns over module paths. Modules whose path fits one are not recorded.
    inspects_tensors
        Whether tensors are described closely.
    reads_telemetry
        Whether telemetry is recorded with them.
    """

    depth: int | None = 1
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    inspects_tensors: bool = False
    reads_telemetry: bool = False

    def modules(self, model: torch.nn.Module, *, warn: bool = True) -> Iterator[tuple[str, torch.nn.Module]]:
        """Yield the chosen modules with their paths, each once, the outer before the inner.

        Parameters
        ----------
        model
            The model.
        warn
            Warn of patterns that fit no module.
        """
        too_deep: dict[str, str] = {}
        fitting: set[str] = set()
        for name, module in model.named_modules():
            if not name or is_optimized_module(module):
                continue
            path = name.replace(f".{ORIGINAL_MODULE}", "")  # the module that was compiled is the child
            fits = [pattern for pattern in self.include if fnmatchcase(path, pattern)]
            if self.include and not fits:
                continue
            if self.depth is not None and path.count(".") >= self.depth:
                for pattern in fits:
                    too_deep.setdefault(pattern, path)
                continue
            fitting.update(fits)
            if not any(fnmatchcase(path, pattern) for pattern in self.exclude):
                yield path, module
        for pattern in self.include:
            if warn and pattern not in fitting:
                self._warn_unfitting(pattern, type(model).__name__, too_deep.get(pattern))

    def _warn_unfitting(self, pattern: str, model: str, too_deep: str | None) -> None:
        if too_deep is None:
            mend = "The paths of modules are the names that model.named_modules() yields."
        else:
            mend = f'{too_deep} does, below depth {self.depth}: give depth="all" or a larger number.'
        guard.warn_once(
            f"include {pattern} of {model}",
            "flowprov: include %r fits no child module of %s. %s",
            pattern,
            model,
            mend,
        )


def is_optimized_module(module: torch.nn.Module) -> bool:
    """Whether ``torch.compile`` made a module of another one."""
    cls = type(module)
    return cls.__name__ == OPTIMIZED_MODULE and cls.__module__.startswith(COMPILER)


def original_name(module: torch.nn.Module) -> str:
    """Return the name of a module's class, and not of the class by which torch replaced it to shard it.

    ``fully_shard`` gives a module such a class: ``type("FSDPLinear", (FSDPModule, Linear), ...)``.
    """
    cls = type(module)
    if len(cls.__bases__) == 2 and cls.__bases__[0].__name__ in WRAPPER_CLASSES:
        return cls.__bases__[1].__name__
    return cls.__name__
