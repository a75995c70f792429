"""The internal errors of this process, in the bounded form that heartbeats and footers hold.

Flows in: the counts of the guard. Flows out: at most 21 counts, by activity and type.
"""

from __future__ import annotations

from collections import Counter

from flowprov import guard

MAX_KINDS = 20
MAX_NAME_LENGTH = 200
OTHER = "other"


def bounded_internal_errors() -> dict[str, int] | None:
    """Return the counts of the most frequent internal errors so far; None if there was none.

    Names are cut to 200 characters. All kinds beyond the first 20 are summed under ``"other"``.
    """
    counts: Counter[str] = Counter()
    for kind, count in guard.internal_errors().items():
        counts[kind[:MAX_NAME_LENGTH]] += count
    kinds = counts.most_common()
    bounded = dict(kinds[:MAX_KINDS])
    if len(kinds) > MAX_KINDS:
        bounded[OTHER] = bounded.get(OTHER, 0) + sum(count for _, count in kinds[MAX_KINDS:])
    return bounded or None
