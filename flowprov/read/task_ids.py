"""Sets of task ids that take a bit for each id, where ids are numbers within a journal.

Flows in: ids, as a journal has them. Flows out: whether an id is in the set. A campaign may have millions of
tasks, and a set of their ids as texts takes more memory than everything that is printed of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_PAGE = 4096  # ids
_ONES = re.compile("1+")
_MAX_DIGITS = 9  # longer numbers are no numbers of a journal, and would be spread over pages of their own


class TaskIds:
    """A set of task ids."""

    def __init__(self) -> None:
        self._pages: dict[tuple[str, int], bytearray] = {}
        self._others: set[str] = set()

    def add(self, task_id: str) -> None:
        """Add an id in its full form, ``<journal id>-<number>`` or any other text."""
        prefix, number = _split(task_id)
        if number is None:
            self._others.add(task_id)
        else:
            self.add_number(prefix, number)

    def add_number(self, prefix: str, number: int) -> None:
        """Add an id in two parts: the journal and the number."""
        page, rest = divmod(number, _PAGE)
        bits = self._pages.get((prefix, page))
        if bits is None:
            bits = self._pages[prefix, page] = bytearray(_PAGE // 8)
        bits[rest >> 3] |= 1 << (rest & 7)

    def __contains__(self, task_id: str) -> bool:
        prefix, number = _split(task_id)
        return task_id in self._others if number is None else self.has_number(prefix, number)

    def has_number(self, prefix: str, number: int) -> bool:
        """Whether an id in two parts is in the set."""
        page, rest = divmod(number, _PAGE)
        bits = self._pages.get((prefix, page))
        return bits is not None and bool(bits[rest >> 3] & (1 << (rest & 7)))

    def numbers(self, prefix: str) -> list[tuple[int, int]]:
        """Return the numbers of one journal as ranges: (first, behind the last) of each."""
        ranges: list[tuple[int, int]] = []
        for (_, page), bits in sorted(item for item in self._pages.items() if item[0][0] == prefix):
            text = f"{int.from_bytes(bits, 'little'):0{_PAGE}b}"[::-1]
            for match in _ONES.finditer(text):
                first, end = page * _PAGE + match.start(), page * _PAGE + match.end()
                if ranges and ranges[-1][1] == first:
                    ranges[-1] = (ranges[-1][0], end)
                else:
                    ranges.append((first, end))
        return ranges

    def add_numbers(self, prefix: str, ranges: Iterable[tuple[int, int]]) -> None:
        """Add ranges of numbers of one journal."""
        for first, end in ranges:
            for page in range(first // _PAGE, (end - 1) // _PAGE + 1):
                begin = max(first - page * _PAGE, 0)
                ones = (1 << (min(end - page * _PAGE, _PAGE) - begin)) - 1
                known = int.from_bytes(self._pages.get((prefix, page), b""), "little")
                self._pages[prefix, page] = bytearray((known | ones << begin).to_bytes(_PAGE // 8, "little"))

    def outside(self, prefix: str) -> Iterator[str]:
        """Yield the ids that are no numbers of one journal."""
        yield from self._others
        for other in {name for name, _ in self._pages} - {prefix}:
            for first, end in self.numbers(other):
                yield from (f"{other}-{number}" for number in range(first, end))

    def without(self, others: TaskIds) -> TaskIds:
        """Return the ids that are not in another set."""
        result = TaskIds()
        result._others = self._others - others._others
        for key, bits in self._pages.items():
            known = int.from_bytes(others._pages.get(key, b""), "little")
            if rest := int.from_bytes(bits, "little") & ~known:
                result._pages[key] = bytearray(rest.to_bytes(_PAGE // 8, "little"))
        return result

    def count_without(self, others: TaskIds) -> dict[str, int]:
        """Return how many of these ids are not in another set, by journal."""
        counts: dict[str, int] = {}
        for (prefix, page), bits in self._pages.items():
            known = int.from_bytes(others._pages.get((prefix, page), b""), "little")
            if rest := (int.from_bytes(bits, "little") & ~known).bit_count():
                counts[prefix] = counts.get(prefix, 0) + rest
        return counts

    def __bool__(self) -> bool:
        return bool(self._pages or self._others)


def _split(task_id: str) -> tuple[str, int | None]:
    """Divide a full id into its journal and its number; no number if it has another form."""
    prefix, _, digits = task_id.rpartition("-")
    if not prefix or not digits.isdecimal() or not digits.isascii() or len(digits) > _MAX_DIGITS:
        return task_id, None
    return (task_id, None) if digits[0] == "0" and digits != "0" else (prefix, int(digits))
