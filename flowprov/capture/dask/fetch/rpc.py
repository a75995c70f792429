"""How a thread of ours asks the workers of a Dask client, by way of its scheduler.

Flows in: questions. Flows out: answers that arrived whole; a worker that gave none stands there with None.
Nothing waits longer than it is told to, and one worker that hangs does not keep the answers of others.
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
from flowprov.capture.dask.fetch.protocol import OPERATION, TOPIC, FetchRequest, FetchResponse, JournalNotice

_ATTEMPTS = 3
_AT_ONCE = 32  # questions to single workers
_SHARE = 0.33  # of the time is for a question to all at once, as much for questions to each


class NoAnswerError(Exception):
    """The scheduler, or a worker, cannot be asked, or gave no whole answer."""


class WorkerRPC:
    """The way to the workers of a client.

    Parameters
    ----------
    client
        A ``distributed.Client``, of either kind. It is not to be called from its own event loop's thread.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._interrupted = False
        self._waiting: concurrent.futures.Future[Any] | None = None

    def interrupt(self) -> None:
        """Have what is asked now, from another thread, and what is asked later fail at once."""
        self._interrupted = True
        if (waiting := self._waiting) is not None:
            waiting.cancel()

    def resume(self) -> None:
        """Take an interruption back."""
        self._interrupted = False

    def workers(self, deadline: float) -> list[str]:
        """List the workers that the scheduler knows.

        Raises
        ------
        NoAnswerError
            If it does not answer.
        """
        return list(self._call(self._workers, deadline))

    def announcements(self, deadline: float) -> list[JournalNotice]:
        """List the journals that workers told the scheduler of; it keeps the latest thousand.

        Raises
        ------
        NoAnswerError
            If it does not answer.
        """
        events = self._call(lambda: self._client.scheduler.events(topic=TOPIC), deadline)
        return [msgspec.json.decode(told, type=JournalNotice) for _, told in events]

    def ask_all(
        self, addresses: list[str], question: FetchRequest, deadline: float
    ) -> dict[str, FetchResponse | None]:
        """Ask workers; those who do not know us have None, those who did not answer in time are left out.

        Raises
        ------
        NoAnswerError
            If the scheduler does not answer.
        """
        if not addresses:
            return {}
        now = time.monotonic()
        share = (deadline - now) * _SHARE
        try:
            replies = self._call(lambda: self._broadcast(addresses, question), now + share)
        except NoAnswerError:
            # One of them hangs, and nobody's answer came: each is asked by itself.
            until = time.monotonic() + share
            replies = self._call(lambda: self._each(addresses, question, until), until + 1)
        return {address: unpack_response(reply) for address, reply in replies.items()}

    def ask(self, address: str, question: FetchRequest, deadline: float) -> FetchResponse:
        """Ask one worker, again if its answer was damaged on its way.

        Raises
        ------
        NoAnswerError
            If there was none.
        """
        for _ in range(_ATTEMPTS):
            replies = self._call(lambda: self._broadcast([address], question), deadline)
            if (answer := unpack_response(replies.get(address))) is not None:
                return answer
        raise NoAnswerError(f"{address} gave no answer that arrived whole")

    async def _workers(self) -> Any:
        return await self._client.scheduler.ncores()  # a client that was closed has no scheduler

    async def _broadcast(self, addresses: list[str], question: FetchRequest) -> dict[str, Any]:
        message = {"op": OPERATION, "question": msgspec.msgpack.encode(question)}
        replies: dict[str, Any] = await self._client.scheduler.broadcast(
            msg=message, workers=addresses, on_error="ignore"
        )
        return replies

    async def _each(
        self, addresses: Iterable[str], question: FetchRequest, deadline: float
    ) -> dict[str, Any]:
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(address: str) -> dict[str, Any]:
            async with places:
                try:
                    left = max(0.0, deadline - time.monotonic())
                    return await asyncio.wait_for(self._broadcast([address], question), left)
                except Exception as error:  # whatever it is, the others are asked
                    guard.logger.debug("flowprov got no answer from %s: %s", address, error)
                    return {}

        found: dict[str, Any] = {}
        for reply in await asyncio.gather(*map(one, addresses)):
            found.update(reply)
        return found

    def _call(self, make: Callable[[], Coroutine[Any, Any, Any]], deadline: float) -> Any:
        """Run a coroutine in the client's event loop, and wait for it here."""
        if getattr(self._client, "status", "") != "running":
            raise NoAnswerError("the client is closed")

        async def run() -> Any:
            return await make()

        coroutine = run()
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._client.loop.asyncio_loop)
        except RuntimeError as error:  # the loop is closed
            coroutine.close()
            raise NoAnswerError(str(error)) from error
        self._waiting = future
        if self._interrupted:
            future.cancel()
        try:
            return future.result(max(0.0, deadline - time.monotonic()))
        except concurrent.futures.TimeoutError as error:
            future.cancel()
            raise NoAnswerError("it took too long") from error
        except concurrent.futures.CancelledError as error:
            raise NoAnswerError("it was broken off") from error
        except Exception as error:  # what a connection can raise is many things
            raise NoAnswerError(str(error) or type(error).__name__) from error


def unpack_response(reply: Any) -> FetchResponse | None:
    """Unpack an answer; None if there is none, or if it was damaged on its way."""
    if not isinstance(reply, dict):
        return None
    packed = reply.get("answer")
    if packed is None:
        guard.logger.debug("flowprov met a fault on a Dask worker: %s", reply.get("fault"))
        return None
    if hashlib.sha256(packed).hexdigest() != reply.get("digest"):
        guard.logger.debug("flowprov got a damaged answer from a Dask worker")
        return None
    return msgspec.msgpack.decode(packed, type=FetchResponse)
