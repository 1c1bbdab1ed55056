"""The door to the proxy: `serve` it on sockets, `stop` it gracefully."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final, cast, final

from kvraft import logs, sockets
from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Framing, answer_parts
from kvraft.api_v2.listening import Listener
from kvraft.background import Lasting
from kvraft.proxy.client import ClientConnection, Front
from kvraft.proxy.cluster_file import ClusterFile
from kvraft.proxy.counts import Counts
from kvraft.proxy.dialling import Dialler, UpstreamTls
from kvraft.proxy.director import Director
from kvraft.proxy.forwarding import Roads
from kvraft.proxy.pages import Pages
from kvraft.proxy.refresh import Ask, Refresher
from kvraft.proxy.settings import ProxySettings

log = logs.get(__name__)

_SWEEP_S: Final = 30.0
"""How often idle connections are looked for, on both sides."""


@final
class _Refusal(asyncio.Protocol):
    """Serves a connection too many: one answer, whatever is asked, and the end."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        refused = cast("asyncio.Transport", transport)
        answer = errors.message(503, b"httpproxy: too many connections")
        refused.writelines(answer_parts(answer, Framing(http10=False, head=False, keep_alive=False), b"")[0])
        refused.close()


@final
class ProxyServer:
    """A proxy that is served. Made by `serve`."""

    def __init__(
        self,
        listeners: Sequence[Listener],
        settings: ProxySettings,
        peer_urls: Sequence[str],
        ask: Ask,
        tls: UpstreamTls,
        file: ClusterFile,
    ) -> None:
        self._listeners = listeners
        self._settings = settings
        self._director = Director(settings.failure_wait_ms, self._ask_soon)
        self._refresher = Refresher(peer_urls, ask, self._director, file, settings.refresh_interval_ms)
        counts = Counts(lambda: len(self._front.connections), lambda: len(self._director.available()))
        dialler = Dialler(tls, settings.dial_timeout_ms, settings.read_timeout_ms, settings.write_timeout_ms)
        self._roads = Roads(self._director, dialler, counts)
        self._front = Front(settings, self._roads, Pages(settings, self._director, counts))
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._refreshing: Lasting | None = None

    @property
    def ports(self) -> list[int]:
        """The port of each listener, in order."""
        return [int(listener.socket.getsockname()[1]) for listener in self._listeners]

    async def start(self) -> None:
        """Ask the members once, as etcd does, then accept connections whatever they have said."""
        await self._refresher.refresh()
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            listener.open()
            new_protocol = self._accept if listener.tls is None else listener.tls.behind(self._accept)
            self._servers.append(await loop.create_server(new_protocol, sock=listener.socket, backlog=sockets.BACKLOG))
        self._refreshing = Lasting(self._refresher.run(), "refresh of the members")
        self._sweep()

    async def stop(self) -> None:
        """Stop accepting, break watches off, let requests under way finish, close everything.

        Takes at most `ProxySettings.stop_s`; what is not done by then is dropped.
        """
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._refreshing is not None:
            self._refreshing.end()
        for server in self._servers:
            server.close()
        for listener in self._listeners:
            if listener.tls is not None:
                listener.tls.close()
        front = self._front
        front.is_stopping = True
        for connection in list(front.connections):
            connection.close_after_answer()
        if not front.connections:
            front.all_closed.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.stop_s):
                await front.all_closed.wait()
        if front.connections:
            log.warning("requests cut off by the stop", connections=len(front.connections))
            for connection in list(front.connections):
                connection.abort()
        for task in list(self._roads.tasks):
            task.cancel()
        await asyncio.gather(*self._roads.tasks, return_exceptions=True)
        self._director.close()
        front.unread.close()
        front.unfinished.close()

    def _ask_soon(self) -> None:
        self._refresher.soon()

    def _accept(self) -> asyncio.Protocol:
        if len(self._front.connections) >= self._settings.connections_max:
            return _Refusal()
        return ClientConnection(self._front)

    def _sweep(self) -> None:
        self._director.sweep()
        sweeps = int(self._settings.keep_alive_s / _SWEEP_S)
        for connection in list(self._front.connections):
            connection.close_if_idle(sweeps)
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)


async def serve(
    listeners: Sequence[Listener],
    settings: ProxySettings,
    peer_urls: Sequence[str],
    ask: Ask,
    tls: UpstreamTls,
    file: ClusterFile,
) -> ProxyServer:
    """Serve a proxy on every listener; returns once connections are accepted.

    Args:
        listeners: Where clients connect.
        settings: What was asked for.
        peer_urls: Of members that are known.
        ask: How members are asked who they are.
        tls: For members' https client URLs.
        file: Where their peer URLs are kept.
    """
    server = ProxyServer(listeners, settings, peer_urls, ask, tls, file)
    await server.start()
    return server
