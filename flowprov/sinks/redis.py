"""Redis as a sink: one Stream per journal.

Flows in: entries of journals. Flows out: stream entries whose ids are made from the records' positions. So
the server itself refuses a second copy, and the last id of a stream tells how far the delivery is. A set per
campaign lists its journals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from flowprov.errors import MissingExtraError, SinkRefusedError, SinkUnavailableError
from flowprov.records import Header
from flowprov.settings import leads_elsewhere, redact_uri
from flowprov.sinks.base import Entry, batched
from flowprov.sinks.reasons import answer_reason, connection_reason

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry
except ImportError as error:
    raise MissingExtraError("redis", "redis", "deliver records to Redis") from error

R = TypeVar("R")

CAMPAIGNS = "flowprov:campaigns"
_FIELD = b"r"
_PAGE = 1_000
_JOURNALS_PER_CALL = 100
# One step must end within the timeout, and stay far below the gigabyte that a server accepts in one request.
_STEP_ENTRIES = 1_000
_STEP_BYTES = 4 * 1024 * 1024
# From here on, a server's message quotes records, or names a line of the script.
_QUOTES = re.compile(r",? with args beginning with:| script: [0-9a-f]{40}")
# Adds entries behind an id that the stream must have reached, and lists the stream. All this is one step, as
# an empty server may replace this one between two steps. If the stream has passed an id, the entry is there
# already. Any other refusal ends the step, so that no entry follows a missing one.
_ADD = """
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local reached = #last > 0 and tonumber(string.match(last[1][1], '^%d+')) or 0
if reached < tonumber(ARGV[1]) then
    return 'LOST'
end
redis.call('SADD', KEYS[2], ARGV[3])
redis.call('SADD', KEYS[3], ARGV[4])
for i = 5, #ARGV, 2 do
    local answer
    if ARGV[2] == '' then
        answer = redis.pcall('XADD', KEYS[1], ARGV[i], 'r', ARGV[i + 1])
    else
        answer = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], ARGV[i], 'r', ARGV[i + 1])
    end
    if type(answer) == 'table' and answer.err and not string.find(answer.err, 'equal or smaller') then
        return answer
    end
end
return 'OK'
"""


def campaign_key(campaign_id: str) -> str:
    """Return the key of the set of a campaign's journals."""
    return f"flowprov:campaign:{campaign_id}"


def journal_key(journal_id: str) -> str:
    """Return the key of the stream of a journal."""
    return f"flowprov:journal:{journal_id}"


class RedisConnection:
    """A client that is created when it is needed, and again after every failure.

    Parameters
    ----------
    uri
        ``redis://``, ``rediss://`` or ``unix://`` address.
    timeout
        Seconds that connecting, and each answer, may take: a frozen server must not block the shipper.
    """

    def __init__(self, uri: str, timeout: float = 5.0) -> None:
        self._uri = uri
        self._timeout = timeout
        self._client: Any = None

    def call(self, command: Callable[[Any], R]) -> R:
        """Call a function with the client; return its result.

        Raises
        ------
        SinkUnavailableError, SinkRefusedError
            If the server cannot be reached, or refuses.
        """
        if leads_elsewhere(self._uri):
            raise SinkRefusedError(f"{self.redacted_uri} cannot be used: is its password percent-encoded?")
        try:
            if self._client is None:
                self._client = self._create_client()
            return command(self._client)
        except redis.exceptions.AuthenticationError as error:
            raise self._close_refused(error) from None
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
            self.close()
            reason = connection_reason(error)
            raise SinkUnavailableError(f"{self.redacted_uri} cannot be reached: {reason}") from None
        except redis.exceptions.RedisError as error:
            raise self._close_refused(error) from None
        except (ValueError, TypeError) as error:
            # The address is invalid, or holds an option that the client does not know. The message quotes
            # parts of the address, and so may quote a password that holds "/" or "@".
            self.close()
            raise SinkRefusedError(
                f"{self.redacted_uri} cannot be used ({type(error).__name__}): is its password "
                "percent-encoded, and are its options known to redis-py?"
            ) from None

    def _create_client(self) -> Any:
        fixed = {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry": Retry(NoBackoff(), 0),  # the shipment decides when to try again, for all sinks alike
            "decode_responses": False,
            "encoding": "utf-8",
            "protocol": 2,  # the same answers in every version of the client, and from servers before 6
        }
        # The options of an address override arguments: remove those on which this class relies.
        address, _, options = self._uri.partition("?")
        others = [option for option in options.split("&") if option.partition("=")[0] not in fixed]
        return redis.Redis.from_url(f"{address}?{'&'.join(others)}", **fixed)

    @property
    def redacted_uri(self) -> str:
        """The URI without credentials."""
        return redact_uri(self._uri)

    def _close_refused(self, error: Exception) -> SinkRefusedError:
        """Close the connection, and return the error for a refusal."""
        self.close()
        text = _QUOTES.split(str(error), maxsplit=1)[0]
        return SinkRefusedError(
            f"{self.redacted_uri} refuses: {answer_reason(error, self._uri, text).rstrip('.')}"
        )

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


class RedisSink:
    """Delivers journals to Redis Streams.

    Parameters
    ----------
    uri, timeout
        See :class:`RedisConnection`.
    maxlen
        Number of entries to which each stream is trimmed, approximately; None keeps all.
    """

    name = "redis"

    def __init__(self, uri: str, *, maxlen: int | None = None, timeout: float = 5.0) -> None:
        self._connection = RedisConnection(uri, timeout)
        self._maxlen = maxlen
        self._reached: dict[str, int] = {}

    def resume_after(self, header: Header) -> int | None:
        """Return the position of the last entry that the stream ever took; None if there is no stream."""
        self._reached.pop(header.journal_id, None)
        last = self._connection.call(lambda client: _last_id(client, journal_key(header.journal_id)))
        return None if last is None else last - 1

    def deliver(self, header: Header, entries: Sequence[Entry]) -> None:
        """Add entries to the stream of their journal, in steps; each step is stored as a whole."""
        journal_id = header.journal_id
        for step in batched(entries, _STEP_ENTRIES, _STEP_BYTES):
            reached = self._reached.get(journal_id, 0)
            if self._add(header, reached, step) == b"LOST":
                del self._reached[journal_id]
                raise SinkUnavailableError(f"{self._connection.redacted_uri} came back with less than it had")
            self._reached[journal_id] = max(reached, step[-1].position + 1)

    def _add(self, header: Header, reached: int, entries: Sequence[Entry]) -> Any:
        keys = journal_key(header.journal_id), CAMPAIGNS, campaign_key(header.campaign_id)
        maxlen = "" if self._maxlen is None else self._maxlen
        arguments: list[Any] = [reached, maxlen, header.campaign_id, header.journal_id]
        for entry in entries:
            arguments += (f"{entry.position + 1}-0", entry.line)
        return self._connection.call(lambda client: client.eval(_ADD, len(keys), *keys, *arguments))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class RedisReader:
    """Reads back what a :class:`RedisSink` delivered."""

    def __init__(self, uri: str, *, timeout: float = 5.0) -> None:
        self._connection = RedisConnection(uri, timeout)

    def campaign_ids(self) -> list[str]:
        """Return the ids of the campaigns, sorted."""
        return sorted(map(_text, self._connection.call(lambda client: client.smembers(CAMPAIGNS))))

    def journal_ids(self, campaign_id: str | None = None) -> list[str]:
        """Return the ids of the journals of a campaign, or of all campaigns."""
        campaigns = self.campaign_ids() if campaign_id is None else [campaign_id]
        journals: list[str] = []
        for campaign in campaigns:
            journals += sorted(map(_text, self._members(campaign_key(campaign))))
        return journals

    def ends(self, journal_ids: Sequence[str], count: int) -> Iterator[list[Entry]]:
        """Yield for each journal its first and its last entries in order, at most ``count`` of each."""
        for begin in range(0, len(journal_ids), _JOURNALS_PER_CALL):
            keys = [journal_key(journal_id) for journal_id in journal_ids[begin : begin + _JOURNALS_PER_CALL]]
            answers = self._connection.call(partial(_ends, keys, count))
            for first, last in zip(answers[::2], answers[1::2], strict=True):
                yield sorted(set(_entries((*first, *last))))

    def entries(
        self,
        journal_id: str,
        after: int | None = None,
        *,
        confirmed: bool = False,  # noqa: ARG002 - a stream has no gaps
    ) -> Iterator[Entry]:
        """Yield the entries of a journal behind a position, in order."""
        key = journal_key(journal_id)
        begin = "-" if after is None else f"({after + 1}-0"
        while page := self._page(key, begin):
            yield from _entries(page)
            begin = f"({_text(page[-1][0])}"

    def count(self, journal_id: str) -> int:
        """Return the number of lines of a journal that the server holds."""
        return int(self._connection.call(lambda client: client.xlen(journal_key(journal_id))))

    def _members(self, key: str) -> Any:
        return self._connection.call(lambda client: client.smembers(key))

    def _page(self, key: str, begin: str) -> Any:
        return self._connection.call(lambda client: client.xrange(key, min=begin, count=_PAGE))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _last_id(client: Any, key: str) -> int | None:
    """Return the last id of a stream, trimmed entries included; None if there is no stream."""
    if not client.exists(key):
        return None
    return int(_text(client.xinfo_stream(key)["last-generated-id"]).partition("-")[0])


def _ends(keys: Sequence[str], count: int, client: Any) -> Any:
    """Return for each stream its first and its last entries, in one exchange."""
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.xrange(key, count=count)
            pipeline.xrevrange(key, count=count)
        return pipeline.execute()


def _entries(items: Iterable[tuple[bytes | str, dict[bytes, bytes]]]) -> Iterator[Entry]:
    """Yield the entries of a stream that are lines of a journal: others may write to it, too."""
    return (Entry(_position(identifier), fields[_FIELD]) for identifier, fields in items if _FIELD in fields)


def _position(identifier: bytes | str) -> int:
    return int(_text(identifier).partition("-")[0]) - 1


def _text(value: bytes | str) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else value
