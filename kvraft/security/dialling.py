"""The dialler's handshake."""

import asyncio
import socket
import ssl
from typing import cast, final

from kvraft import clock
from kvraft.security.certificates import Certificate
from kvraft.security.connection import TlsConnection
from kvraft.security.credentials import Credentials, Loaded
from kvraft.security.engine import Engine, sentence


async def dial(
    credentials: Credentials, connected: socket.socket, host: str, app: asyncio.Protocol
) -> asyncio.Transport:
    """Encrypt a connection to `host`, a name or an address, and give it to a protocol.

    The certificate of the other side must be one of a trusted CA, cover the host, and be within the rules.

    Raises:
        ConnectionError: it is not accepted, or does not accept ours; the text says which.
        OSError: the connection broke.
    """
    loop = asyncio.get_running_loop()
    loaded = credentials.current()
    engine = Engine(loaded.client, host.strip("[]"))
    handshake = _Handshake(engine, loop.create_future())
    plain, _ = await loop.create_connection(lambda: handshake, sock=connected)
    try:
        await handshake.succeeded()
        chain = _accepted(engine, credentials.files.is_self_signed, loaded)
    except BaseException:
        plain.abort()
        raise
    connection = TlsConnection(plain, engine, chain[0] if chain else None)
    connection.begin(app)
    plain.resume_reading()
    return connection


def _accepted(engine: Engine, is_self_signed: bool, loaded: Loaded) -> list[Certificate]:
    """What the other side has shown, whose chain and host OpenSSL has verified, if that is within the rules."""
    try:
        chain = engine.chain()
    except ValueError as error:
        raise ConnectionError(f"its certificate cannot be read: {error}") from None
    refusal = "" if is_self_signed else loaded.rules.why_refused(chain, clock.wall_ns() // 10**9)
    if refusal:
        raise ConnectionError(refusal)
    return chain


@final
class _Handshake(asyncio.Protocol):
    """Says hello, and is done when both are."""

    def __init__(self, engine: Engine, complete: asyncio.Future[None]) -> None:
        self._complete = complete
        self._lost: Exception | None = None
        self._engine = engine
        self._is_answered = False
        self._plain: asyncio.Transport

    async def succeeded(self) -> None:
        """Wait until both are.

        Raises:
            ConnectionError: one did not accept the other.
            OSError: the connection broke, be it before whoever waits has its turn: nobody would be told any more.
        """
        await self._complete
        if self._lost is not None:
            raise self._lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._plain = cast("asyncio.Transport", transport)
        self._step()

    def data_received(self, data: bytes) -> None:
        """Go on; what comes behind the handshake stays in the engine."""
        self._is_answered = True
        self._engine.incoming.write(data)
        if not self._complete.done():
            self._step()

    def _step(self) -> None:
        try:
            complete = self._engine.shake_hands()
        except ssl.SSLError as error:
            self._fail(ConnectionError(sentence(error)))
            complete = False
        if self._engine.outgoing.pending:
            self._plain.write(self._engine.outgoing.read())
        if complete and not self._complete.done():
            self._plain.pause_reading()  # until somebody is there to read
            self._complete.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """It ended in the midst."""
        if self._is_answered:
            self._lost = error or ConnectionError("it closed the connection in the midst of the handshake")
        else:
            self._lost = ConnectionError("it hung up without a word of TLS: is its URL one that is http?")
        self._fail(self._lost)

    def _fail(self, error: Exception) -> None:
        if not self._complete.done():
            self._complete.set_exception(error)
