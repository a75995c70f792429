"""Requests of a flowprov thread to the workers of a Dask client, by way of its scheduler.

Flows in: requests. Flows out: responses that arrived whole; a worker that has no response stands there with
None. Each call has a deadline, and one worker that hangs does not keep the responses of others back.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import hashlib
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import msgspec

from flowprov import guard
from flowprov.capture.dask import _dask_private
from flowprov.capture.dask.fetch.protocol import OPERATION, TOPIC, FetchRequest, FetchResponse, JournalNotice

_ATTEMPTS = 3
_MAX_CONCURRENT = 32  # requests to single workers at a time
_SHARE = 0.33  # of the time is for a request to all workers at once, as much for requests to each of them


class NoResponseError(Exception):
    """The scheduler, or a worker, cannot be reached, or sent no response that arrived whole."""


class WorkerRPC:
    """The connection to the workers of a client.

    Parameters
    ----------
    client
        A ``distributed.Client``, synchronous or asynchronous. Do not call this from the thread of its event
        loop.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._interrupted = False
        self._pending: concurrent.futures.Future[Any] | None = None

    def interrupt(self) -> None:
        """Fail the call that another thread waits for, and all later ones."""
        self._interrupted = True
        if (pending := self._pending) is not None:
            pending.cancel()

    def resume(self) -> None:
        """Undo an interruption."""
        self._interrupted = False

    def workers(self, deadline: float) -> list[str]:
        """List the addresses of the workers that the scheduler knows.

        Raises
        ------
        NoResponseError
            If the scheduler does not respond.
        """
        addresses: list[str] = self._call(lambda: _dask_private.worker_addresses(self._client), deadline)
        return addresses

    def journal_notices(self, deadline: float) -> list[JournalNotice]:
        """List the journals that workers announced to the scheduler. It keeps the latest thousand.

        Raises
        ------
        NoResponseError
            If the scheduler does not respond.
        """
        events = self._call(lambda: _dask_private.events(self._client, TOPIC), deadline)
        return [msgspec.json.decode(event, type=JournalNotice) for event in events]

    def request_all(
        self, addresses: list[str], request: FetchRequest, deadline: float
    ) -> dict[str, FetchResponse | None]:
        """Send a request to workers.

        Returns
        -------
        dict
            The response of each worker; None for a worker without the plugin. A worker that did not respond
            in time is left out.

        Raises
        ------
        NoResponseError
            If the scheduler does not respond.
        """
        if not addresses:
            return {}
        now = time.monotonic()
        share = (deadline - now) * _SHARE
        try:
            replies = self._call(lambda: self._broadcast(addresses, request), now + share)
        except NoResponseError:
            # One of the workers hangs, so no response came at all: send the request to each by itself.
            until = time.monotonic() + share
            replies = self._call(lambda: self._request_each(addresses, request, until), until + 1)
        return {address: unpack_response(reply) for address, reply in replies.items()}

    def request(self, address: str, request: FetchRequest, deadline: float) -> FetchResponse:
        """Send a request to one worker, and again if the response was damaged on its way.

        Raises
        ------
        NoResponseError
            If there was no response.
        """
        for _ in range(_ATTEMPTS):
            replies = self._call(lambda: self._broadcast([address], request), deadline)
            if (response := unpack_response(replies.get(address))) is not None:
                return response
        raise NoResponseError(f"{address} sent no response that arrived whole")

    async def _broadcast(self, addresses: list[str], request: FetchRequest) -> dict[str, Any]:
        message = {"op": OPERATION, "request": msgspec.msgpack.encode(request)}
        return await _dask_private.broadcast(self._client, message, addresses)

    async def _request_each(
        self, addresses: Iterable[str], request: FetchRequest, deadline: float
    ) -> dict[str, Any]:
        slots = asyncio.Semaphore(_MAX_CONCURRENT)

        async def request_one(address: str) -> dict[str, Any]:
            async with slots:
                try:
                    remaining = max(0.0, deadline - time.monotonic())
                    return await asyncio.wait_for(self._broadcast([address], request), remaining)
                except Exception as error:  # whatever it is, the other workers are asked
                    guard.logger.debug("flowprov got no response from %s: %s", address, error)
                    return {}

        replies: dict[str, Any] = {}
        for reply in await asyncio.gather(*map(request_one, addresses)):
            replies.update(reply)
        return replies

    def _call(self, create: Callable[[], Coroutine[Any, Any, Any]], deadline: float) -> Any:
        """Run a coroutine in the client's event loop, and wait for it in this thread."""
        if not _dask_private.is_connected(self._client):
            raise NoResponseError("the client is closed")

        async def run() -> Any:
            return await create()  # created in the event loop: a client that was closed has no scheduler

        coroutine = run()
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, _dask_private.event_loop(self._client))
        except RuntimeError as error:  # the loop is closed
            coroutine.close()
            raise NoResponseError(str(error)) from error
        self._pending = future
        if self._interrupted:
            future.cancel()
        try:
            return future.result(max(0.0, deadline - time.monotonic()))
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise NoResponseError("it took too long") from error
        except concurrent.futures.CancelledError as error:
            raise NoResponseError("it was interrupted") from error
        except Exception as error:  # a connection can raise many things
            raise NoResponseError(str(error) or type(error).__name__) from error


def unpack_response(reply: Any) -> FetchResponse | None:
    """Unpack a response; return None if there is none, or if it was damaged on its way."""
    if not isinstance(reply, dict):
        return None
    if "silent" in reply:
        return FetchResponse(hostname=str(reply.get("hostname")), silent=str(reply["silent"]))
    packed = reply.get("response")
    if packed is None:
        guard.logger.debug("flowprov met an internal error on a Dask worker: %s", reply.get("error"))
        return None
    if hashlib.sha256(packed).hexdigest() != reply.get("digest"):
        guard.logger.debug("flowprov got a damaged response from a Dask worker")
        return None
    return msgspec.msgpack.decode(packed, type=FetchResponse)
