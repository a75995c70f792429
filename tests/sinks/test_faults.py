"""Every sink survives a server that is down, frozen, killed, emptied or refuses, and a faulty network."""

from __future__ import annotations

import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from flowprov.errors import SinkError, SinkRefusedError, SinkUnavailableError
from tests.sinks.kinds import Kind, new_header, numbered
from tests.sinks.proxy import Direction, Proxy
from tests.sinks.server_process import ServerProcess, free_port, started

TIMEOUT = 1.0
MAX_WAIT_S = 20.0  # far above the timeout on a busy machine, below the half minute of MongoDB's driver


@contextmanager
def unavailable_within_timeout() -> Iterator[None]:
    began = time.monotonic()
    with pytest.raises(SinkUnavailableError):
        yield
    assert time.monotonic() - began < MAX_WAIT_S


def full_text(error: SinkError) -> str:
    """Return all text of an error that a person or a log would see."""
    return "".join(traceback.format_exception(error))


@pytest.fixture(scope="module")
def behind(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that runs behind the proxies of these tests."""
    with started(kind.server(tmp_path_factory.mktemp("behind") / "server")) as running:
        yield running


@pytest.fixture
def proxy(behind: ServerProcess) -> Iterator[Proxy]:
    opened = Proxy(behind)
    yield opened
    opened.close()


def test_creating_and_closing_a_sink_connects_to_nothing(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    real_connect, tried = socket.socket.connect, []

    def connect(self: socket.socket, address: Any) -> None:
        tried.append(address)
        real_connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    port = free_port()  # no port of a server: clients of other tests may be connecting to theirs
    sink = kind.sink(f"{kind.name}://127.0.0.1:{port}", TIMEOUT)
    sink.close()
    sink.close()
    assert ("127.0.0.1", port) not in tried
    sink = kind.sink(f"{kind.name}://127.0.0.1:{port}", TIMEOUT)
    with unavailable_within_timeout():
        sink.resume_after(new_header())
    assert ("127.0.0.1", port) in tried
    sink.close()


def test_a_server_that_is_down_is_unavailable_until_it_comes(kind: Kind, server: ServerProcess) -> None:
    sink, header = kind.sink(server.uri(), TIMEOUT), new_header()
    with unavailable_within_timeout():
        sink.resume_after(header)
    with unavailable_within_timeout():
        sink.deliver(header, numbered(3))
    server.start()
    assert sink.resume_after(header) is None
    sink.deliver(header, numbered(3))
    assert kind.stored(server.uri(), header.journal_id) == numbered(3)
    sink.close()


def test_a_server_that_is_down_is_named_without_credentials(kind: Kind) -> None:
    sink = kind.sink(f"{kind.name}://ada:geheim@127.0.0.1:{free_port()}/0", TIMEOUT)
    with pytest.raises(SinkUnavailableError) as caught:
        sink.resume_after(new_header())
    assert "127.0.0.1" in str(caught.value)
    assert not any(word in full_text(caught.value) for word in ("geheim", "ada:"))


@pytest.mark.parametrize("connected", [True, False])
def test_a_frozen_server_is_unavailable_in_time(
    kind: Kind, server: ServerProcess, *, connected: bool
) -> None:
    server.start()
    sink, patient = kind.sink(server.uri(), TIMEOUT), kind.sink(server.uri(), 20.0)
    header = new_header()
    patient.deliver(header, numbered(3))
    if connected:
        sink.resume_after(header)
    server.freeze()
    with unavailable_within_timeout():
        sink.deliver(header, numbered(20))
    with unavailable_within_timeout():
        sink.resume_after(header)
    server.thaw()
    patient.resume_after(header)
    patient.deliver(header, numbered(20))
    assert kind.stored(server.uri(), header.journal_id) == numbered(20)
    for opened in (sink, patient):
        opened.close()


def test_nothing_is_lost_or_doubled_when_the_server_is_killed_and_comes_back(
    kind: Kind, server: ServerProcess
) -> None:
    server.start()
    hasty, sink = kind.sink(server.uri(), TIMEOUT), kind.sink(server.uri(), 20.0)
    header, sent = new_header(), numbered(400)
    for begin in (0, 200):
        sink.deliver(header, sent[begin : begin + 200])
        hasty.resume_after(header)
        server.kill()
        with unavailable_within_timeout():
            hasty.deliver(header, sent[begin : begin + 300])
        server.start()
        assert hasty.resume_after(header) == sent[begin + 199].position
    assert kind.stored(server.uri(), header.journal_id) == sent
    for opened in (hasty, sink):
        opened.close()


def test_a_server_that_comes_back_empty_is_filled_again(kind: Kind, server: ServerProcess) -> None:
    server.start()
    sink, header, sent = kind.sink(server.uri(), 20.0), new_header(), numbered(10)
    sink.deliver(header, sent[:5])
    server.kill()
    server.delete_data()
    server.start()
    # An error although the server is there again: continuing behind the fifth entry would hide a gap.
    with unavailable_within_timeout():
        sink.deliver(header, sent[5:])
    assert sink.resume_after(header) is None
    sink.deliver(header, sent)
    assert kind.stored(server.uri(), header.journal_id) == sent
    assert kind.journals(server.uri(), header.campaign_id) == [header.journal_id]
    sink.close()


def test_a_wrong_password_is_refused_and_never_printed(kind: Kind, tmp_path: Path) -> None:
    locked = kind.server(tmp_path / "locked", password="right-one")  # noqa: S106 - a password to be looked for
    with started(locked) as server:
        header = new_header()
        sink = kind.sink(server.uri("wrong-one"), 20.0)
        for call in (sink.resume_after, lambda header: sink.deliver(header, numbered(1))):
            with pytest.raises(SinkRefusedError) as caught:
                call(header)
            assert "wrong-one" not in full_text(caught.value)
        right = kind.sink(server.uri(), 20.0)
        right.deliver(header, numbered(1))
        assert right.resume_after(header) == 0
        for opened in (sink, right):
            opened.close()


def test_a_network_that_is_slow_at_every_answer_is_no_failure(kind: Kind, proxy: Proxy) -> None:
    sink, header, sent = kind.sink(proxy.uri(), 3 * TIMEOUT), new_header(), numbered(600)
    proxy.delay = 0.4
    assert sink.resume_after(header) is None
    sink.deliver(header, sent)
    assert sink.resume_after(header) == sent[-1].position
    proxy.delay = 0
    assert kind.stored(proxy.uri(), header.journal_id) == sent
    sink.close()


def test_entries_that_were_stored_but_not_confirmed_in_time_are_not_doubled(kind: Kind, proxy: Proxy) -> None:
    sink, header, sent = kind.sink(proxy.uri(), TIMEOUT), new_header(), numbered(20)
    sink.deliver(header, sent[:10])
    proxy.delay = 2 * TIMEOUT
    with unavailable_within_timeout():
        sink.deliver(header, sent[10:])
    proxy.delay = 0
    patient = kind.sink(proxy.uri(), 20.0)
    assert patient.resume_after(header) in (sent[9].position, sent[19].position)
    patient.deliver(header, sent[10:])
    assert kind.stored(proxy.uri(), header.journal_id) == sent
    for opened in (sink, patient):
        opened.close()


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize(
    ("direction", "point"),
    [
        *(("requests", point) for point in (0, 1, 40, 400, 1_500, 4_000, 20_000)),
        *(("answers", point) for point in (0, 1, 40, 400)),
    ],
)
def test_a_connection_that_is_cut_anywhere_loses_and_doubles_nothing(
    kind: Kind, proxy: Proxy, direction: Direction, point: int, *, connected: bool
) -> None:
    sink, header, sent = kind.sink(proxy.uri(), TIMEOUT), new_header(), numbered(650)
    if connected:
        sink.deliver(header, sent[:50])
    proxy.cut_after(point, direction)
    with suppress(SinkUnavailableError):
        sink.deliver(header, sent)
    assert proxy.restore() or (
        direction == "answers" and point
    )  # the answers of Redis are shorter than some points
    patient = kind.sink(proxy.uri(), 20.0)
    reached = patient.resume_after(header)
    assert reached is not None or not connected
    patient.deliver(header, [entry for entry in sent if reached is None or entry.position > reached])
    assert kind.stored(proxy.uri(), header.journal_id) == sent
    assert kind.journals(proxy.uri(), header.campaign_id) == [header.journal_id]
    for opened in (sink, patient):
        opened.close()
