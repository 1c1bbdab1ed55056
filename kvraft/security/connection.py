"""An established TLS connection: to its protocol a transport like any other, to the plain transport a protocol."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final, cast, final

from kvraft.security.certificates import Certificate
from kvraft.security.engine import ENCRYPTED_BYTES, FED_BYTES, Engine, parts, sentence

_BARREN_BYTES_MAX: Final = 64 << 10
"""Received without data in it. Go ends a connection after 16 such records (crypto/tls/common.go, `maxUselessRecords`);
they are not seen here, but four of the largest without data are none of an honest client's."""
_UNREAD_BYTES_MAX: Final = 64 << 10
"""Of what OpenSSL answers by itself (a change of keys) to a client that does not read: nobody else holds those back."""

CERTIFICATE: Final = "verified_certificate"
"""`get_extra_info`: the leaf that the other side has shown, whose chain is verified; None if it showed none."""


@final
class TlsConnection(asyncio.Transport, asyncio.Protocol):
    """Made when the handshake is done, by whoever did it, who then gives it to both sides.

    A read is given on whole, whatever the number of its records, and each write leaves as one. Limits and sizes of the
    buffer are the plain transport's: nothing waits here.

    Args:
        rejected: Told why, if what the other side sends ends the connection.
    """

    __slots__ = (
        "_app",
        "_certificate",
        "_closing",
        "_engine",
        "_failure",
        "_has_ended",
        "_has_said_goodbye",
        "_plain",
        "_rejected",
        "_unread_bytes",
    )

    def __init__(
        self,
        plain: asyncio.Transport,
        engine: Engine,
        certificate: Certificate | None,
        rejected: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._rejected = rejected
        self._plain = plain
        self._engine = engine
        self._certificate = certificate
        self._app: asyncio.Protocol | None = None
        self._closing = False
        self._failure: ConnectionError | None = None
        self._has_ended = False
        """The other side sends no more."""
        self._has_said_goodbye = False
        self._unread_bytes = 0
        """Answers of OpenSSL since the plain transport was last seen empty."""

    def begin(self, app: asyncio.Protocol) -> None:
        """Give it to the protocol that it is for, with what came behind the handshake."""
        self._plain.set_protocol(self)
        self._app = app
        app.connection_made(self)
        self.data_received(self._engine.incoming.read())

    # -- asyncio.Protocol: what the plain transport brings ------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Decrypt a read, and give on what is complete with it."""
        engine = self._engine
        records: list[bytes] = []
        ended, failure = False, None
        try:
            for part in (data,) if len(data) <= FED_BYTES else parts(data, FED_BYTES):
                ended = engine.decrypt(part, records)
                if engine.barren_bytes >= _BARREN_BYTES_MAX:
                    self._reject(f"{_BARREN_BYTES_MAX >> 10} KiB of TLS records without data in them")
                elif engine.outgoing.pending:
                    self._answer()
                if self._closing:
                    return
        except ssl.SSLError as error:
            failure = error
            if engine.outgoing.pending:
                self._answer()
        if records and self._app is not None and not self._closing:
            self._app.data_received(records[0] if len(records) == 1 else b"".join(records))
        if failure is not None:
            self._failure = ConnectionError(sentence(failure))
            self._plain.close()
        elif ended:
            self._end()

    def _answer(self) -> None:
        """Send what OpenSSL says by itself: the answer to a change of keys, or an alert."""
        answer = self._engine.outgoing.read()
        if self._has_said_goodbye or self._closing:
            return
        if not self._plain.get_write_buffer_size():
            self._unread_bytes = 0
        self._unread_bytes += len(answer)
        if self._unread_bytes > _UNREAD_BYTES_MAX:
            self._reject("it changes keys again and again, and reads no answer")
        else:
            self._plain.write(answer)

    def _reject(self, error: str) -> None:
        """End it at once, and say why."""
        self._failure = ConnectionError(error)
        self.abort()
        if self._rejected is not None:
            self._rejected(error)

    def eof_received(self) -> bool:
        """Whoever closes without a goodbye has ended all the same: HTTP and our messages know where they end."""
        self._end()
        return not self._closing

    def _end(self) -> None:
        """It sends no more; who is owed an answer stays, as over TCP."""
        if self._has_ended or self._app is None:
            return
        self._has_ended = True
        if not self._app.eof_received():
            self.close()

    def pause_writing(self) -> None:
        """The buffer is full."""
        if self._app is not None:
            self._app.pause_writing()

    def resume_writing(self) -> None:
        """It has room again."""
        if self._app is not None:
            self._app.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._closing = True
        app, self._app = self._app, None
        if app is not None:
            app.connection_lost(self._failure or exc)

    # -- asyncio.Transport: what the protocol asks for ----------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        size = len(data)
        if self._closing or not size:
            return
        engine = self._engine
        try:
            if size > ENCRYPTED_BYTES:
                self._plain.writelines(engine.encrypt(data))
                return
            sent = engine.session.write(data)
            assert sent == size, "memory takes everything, and partial writes were not asked for"
        except ssl.SSLError as error:  # it has failed before, and is being closed
            self._failure = self._failure or ConnectionError(sentence(error))
            self.abort()
            return
        self._plain.write(engine.outgoing.read())

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypt and send, in as few records as possible."""
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        """Both ends can end by themselves."""
        return True

    def write_eof(self) -> None:
        """Say goodbye, and go on reading: what comes is for nobody any more but says when the other side is done."""
        self._say_goodbye()
        self._plain.write_eof()

    def close(self) -> None:
        """Say goodbye behind what is buffered, and end."""
        if not self._closing:
            self._closing = True
            self._say_goodbye()
            self._plain.close()

    def _say_goodbye(self) -> None:
        self._has_said_goodbye = True
        with contextlib.suppress(ssl.SSLError):  # it waits for an answer that nobody waits for
            self._engine.session.unwrap()
        if self._engine.outgoing.pending:
            self._plain.write(self._engine.outgoing.read())

    def abort(self) -> None:
        """End it now."""
        self._closing = True
        self._plain.abort()

    def is_closing(self) -> bool:
        """Whether it ends or has ended."""
        return self._closing or self._plain.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand it to somebody else."""
        self._app = cast("asyncio.Protocol", protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who has it now."""
        assert self._app is not None, "it has ended"
        return self._app

    def pause_reading(self) -> None:
        """Bring nothing for now. Nothing is kept back here: a read was given on whole."""
        self._plain.pause_reading()

    def resume_reading(self) -> None:
        """Bring again."""
        self._plain.resume_reading()

    def is_reading(self) -> bool:
        """Whether it brings."""
        return self._plain.is_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When to say that the buffer is full, and that it has room again."""
        self._plain.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """What was set."""
        return self._plain.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """What waits, encrypted."""
        return self._plain.get_write_buffer_size()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the plain transport knows, and of TLS the names that asyncio has, and `CERTIFICATE`."""
        if name == CERTIFICATE:
            return self._certificate
        if name == "ssl_object":
            return self._engine.session
        if name == "sslcontext":
            return self._engine.session.context
        return self._plain.get_extra_info(name, default)
