"""The rows of a campaign as a Dask DataFrame, for what one machine cannot hold.

Flows in: the journals of a campaign and their digests. Flows out: a Dask DataFrame with a partition for each
group of journals that can be read without the others, as a rule one journal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowprov.errors import MissingExtraError
from flowprov.journal.summary import JournalSummary, summarize
from flowprov.read.decoding import records_of
from flowprov.read.digest import Digest
from flowprov.read.frames import to_frame
from flowprov.read.rows import fold
from flowprov.read.successions import in_succession

if TYPE_CHECKING:
    import pandas as pd


def dask_frame(journals: Sequence[JournalSummary], digests: Mapping[Path, Digest], *, merge: bool) -> Any:
    """Return a Dask DataFrame of the rows; see :meth:`flowprov.Buffer.dask_frame`.

    Raises
    ------
    MissingExtraError
        If Dask's DataFrame is not installed.
    """
    try:
        from dask import dataframe
    except ImportError as error:
        raise MissingExtraError("dask[dataframe]", "dask", "read records as a Dask DataFrame") from error
    groups = independent_groups(journals, digests)
    paths = [[str(journal.path) for journal in group] for group in groups] or [[]]
    make: Any = dataframe.from_map
    return make(_partition, paths, merge=merge, meta=to_frame([]))


def independent_groups(
    journals: Sequence[JournalSummary], digests: Mapping[Path, Digest]
) -> list[list[JournalSummary]]:
    """Return groups of journals that share no workflow, and of which none names a task of another.

    If a journal has no digest, all are one group: what it names is not known before it is read.
    """
    if any(journal.path not in digests for journal in journals):
        return [list(journals)] if journals else []
    groups: dict[str, list[JournalSummary]] = {}  # by each name that the journals of a group have in common
    for journal in journals:
        names = digests[journal.path].names
        common = {f"journal {journal.header.journal_id}", *(f"journal {name}" for name in names.journals)}
        common |= {f"journal {ancestor}" for ancestor, _ in journal.header.ancestors}
        common |= {f"workflow {name}" for name in names.workflows | names.parent_workflows}
        joined = [journal]
        for group in {id(groups[name]): groups[name] for name in common if name in groups}.values():
            joined = group + joined
            groups |= {name: joined for name, other in groups.items() if other is group}
        groups |= dict.fromkeys(common, joined)
    return list({id(group): group for group in groups.values()}.values())


def _partition(paths: list[str], *, merge: bool) -> pd.DataFrame:
    journals = [summary for path in paths if (summary := summarize(Path(path))) is not None]
    return to_frame(fold(((one, records_of(one)) for one in in_succession(journals)), merge=merge))
