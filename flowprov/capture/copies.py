"""Copies of what the program holds while it is open: loops, workflows, task scopes, campaigns.

Flows in: such an object, to be pickled or copied with whatever refers to it. Flows out: an inert copy. Its
calls raise nothing and record nothing, as what is open belongs to the original alone.
"""

from __future__ import annotations

from typing import Any


class InertCopies:
    """Base of objects whose copies are inert.

    Attributes
    ----------
    _is_copy
        Whether this is a copy, made by ``copy``, ``pickle`` or the like.
    """

    _is_copy = False

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, **self._state_of_copy(), "_is_copy": True}

    def _state_of_copy(self) -> dict[str, Any]:
        """Return the attributes that a copy does not take from its original, with their values."""
        raise NotImplementedError
