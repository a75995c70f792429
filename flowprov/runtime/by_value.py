"""Pickles that can be loaded where flowprov is not installed, cannot be imported, or is another version.

Flows in: a function of a module that imports nothing of flowprov, and arguments. Flows out: what
``__reduce__`` returns to have the function called where the pickle is loaded. The pickle holds the source of
the function's module.

The source, and not the code object that cloudpickle would send: the other process may run another Python.
"""

from __future__ import annotations

import functools
import inspect
import pickle
import sys
from collections.abc import Callable
from typing import Any

_CALL = "exec(compile(source, filename, 'exec'), namespace) or namespace[function](*arguments)"


def reduce_by_value(function: Callable[..., Any], *arguments: Any) -> tuple[Any, ...]:
    """Return the value for ``__reduce__`` by which a function of a module is called with arguments.

    Where the source of the module is not at hand, the function is called by its name, as pickle does.
    """
    source = _source_of(function.__module__)
    if source is None:
        return (function, arguments)
    filename = f"<{function.__module__}, from another process>"
    variables = {
        "source": source,
        "filename": filename,
        "namespace": {"__name__": filename},
        "function": function.__name__,
        "arguments": arguments,
    }
    return (eval, (_CALL, variables))


def loads_or(pickled: bytes, otherwise: bytes) -> Any:
    """Return the object of a pickle; that of another one if the first cannot be loaded here.

    Raises
    ------
    Exception
        What loading the second one raises.
    """
    try:
        return pickle.loads(pickled)  # noqa: S301 - from the process that sent this
    except Exception:  # whatever it is: the other one is there for this
        return pickle.loads(otherwise)  # noqa: S301 - as above


@functools.lru_cache(maxsize=8)
def _source_of(module: str) -> str | None:
    try:
        return inspect.getsource(sys.modules[module])
    except OSError:  # only the compiled file is there
        return None
