"""The limits on values, and the budget of what is encoded at once: how much of it is spent.

Flows in: limits, and what each part of a form costs. Flows out: whether there may be more. Bytes are
estimated as values are walked; `summarizer` compares them with what the encoder made.
"""

from __future__ import annotations

import sys
from time import thread_time_ns

import msgspec

_LOOK_EVERY = 1_500  # bytes of JSON after which the clock is read: about 100 values
_LOOK_OFTEN = 400  # after the first of these, where there is little time
_TIME_OF_BYTE = 100  # nanoseconds, on a slow machine
_PART_SURE = 0.3  # of the time that is taken for spent before the clock was read first
_BYTES_OF_CONTAINER = 120  # that take as long as to open an object or a container
_LEAST_PART = 0.25  # of the time, if all of it may be spent
_LITTLE = 1 / 6  # of the time: who spent less takes none of that of the others
_PART_BEGUN = 1.6  # of the time: by then ends what the clock cannot stop, about
_PART_APART = 0.4  # of the time, besides
_TIME_OF_FOREIGN = 100_000  # nanoseconds: foreign code is not begun with less
_MAX_DIGESTS = 2**18  # bytes of which digests are made
_LONG_DIGEST, _TIME_OF_DIGESTED = 2**14, 1.2  # bytes that take long; nanoseconds of each, on a slow machine
_NEVER = -sys.maxsize


class Spent(int):
    """Bytes that the parts of a record spent, with the time that they took.

    Attributes
    ----------
    part
        The time that they took, as a part of what may be spent on what was used. It may be more than 1.
    """

    part = 0.0

    def __add__(self, count: int) -> Spent:
        """Return the sum; the time stays as it is."""
        total = Spent(int(self) + count)
        total.part = self.part
        return total


class TimedJSON(bytes):
    """An encoded part of a record that took a part of the time.

    Attributes
    ----------
    spent
        What it spent.
    """

    spent: Spent


class Limits(msgspec.Struct, frozen=True):
    """How much of values is kept. What goes beyond is cut, and a marker says so."""

    max_string: int = 1_000
    """Characters of a string; a tenth of that once half of `max_bytes` is spent."""
    max_items: int = 100
    """Items of one container; of a mapping or an object, those that are no scalars."""
    max_entries: int = 1_500
    """Entries of a mapping or an object that is kept whole; of a larger one `max_items` are kept."""
    max_depth: int = 8
    """Levels of containers in one another."""
    max_nodes: int = 1_000
    """Values in one value altogether, and entries of a mapping of values. The scalars in mappings and objects
    are not counted here: of these there may be `max_entries` besides, as a configuration is mostly these."""
    max_total: int = 5_000
    """Values in all that is encoded at once."""
    max_repr: int = 200
    """Characters of a repr, a message or a key."""
    max_bytes: int = 65_536
    """Bytes of JSON for all that is encoded at once: what one record used, generated and is told besides."""
    max_seconds: float | None = None
    """Seconds of processor time for what is encoded at once; None: no limit. The clock starts when some
    kilobytes are written, so that it costs a small value nothing."""
    max_begun: float | None = None
    """Seconds of processor time by which what the clock cannot stop should end, as a long text. None: more
    than `max_seconds`, as it may begin before these are over."""
    look_every: int = _LOOK_EVERY
    """Bytes of JSON after which the clock is read again."""
    object_reprs: bool = False
    """Whether objects of unknown classes are asked what they hold. Their `__repr__`, `items`, `to_dict` and
    properties run then, which may take any time and do anything."""

    def allowance(self, spent: int = 0) -> int:
        """Return how many bytes a part of a record may have.

        What a task used may have three quarters. What it generated, and then its metadata, may have what is
        left of these, and at least an eighth: so all of them together keep within `max_bytes`.

        Parameters
        ----------
        spent
            The bytes of the parts before it.
        """
        return max(self.max_bytes * 3 // 4 - spent, self.max_bytes // 8)

    def after(self, spent: int) -> Limits:
        """Return the limits on a part of a record: it has the less time, the more those before it spent.

        Parameters
        ----------
        spent
            The bytes of the parts before it, as for :meth:`allowance`; a :class:`Spent` if the time is known.
        """
        has_time = type(spent) is Spent
        if self.max_seconds is None or (spent < self.max_bytes // 8 and not has_time):
            return self
        part = min(spent / (self.max_bytes * 3 // 4), 1.0)  # by their bytes, which says less than the clock
        if has_time:
            part = max(part, spent.part)  # type: ignore[attr-defined]  # checked above
        if part < _LITTLE:
            return self
        return msgspec.structs.replace(
            self,
            max_seconds=self.max_seconds * max(1 - part, _LEAST_PART),
            max_begun=self.max_seconds * (_PART_BEGUN - part),
            look_every=_LOOK_OFTEN,
        )


class Budget:
    """What may still be spent on what is encoded at once.

    Parameters
    ----------
    limits
        The limits.
    max_bytes
        The bytes that it may have.

    Attributes
    ----------
    left
        Bytes that may still be spent.
    over
        ``"bytes"`` or ``"time"`` if nothing more may be spent now; else None.
    cut_by
        What was over at any time; None if nothing was.
    started
        When the clock was read first, in nanoseconds of processor time; None if it was not.
    apart
        Nanoseconds of processor time that were spent apart: they have a part of their own.
    nodes, entries
        How many values there were, without the scalars of mappings and objects; and how many of these.
    """

    __slots__ = (
        "_digested",
        "_finished",
        "_guessed",
        "_longest_foreign",
        "_look_below",
        "_short_below",
        "_took",
        "apart",
        "cut_by",
        "entries",
        "left",
        "limits",
        "nodes",
        "over",
        "started",
    )

    def __init__(self, limits: Limits, max_bytes: int) -> None:
        self.limits = limits
        self.left = max_bytes
        self.over: str | None = None
        self.cut_by: str | None = None
        self.apart = self._longest_foreign = 0
        self._guessed = 0  # nanoseconds that were spent before the clock was read first
        self._took = 0  # nanoseconds, when the clock was read last
        self.nodes = 0
        self.entries = 0
        self._finished = 0  # values before this one
        self._digested = 0
        self.started: int | None = None
        self._look_below = max(max_bytes - _LOOK_EVERY, 0)  # small values are not cut, however little is left
        self._short_below = max_bytes // 2  # strings are cut shorter then

    def spend(self, count: int) -> None:
        """Count bytes."""
        self.left -= count
        if self.left < self._look_below:
            self.look()

    def look(self) -> None:
        """See whether bytes or time are over. Whoever changes `left` calls this when it is low."""
        limit = self.limits.max_seconds
        if limit is not None and self.over != "time":
            now = thread_time_ns()  # a thread that waits for a processor spends none of it
            is_first = self.started is None
            if self.started is None:  # what was spent before took time, too
                spent = self._look_below + _LOOK_EVERY - self.left
                self._guessed = max(spent, 0) * _TIME_OF_BYTE
                self.started = now - self._guessed - self.apart
            self._took = now - self.started - self.apart - self.credit()
            if self._took > limit * 1e9 and not is_first:
                self.over = self.cut_by = "time"
        if self.left <= 0 and self.over is None:
            self.over = self.cut_by = "bytes"
        self._look_below = _NEVER if self.over else max(self.left - self.limits.look_every, 0)

    def count_container(self) -> None:
        """Count a container or object that is opened: it takes time even if it holds nothing."""
        self._look_below += _BYTES_OF_CONTAINER

    def is_over_time(self) -> bool:
        """Whether the time is over, by the clock: to be asked before something that may take long."""
        self.look()
        return self.over == "time"

    def has_spent(self, part: float) -> bool:
        """Whether so large a part of the time is spent, by the clock."""
        if self.is_over_time():
            return True
        limit = self.limits.max_seconds
        return limit is not None and self._took > part * limit * 1e9

    def may_begin(self, nanoseconds: float) -> bool:
        """Whether something may be begun that the clock cannot stop, and that may take so long."""
        if self.is_over_time():
            return False
        limit = self.limits.max_seconds
        if limit is None:
            return True
        end = limit * _PART_BEGUN if self.limits.max_begun is None else self.limits.max_begun
        if self._took + nanoseconds <= end * 1e9:
            return True
        self.cut_by = "time"
        return False

    def timed(self, encoded: bytes, max_seconds: float | None) -> bytes:
        """Return what was encoded, with the time that it took; as it is if it took little.

        Parameters
        ----------
        encoded
            The values as JSON.
        max_seconds
            The time for what was used.
        """
        if self.started is None or not max_seconds:
            return encoded
        # What comes next is not to have less because too much was taken for spent.
        took = thread_time_ns() - self.started - self._guessed * (1 - _PART_SURE) - self.credit()
        part = took / (max_seconds * 1e9)
        if part < _LITTLE:
            return encoded
        timed = TimedJSON(encoded)
        timed.spent = Spent(len(encoded))
        timed.spent.part = part
        return timed

    def credit(self) -> int:
        """Return nanoseconds that do not count: of what is done once and not again."""
        return 0

    def may_spend_apart(self, nanoseconds: int = 0) -> bool:
        """Whether so much time is left of the part that is spent apart."""
        limit, end = self.limits.max_seconds, self.limits.max_begun
        if limit is None:
            return True
        if self.apart + nanoseconds <= _PART_APART * limit * 1e9 and (end is None or end > 0):
            return True
        self.cut_by = "time"
        return False

    def may_run_foreign(self) -> bool:
        """Whether foreign code may run: once, and again if the time apart suffices for the longest so far."""
        if self._longest_foreign:
            return self.may_spend_apart(self._longest_foreign)
        return self.may_spend_apart(_TIME_OF_FOREIGN - self.apart)

    def spend_apart(self, nanoseconds: int, *, foreign: bool = False) -> None:
        """Count time that is not taken from that of the values: by foreign code, or what leads to it."""
        self.apart += nanoseconds
        if foreign:
            self._longest_foreign = max(self._longest_foreign, nanoseconds)

    def next_value(self, share: int | None = None) -> None:
        """Begin another value of several: the limits on numbers of values hold for each by itself.

        Parameters
        ----------
        share
            Bytes that it may have; None for all that are left.
        """
        self._finished += self.nodes + self.entries
        if self._finished < self.limits.max_total:
            self.nodes = self.entries = 0
        if share is not None:
            self.left = share
            self._short_below = share // 2
            if self.over == "bytes":
                self.over = None
            if self.over is None:
                self._look_below = max(share - self.limits.look_every, 0)

    def may_digest(self, count: int) -> bool:
        """Whether a digest may be made of so many bytes; if so, they are counted."""
        if self._digested + count > _MAX_DIGESTS:
            return False
        if count > _LONG_DIGEST and not self.may_begin(count * _TIME_OF_DIGESTED):
            return False
        self._digested += count
        return True
