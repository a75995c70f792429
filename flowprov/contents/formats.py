"""The format of a file, by its first bytes, or else by its name.

Flows in: the beginning of a file and its name. Flows out: a word, or None.
"""

from __future__ import annotations

from collections.abc import Iterable

HEAD_BYTES = 64
_MAGIC = (
    (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", "torch-legacy"),
    (b"PAR1", "parquet"),
    (b"ARROW1", "arrow"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY", "npy"),
    (b"GGUF", "gguf"),
    (b"SQLite format 3\0", "sqlite"),
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"%PDF-", "pdf"),
)
_BY_NAME = ("csv", "json", "jsonl", "md", "onnx", "py", "toml", "tsv", "txt", "yaml")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def by_content(head: bytes) -> str | None:
    """Return the format that the first bytes of a file say; None if they say none."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    return None


def by_name(name: str) -> str | None:
    """Return the format that the name of a file says; None if it says none."""
    suffix = name.rpartition(".")[2].lower()
    suffix = "yaml" if suffix == "yml" else suffix
    return suffix if suffix in _BY_NAME else None


def of_folder(names: Iterable[str]) -> str | None:
    """Return the format of a folder by the paths of its files: a checkpoint as Hugging Face writes it."""
    names = list(names)
    configured = {"config.json", "adapter_config.json"} & set(names)
    return "hf-checkpoint" if configured and any(name.endswith(_WEIGHTS) for name in names) else None


def model_files(names: Iterable[str]) -> list[str]:
    """Return which files of a folder hold its weights.

    A checkpoint holds other tensors, too: of the optimizer, of random number generators. So it is the
    safetensors files, where there are any; else those named ``.bin``; else all of torch.
    """
    names = list(names)
    for suffixes in ((".safetensors",), (".bin",), (".pt", ".pth", ".ckpt")):
        if found := [name for name in names if name.endswith(suffixes)]:
            return found
    return []
