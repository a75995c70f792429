"""The fuzzer of everything that reads: real journals are mutated, and read in every way."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from flowprov.journal.format import find_journals
from tests.fuzzing.everything import SHOW, VERIFY, Findings, read_everything
from tests.fuzzing.mutations import mutate_bytes, mutate_file, mutate_lines

_EVENTS = (b'{"type":"task"', b'{"type":"workflow"', b'{"type":"left_out"')
_OUTPUT_PER_BYTE = 8  # escaping a character takes up to six
_FREE_OUTPUT = 200_000


class ReaderTarget:
    """Mutates the journals of a buffer and reads them.

    Parameters
    ----------
    buffers
        Buffer folders with one campaign each. In those that are complete, records that are taken away must be
        missed.
    """

    name = "readers"

    def __init__(self, buffers: list[Path]) -> None:
        self.buffers = buffers
        self._complete = [b for b in buffers if read_everything(b).verdict == "COMPLETE"]
        self._pools = {buffer: _values_of(buffer) for buffer in buffers}

    @staticmethod
    def kinds_of(buffer: Path) -> set[str]:
        """Return the types of the records of a buffer."""
        lines = (line for path in find_journals(buffer) for line in path.read_bytes().split(b"\n"))
        return {json.loads(line)["type"] for line in lines if line.startswith(b'{"type"')}

    def play(self, rng: Random) -> None:
        """Play one round."""
        with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
            if self._complete and rng.random() < 0.2:
                source = rng.choice(self._complete)
                buffer = Path(shutil.copytree(source, Path(folder) / "buffer"))
                remove_record(rng, buffer)
                findings = read_everything(buffer)
                assert _is_missed(findings), findings.outputs[VERIFY]
                return
            source = rng.choice(self.buffers)
            buffer = Path(shutil.copytree(source, Path(folder) / "buffer"))
            for _ in range(rng.choice((1, 1, 2, 4))):
                mutate(rng, rng.choice(find_journals(buffer) or [buffer]), self._pools[source])
            size = sum(len(path.read_bytes()) for path in find_journals(buffer) if _is_small(path))
            check_bounds(read_everything(buffer), size)


def mutate(rng: Random, path: Path, pool: list[Any]) -> None:
    """Mutate one file."""
    if not _is_small(path):
        return
    data = path.read_bytes()
    kind = rng.random()
    if kind < 0.75:
        path.write_bytes(b"\n".join(mutate_lines(rng, data.split(b"\n")[:-1], pool)) + b"\n")
    elif kind < 0.9:
        path.write_bytes(mutate_bytes(rng, data))
    else:
        mutate_file(rng, path)


def remove_record(rng: Random, buffer: Path) -> None:
    """Take one event out of a journal, in one of the ways in which a line gets lost."""
    path = rng.choice(find_journals(buffer))
    lines = path.read_bytes().split(b"\n")
    at = rng.choice([number for number, line in enumerate(lines) if line.startswith(_EVENTS)])
    line = lines[at]
    cut = rng.randrange(1, len(line))
    lines[at] = rng.choice(
        (
            b"",
            b" " * len(line),
            b"\0" * len(line),
            line[:cut],
            line[cut:],
            line[:cut] + b"\xff" + line[cut + 1 :],
            b'{"type":"correction","task_id":1}',
        )
    )
    if rng.random() < 0.2:
        del lines[at]
    path.write_bytes(b"\n".join(lines))


def check_bounds(findings: Findings, size: int) -> None:
    """Fail if the outputs are out of all proportion to the journals."""
    for command, output in findings.outputs.items():
        assert len(output) <= _FREE_OUTPUT + _OUTPUT_PER_BYTE * size, (command, len(output))
    assert findings.outputs[SHOW]


def _is_missed(findings: Findings) -> bool:
    """Whether verify says so. What an attempt lost that was done again is no fault, but is said."""
    return findings.verdict != "COMPLETE" or "missing: " in findings.outputs[VERIFY]


def _is_small(path: Path) -> bool:
    return path.is_file() and path.stat().st_size < 10 << 20


def _values_of(buffer: Path) -> list[Any]:
    """Return ids, names and other values of the journals: a lie is best told with true names."""
    values: list[Any] = []
    for path in find_journals(buffer):
        for line in path.read_bytes().split(b"\n"):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                continue
            values += [value for value in record.values() if isinstance(value, (str, int, dict))]
    return values
