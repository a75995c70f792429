"""No message holds a piece of a password, however the address was written and wherever the message goes."""

from __future__ import annotations

import logging
import socket
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import flowprov
from flowprov.errors import FlowprovError, SinkError, SinkRefusedError, SinkUnavailableError
from flowprov.read.sink_check import SinkProbe
from flowprov.settings import is_ambiguous_uri, leads_elsewhere, redact_source
from flowprov.sinks.base import Sink, SinkReader
from flowprov.sinks.mongodb.reader import MongoReader
from flowprov.sinks.mongodb.sink import MongoSink
from flowprov.sinks.redis import RedisReader, RedisSink
from flowprov.sinks.registry import open_sink
from tests.cli.support import flowprov as command
from tests.journal.support import header, step, write
from tests.support import run

# Passwords that are not percent-encoded: what a client makes of each differs. Every word of them is secret.
PASSWORDS = {
    "a slash": "opensesame/geheim",
    "a slash behind a port": "1/geheim",
    "a number sign": "opensesame#geheim",
    "a question mark": "opensesame?geheim",
    "an option": "1?geheim=opensesame",
    "an at sign": "opensesame@geheim",
    "an at sign and a slash": "opensesame@geheim/rest",
    "a colon and an at sign": "opensesame:geheim@rest",
    "a comma": "opensesame,geheim/rest",
    "brackets": "[opensesame/geheim",
}
SECRETS = ("opensesame", "geheim")
passwords = pytest.mark.parametrize("password", PASSWORDS.values(), ids=PASSWORDS)
ADDRESSES = {
    "redis": "redis://:{}@127.0.0.1:1/0",
    "rediss": "rediss://ada:{}@127.0.0.1:1",
    "mongodb": "mongodb://ada:{}@127.0.0.1:1/db",
    "mongodb hosts": "mongodb://ada:{}@127.0.0.1:1,127.0.0.1:2/db",
}
addresses = pytest.mark.parametrize("address", ADDRESSES.values(), ids=ADDRESSES)


@pytest.fixture(autouse=True)
def no_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail at once for every host that has a name, as if no name server knew it."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        if host not in ("127.0.0.1", "localhost"):
            raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host}")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def clean(text: str) -> bool:
    return not any(secret in text.lower() for secret in SECRETS)


@addresses
@passwords
def test_a_sink_and_its_reader_say_nothing_of_the_password(password: str, address: str) -> None:
    uri = address.format(password)
    is_redis = uri.startswith("redis")
    sink: Sink = RedisSink(uri, timeout=0.2) if is_redis else MongoSink(uri, timeout=0.2)
    reader: SinkReader = RedisReader(uri, timeout=0.2) if is_redis else MongoReader(uri, timeout=0.2)
    with warnings.catch_warnings(record=True) as caught_warnings:
        warnings.simplefilter("always")
        calls: tuple[Callable[[], object], ...] = (partial(sink.resume_after, header()), reader.campaign_ids)
        for call in calls:
            with pytest.raises(SinkError) as caught:
                call()
            assert clean("".join(traceback.format_exception(caught.value)))
    assert all(clean(str(warning.message)) for warning in caught_warnings)
    sink.close()
    reader.close()


@pytest.mark.parametrize("address", [ADDRESSES["redis"], ADDRESSES["mongodb"]], ids=["redis", "mongodb"])
@pytest.mark.parametrize("password", ["1/geheim", "opensesame@geheim/rest", "opensesame?geheim=1"])
def test_verify_and_a_follower_say_nothing_of_it(
    password: str, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    uri = address.format(password)
    probe = SinkProbe(uri)
    assert clean(probe.display_uri)
    with caplog.at_level(logging.DEBUG, "flowprov"), pytest.raises(SinkError) as caught:
        list(flowprov.Buffer(uri).follow(campaign_id="c1").available())
    assert clean(str(caught.value) + caplog.text)
    probe.close()


@pytest.mark.parametrize(
    ("address", "password"),
    [("redis", "1/geheim"), ("mongodb", "opensesame@geheim"), ("redis", "opensesame?geheim=1")],
)
def test_the_commands_and_the_log_of_a_program_say_nothing_of_it(
    password: str, address: str, tmp_path: Path
) -> None:
    uri = ADDRESSES[address].format(password)
    write(tmp_path / "flowprov_buffer", header(), step(0))
    for arguments in (
        ("ship", "flowprov_buffer", "--to", uri),
        ("ship", uri),
        ("show", uri),
        ("verify", "--to", uri),
        ("verify", uri),
    ):
        result = command(*arguments, cwd=tmp_path)
        assert result.status != 0
        assert clean(result.out + result.err), arguments
    name = f"FLOWPROV__SINKS__{address.upper()}__URI"
    code = "import flowprov\nwith flowprov.workflow('W'):\n    pass"
    _, err = run(code, tmp_path, env={name: uri, "FLOWPROV__SINKS__STOP_TIMEOUT": "2"})
    assert clean(err)
    assert "wait for delivery" in err
    written = [path for path in (tmp_path / "flowprov_buffer").rglob(".ship-*") if path.is_file()]
    assert written
    assert all(clean(path.read_text()) for path in written)


@pytest.mark.parametrize(
    "slip", ["redis:/:{}@host", "redis:{}@host/0", "redis//:{}@host", "mongodb:///u:{}@host"]
)
def test_an_address_with_a_slip_in_it_is_not_quoted_as_a_path(slip: str, tmp_path: Path) -> None:
    source = slip.format("geheim")
    with pytest.raises(FlowprovError) as caught:
        flowprov.read_buffer(source, campaign_id="c1")
    assert clean(str(caught.value))
    for arguments in (("show", source), ("verify", source), ("ship", source, "--to", "redis://127.0.0.1:1")):
        assert clean(command(*arguments, cwd=tmp_path).err)


def test_a_client_is_not_sent_to_a_host_that_is_a_piece_of_the_password() -> None:
    for uri in ("redis://:p@key/rest@host", "mongodb://u:p@key/rest@host", "rediss://:1#x@host"):
        assert leads_elsewhere(uri)
        with pytest.raises(SinkRefusedError, match="percent-encoded") as caught:
            open_sink(uri).resume_after(header())
        assert "key" not in str(caught.value)


@pytest.mark.parametrize(
    "uri",
    [
        "redis://:p%40key%2Frest@host:6379/0",
        "redis://host/0?client_name=me",
        "mongodb://u:p@one,two:1/db?authSource=admin",
        "unix:///run/redis.sock",
    ],
)
def test_an_ordinary_address_is_read_in_one_way(uri: str) -> None:
    assert not is_ambiguous_uri(uri)
    assert not leads_elsewhere(uri)


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("redis://127.0.0.1:1", "Connection refused"),
        ("redis://nowhere.example", "name is not known"),
        ("unix:///nowhere/redis.sock", "No such file or directory"),
        ("mongodb://127.0.0.1:1", "Connection refused"),
        ("mongodb://nowhere.example", "name is not known"),
    ],
)
def test_the_reason_is_still_said(uri: str, reason: str) -> None:
    sink = open_sink(uri)
    with pytest.raises(SinkUnavailableError, match=reason):
        sink.resume_after(header())
    sink.close()


def test_the_path_of_a_folder_is_quoted_as_it_is() -> None:
    for path in ("/data/user@host/runs", "runs/a@b", "./x", "C@D"):
        assert redact_source(path) == path
