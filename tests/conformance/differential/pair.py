"""etcd and a subject side by side, both at the same index."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, final
from urllib.parse import quote_from_bytes

from tests.conformance.systems import System
from tests.conformance.wire import Answer, Connection, NothingCameError, Request, WireError, ask_all, keys_request

ANSWER_WITHIN_S: Final = 12.0
"""Longer than etcd's own timeout of a write (7 s)."""
APPLIED_WITHIN_S: Final = 10.0
HIDDEN_ROOTS: Final = ("_padding", "_x")
"""Top-level nodes that a listing does not show."""
_QUORUM: Final = keys_request("GET", "/", query="quorum=true")
PADDING: Final = keys_request("PUT", "/_padding", "value=")


class NoAnswerError(Exception):
    """A server did not answer; the message says which and what it was asked."""


@final
class Server:
    """One of the two: a connection to each of its members."""

    def __init__(self, system: System) -> None:
        self.system: Final = system
        self.index = 0
        """The highest index seen, which a member must have applied before a local read through it says anything."""
        self._tls = system.cluster.program.client_tls
        self._connections = [Connection(url, timeout=ANSWER_WITHIN_S, tls=self._tls) for url in system.client_urls]

    def url(self, member: int) -> str:
        """Client URL of a member, counted round."""
        return self.system.client_urls[member % len(self._connections)]

    def send(self, request: Request, member: int) -> None:
        """Send a request through a member, which first catches up if the request reads locally."""
        connection = self._connections[member % len(self._connections)]
        if not connection.is_open:
            # etcd takes a long request line only when it is not the first on its connection.
            connection.ask(keys_request("HEAD", "/"))
        if len(self._connections) > 1 and request.method in ("GET", "HEAD"):
            self.catch_up(member)
        connection.send(request)

    def receive(self, request: Request, member: int) -> Answer:
        """The answer to what was sent last through this member."""
        connection = self._connections[member % len(self._connections)]
        try:
            answer = connection.receive(request.method)
        except (NothingCameError, WireError, OSError) as error:
            connection.close()
            msg = f"{self.system} did not answer {request}: {error}"
            raise NoAnswerError(msg) from error
        self.index = max(self.index, answer.etcd_index)
        return answer

    def ask(self, request: Request, member: int = 0) -> Answer:
        """Send and receive."""
        self.send(request, member)
        return self.receive(request, member)

    def catch_up(self, member: int) -> None:
        """Let a member apply all that was seen: it answers a quorum read only then."""
        connection = self._connections[member % len(self._connections)]
        self.index = max(self.index, connection.ask(_QUORUM).etcd_index)

    def wait_for(self, what: str, holds: Callable[[], bool]) -> None:
        """Poll until it holds, within `APPLIED_WITHIN_S`."""
        self.system.cluster.wait_for(what, holds, APPLIED_WITHIN_S)

    def empty(self) -> None:
        """Delete all that anybody wrote."""
        for request in removals(self.ask(keys_request("GET", "/"))):
            self.ask(request)

    def pad(self, index: int) -> None:
        """Write until the store's index is `index`."""
        ask_all(self.url(0), [PADDING] * (index - self.index), self._tls)
        assert self.ask(_QUORUM).etcd_index == index

    def close(self) -> None:
        """Hang up."""
        for connection in self._connections:
            connection.close()


def removals(listing: Answer) -> list[Request]:
    """The requests that empty a store, given a listing of its root."""
    nodes = json.loads(listing.body)["node"].get("nodes", [])
    names = [quote_from_bytes(node["key"][1:].encode()) for node in nodes]
    return [keys_request("DELETE", f"/{name}", query="recursive=true") for name in [*sorted(names), *HIDDEN_ROOTS]]


@final
class Pair:
    """etcd and the subject."""

    def __init__(self, oracle: System, subject: System) -> None:
        self.oracle: Final = Server(oracle)
        self.subject: Final = Server(subject)
        self._turn = 0

    @property
    def both(self) -> tuple[Server, Server]:
        """The oracle first."""
        return self.oracle, self.subject

    def ask(self, request: Request) -> tuple[Answer, Answer]:
        """The answers of both, each request through the next member."""
        self._turn += 1
        for server in self.both:
            server.send(request, self._turn)
        return self.oracle.receive(request, self._turn), self.subject.receive(request, self._turn)

    def next_urls(self) -> tuple[str, str]:
        """Where to open a watch on each, the members there having applied all."""
        self._turn += 1
        for server in self.both:
            server.catch_up(self._turn)
        return self.oracle.url(self._turn), self.subject.url(self._turn)

    def next_urls_of_guests(self, look: Request) -> tuple[str, str]:
        """`next_urls` while auth is on: `look` is a quorum read that everybody may ask for."""
        self._turn += 1
        for server in self.both:
            server.ask(look, self._turn)
        return self.oracle.url(self._turn), self.subject.url(self._turn)

    def align(self, *, above: int = 0) -> None:
        """Bring both to the same index, at least `above` ahead of both, so that answers agree to the byte."""
        for server in self.both:
            server.ask(_QUORUM)
        index = max(server.index for server in self.both) + above
        for server in self.both:
            server.pad(index)
        for request in (PADDING, keys_request("DELETE", "/_padding")):
            self.ask(request)

    def reset(self, *, above: int = 0) -> None:
        """Empty and align both: at the beginning, and after a difference."""
        for server in self.both:
            server.close()
            server.empty()
        self.align(above=above)

    def close(self) -> None:
        """Hang up."""
        for server in self.both:
            server.close()


@contextmanager
def pair(oracle: System, subject: System) -> Iterator[Pair]:
    """A pair that hangs up at the end."""
    opened = Pair(oracle, subject)
    try:
        yield opened
    finally:
        opened.close()
