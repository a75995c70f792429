"""``flowprov export --source redis://…``: a server gives what the buffer gives, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import flowprov
from tests.sinks.redis_server import RedisServer


@pytest.fixture(scope="module")
def uri(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a server that has what was recorded of a training."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    try:
        assert flowprov("ship", "--to", server.uri(), cwd=trained).status == 0
        yield server.uri()
    finally:
        server.kill()


@pytest.mark.parametrize("form", ["trace", "prov-n", "prov-json", "openlineage", "croissant", "rocrate"])
def test_an_export_of_a_server_is_that_of_the_buffer(
    trained: Path, uri: str, tmp_path: Path, form: str
) -> None:
    outputs = [tmp_path / "of_buffer.zip", tmp_path / "of_server.zip"]
    for output, source in zip(outputs, ([], ["--source", uri]), strict=True):
        exported = flowprov("export", form, "-o", output, *source, cwd=trained)
        assert (exported.status, exported.err) == (0, "")
    assert outputs[0].read_bytes() == outputs[1].read_bytes()


def test_a_bill_from_a_server_lacks_the_packages_alone(trained: Path, uri: str, tmp_path: Path) -> None:
    output = tmp_path / "bill.json"
    exported = flowprov(
        "export", "cyclonedx", "model.safetensors", "-o", output, "--source", uri, cwd=trained
    )
    # The list of packages lies beside the journals, and no server gets it.
    assert exported.out == f"{output}: model.safetensors, and 3 components\n"
