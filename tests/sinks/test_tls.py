"""Addresses that require TLS: records are delivered through it, and an untrusted server gets nothing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import pytest

from flowprov.errors import SinkUnavailableError
from flowprov.sinks.registry import open_reader, open_sink
from tests.sinks.kinds import Kind, MongoKind, RedisKind, new_header, numbered
from tests.sinks.mongodb_server import MongoServer
from tests.sinks.redis_server import RedisServer
from tests.sinks.server_process import started


class TlsAddresses(NamedTuple):
    """The addresses of a server that speaks TLS: one that trusts its certificate, and one that does not."""

    trusted: str
    unknown: str


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for this host, with its key in the same folder."""
    if shutil.which("openssl") is None:
        pytest.skip("NO TLS: there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject, *files],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "cert.pem"


class SecuredRedis(RedisServer):
    """A Redis that speaks TLS only."""

    def start(self, *options: str) -> None:
        """Start it."""
        self._launch(["redis-server", "--port", "0", "--tls-port", str(self.port), "--save", "", *options])


@pytest.fixture
def secured(kind: Kind, tmp_path: Path, certificate: Path) -> Iterator[TlsAddresses]:
    """A server of each kind."""
    key, cert = str(certificate.with_name("key.pem")), str(certificate)
    server: SecuredRedis | MongoServer
    if isinstance(kind, RedisKind):
        server = SecuredRedis(tmp_path / "server")
        options = ["--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert]
        options += ["--tls-auth-clients", "no"]
        unknown = f"rediss://127.0.0.1:{server.port}/0"
        trusted = f"{unknown}?ssl_ca_certs={quote(cert)}"
    else:
        assert isinstance(kind, MongoKind)
        server = MongoServer(tmp_path / "server")
        options = ["--tls-cert-file", cert, "--tls-key-file", key]
        unknown = f"{server.uri()}&tls=true"
        trusted = f"{unknown}&tlsCAFile={quote(cert, safe='')}"
    with started(server, *options):
        yield TlsAddresses(trusted, unknown)


def test_records_are_delivered_and_read_back_through_tls(secured: TlsAddresses) -> None:
    sink, journal = open_sink(secured.trusted), new_header()
    sink.deliver(journal, numbered(5))
    sink.close()
    reader = open_reader(secured.trusted)
    assert list(reader.entries(journal.journal_id)) == numbered(5)
    reader.close()


def test_a_server_with_an_untrusted_certificate_gets_nothing_and_the_error_names_the_reason(
    secured: TlsAddresses,
) -> None:
    sink = open_sink(secured.unknown)
    with pytest.raises(SinkUnavailableError, match=r"(?i)certificate"):
        sink.deliver(new_header(), numbered(1))
    sink.close()
