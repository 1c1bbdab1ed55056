"""What a watch test works with: a path of its own, one member to write through, another to watch through."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, final

from tests.conformance.systems import System
from tests.conformance.wire import (
    Answer,
    Connection,
    Head,
    NothingCameError,
    Request,
    WireError,
    ask_all,
    basic,
    keys_request,
)

EVENT_WITHIN_S: Final = 10.0
SILENCE_S: Final = 0.2
"""How long nothing must come for a test to believe that nothing will: an event takes about a millisecond."""
WATCHER: Final = "watcher:pw"
"""Who may read and write every key, where auth is on."""
SMALL_BUFFER_BYTES: Final = 4096
_numbers: Final = itertools.count(1)


@final
class Watch:
    """One open `wait=true` request."""

    def __init__(self, url: str, path: str, query: str, *, slow: bool, login: str | None = None) -> None:
        self._connection = Connection(url, receive_buffer_bytes=SMALL_BUFFER_BYTES if slow else None)
        self._login = login
        request = keys_request("GET", path, query=f"wait=true&{query}" if query else "wait=true")
        self._connection.send(by(login, request))
        self.head: Final[Head] = self._connection.receive_head(EVENT_WITHIN_S)
        """Come before any event: the server sends it at once."""

    def event(self) -> bytes | None:
        """The next event as it came, in one chunk with its newline; None when the answer has ended."""
        return self._connection.receive_chunk(EVENT_WITHIN_S)

    def is_silent(self, seconds: float = SILENCE_S) -> bool:
        """Whether nothing comes for a while, neither event nor end."""
        try:
            self._connection.receive_chunk(seconds)
        except NothingCameError:
            return True
        return False

    def drained(self, most: int, silence_s: float) -> tuple[list[bytes], bool]:
        """Up to `most` events that come without such a pause, and whether the server ended the answer after them."""
        events: list[bytes] = []
        while len(events) < most:
            try:
                event = self._connection.receive_chunk(silence_s)
            except NothingCameError:
                return events, False
            except WireError:
                return events, True
            if event is None:
                return events, True
            events.append(event)
        return events, False

    def only_event(self) -> bytes:
        """The event of a watch that is not a stream: exactly one, then the end of the answer."""
        event = self.event()
        assert event is not None, "ended without an event"
        assert self.event() is None, "a second event on a watch for one"
        return event

    def ask(self, path: str) -> Answer:
        """A plain read on the connection of this watch, which must have ended."""
        return self._connection.ask(by(self._login, keys_request("GET", path)))

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


def by(login: str | None, request: Request) -> Request:
    """The request as `user:password` sends it."""
    return request if login is None else replace(request, headers=(*request.headers, basic(login)))


def are_silent(watches: Sequence[Watch]) -> bool:
    """Whether nothing comes on any of them for a while, the same while for all."""
    return watches[0].is_silent() and all(watch.is_silent(0.0) for watch in watches[1:])


@final
class Scene:
    """A system seen by one test: writes go through its first member, watches through its last."""

    def __init__(self, system: System, login: str | None = None) -> None:
        self.system: Final = system
        self.path: Final = f"/scene{next(_numbers)}"
        """Where this test writes; nobody else does."""
        self._login = login
        self._writer = Connection(system.client_urls[0])
        self._reader = Connection(system.client_urls[-1])
        self._watches: list[Watch] = []

    def put(self, path: str, form: str = "value=1", *, query: str = "") -> Answer:
        """Write below the test's path, successfully."""
        return self._write("PUT", path, form, query)

    def put_many(self, paths: Sequence[str], value: str) -> list[int]:
        """Write a value to each path, many at once, and return the indices in ascending order."""
        requests = [
            keys_request("PUT", self.path + path, f"value={value}", query="noValueOnSuccess=true") for path in paths
        ]
        answers = ask_all(self.system.client_urls[0], [by(self._login, request) for request in requests])
        assert all(answer.status in (200, 201) for answer in answers)
        return sorted(answer.etcd_index for answer in answers)

    def delete(self, path: str, query: str = "") -> Answer:
        """Delete below the test's path, successfully."""
        return self._write("DELETE", path, None, query)

    def get(self, path: str, query: str = "") -> Answer:
        """A read through the member that watches, once it has applied every write so far."""
        self._catch_up()
        return self._reader.ask(by(self._login, keys_request("GET", self.path + path, query=query)))

    def index(self) -> int:
        """The store's index at the member that writes."""
        return self._writer.ask(by(self._login, keys_request("GET", "/"))).etcd_index

    def watch(self, path: str, query: str = "", *, absolute: bool = False, slow: bool = False) -> Watch:
        """Open a watch below the test's path, once the watching member has applied every write so far.

        Args:
            path: what to watch, below the test's path unless `absolute`.
            query: parameters beside `wait=true`.
            absolute: `path` begins at the root.
            slow: with a receive buffer so small that the server soon cannot send.
        """
        self._catch_up()
        where = path if absolute else self.path + path
        watch = Watch(self.system.client_urls[-1], where, query, slow=slow, login=self._login)
        self._watches.append(watch)
        return watch

    def close(self) -> None:
        """Hang up everywhere."""
        self._writer.close()
        self._reader.close()
        for watch in self._watches:
            watch.close()

    def _catch_up(self) -> None:
        """A member answers a quorum read when it has applied all that was committed before."""
        look = by(self._login, keys_request("GET", "/", query="quorum=true"))
        assert self._reader.ask(look).status == 200

    def _write(self, method: str, path: str, form: str | None, query: str) -> Answer:
        answer = self._writer.ask(by(self._login, keys_request(method, self.path + path, form, query=query)))
        assert answer.status in (200, 201), answer
        return answer


@contextmanager
def scene(system: System, login: str | None = None) -> Iterator[Scene]:
    """A scene that hangs up at the end."""
    opened = Scene(system, login)
    try:
        yield opened
    finally:
        opened.close()
