"""Files of models, written by hand where a real library writes them elsewhere in the tests."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from flowprov.contents.content import Content
from flowprov.contents.paths import read_path
from flowprov.contents.reading import Reading


def write_safetensors(path: Path, tensors: Mapping[str, bytes], **metadata: str) -> Path:
    """Write a safetensors file, as the library does."""
    position, entries = 0, {}
    for name, data in tensors.items():
        entries[name] = {
            "dtype": "U8",
            "shape": [len(data)],
            "data_offsets": [position, position + len(data)],
        }
        position += len(data)
    header = json.dumps({"__metadata__": metadata, **entries} if metadata else entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"".join(tensors.values()))
    return path


def write_torch_zip(path: Path, tensors: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive of the form that torch.save has; its pickle is none, and nobody reads it."""
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("archive/data.pkl", b"no pickle")
        for number, data in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{number}", data)
        archive.writestr("archive/version", b"3\n")
    return path


def random_tensors(count: int, size: int = 2048) -> dict[str, bytes]:
    """Return tensors that tell something."""
    return {f"layers.{number}.weight": os.urandom(size) for number in range(count)}


def read(path: Path, *, max_bytes: int | None = None, weights: bool = True) -> Content:
    """Return the content of what a path names."""
    return read_path(str(path), Reading(max_bytes=max_bytes, weights=weights))


def sha256(data: bytes) -> str:
    """Return a digest."""
    return hashlib.sha256(data).hexdigest()
