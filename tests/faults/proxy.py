"""A wire between a program and a server that is slow, or that breaks.

Flows in: connections for a server, and how many of the first of them break. Flows out: the same connections,
late or cut.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator


class Proxy:
    """Passes connections on to a port of this machine.

    Parameters
    ----------
    port
        Where the server is.
    delay
        Seconds by which each piece of an answer is late.
    cut_after
        Bytes of requests after which a connection is cut.
    cuts
        So many connections are cut; those behind them are left alone.
    answer_only
        At the cut, pass the whole request on and lose the answer.
    """

    def __init__(
        self,
        port: int,
        *,
        delay: float = 0.0,
        cut_after: int = 0,
        cuts: int = 0,
        answer_only: bool = False,
    ) -> None:
        self._target = port
        self._delay = delay
        self._cut_after = cut_after
        self._left = cuts
        self._answer_only = answer_only
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.cut = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        for near in self._connections():
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                near.close()
                continue
            wire = _Wire(near, far)
            threading.Thread(target=self._requests, args=(wire,), daemon=True).start()
            threading.Thread(target=self._answers, args=(wire,), daemon=True).start()

    def _connections(self) -> Iterator[socket.socket]:
        while True:
            try:
                yield self._listener.accept()[0]
            except OSError:  # noqa: PERF203 - closed
                return

    def _requests(self, wire: _Wire) -> None:
        passed = 0
        for piece in wire.pieces(wire.near):
            passed += len(piece)
            if self._left and passed > self._cut_after and self._take_one():
                if not self._answer_only:
                    wire.close()
                    return
                wire.deaf = True  # what the server says from now on is lost, and then the wire is
            if not wire.send(wire.far, piece):
                return
        wire.close()

    def _take_one(self) -> bool:
        with self._lock:
            if not self._left:
                return False
            self._left -= 1
            self.cut += 1
            return True

    def _answers(self, wire: _Wire) -> None:
        for piece in wire.pieces(wire.far):
            if wire.deaf:
                break
            time.sleep(self._delay)
            if not wire.send(wire.near, piece):
                return
        wire.close()


class _Wire:
    """Two ends of a connection that passes through."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near, self.far = near, far
        self.deaf = False

    def pieces(self, end: socket.socket) -> Iterator[bytes]:
        """Give what comes at an end, until it is closed."""
        with contextlib.suppress(OSError):
            while piece := end.recv(1 << 14):
                yield piece

    def send(self, end: socket.socket, piece: bytes) -> bool:
        """Pass on; False if there is nobody any more."""
        try:
            end.sendall(piece)
        except OSError:
            self.close()
            return False
        return True

    def close(self) -> None:
        """Cut both ends."""
        for end in (self.near, self.far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
