"""Response the browser: on this machine alone, and nothing but pages.

Flows in: requests of HTTP. Flows out: pages. The server of the standard library is enough for it: a few
browsers of one person ask for whole pages, and nothing is written.

A page of a stranger could be led to this address by its name (DNS rebinding): so a request has to name this
machine as its host. Only GET and HEAD are answered, and no path leads to a file.
"""

from __future__ import annotations

import logging
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from flowprov.ui.pages import Pages, Response

logger = logging.getLogger("flowprov")

ADDRESS = "127.0.0.1"
_HOSTS = (ADDRESS, "localhost")
_MAX_PATH = 20_000  # characters
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Server(ThreadingHTTPServer):
    """Serves the pages of a buffer on loopback.

    Parameters
    ----------
    pages
        The pages.
    port
        The port; 0 takes a free one.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, pages: Pages, port: int) -> None:
        super().__init__((ADDRESS, port), _Handler)
        self.pages = pages

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{ADDRESS}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: Server
    server_version = "flowprov"
    sys_version = ""
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        """Response with a page."""
        self._send(self._answer(), with_body=True)

    def do_HEAD(self) -> None:
        """Response as to GET, without the page."""
        self._send(self._answer(), with_body=False)

    def _answer(self) -> Response:
        names = self.headers.get_all("Host") or []
        if names not in [[f"{host}:{self.server.server_port}"] for host in _HOSTS]:
            return Response(403, "text/plain", "This server answers only to its own name.\n")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return Response(403, "text/plain", "This server answers no pages of others.\n")
        if len(self.path) > _MAX_PATH or not self.path.startswith("/"):
            return Response(400, "text/plain", "This is no address of a page.\n")
        try:
            return self.server.pages.answer(self.path)
        except Exception:  # a fault of ours ends this answer, and not the server
            logger.exception("flowprov ui met a fault of its own")
            return Response(500, "text/plain", "flowprov met a fault of its own; its terminal says more.\n")

    def _send(self, answer: Response, *, with_body: bool) -> None:
        body = answer.text.encode()
        self.send_response(answer.status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if answer.location is not None:
            self.send_header("Location", answer.location)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the base class
        """Say nothing: a person watches the page, not the requests."""
