"""A faulty network: a proxy in front of a server, which delays answers and cuts connections."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Literal, Protocol

Direction = Literal["requests", "answers"]


class Server(Protocol):
    """The part of a server that a proxy uses."""

    port: int

    def uri(self) -> str:
        """Return its address."""


class Proxy:
    """Passes bytes between clients and a server on the loopback; it can delay and cut them.

    Parameters
    ----------
    server
        The server, which need not run yet.

    Attributes
    ----------
    delay
        Seconds by which every answer is delayed.
    cuts
        Number of connections that :meth:`cut_each` has cut.
    """

    def __init__(self, server: Server) -> None:
        self.delay = 0.0
        self.cuts = 0
        self._server = server
        self._lock = threading.Lock()
        self._left: dict[Direction, int] = {}  # bytes that still pass before all connections are cut
        self._is_cut = threading.Event()
        self._due = 0  # number of connections that will still be cut, each by itself
        self._due_after = 0
        self._taken = False
        self._open: set[_Connection] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    def uri(self) -> str:
        """Return the address of the server through this proxy."""
        port = self._listener.getsockname()[1]
        return self._server.uri().replace(f"127.0.0.1:{self._server.port}", f"127.0.0.1:{port}")

    def cut_after(self, byte_count: int, direction: Direction) -> None:
        """Let so many more bytes pass, then cut all connections and refuse new ones until :meth:`restore`."""
        with self._lock:
            self._left = {direction: byte_count}

    def cut_each(self, times: int, *, after: int, taken: bool) -> None:
        """Cut some connections, each when it has sent more than some bytes of requests.

        Parameters
        ----------
        times
            Number of connections to cut; later ones pass.
        after
            Bytes of requests that a connection may send.
        taken
            Whether the server still gets the request that exceeds them. If so its answer is lost, else the
            request itself.
        """
        with self._lock:
            self._due, self._due_after, self._taken = times, after, taken

    def restore(self) -> bool:
        """Accept connections and let all bytes pass again; return whether all had been cut."""
        with self._lock:
            self._left = {}
            was_cut = self._is_cut.is_set()
            self._is_cut.clear()
        return was_cut

    def close(self) -> None:
        """Close the proxy and its connections."""
        # A thread that waits in accept() keeps a socket open that is only closed: shut it down first.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._close_all()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    connected = not self._is_cut.is_set() and self._connect(client)
                if not connected:
                    client.close()

    def _connect(self, client: socket.socket) -> bool:
        try:
            server = socket.create_connection(("127.0.0.1", self._server.port))
        except OSError:
            return False
        connection = _Connection(client, server)
        self._open.add(connection)
        for direction in ("requests", "answers"):
            threading.Thread(target=self._pass, args=(connection, direction), daemon=True).start()
        return True

    def _pass(self, connection: _Connection, direction: Direction) -> None:
        source, target = connection.ends(direction)
        with suppress(OSError):  # one end is gone; the other one follows
            while received := source.recv(65_536):
                if direction == "answers":
                    time.sleep(self.delay)
                    if connection.loses_answers:
                        break
                elif self._is_due(connection, len(received)) and not connection.loses_answers:
                    break
                target.sendall(self._take_allowed(received, direction))
                if self._left.get(direction) == 0:
                    self._is_cut.set()
                    self._close_all()
        connection.close()
        self._open.discard(connection)

    def _is_due(self, connection: _Connection, size: int) -> bool:
        with self._lock:
            connection.requested += size
            if not self._due or connection.requested <= self._due_after or connection.loses_answers:
                return False
            self._due -= 1
            self.cuts += 1
            connection.loses_answers = self._taken
            return True

    def _take_allowed(self, received: bytes, direction: Direction) -> bytes:
        with self._lock:
            left = self._left.get(direction)
            if left is None:
                return received
            self._left[direction] = max(0, left - len(received))
            return received[:left]

    def _close_all(self) -> None:
        for connection in list(self._open):
            connection.close()


class _Connection:
    """The two ends of a connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self._client, self._server = client, server
        self.requested = 0
        self.loses_answers = False  # if true, it is cut at the next answer

    def ends(self, direction: Direction) -> tuple[socket.socket, socket.socket]:
        """Return the end from which bytes come, and the one to which they go."""
        both = (self._client, self._server)
        return both if direction == "requests" else both[::-1]

    def close(self) -> None:
        """Cut both ends."""
        for end in (self._client, self._server):
            with suppress(OSError):  # the other side was first
                end.shutdown(socket.SHUT_RDWR)
            end.close()
