"""What is hidden: by a class, which leaves it out of its repr, or by the name of a parameter.

Flows in: classes and functions. Flows out: which fields, strings and arguments are not recorded. No code of
theirs is run.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from enum import Enum
from types import FunctionType, MethodType
from typing import Any

_MAX_WRAPPERS = 20
# Packages with classes of strings whose repr is their own and shows the text.
_SHOW_TEXT = frozenset({"numpy", "markupsafe", "lxml", "bs4", "ruamel", "rich", "click", "pandas", "nltk"})

_namespace_of = type.__dict__["__dict__"].__get__
_mro_of = type.__dict__["__mro__"].__get__


class Hidden:
    """Stands for a value that is not recorded."""

    __slots__ = ()


HIDDEN = Hidden()


def hidden_fields(*declarations: object) -> frozenset[str]:
    """Return the fields that a class leaves out of its repr.

    Parameters
    ----------
    *declarations
        What the class declares as its fields: a tuple of attrs, or a mapping of dataclasses or pydantic.
    """
    hidden: set[str] = set()
    for declared in declarations:
        if isinstance(declared, tuple):  # a function there formats the value in a way of its own
            hidden |= {field.name for field in declared if getattr(field, "repr", True) is not True}
        elif isinstance(declared, dict):
            hidden |= {name for name, field in declared.items() if _shows(field) is False}
    return frozenset(hidden)


def _shows(field: object) -> object:
    return getattr(getattr(field, "field_info", field), "repr", True)  # pydantic 1: of its field_info


def hides_itself(bases: tuple[type, ...]) -> bool:
    """Whether a subclass of `str` has a repr of its own. Those of enums and of some libraries show the text.

    Parameters
    ----------
    bases
        The class and its bases, in the order of its MRO.
    """
    if any(base is Enum for base in bases):
        return False
    below = itertools.takewhile(lambda base: base is not str, bases)
    return any("__repr__" in _namespace_of(base) and _package_of(base) not in _SHOW_TEXT for base in below)


def _package_of(cls: type) -> str:
    module = cls.__module__
    return module.partition(".")[0] if isinstance(module, str) else ""


def parameter_names(function: Any) -> tuple[str, ...]:
    """Return the names of a function's positional parameters, as far as it tells without running."""
    bound = 0
    for _ in range(_MAX_WRAPPERS):
        if type(function) is MethodType:
            function, bound = function.__func__, bound + 1
        elif issubclass(type(function), type):
            namespaces = map(_namespace_of, _mro_of(function))
            function, bound = next((n["__init__"] for n in namespaces if "__init__" in n), None), bound + 1
        elif type(function) is FunctionType and "__wrapped__" in function.__dict__:
            function = function.__dict__["__wrapped__"]
        else:
            break
    if type(function) is not FunctionType:
        return ()
    code = function.__code__
    return code.co_varnames[bound : code.co_argcount]


def hide_arguments(
    names: Sequence[str], arguments: tuple[Any, ...], is_secret: Callable[[str], bool]
) -> tuple[Any, ...]:
    """Return positional arguments with `HIDDEN` for those whose parameter is named like a secret."""
    named = zip(names, arguments, strict=False)
    hidden = tuple(HIDDEN if is_secret(name) else argument for name, argument in named)
    return hidden + arguments[len(hidden) :]
