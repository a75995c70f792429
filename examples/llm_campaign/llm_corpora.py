"""The corpora: where the text of the language model comes from.

Flows in: a spec such as ``wikidata``, ``wikidata:PATH``, ``text:PATH``, ``python-docs`` or ``wikitext-2``.
Flows out: a `Corpus` with lines of English for training, validation and test. The split is deterministic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wikidata_dump import DumpError, read_statements

SAMPLE = Path(__file__).parent / "data" / "wikidata_sample.json"
SAMPLE_NOTE = (
    "a sample written for this example in the layout of Wikidata's JSON dump; it is not Wikidata's data"
)
TEXT_SUFFIXES = {".txt", ".md", ".rst", ".text"}
SPECS = "wikidata, wikidata:PATH, text:PATH, python-docs, wikitext-2"


class CorpusError(Exception):
    """A corpus is not available; the message says why, and what to do instead."""


@dataclass(frozen=True)
class Corpus:
    """Lines of English in three parts.

    Parameters
    ----------
    name
        The name of the corpus in the records.
    train, valid, test
        Its lines.
    note
        A remark that readers of the records must know.
    """

    name: str
    train: list[str]
    valid: list[str]
    test: list[str]
    note: str = ""

    @property
    def reference(self) -> str:
        """Return name and digest of the content: two runs with the same reference saw the same lines."""
        digest = hashlib.sha256()
        for part in (self.train, self.valid, self.test):
            digest.update("\n".join(part).encode() + b"\0")
        return f"{self.name}@sha256:{digest.hexdigest()[:16]}"


def check_spec(spec: str) -> None:
    """Raise `CorpusError` if a spec names no corpus, or a path that does not exist.

    It reads no file. So a mistyped flag is reported before anything is recorded.
    """
    kind, _, path = spec.partition(":")
    if kind not in {"wikidata", "text", "python-docs", "wikitext-2"}:
        raise CorpusError(f"unknown corpus {spec!r}; expected one of: {SPECS}")
    if path and kind in {"python-docs", "wikitext-2"}:
        raise CorpusError(f"{kind} takes no path; expected one of: {SPECS}")
    if kind == "text" and not path:
        raise CorpusError("text needs a file or a folder: text:PATH")
    if path and not Path(path).expanduser().exists():
        raise CorpusError(f"{path} does not exist")


def load_corpus(spec: str) -> Corpus:
    """Load the corpus that a spec names.

    Parameters
    ----------
    spec
        One of ``wikidata`` (the bundled sample), ``wikidata:PATH`` (a dump or a part of one), ``text:PATH``
        (a file or a folder), ``python-docs``, ``wikitext-2``.

    Raises
    ------
    CorpusError
        If the spec is unknown or the corpus cannot be read.
    """
    check_spec(spec)
    kind, _, path_text = spec.partition(":")
    path = Path(path_text).expanduser()
    if kind == "wikitext-2":
        return _wikitext_2()
    if kind == "python-docs":
        return _split("python-docs", _python_docs())
    if kind == "text":
        return _split(f"text:{path.name}", _text_lines(path))
    try:
        if path_text:
            return _split(f"wikidata:{path.name}", read_statements(path))
        return _split("wikidata-sample", read_statements(SAMPLE), note=SAMPLE_NOTE)
    except DumpError as error:
        raise CorpusError(str(error)) from error


def _split(name: str, lines: Iterable[str], note: str = "") -> Corpus:
    """Create a corpus: of ten lines eight for training, the ninth for validation, the tenth for test.

    Neighboring lines are about the same things, so all three parts share a vocabulary.
    """
    kept = [line for line in lines if line.strip()]
    if not kept:
        raise CorpusError(f"{name} has no text; expected one of: {SPECS}")
    return Corpus(
        name=name,
        train=[line for position, line in enumerate(kept) if position % 10 < 8],
        valid=kept[8::10],
        test=kept[9::10],
        note=note,
    )


def _text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, or of all text files below a folder in the order of their names."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in TEXT_SUFFIXES and file.is_file())
        if not files:
            raise CorpusError(f"{path} holds no text files ({', '.join(sorted(TEXT_SUFFIXES))})")
    for file in files:
        with file.open(encoding="utf-8", errors="replace") as lines:
            yield from lines


def _python_docs() -> Iterator[str]:
    """Yield the lines of Python's own documentation, which comes with the interpreter."""
    try:
        from pydoc_data.topics import topics
    except ImportError as error:  # some distributions package Python without them
        raise CorpusError("this Python comes without pydoc_data; use another corpus: wikidata") from error
    for name in sorted(topics):
        yield from topics[name].splitlines()


def _wikitext_2() -> Corpus:
    """Load WikiText-2 through the `datasets` library, which splits it."""
    others = "other corpora need neither: wikidata, wikidata:PATH, text:PATH, python-docs"
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise CorpusError(
            f"wikitext-2 needs the datasets library (pip install datasets) and the network; {others}"
        ) from error
    try:
        parts = load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1")
        train, valid, test = (
            [row["text"] for row in parts[part] if row["text"].strip()]
            for part in ("train", "validation", "test")
        )
    # Without the network the library raises errors of several other libraries. All mean the same here.
    except Exception as error:
        raise CorpusError(
            f"wikitext-2 could not be loaded ({type(error).__name__}: {error}); {others}"
        ) from error
    return Corpus("wikitext-2", train, valid, test)
