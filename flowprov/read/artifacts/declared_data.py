"""Find a file or folder among the data that DVC keeps, by the md5 that DVC gives it.

Flows in: a path, the journals, and the repository of the current folder. Flows out: the workflows that ran on
it, as the records of their versions say; or the commit of git that declares it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from flowprov.journal.reader import header_from_path, read_head
from flowprov.read.artifacts.catalog import USED, Sighting
from flowprov.read.artifacts.scan import lines_with
from flowprov.read.artifacts.search import Match
from flowprov.records import NOT_A_RECORD, Artifact, Digest, Header, Version, decode
from flowprov.versioning.code_state import deadline_in
from flowprov.versioning.dvc_digest import MD5, MD5_DOS2UNIX, NotCountableError, dvc_digest
from flowprov.versioning.git_command import run_git

_GIT_S = 10.0
_MD5 = "md5"


def find_declared(path: str, journals: Iterable[Path]) -> Match | None:
    """Return how a file or folder was found as data of DVC; None if nothing knows it so.

    Parameters
    ----------
    path
        The file or folder.
    journals
        Where the versions of workflows are looked for.
    """
    digests = _digests_of(path)
    found = [one for journal in journals for one in _declared_in(journal, digests)] if digests else []
    if found:
        return Match("dvc", f"the md5 that DVC gives it, as {found[0].record.name}", found)
    for md5 in digests:
        commits = _commits_with(md5)
        if commits:
            return Match("dvc", f"the md5 that DVC gives it, in the history of git: {', '.join(commits)}", [])
    return None


def _digests_of(path: str) -> list[str]:
    """Return the digests that DVC gives a file or folder: of today's form, and of DVC 2."""
    found: list[str | None] = []
    for name in (MD5, MD5_DOS2UNIX):
        with contextlib.suppress(NotCountableError, OSError):  # DVC would refuse it
            found.append(dvc_digest(Path(path), name).md5)
    return list(dict.fromkeys(md5 for md5 in found if md5))


def _declared_in(journal: Path, digests: list[str]) -> Iterator[Sighting]:
    """Yield the data with one of some digests that versions in a journal declare."""
    header: Header | None = None
    for line in lines_with(journal, [md5.encode() for md5 in digests]):
        try:
            record = decode(line)
        except NOT_A_RECORD:  # flowprov verify tells of it
            continue
        if isinstance(record, Version):
            header = header or read_head(journal).header or header_from_path(journal)
            for entry in record.data or ():
                if entry.get(_MD5) in digests:
                    yield _sighting(record, str(entry[_MD5]), str(entry.get("path")), header)


def _sighting(version: Version, md5: str, name: str, header: Header) -> Sighting:
    folder = (version.code or {}).get("folder")
    path = os.path.join(folder, name) if isinstance(folder, str) else name  # noqa: PTH118 - of another machine
    artifact = Artifact(
        number=0,
        workflow_id=version.workflow_id,
        role=USED,
        name=name,
        kind="dataset",
        path=path,
        at=version.at,
    )
    return Sighting(
        artifact_id=f"{version.workflow_id}:{version.moment}:{name}",
        record=artifact,
        role=USED,
        workflow_id=version.workflow_id,
        task_id=None,
        at=version.at,
        inside=[],
        header=header,
        digest=Digest(number=0, state="digested", digests={_MD5: md5}, at=version.at),
    )


def _commits_with(md5: str) -> list[str]:
    """Return the commits of the repository here that declare a digest, the latest first: commit and date."""
    here = Path.cwd()
    top = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)
    if top is None:
        return []
    command = [
        "log",
        "--all",
        "--max-count=5",
        "--format=%H %cI",
        f"-S{md5}",
        "--",
        "*.dvc",
        "dvc.lock",
        "**/dvc.lock",
    ]
    answer = run_git(top, command, deadline_in(_GIT_S))
    return [] if answer.failure else answer.output.decode("ascii", "replace").splitlines()
