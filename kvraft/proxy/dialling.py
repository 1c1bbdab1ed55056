"""Connections to endpoints: names looked up, their addresses raced, TLS begun, all within one time."""

import asyncio
import contextlib
import itertools
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final, Protocol, final

from kvraft.proxy.director import Endpoint
from kvraft.proxy.upstream import Upstream
from kvraft.transport.names import Address, Names

_NEXT_ADDRESS_S: Final = 0.3
"""How long an address may say nothing before the next one is tried, too: Go's dialer (`FallbackDelay`, RFC 6555), and
so etcd's, though Go waits so for the other family only."""


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
        names: What looks names up.
    """

    def __init__(
        self,
        tls: UpstreamTls,
        dial_timeout_ms: int,
        read_timeout_ms: int,
        write_timeout_ms: int,
        names: Names | None = None,
    ) -> None:
        self._tls = tls
        self._dial_s = dial_timeout_ms / 1000 or None
        self._read_ms = read_timeout_ms
        self._write_ms = write_timeout_ms
        self._names = names or Names()

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
        order = _in_turn(found, self._names.worked(endpoint.target))
        connected, address = await _first_connected(order)
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
        if address != order[0]:  # which then need not be waited for at the next request
            self._names.remember(endpoint.target, address)


def _in_turn(found: Sequence[Address], worked: Address | None) -> list[Address]:
    """In the system's order, but the families in turn (RFC 8305, section 4), and first of all the one that worked."""
    first = [address for address in found if address.family == found[0].family]
    others = [address for address in found if address.family != found[0].family]
    turns = [address for pair in itertools.zip_longest(first, others) for address in pair if address is not None]
    return sorted(turns, key=lambda address: address != worked)


async def _first_connected(addresses: Sequence[Address]) -> tuple[socket.socket, Address]:
    """The address that connects first; each is begun a moment after the one before, or when one has failed.

    Raises:
        OSError: none does; of the last that failed.
    """
    error = OSError("its name has no address")
    untried = deque(addresses)
    running: dict[asyncio.Task[socket.socket], Address] = {}
    try:
        while untried or running:
            if untried:
                address = untried.popleft()
                running[asyncio.ensure_future(_connected(address))] = address
            timeout_s = _NEXT_ADDRESS_S if untried else None
            await asyncio.wait(running, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in running if task.done()]:
                address = running.pop(task)
                try:
                    return task.result(), address
                except OSError as why:
                    error = why
        raise error
    finally:
        for task in running:
            task.cancel()
            task.add_done_callback(_discard)


def _discard(late: asyncio.Task[socket.socket]) -> None:
    """Another one was faster, or nobody waits any more."""
    if not late.cancelled() and late.exception() is None:
        late.result().close()


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
