"""A network that misbehaves: a proxy before a server, which delays answers and cuts connections."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import Literal

from tests.sinks.server_process import ServerProcess

Direction = Literal["requests", "answers"]


class Proxy:
    """Passes bytes between clients and a server on the loopback, until it is told otherwise.

    Attributes
    ----------
    delay
        Seconds that every answer is held back.
    """

    def __init__(self, server: ServerProcess) -> None:
        self.delay = 0.0
        self._server = server
        self._lock = threading.Lock()
        self._left: dict[Direction, int] = {}  # bytes that still pass before all is cut
        self._is_cut = threading.Event()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._in_thread(self._accept)

    def uri(self) -> str:
        """Give the server's address, by way of here."""
        port = self._listener.getsockname()[1]
        return self._server.uri().replace(f"127.0.0.1:{self._server.port}", f"127.0.0.1:{port}")

    def cut_after(self, count: int, direction: Direction) -> None:
        """Let so many more bytes pass in a direction, then cut all and let nobody in until mended."""
        with self._lock:
            self._left = {direction: count}

    def mend(self) -> bool:
        """Take connections and let everything pass again; says whether they had been cut."""
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
        with self._lock:
            self._hang_up()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    if not self._is_cut.is_set() and self._join(client):
                        continue
                client.close()

    def _join(self, client: socket.socket) -> bool:
        try:
            server = socket.create_connection(("127.0.0.1", self._server.port))
        except OSError:
            return False
        self._open |= {client, server}
        self._in_thread(self._pass, client, server, "requests")
        self._in_thread(self._pass, server, client, "answers")
        return True

    def _pass(self, source: socket.socket, target: socket.socket, direction: Direction) -> None:
        with suppress(OSError):  # one end is gone; the other one follows
            while received := source.recv(65_536):
                if direction == "answers" and self.delay:
                    time.sleep(self.delay)
                target.sendall(self._let_through(received, direction))
                with self._lock:
                    if self._left.get(direction) == 0:
                        self._is_cut.set()
                        self._hang_up()
        with self._lock:
            for end in (source, target):
                _hang_up(end)
                self._open.discard(end)

    def _let_through(self, received: bytes, direction: Direction) -> bytes:
        with self._lock:
            left = self._left.get(direction)
            if left is None:
                return received
            self._left[direction] = max(0, left - len(received))
            return received[:left]

    def _hang_up(self) -> None:
        for end in self._open:
            _hang_up(end)
        self._open.clear()

    @staticmethod
    def _in_thread(target: object, *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()  # type: ignore[arg-type]


def _hang_up(end: socket.socket) -> None:
    with suppress(OSError):  # the other side was first
        end.shutdown(socket.SHUT_RDWR)
    end.close()
