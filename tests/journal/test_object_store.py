"""The object store: whoever keeps the same content at the same time, it is there once, and whole."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowprov.journal.object_store import FOLDER, keep_object, read_object, remove_objects, write_object

CONTENT = b"torch==2.7.0\n" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def _parts(begun: threading.Event, go_on: threading.Event) -> Iterator[bytes]:
    """Return the content in two parts, the second when it may go on."""
    yield CONTENT[:100]
    begun.set()
    assert go_on.wait(60)
    yield CONTENT[100:]


def test_two_threads_that_keep_the_same_content_at_once_both_succeed(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()
    (tmp_path / FOLDER).mkdir()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(write_object, tmp_path / FOLDER, DIGEST, _parts(begun, go_on), 0o600)
        assert begun.wait(60)
        assert keep_object(tmp_path, CONTENT, 0o600) == DIGEST
        assert read_object(tmp_path, DIGEST) == CONTENT
        go_on.set()
        slow.result()
    assert read_object(tmp_path, DIGEST) == CONTENT
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [DIGEST]


def test_content_that_changes_meanwhile_does_not_take_its_place_from_another_writer(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()

    def parts() -> Iterator[bytes]:
        yield CONTENT[:100]
        keep_object(tmp_path, CONTENT, 0o600)
        yield b"something else"

    with pytest.raises(OSError, match="changed meanwhile"):
        write_object(tmp_path / FOLDER, DIGEST, parts(), 0o600)
    assert read_object(tmp_path, DIGEST) == CONTENT
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [DIGEST]


def test_many_threads_keep_the_same_contents(tmp_path: Path) -> None:
    contents = [b"%d" % number * 10_000 for number in range(50)]
    with ThreadPoolExecutor(8) as pool:
        kept = list(pool.map(lambda content: keep_object(tmp_path, content, 0o600), contents * 8))
    assert [read_object(tmp_path, digest) for digest in kept[:50]] == contents
    assert len(list((tmp_path / FOLDER).iterdir())) == 50


@pytest.mark.parametrize("ending", ["26613", "0197f3c1a5c97d2e8f00d2c5b8f0aa11"])
def test_what_a_killed_writer_has_left_goes_with_the_objects(tmp_path: Path, ending: str) -> None:
    keep_object(tmp_path, CONTENT, 0o600)
    (tmp_path / FOLDER / f".{DIGEST}.{ending}").write_bytes(CONTENT[:100])
    remove_objects(tmp_path)
    assert not (tmp_path / FOLDER).exists()
