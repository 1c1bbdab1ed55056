"""The dialler's handshake: what its end leaves to the protocol behind it."""

import asyncio
import pathlib
import socket
from collections.abc import Callable

import pytest
import uvloop

from kvraft.security import dialling
from kvraft.security.credentials import Credentials
from kvraft.security.engine import Engine
from kvraft.security.files import TlsFiles
from kvraft.testing.certificates import Authority


class _Unheard(asyncio.Protocol):
    """Somebody who is told of a connection, and never of its end."""

    def connection_made(self, _transport: asyncio.BaseTransport) -> None:
        raise AssertionError("it has ended already")


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_connection_that_ends_with_its_handshake_is_given_to_nobody(
    new_loop: Callable[[], asyncio.AbstractEventLoop], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reset between the last byte of the handshake and the turn of the task that waits for it."""
    ca = Authority(tmp_path)
    pair = ca.issue("both")
    credentials = Credentials(TlsFiles(cert_file=pair.cert_file, key_file=pair.key_file, trusted_ca_file=ca.ca_file))
    handshakes: list[dialling._Handshake] = []
    connection_made, shake_hands = dialling._Handshake.connection_made, Engine.shake_hands

    def made(handshake: dialling._Handshake, transport: asyncio.BaseTransport) -> None:
        handshakes.append(handshake)
        connection_made(handshake, transport)

    def reset_when_complete(engine: Engine) -> bool:
        complete = shake_hands(engine)
        if complete:
            handshakes[0]._plain.abort()
        return complete

    monkeypatch.setattr(dialling._Handshake, "connection_made", made)
    monkeypatch.setattr(Engine, "shake_hands", reset_when_complete)

    async def story() -> None:
        server = await asyncio.start_server(
            lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=credentials.server_context()
        )
        connected = socket.create_connection(server.sockets[0].getsockname())
        connected.setblocking(False)
        try:
            with pytest.raises(ConnectionError):
                await dialling.dial(credentials, connected, "127.0.0.1", _Unheard())
        finally:
            server.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(story())
