"""Connections to endpoints: names looked up, addresses tried one after the other, TLS begun, all within one time."""

import asyncio
import contextlib
import socket
from typing import Protocol, final

from kvraft.proxy.director import Endpoint
from kvraft.proxy.upstream import Upstream
from kvraft.transport.names import Address, Names


class UpstreamTls(Protocol):
    """TLS towards members."""

    async def dial(self, connected: socket.socket, host: str, protocol: asyncio.Protocol, /) -> asyncio.Transport:
        """Encrypt a connection and give it to a protocol. Raises OSError."""
        ...


@final
class Dialler:
    """Connects.

    Args:
        tls: For https endpoints.
        dial_timeout_ms: How long one may take, all addresses of its name together; 0: as long as the system tries.
        read_timeout_ms: See `ProxySettings`.
        write_timeout_ms: See `ProxySettings`.
    """

    def __init__(self, tls: UpstreamTls, dial_timeout_ms: int, read_timeout_ms: int, write_timeout_ms: int) -> None:
        self._tls = tls
        self._dial_s = dial_timeout_ms / 1000 or None
        self._read_ms = read_timeout_ms
        self._write_ms = write_timeout_ms
        self._names = Names()

    async def dial(self, endpoint: Endpoint) -> Upstream:
        """A connection to an endpoint, which gets it back when it can take another request.

        Raises:
            OSError: there is none; TimeoutError among them.
        """
        upstream = Upstream(endpoint.keep, self._read_ms, self._write_ms)
        try:
            async with asyncio.timeout(self._dial_s):
                await self._connect(endpoint, upstream)
        except TimeoutError:
            raise TimeoutError(f"no connection within {self._dial_s:g} s") from None
        return upstream

    async def _connect(self, endpoint: Endpoint, upstream: Upstream) -> None:
        found = await asyncio.shield(self._names.begin(endpoint.target))
        if isinstance(found, OSError):
            raise found
        error: OSError = OSError("its name has no address")
        for address in found:
            try:
                connected = await _connected(address)
            except OSError as why:
                error = why
                continue
            try:
                if endpoint.is_secure:
                    await self._tls.dial(connected, endpoint.target[0], upstream)
                else:
                    loop = asyncio.get_running_loop()
                    await loop.create_connection(lambda: upstream, sock=connected)
            except BaseException:
                upstream.close()
                connected.close()
                raise
            return
        raise error


async def _connected(address: Address) -> socket.socket:
    connection = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, address.sockaddr)
    except BaseException:
        connection.close()
        raise
    return connection
