"""The first workflow: from the text of a corpus to tensors on disk.

Flows in: a corpus spec and the parameters that shape the data. Flows out: files with the token streams for
training, validation and test; a small dict with their paths; one recorded workflow, ``DataPrepWorkflow``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypedDict

import torch
from llm_corpora import CorpusError, load_corpus
from torch import Tensor

import flowprov

UNKNOWN = "<unk>"
TOKEN = re.compile(r"\w+|[^\w\s]")


class PreparedData(TypedDict):
    """The paths and the shapes of the prepared data."""

    dataset_ref: str
    ntokens: int
    train_path: str
    valid_path: str
    test_path: str
    train_shape: list[int]
    valid_shape: list[int]
    test_shape: list[int]


def tokenize(line: str) -> list[str]:
    """Return the lower-case words and the single punctuation marks of a line."""
    return TOKEN.findall(line.lower())


def build_vocabulary(lines: Iterable[str], size: int) -> dict[str, int]:
    """Return a number for each of the most frequent tokens, by frequency; 0 stands for all others."""
    counts = Counter(token for line in lines for token in tokenize(line))
    ranked = sorted(counts, key=lambda token: (-counts[token], token))
    return {token: number for number, token in enumerate([UNKNOWN, *ranked[: size - 1]])}


def encode(lines: Iterable[str], vocabulary: dict[str, int]) -> Tensor:
    """Return lines as one stream of token numbers."""
    return torch.tensor(
        [vocabulary.get(token, 0) for line in lines for token in tokenize(line)], dtype=torch.long
    )


def batchify(stream: Tensor, batch_size: int, bptt: int, batches: int = 0) -> Tensor:
    """Return a stream in columns, which are read side by side.

    Parameters
    ----------
    stream
        Token numbers, of shape (tokens,).
    batch_size
        The number of columns.
    bptt
        The number of rows in a batch.
    batches
        The number of batches to keep; 0 keeps all.

    Returns
    -------
    Tensor
        Shape (rows, batch_size): the rows of all batches, and one more row for the last targets.

    Raises
    ------
    CorpusError
        If the stream is too short.
    """
    rows = batches * bptt + 1 if batches else max(len(stream) // batch_size, 2)
    needed = rows * batch_size
    if len(stream) < needed:
        raise CorpusError(
            f"the corpus is too small: one of its parts has {len(stream)} tokens and needs {needed}; take a "
            "larger corpus, or a smaller batch_size, eval_batch_size, bptt, train_batches or eval_batches"
        )
    return stream[:needed].view(batch_size, rows).t().contiguous()


def dataprep_workflow(
    corpus_spec: str, config: dict[str, Any], output_dir: Path, campaign_id: str | None = None
) -> PreparedData:
    """Prepare a corpus for training, recorded as ``DataPrepWorkflow``.

    Parameters
    ----------
    corpus_spec
        See `llm_corpora.load_corpus`.
    config
        ``batch_size``, ``eval_batch_size``, ``bptt``, ``vocabulary_size``, ``train_batches`` and
        ``eval_batches``.
    output_dir
        The folder for the files. It is created if it is missing.
    campaign_id
        The campaign to which the workflow belongs.

    Raises
    ------
    CorpusError
        If the corpus is not available, or too small.
    """
    used = {"corpus": corpus_spec, **config}
    with flowprov.workflow("DataPrepWorkflow", campaign_id=campaign_id, used=used) as workflow:
        corpus = load_corpus(corpus_spec)
        vocabulary = build_vocabulary(corpus.train, config["vocabulary_size"])
        bptt, eval_size, eval_batches = config["bptt"], config["eval_batch_size"], config["eval_batches"]
        parts = {
            "train": batchify(
                encode(corpus.train, vocabulary), config["batch_size"], bptt, config["train_batches"]
            ),
            "valid": batchify(encode(corpus.valid, vocabulary), eval_size, bptt, eval_batches),
            "test": batchify(encode(corpus.test, vocabulary), eval_size, bptt, eval_batches),
        }
        folder = output_dir.resolve()  # the workers may run elsewhere
        folder.mkdir(parents=True, exist_ok=True)
        for name, tensor in parts.items():
            torch.save(tensor, folder / f"{name}.pt")
        (folder / "vocabulary.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
        prepared = PreparedData(
            dataset_ref=corpus.reference,
            ntokens=len(vocabulary),
            train_path=str(folder / "train.pt"),
            valid_path=str(folder / "valid.pt"),
            test_path=str(folder / "test.pt"),
            train_shape=list(parts["train"].shape),
            valid_shape=list(parts["valid"].shape),
            test_shape=list(parts["test"].shape),
        )
        workflow.set_generated(**prepared, note=corpus.note)
    return prepared
