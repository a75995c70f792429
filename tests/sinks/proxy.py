"""A network that misbehaves: a proxy before a server, which delays answers and cuts connections."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Literal, Protocol

Direction = Literal["requests", "answers"]


class Server(Protocol):
    """What a proxy must know of the server behind it."""

    port: int

    def uri(self) -> str:
        """Give its address."""


class Proxy:
    """Passes bytes between clients and a server on the loopback, until it is told otherwise.

    Parameters
    ----------
    server
        The server, which need not run yet.

    Attributes
    ----------
    delay
        Seconds that every answer is held back.
    cuts
        How many connections :meth:`cut_each` has cut.
    """

    def __init__(self, server: Server) -> None:
        self.delay = 0.0
        self.cuts = 0
        self._server = server
        self._lock = threading.Lock()
        self._left: dict[Direction, int] = {}  # bytes that still pass before all is cut
        self._is_cut = threading.Event()
        self._due = 0  # connections that are still to be cut, each for itself
        self._due_after = 0
        self._taken = False
        self._open: set[_Wire] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def uri(self) -> str:
        """Give the server's address, by way of here."""
        port = self._listener.getsockname()[1]
        return self._server.uri().replace(f"127.0.0.1:{self._server.port}", f"127.0.0.1:{port}")

    def cut_after(self, count: int, direction: Direction) -> None:
        """Let so many more bytes pass in a direction, then cut all and let nobody in until mended."""
        with self._lock:
            self._left = {direction: count}

    def cut_each(self, times: int, *, after: int, taken: bool) -> None:
        """Cut so many connections, each when it has asked for more than some bytes.

        Parameters
        ----------
        times
            How many; those behind them are left alone.
        after
            Bytes of requests that a connection may pass.
        taken
            Whether the server gets the request that is one too many: then its answer is lost. Otherwise the
            request is.
        """
        with self._lock:
            self._due, self._due_after, self._taken = times, after, taken

    def mend(self) -> bool:
        """Take connections and let everything pass again; says whether all had been cut."""
        with self._lock:
            self._left = {}
            was_cut = self._is_cut.is_set()
            self._is_cut.clear()
        return was_cut

    def close(self) -> None:
        """End it."""
        # A thread that waits in accept() holds on to a socket that is only closed.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._hang_up()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    joined = not self._is_cut.is_set() and self._join(client)
                if not joined:
                    client.close()

    def _join(self, client: socket.socket) -> bool:
        try:
            server = socket.create_connection(("127.0.0.1", self._server.port))
        except OSError:
            return False
        wire = _Wire(client, server)
        self._open.add(wire)
        for direction in ("requests", "answers"):
            threading.Thread(target=self._pass, args=(wire, direction), daemon=True).start()
        return True

    def _pass(self, wire: _Wire, direction: Direction) -> None:
        source, target = wire.ends(direction)
        with suppress(OSError):  # one end is gone; the other one follows
            while received := source.recv(65_536):
                if direction == "answers":
                    time.sleep(self.delay)
                    if wire.loses_answers:
                        break
                elif self._is_due(wire, len(received)) and not wire.loses_answers:
                    break
                target.sendall(self._let_through(received, direction))
                if self._left.get(direction) == 0:
                    self._is_cut.set()
                    self._hang_up()
        wire.close()
        self._open.discard(wire)

    def _is_due(self, wire: _Wire, asked: int) -> bool:
        with self._lock:
            wire.asked += asked
            if not self._due or wire.asked <= self._due_after or wire.loses_answers:
                return False
            self._due -= 1
            self.cuts += 1
            wire.loses_answers = self._taken
            return True

    def _let_through(self, received: bytes, direction: Direction) -> bytes:
        with self._lock:
            left = self._left.get(direction)
            if left is None:
                return received
            self._left[direction] = max(0, left - len(received))
            return received[:left]

    def _hang_up(self) -> None:
        for wire in list(self._open):
            wire.close()


class _Wire:
    """The two ends of a connection that passes through."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client, self._server = client, server
        self.asked = 0
        self.loses_answers = False  # and is cut when the first one comes

    def ends(self, direction: Direction) -> tuple[socket.socket, socket.socket]:
        """Give the end from which bytes come and the one to which they go."""
        both = (self._client, self._server)
        return both if direction == "requests" else both[::-1]

    def close(self) -> None:
        """Cut both ends."""
        for end in (self._client, self._server):
            with suppress(OSError):  # the other side was first
                end.shutdown(socket.SHUT_RDWR)
            end.close()
