"""The peer port: tells by its first bytes what a connection is, and keeps strangers few.

| begins with | is |
|---|---|
| `framing.MAGIC` | a member: `arrivals.py` |
| HTTP/2's preface | a call: relayed to the gRPC server (`calls.py`) |
| a letter | HTTP/1, answered as etcd's peer port does (`peer_http.py`) |
| anything else | a stranger: closed, and named in the log once a minute |

Where TLS is spoken it has ended before (`PeerTls.behind`): the bytes are those inside, and all else is the same.
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Final, cast, final

from kvraft import sockets
from kvraft.transport.arrivals import Arrivals
from kvraft.transport.calls import Calls
from kvraft.transport.codec import WireError
from kvraft.transport.connection import Connection, address_of
from kvraft.transport.framing import MAGIC
from kvraft.transport.interfaces import PeerPages
from kvraft.transport.listening import listen
from kvraft.transport.peer_http import PeerHttp
from kvraft.transport.reports import Reports
from kvraft.transport.settings import TransportSettings

HTTP2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""RFC 9113, section 3.4."""
_TLS_HANDSHAKE: Final = 0x16


@final
class Doorway:
    """The listeners on the peer addresses, and everybody who came and is not known yet."""

    def __init__(
        self,
        arrivals: Arrivals,
        pages: PeerPages,
        calls: Calls,
        reports: Reports,
        new_connection: Callable[[], Connection],
        settings: TransportSettings,
    ) -> None:
        self.arrivals: Final = arrivals
        self.pages: Final = pages
        self.calls: Final = calls
        self.reports: Final = reports
        self.new_connection: Final = new_connection
        self.settings: Final = settings
        self._tls: Final = arrivals.wiring.tls
        self._visitors: dict[Visitor, None] = {}
        """The oldest first."""
        self._servers: list[asyncio.Server] = []

    async def open(self, addresses: Sequence[str], tls_addresses: Collection[str] = ()) -> tuple[int, ...]:
        """Listen; returns the ports. At some addresses visitors come by TLS, and nobody else does.

        Raises:
            ListenError: an address is taken or not ours.
        """
        loop = asyncio.get_running_loop()
        ports = []
        for address in addresses:
            listening = listen(address)
            ports.append(listening.getsockname()[1])
            new_visitor: Callable[[], asyncio.Protocol] = partial(Visitor, self)
            if address in tls_addresses:
                assert self._tls is not None, "an https URL without a certificate is refused at the start"
                new_visitor = self._tls.behind(new_visitor)
            self._servers.append(await loop.create_server(new_visitor, sock=listening, backlog=sockets.BACKLOG))
        return tuple(ports)

    def close(self) -> None:
        """Listen no more, and send everybody away who is not known."""
        for server in self._servers:
            server.close()
        if self._tls is not None:
            self._tls.close()
        for visitor in tuple(self._visitors):
            visitor.send_away()

    def enter(self, visitor: "Visitor") -> None:
        """Somebody came. In a crowd the one goes who has been here for longest without being known."""
        self._visitors[visitor] = None
        if len(self._visitors) > self.settings.strangers_max:
            oldest = next(iter(self._visitors))
            self.reports.crowd(oldest.address, self.settings.strangers_max)
            oldest.send_away()

    def leave(self, visitor: "Visitor") -> None:
        """It is known, or gone."""
        self._visitors.pop(visitor, None)


@final
class Visitor(asyncio.Protocol):
    """A connection whose first bytes are awaited; then whoever it was for has it."""

    def __init__(self, doorway: Doorway) -> None:
        self.address = ""
        self._doorway = doorway
        self._seen = b""
        self._http: PeerHttp | None = None
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It has a while to say what it is, and to greet."""
        self._transport = cast("asyncio.Transport", transport)
        self.address = address_of(transport)
        seconds = self._doorway.settings.greeting_timeout_ms / 1000
        self._timer = asyncio.get_running_loop().call_later(seconds, self._on_time_out)
        self._doorway.enter(self)

    def data_received(self, data: bytes) -> None:
        """Decide as soon as the bytes suffice."""
        seen = self._seen = self._seen + data
        if seen.startswith(MAGIC):
            connection = self._doorway.new_connection()
            connection.on_end = self.known
            self._doorway.arrivals.welcome(connection, self._greeted, self.known)
            self._hand_over(connection, seen[len(MAGIC) :])
        elif seen.startswith(HTTP2_PREFACE):
            self._timer.cancel()  # gRPC has limits of its own, and the crowd may push it out
            self._doorway.calls.relay(self._transport, seen, self.known)
        elif MAGIC.startswith(seen) or HTTP2_PREFACE.startswith(seen):
            return
        elif seen[:1].isalpha():
            self._http = PeerHttp(self._doorway.pages, self._doorway.reports.voters, self._on_garbage, self.known)
            self._hand_over(self._http, seen)
        else:
            self._on_garbage("TLS on a peer URL that is http" if seen[0] == _TLS_HANDSHAKE else "no protocol of ours")

    def connection_lost(self, _error: Exception | None) -> None:
        """It went before it was known: a health check, as a rule."""
        self.known()

    def _greeted(self) -> None:
        """It is a member's, if that member accepts us in time: no crowd pushes it out."""
        self._doorway.leave(self)

    def known(self) -> None:
        """It is a member, or gone."""
        self._seen = b""  # We are in a cycle with whoever has the connection now, and collections are rare.
        self._timer.cancel()
        self._doorway.leave(self)

    def send_away(self) -> None:
        """End it, whoever has it now."""
        self._transport.abort()
        self.known()

    def _hand_over(self, protocol: asyncio.Protocol, rest: bytes) -> None:
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if rest:
            protocol.data_received(rest)

    def _on_time_out(self) -> None:
        if self._http is not None and self._http.is_at_rest:
            self.send_away()  # as an HTTP server may; its client keeps connections for later
        else:
            self._on_garbage("no greeting in time")

    def _on_garbage(self, what: str) -> None:
        self._doorway.reports.garbage(self.address, WireError(what))
        self.send_away()
