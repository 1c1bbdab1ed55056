"""The client: keys, watches, and whatever else a server answers."""

import contextlib
import json as json_text
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Final, Self, final
from urllib.parse import quote, urlencode

from kvraft.client import watching
from kvraft.client.connection import Connection, Request, Stream
from kvraft.client.values import Answer, Event

Query = Mapping[str, str | int | bool]
"""Names and values; True is `true`, as Go reads it."""
Form = Mapping[str, str | bytes | int | bool]
"""The same as a body; a value may be bytes of any kind."""

WATCH_PATIENCE_S: Final = 60.0
"""How long a watch looks for an endpoint that answers: longer than a restart or an election takes."""
_KEYS: Final = "/v2/keys"


@final
class Client:
    """Asks one cluster. An async context manager, to be used inside one event loop.

    Args:
        endpoints: http://HOST:PORT or https://HOST:PORT, at least one, tried in turn; the one that worked is the
            first to be asked next time.
        tls: for https endpoints; None trusts the system's CAs.
        user: name and password, sent with every request.
        timeout_s: how long one endpoint may take for an answer.

    Raises:
        ValueError: an endpoint is none.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: ssl.SSLContext | None = None,
        user: tuple[str, str] | None = None,
        timeout_s: float = 5.0,
    ) -> None:
        self._connection = Connection(endpoints, tls=tls, user=user, timeout_s=timeout_s)

    async def __aenter__(self) -> Self:
        """Begin. Nobody is asked yet."""
        await self._connection.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close every connection."""
        await self._connection.__aexit__()

    @property
    def endpoints(self) -> tuple[str, ...]:
        """In the order in which they would be tried now."""
        return self._connection.endpoints

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        form: Form | None = None,
        json: object = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """One answer, whole, whatever its status: `checked()` raises for a refusal.

        The path is sent as it stands, so it has to be quoted where that is needed. `form` and `json` are bodies; give
        one of them at most.

        Raises:
            Unreachable: no endpoint could be asked, or a read got no answer.
            UnknownOutcome: a write left and no answer came.
        """
        assert form is None or json is None, "a request has one body"
        headers, body = {}, None
        if form is not None:
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(_texts(form)).encode()
        elif json is not None:
            headers = {"Content-Type": "application/json"}
            body = json_text.dumps(json).encode()
        return await self._connection.ask(Request(method, _target(path, query), headers, body), timeout_s)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[Stream]:
        """An answer with a long body, which is read as it comes and without a limit of time.

        Raises:
            Unreachable: no endpoint could be asked, or a read got no answer.
            UnknownOutcome: a write left and no answer came.
        """
        request = Request(method, _target(path, query), headers or {})
        async with self._connection.stream(request, timeout_s) as stream:
            yield stream

    async def get(self, key: str, *, recursive: bool = False, sorted: bool = False, quorum: bool = False) -> Event:  # noqa: A002 -- etcd's word
        """What is at a key. `quorum`: as a majority has it now, and not as this member knows it.

        Raises:
            EtcdError: refused; `code` is `errors.KEY_NOT_FOUND` if there is nothing.
            Unreachable: no endpoint answered.
        """
        query = {"recursive": recursive, "sorted": sorted, "quorum": quorum}
        answer = await self.request("GET", key_path(key), query={name: on for name, on in query.items() if on})
        return answer.event()

    async def set(
        self,
        key: str,
        value: str | bytes | None = None,
        *,
        directory: bool = False,
        ttl: int | None = None,
        prev_exist: bool | None = None,
        prev_index: int | None = None,
        prev_value: str | bytes | None = None,
        refresh: bool = False,
    ) -> Event:
        """Write a value, or make a directory; the conditions are etcd's.

        Args:
            key: from the root.
            value: None leaves it out: for a directory, and with `refresh`.
            directory: make a directory, or give one a TTL.
            ttl: seconds; None: for ever.
            prev_exist: only if there is something (True) or nothing (False).
            prev_index: only if that is its modified index.
            prev_value: only if that is its value.
            refresh: the TTL alone, without waking watchers.

        Raises:
            EtcdError: refused; `code` is `errors.COMPARE_FAILED`, `errors.NODE_EXISTS` or another.
            Unreachable: no endpoint could be asked; nothing was written.
            UnknownOutcome: nobody knows.
        """
        form = {"value": value, "ttl": ttl, "dir": directory or None, "refresh": refresh or None}
        conditions = {"prevExist": prev_exist, "prevIndex": prev_index, "prevValue": prev_value}
        given = {name: text for name, text in (form | conditions).items() if text is not None}
        return (await self.request("PUT", key_path(key), form=given)).event()

    async def create_in_order(self, directory: str, value: str | bytes, *, ttl: int | None = None) -> Event:
        """A new key in a directory, named by its created index so that keys sort in the order of their creation.

        Raises:
            EtcdError: refused.
            Unreachable: no endpoint could be asked; nothing was written.
            UnknownOutcome: nobody knows.
        """
        form: dict[str, str | bytes | int | bool] = {"value": value}
        if ttl is not None:
            form["ttl"] = ttl
        return (await self.request("POST", key_path(directory), form=form)).event()

    async def delete(
        self,
        key: str,
        *,
        recursive: bool = False,
        directory: bool = False,
        prev_index: int | None = None,
        prev_value: str | None = None,
    ) -> Event:
        """Delete a key; `directory` an empty directory, `recursive` whatever is there.

        Raises:
            EtcdError: refused.
            Unreachable: no endpoint could be asked; nothing was deleted.
            UnknownOutcome: nobody knows.
        """
        query = {
            "recursive": recursive or None,
            "dir": directory or None,
            "prevIndex": prev_index,
            "prevValue": prev_value,
        }
        given = {name: text for name, text in query.items() if text is not None}
        return (await self.request("DELETE", key_path(key), query=given)).event()

    def watch(
        self,
        key: str,
        *,
        from_index: int | None = None,
        recursive: bool = False,
        patience_s: float = WATCH_PATIENCE_S,
    ) -> AsyncGenerator[Event, None]:
        """Every event at a key, and below it if `recursive`, in order, each once, without end.

        From an index on, or from when the first connection stands. After a broken connection it goes on with the next
        index, at any endpoint; `patience_s` is how long it looks for one.

        Whoever stops before its end calls `aclose()`, or lets `contextlib.aclosing` do it.

        Raises:
            EventIndexCleared: the history does not reach back to the index. Read again, then watch from there.
            Unreachable: no endpoint could be asked for so long.
            EtcdError: refused.
        """
        return watching.watch(
            self._connection, key_path(key), from_index=from_index, recursive=recursive, patience_s=patience_s
        )


def key_path(key: str) -> str:
    """The path of a key, quoted; with or without its first slash."""
    return _KEYS + quote("/" + key.removeprefix("/"), safe="/")


def _target(path: str, query: Query | None) -> str:
    return f"{path}?{urlencode(_texts(query))}" if query else path


def _texts(fields: Form) -> dict[str, str | bytes]:
    """As Go reads them."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value if isinstance(value, bytes) else str(value)
        for name, value in fields.items()
    }
