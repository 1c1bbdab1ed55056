"""The acceptor's handshakes.

Whoever has not finished his holds a place among few and a time limit; in a crowd the one goes who came first. Before
the first byte there is no TLS session, and the costly steps take turns, one in each turn of the event loop: a flood of
handshakes delays those who are inside by one step at a time.
"""

import asyncio
import contextlib
import functools
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, cast, final

from kvraft import clock, logs
from kvraft.repeats import Repeats
from kvraft.security.certificates import Certificate, plain_address
from kvraft.security.connection import TlsConnection
from kvraft.security.credentials import Credentials
from kvraft.security.engine import Engine, sentence

_log = logs.get(__name__)

TIMEOUT_MS: Final = 10_000
"""Of a handshake; etcd 3.4 has none (GHSA-6vch-q96h-7gc3)."""
UNFINISHED_MAX: Final = 1024
"""Handshakes at once on one kind of listener."""
_EARLY_BYTES_MAX: Final = 64 << 10
"""More than a handshake has; what a client sends behind its last part waits in the kernel."""
_HANDSHAKE: Final = 0x16
"""The first byte of TLS (RFC 8446, section 5.1)."""
_HTTP_ANSWER: Final = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
"""Go's (net/http/server.go, `conn.serve`)."""

NewProtocol = Callable[[], asyncio.Protocol]
CheckOrigin = Callable[[Certificate, str], Awaitable[str]]
"""Why a certificate may not come from this address; empty if it may."""


@final
class TlsDoor:
    """Stands before the protocols of one kind of listener.

    Args:
        credentials: Of this member.
        listener: What the log calls it.
        check_origin: Asked about who has shown a certificate.
        refusal: Makes what somebody understands who is turned away for a reason that TLS has no alert for.
        preamble: What he begins with who speaks plainly and understands it, too.
    """

    def __init__(
        self,
        credentials: Credentials,
        listener: str,
        check_origin: CheckOrigin | None = None,
        *,
        refusal: Callable[[str], bytes] | None = None,
        preamble: bytes = b"",
        unfinished_max: int = UNFINISHED_MAX,
        timeout_ms: int = TIMEOUT_MS,
    ) -> None:
        self.credentials: Final = credentials
        self.check_origin: Final = check_origin
        self.refusal: Final = refusal
        self.preamble: Final = preamble
        self._listener: Final = listener
        self._unfinished_max: Final = unfinished_max
        self._timeout_ms: Final = timeout_ms
        self._unfinished: dict[Handshake, int] = {}
        """With the millisecond at which its time is over; the oldest first."""
        self._turns: deque[Handshake] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._repeats: Final = Repeats(clock.monotonic_ms)

    @property
    def unfinished(self) -> int:
        """Handshakes under way."""
        return len(self._unfinished)

    def behind(self, new_protocol: NewProtocol) -> NewProtocol:
        """A factory for a listener, whose connections are given to these protocols once they are encrypted."""
        return lambda: Handshake(self, new_protocol)

    def close(self) -> None:
        """Give up what is unfinished."""
        if self._timer is not None:
            self._timer.cancel()
        for handshake in tuple(self._unfinished):
            handshake.abort()

    def enter(self, handshake: "Handshake") -> None:
        """Somebody came."""
        self._unfinished[handshake] = clock.monotonic_ms() + self._timeout_ms
        if len(self._unfinished) > self._unfinished_max:
            oldest = next(iter(self._unfinished))
            if self._repeats.is_news("crowd", "crowd"):
                _log.warning(
                    "too many unfinished TLS handshakes: the oldest go",
                    listener=self._listener,
                    address=oldest.address,
                    limit=self._unfinished_max,
                )
            oldest.abort()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout_ms / 1000, self._on_time)

    def leave(self, handshake: "Handshake") -> None:
        """It is done, or gone."""
        self._unfinished.pop(handshake, None)

    def take_turn(self, handshake: "Handshake") -> None:
        """Have its next step done when it is its turn."""
        self._turns.append(handshake)
        if len(self._turns) == 1:
            asyncio.get_running_loop().call_soon(self._turn)

    def rejected(self, address: str, error: str) -> None:
        """Say so; once a minute of a host and a reason, whose port changes."""
        if self._repeats.is_news(f"{address.rpartition(':')[0]} {error}", "rejected"):
            _log.warning("rejected connection", listener=self._listener, address=address, error=error)

    def _turn(self) -> None:
        handshake = self._turns.popleft()
        if self._turns:  # First: whatever goes wrong below, the next one has its turn.
            asyncio.get_running_loop().call_soon(self._turn)
        if handshake in self._unfinished:
            try:
                handshake.step()
            except Exception:  # noqa: BLE001 -- strangers choose what comes in: a defect that they find is no member's end
                _log.exception("a handshake failed", listener=self._listener, address=handshake.address)
                handshake.abort()

    def _on_time(self) -> None:
        self._timer = None
        now_ms = clock.monotonic_ms()
        while self._unfinished:
            oldest, ends_ms = next(iter(self._unfinished.items()))
            if ends_ms > now_ms:
                self._timer = asyncio.get_running_loop().call_later((ends_ms - now_ms) / 1000, self._on_time)
                return
            if not oldest.was_rejected:
                self.rejected(oldest.address, f"no handshake within {self._timeout_ms} ms")
            oldest.abort()


@final
class Handshake(asyncio.Protocol):
    """One connection until it is encrypted, or turned away."""

    def __init__(self, door: TlsDoor, new_protocol: NewProtocol) -> None:
        self.address = ""
        self._host = ""
        self.was_rejected = False
        """And is awaited to go: a close with bytes unread would reset the connection, and it would not hear why."""
        self._door = door
        self._new_protocol = new_protocol
        self._plain: asyncio.Transport
        self._engine: Engine | None = None
        self._waits = False
        """For its turn, or for the answer to who it is."""
        self._checking: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        self._plain = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername") or ("", 0)
        self._host = plain_address(peer[0]) or ""
        self.address = f"[{peer[0]}]:{peer[1]}" if ":" in peer[0] else f"{peer[0]}:{peer[1]}"
        self._door.enter(self)

    def data_received(self, data: bytes) -> None:
        """Keep it for the next step."""
        if self.was_rejected:
            return
        if self._engine is None:
            if data[0] != _HANDSHAKE:
                self._turn_away(data)
                return
            self._engine = Engine(self._door.credentials.server_context())
        self._engine.incoming.write(data)
        if self._engine.incoming.pending > _EARLY_BYTES_MAX:
            self._plain.pause_reading()
        if not self._waits:
            self._waits = True
            self._door.take_turn(self)

    def step(self) -> None:
        """Go on with the handshake."""
        assert self._engine is not None, "who has sent nothing has no turn"
        self._waits = False
        if self.was_rejected:
            return
        try:
            complete = self._engine.shake_hands()
        except ssl.SSLError as error:
            self._reject(sentence(error))
            return
        self._flush()
        if complete:
            self._check(self._engine)
        elif self._engine.incoming.pending > _EARLY_BYTES_MAX:
            self._reject("an endless handshake")

    def _check(self, engine: Engine) -> None:
        """Is who came one who may? The chain is verified already, if certificates are wanted."""
        door = self._door
        try:
            chain = engine.chain()
        except ValueError as error:
            self._refuse(f"its certificate cannot be read: {error}")
            return
        refusal = door.credentials.current().rules.why_refused(chain, clock.wall_ns() // 10**9)
        if refusal:
            self._refuse(refusal)
        elif chain and door.check_origin is not None:
            self._waits = True
            self._plain.pause_reading()
            asking = self._ask(engine, chain[0], door.check_origin)
            self._checking = asyncio.get_running_loop().create_task(asking, name=f"origin of {self.address}")
        else:
            self._succeed(engine, chain[0] if chain else None)

    async def _ask(self, engine: Engine, certificate: Certificate, check_origin: CheckOrigin) -> None:
        refusal = await check_origin(certificate, self._host)
        if self._plain.is_closing():
            return
        self._plain.resume_reading()
        if refusal:
            self._refuse(refusal)
        else:
            self._succeed(engine, certificate)

    def _succeed(self, engine: Engine, certificate: Certificate | None) -> None:
        self._door.leave(self)
        self._plain.resume_reading()
        rejected = functools.partial(self._door.rejected, self.address)
        TlsConnection(self._plain, engine, certificate, rejected).begin(self._new_protocol())

    def _turn_away(self, data: bytes) -> None:
        """It speaks no TLS: HTTP gets Go's answer, a member is told in its own words."""
        door = self._door
        if data[:1].isalpha() and data[:1].isupper():
            self._plain.write(_HTTP_ANSWER)
            self._reject("client sent an HTTP request to an HTTPS server")
        elif door.refusal is not None and door.preamble and data.startswith(door.preamble):
            self._plain.write(door.refusal("this is an https URL, and was dialled as if it were http"))
            self._reject("it takes this URL for one that is http")
        else:
            self._reject("what it sent is no TLS")

    def _refuse(self, error: str) -> None:
        """The handshake is complete, and who came is not accepted."""
        engine, refusal = self._engine, self._door.refusal
        assert engine is not None, "the handshake is complete"
        if refusal is not None:
            engine.session.write(refusal(error))
        with contextlib.suppress(ssl.SSLError):  # it waits for an answer that nobody waits for
            engine.session.unwrap()
        self._reject(error)

    def _reject(self, error: str) -> None:
        """Say why, to both sides as far as TLS has words for it, and wait until it goes."""
        self.was_rejected = True
        self._door.rejected(self.address, error)
        self._flush()
        if not self._plain.is_closing():
            self._plain.resume_reading()
            self._plain.write_eof()

    def _flush(self) -> None:
        if self._engine is not None and self._engine.outgoing.pending:
            self._plain.write(self._engine.outgoing.read())

    def abort(self) -> None:
        """It goes."""
        self._plain.abort()
        self._door.leave(self)

    def eof_received(self) -> bool:
        """A handshake needs both directions."""
        return False

    def connection_lost(self, _error: Exception | None) -> None:
        """It has gone: a health check, as a rule."""
        self._door.leave(self)
        if self._checking is not None:
            self._checking.cancel()
