"""``croissant``: the data that a campaign used, as a data set of MLCommons Croissant 1.0.

Flows in: one campaign. Flows out: a JSON-LD document with a file for each artifact that was used as data,
with its SHA-256 and where it lay. Of a folder each file is there. What the files hold is not known, so there
are no record sets.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html describes each field.
"""

from __future__ import annotations

import functools
import json
import mimetypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

from flowprov.errors import UsageError
from flowprov.export.artifact_kinds import is_folder, is_model, name_of
from flowprov.export.campaigns import ExportedCampaign
from flowprov.export.new_file import written_beside
from flowprov.export.plain_values import plain_text
from flowprov.read.artifacts.catalog import USED, Identities, Sighting
from flowprov.read.frames import as_datetime

_Object: TypeAlias = "dict[str, Any]"

_VERSION = "http://mlcommons.org/croissant/1.0"
_UNKNOWN_FORMAT = "application/octet-stream"
_MEDIA_TYPES = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
}
_LICENSE = "The data have the license that their owners gave them; it was not recorded."
# As the specification has it: readers ask for this one, word by word.
_CONTEXT: _Object = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def write_croissant(campaigns: Sequence[ExportedCampaign], path: Path) -> int:
    """Write the data of a campaign; return how many files they are.

    Raises
    ------
    UsageError
        If there are several campaigns, or one that used no data whose digest is known.
    """
    if len(campaigns) != 1:
        raise UsageError(f"A data set is of one campaign, not of {len(campaigns)}. Name one of them.")
    (campaign,) = campaigns
    files = [file for group in _data_of(campaign) for file in _files(group)]
    if not files:
        raise UsageError(
            f"Campaign {plain_text(campaign.name)} has no artifact that was used as data and whose digest is "
            'known. A program says flowprov.use_artifact(path, kind="dataset"); flowprov digest completes '
            "digests that are pending."
        )
    document = _document(campaign, files)
    with written_beside(path) as new:
        new.write_text(f"{json.dumps(document, ensure_ascii=False, indent=1)}\n", encoding="utf-8")
    return len(files)


def _document(campaign: ExportedCampaign, files: Sequence[_Object]) -> _Object:
    name = plain_text(campaign.name)
    users = dict.fromkeys(plain_text(row.user) for row in campaign.stream.workflows if row.user)
    times = [time for row in campaign.stream.workflows if (time := campaign.end_of(row)) is not None]
    published = as_datetime(max(times, default=None))
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": _VERSION,
        "name": name,
        "description": f"The data that the campaign {name} used, as flowprov recorded it.",
        "license": _LICENSE,
        "url": f"urn:flowprov:campaign:{quote(plain_text(campaign.campaign.campaign_id), safe='')}",
        **({} if published is None else {"datePublished": published.date().isoformat()}),
        **({"creator": [{"@type": "sc:Person", "name": user} for user in users]} if users else {}),
        "distribution": list(files),
    }


def _data_of(campaign: ExportedCampaign) -> Iterator[list[Sighting]]:
    """Yield the sightings of each artifact that was used as data, and has a digest and a place."""
    for group in Identities(campaign.catalog.sightings).artifacts.values():
        is_used = any(one.role == USED for one in group)
        if is_used and not is_model(group) and any(one.sha256 and _address(one) for one in group):
            yield group


def _files(group: Sequence[Sighting]) -> Iterator[_Object]:
    """Yield the files of an artifact, as it lay when it was used last."""
    last = [one for one in group if one.sha256 and _address(one)][-1]
    name, address = name_of(group) or str(last.sha256), str(_address(last))
    if not is_folder(last):
        yield _file(str(last.sha256), name, address, last.size)
        return
    for path, size, sha256 in (last.digest.members if last.digest is not None else None) or ():
        inside = quote(plain_text(path), safe="/")
        yield _file(
            f"{last.sha256}/{inside}", f"{name}/{plain_text(path)}", f"{address}/{inside}", size, sha256
        )


def _file(key: str, name: str, address: str, size: int | None, sha256: str | None = None) -> _Object:
    return {
        "@type": "cr:FileObject",
        "@id": key,
        "name": name,
        "contentUrl": address,
        **({} if size is None else {"contentSize": f"{size} B"}),
        "encodingFormat": _types().guess_type(address)[0] or _UNKNOWN_FORMAT,
        "sha256": sha256 or key,
    }


@functools.cache
def _types() -> mimetypes.MimeTypes:
    """Return the media types by the ends of names: Python's, without those of the machine, and some more."""
    types = mimetypes.MimeTypes()
    for ending, media_type in _MEDIA_TYPES.items():
        types.add_type(media_type, ending)
    return types


def _address(one: Sighting) -> str | None:
    """Return the URL of an artifact; None of an object that was in memory alone."""
    if one.record.path:
        return f"file://{quote(plain_text(one.record.path), safe='/')}"
    return quote(plain_text(one.record.uri), safe="/:?#@!$&'()*+,;=%~") if one.record.uri else None


__all__ = ["write_croissant"]
