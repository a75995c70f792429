"""Control flow: exceptions that end a task or workflow without being a failure of it.

Flows in: the exception that ended something, ``instrumentation.control_flow_exceptions``, and what adapters
know of their frameworks. Flows out: the name to record as ``custom_metadata.ended_by`` of what is FINISHED
then; or nothing, as it is a failure.

An exception class is found by its name, through the modules that are loaded. Nothing is imported: an
exception that was raised has a class whose module is there.
"""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Iterable

from flowprov.runtime import runtime
from flowprov.values.markers import type_name

_GENERATOR = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def add_control_flow(name: str) -> None:
    """Have an exception count as control flow, whatever the settings of this process say.

    Parameters
    ----------
    name
        The class with its module, as in the settings.
    """
    runtime.get().control_flow.add(name)


def ended_by(error: BaseException) -> str | None:
    """Return the name of an exception that is control flow; None if it is a failure.

    ``sys.exit()`` with the status of a success is control flow, and so is the GeneratorExit of a generator
    that is closed. The settings and adapters name further classes.
    """
    cls = type(error)
    active = runtime.get()
    names = (*active.settings.instrumentation.control_flow_exceptions, *active.control_flow)
    if _is_exit(error) or _closes_generator(error) or (names and _is_named(cls, names)):
        return type_name(cls)
    return None


def _is_exit(error: BaseException) -> bool:
    return isinstance(error, SystemExit) and _is_success(error.code)


def _closes_generator(error: BaseException) -> bool:
    """Whether an exception is the one by which Python closes a generator or a coroutine where it waits."""
    if not isinstance(error, GeneratorExit) or error.__traceback__ is None:
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return bool(frame.f_code.co_flags & _GENERATOR)


def _is_success(code: object) -> bool:
    """Whether the interpreter exits with status 0: it does for None and for the integer 0 alone."""
    return code is None or (isinstance(code, int) and int(code) == 0)


def _is_named(cls: type[BaseException], names: Iterable[str]) -> bool:
    """Whether a class, or one of its bases, has one of these names."""
    own_names = {type_name(base) for base in cls.__mro__}
    return any(
        name.removeprefix("builtins.") in own_names or _loaded_class(name) in cls.__mro__ for name in names
    )


def _loaded_class(name: str) -> object:
    """Return what a loaded module has under a name; None if there is no such module or name.

    A package may offer a class under another name than that of the module that defines it.
    """
    module_name, _, attribute = name.rpartition(".")
    module = sys.modules.get(module_name)
    return None if module is None else vars(module).get(attribute)  # getattr could load a lazy module
