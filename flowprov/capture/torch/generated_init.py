"""The ``__init__`` that a class decorator above ``torch_capture`` would have generated.

Flows in: a decorated class. Flows out: the constructor that ``dataclass`` or ``attrs`` left out, because it
found the one of ``torch_capture`` in the class and took it for the user's own.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def generated_init(cls: type) -> Any:
    """Return the constructor that is missing in a dataclass or a class of attrs; None for any other class."""
    own = vars(cls)
    if "__attrs_attrs__" in own:  # attrs puts its constructor beside one that it finds
        return own.get("__attrs_init__")
    fields, params = own.get("__dataclass_fields__"), own.get("__dataclass_params__")
    if fields is None or not getattr(params, "init", False):
        return None
    # A class that inherits the fields, and not the class itself: that may act when it gets a subclass.
    namespace: dict[str, Any] = {"__dataclass_fields__": fields, "__dataclass_params__": params}
    if hasattr(cls, "__post_init__"):
        namespace["__post_init__"] = None
    heir = type(cls.__name__, (type("Fields", (), namespace),), {"__module__": cls.__module__})
    dataclass: Any = dataclasses.dataclass(repr=False, eq=False, frozen=getattr(params, "frozen", False))
    generated = dataclass(heir)
    init = vars(generated)["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init
