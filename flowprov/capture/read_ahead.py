"""Whether what consumes a loop reads ahead, so that each step stands in the iteration of the next item.

Flows in: the numbers of the first iterations, and the frames that ask for them. Flows out: one warning.

A loop learns of its consumer only when that asks for the next item. A framework that asks before the step of
the last item begins leaves the first iterations empty, and fills later ones. It asks from a generator or an
iterator of its own. A ``for`` of the program whose first iterations are empty asks from a plain function.
"""

from __future__ import annotations

import inspect
from types import FrameType

from flowprov import guard

_WATCHED = 16  # iterations: nobody reads further ahead without a thread of its own


class ReadAhead:
    """Watches the first iterations of a pass.

    Parameters
    ----------
    activity_id
        Name of the activity of the iterations.
    """

    __slots__ = ("_activity_id", "_before", "_empty")

    def __init__(self, activity_id: str) -> None:
        self._activity_id = activity_id
        self._before: int | None = None
        self._empty = 0  # iterations at the beginning in which nothing was recorded

    def is_decided(self, number: int, frame: FrameType | None, *, given: bool) -> bool:
        """Take note of an iteration that opens; return whether nothing is left to be found out.

        Parameters
        ----------
        number
            Its number in the journal. Where nothing was recorded in between, it follows that of the iteration
            before it.
        frame
            The frame that asks for the item.
        given
            Whether the program reported something of the iteration before.
        """
        before, self._before = self._before, number
        if before is None:
            return False
        if number != before + 1 or given:
            if self._empty:
                self._warn()
            return True
        self._empty += 1
        return self._empty >= _WATCHED or not _is_consumer(frame)

    def _warn(self) -> None:
        guard.warn_once(
            f"read ahead {self._activity_id}",
            "flowprov: what iterates over the loop of %s seems to read ahead: it asked for the next item "
            "before anything was recorded of the first %d. Each step then stands in the iteration of a later "
            "item. Put the loop around what the framework yields, not around what it reads: for batch in "
            "flowprov.BatchLoop(prepared_loader).",
            self._activity_id,
            self._empty,
        )


def _is_consumer(frame: FrameType | None) -> bool:
    """Whether a frame is that of an iterator or generator, and not of a ``for`` of the program."""
    if frame is None:
        return False
    code = frame.f_code
    return bool(code.co_flags & inspect.CO_GENERATOR) or code.co_name == "__next__"
