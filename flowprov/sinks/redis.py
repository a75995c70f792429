"""Redis as a sink: one Stream per journal.

Flows in: entries of journals. Flows out: stream entries whose ids are made from the records' positions, so
that the server itself refuses a second copy, and its last id says where delivery stands. A set per campaign
lists its journals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

from flowprov.errors import MissingExtraError, SinkRefusedError, SinkUnavailableError
from flowprov.records import Header
from flowprov.settings import redact_text, redact_uri
from flowprov.sinks.base import Entry, batched

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
_JOURNALS_AT_ONCE = 100
# One step must end within the timeout, and stay far below the gigabyte that a server takes in one request.
_STEP_ENTRIES = 1_000
_STEP_BYTES = 4 * 1024 * 1024
_MESSAGE_LENGTH = 300
# Of what a server says: from here on it quotes records, or says where in the script it was.
_ASIDES = re.compile(r",? with args beginning with:| script: [0-9a-f]{40}")
# Adds entries behind an id that the stream must have reached, and lists the stream; in one step, as the
# server may be replaced by an empty one between two. An id that the stream has passed is an entry that is
# there already; any other refusal ends the step, so that no entry stands behind one that is missing.
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
    """Name the set of a campaign's journals."""
    return f"flowprov:campaign:{campaign_id}"


def journal_key(journal_id: str) -> str:
    """Name the stream of a journal."""
    return f"flowprov:journal:{journal_id}"


class RedisConnection:
    """A client that is made when it is needed, and anew after every failure.

    Parameters
    ----------
    uri
        ``redis://``, ``rediss://`` or ``unix://``.
    timeout
        Seconds that connecting, and every answer, may take: a frozen server must not hang us.
    """

    def __init__(self, uri: str, timeout: float = 5.0) -> None:
        self._uri = uri
        self._timeout = timeout
        self._client: Any = None

    def ask(self, question: Callable[[Any], R]) -> R:
        """Ask the server something.

        Raises
        ------
        SinkUnavailableError, SinkRefusedError
            If it cannot be reached, or will not answer.
        """
        try:
            if self._client is None:
                self._client = self._made()
            return question(self._client)
        except redis.exceptions.AuthenticationError as error:
            raise self._refused(error) from None
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
            self.close()
            raise SinkUnavailableError(f"{self.shown} cannot be reached: {_message(error)}") from None
        except redis.exceptions.RedisError as error:
            raise self._refused(error) from None
        except (ValueError, TypeError) as error:
            # An address that is none, or an option that the client does not know. The message quotes pieces
            # of the address, of a password that holds "/" or "@" too.
            self.close()
            raise SinkRefusedError(
                f"{self.shown} cannot be used ({type(error).__name__}): is its password percent-encoded, "
                "and are its options known to redis-py?"
            ) from None

    def _made(self) -> Any:
        ours = {
            "socket_timeout": self._timeout,
            "socket_connect_timeout": self._timeout,
            "retry": Retry(NoBackoff(), 0),  # when to try again is decided above, for all sinks alike
            "decode_responses": False,
            "encoding": "utf-8",
            "protocol": 2,  # alike through every version of the client, and from servers before 6 too
        }
        # Options of an address come before arguments; what is relied on is not theirs to change.
        address, _, options = self._uri.partition("?")
        others = [option for option in options.split("&") if option.partition("=")[0] not in ours]
        return redis.Redis.from_url(f"{address}?{'&'.join(others)}", **ours)

    @property
    def shown(self) -> str:
        """The URI without credentials."""
        return redact_uri(self._uri)

    def _refused(self, error: Exception) -> SinkRefusedError:
        self.close()
        return SinkRefusedError(f"{self.shown} refuses: {_message(error)}")

    def close(self) -> None:
        """Let go of the connection."""
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
        Trim each stream to about so many entries; None keeps all.
    """

    name = "redis"

    def __init__(self, uri: str, *, maxlen: int | None = None, timeout: float = 5.0) -> None:
        self._connection = RedisConnection(uri, timeout)
        self._maxlen = maxlen
        self._reached: dict[str, int] = {}

    def resume_after(self, header: Header) -> int | None:
        """Give the position of the last entry that the stream ever took."""
        self._reached.pop(header.journal_id, None)
        last = self._connection.ask(lambda client: _last_id(client, journal_key(header.journal_id)))
        return None if last is None else last - 1

    def deliver(self, header: Header, entries: Sequence[Entry]) -> None:
        """Add entries to the stream of their journal, in steps each of which is kept by itself."""
        journal_id = header.journal_id
        for step in batched(entries, _STEP_ENTRIES, _STEP_BYTES):
            reached = self._reached.get(journal_id, 0)
            if self._add(header, reached, step) == b"LOST":
                del self._reached[journal_id]
                raise SinkUnavailableError(f"{self._connection.shown} came back with less than it had")
            self._reached[journal_id] = max(reached, step[-1].position + 1)

    def _add(self, header: Header, reached: int, entries: Sequence[Entry]) -> Any:
        keys = journal_key(header.journal_id), CAMPAIGNS, campaign_key(header.campaign_id)
        maxlen = "" if self._maxlen is None else self._maxlen
        arguments: list[Any] = [reached, maxlen, header.campaign_id, header.journal_id]
        for entry in entries:
            arguments += (f"{entry.position + 1}-0", entry.line)
        return self._connection.ask(lambda client: client.eval(_ADD, len(keys), *keys, *arguments))

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


class RedisReader:
    """Reads back what a :class:`RedisSink` delivered."""

    def __init__(self, uri: str, *, timeout: float = 5.0) -> None:
        self._connection = RedisConnection(uri, timeout)

    def campaign_ids(self) -> list[str]:
        """List the campaigns."""
        return sorted(map(_text, self._connection.ask(lambda client: client.smembers(CAMPAIGNS))))

    def journal_ids(self, campaign_id: str | None = None) -> list[str]:
        """List the journals of a campaign, or of all."""
        campaigns = self.campaign_ids() if campaign_id is None else [campaign_id]
        found: list[str] = []
        for each in campaigns:
            found += sorted(map(_text, self._members(campaign_key(each))))
        return found

    def ends(self, journal_ids: Sequence[str], count: int) -> Iterator[list[Entry]]:
        """Give for each journal its first and its last entries in order, at most ``count`` of each."""
        for begin in range(0, len(journal_ids), _JOURNALS_AT_ONCE):
            keys = [journal_key(each) for each in journal_ids[begin : begin + _JOURNALS_AT_ONCE]]
            answers = self._connection.ask(partial(_ends, keys, count))
            for first, last in zip(answers[::2], answers[1::2], strict=True):
                yield sorted({_entry(*each) for each in (*first, *last)})

    def entries(
        self,
        journal_id: str,
        after: int | None = None,
        *,
        confirmed: bool = False,  # noqa: ARG002 - a stream has no gaps
    ) -> Iterator[Entry]:
        """Give the entries of a journal behind a position, in order."""
        key = journal_key(journal_id)
        while page := self._page(key, "-" if after is None else f"({after + 1}-0"):
            for each in page:
                entry = _entry(*each)
                after = entry.position
                yield entry

    def count(self, journal_id: str) -> int:
        """Count the lines of a journal that are held."""
        return int(self._connection.ask(lambda client: client.xlen(journal_key(journal_id))))

    def _members(self, key: str) -> Any:
        return self._connection.ask(lambda client: client.smembers(key))

    def _page(self, key: str, begin: str) -> Any:
        return self._connection.ask(lambda client: client.xrange(key, min=begin, count=_PAGE))

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.close()


def _message(error: Exception) -> str:
    """Give what the client or the server says, without what they quote."""
    text = redact_text(_ASIDES.split(str(error), maxsplit=1)[0]) or type(error).__name__
    return text[:_MESSAGE_LENGTH].rstrip(".")


def _last_id(client: Any, key: str) -> int | None:
    """Give the last id that a stream gave out, trimmed entries included; None where there is no stream."""
    if not client.exists(key):
        return None
    return int(_text(client.xinfo_stream(key)["last-generated-id"]).partition("-")[0])


def _ends(keys: Sequence[str], count: int, client: Any) -> Any:
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.xrange(key, count=count)
            pipeline.xrevrange(key, count=count)
        return pipeline.execute()


def _entry(identifier: bytes | str, fields: dict[bytes, bytes]) -> Entry:
    return Entry(int(_text(identifier).partition("-")[0]) - 1, fields[_FIELD])


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
