"""The door to the HTTP API: `serve` it on sockets, `stop` it gracefully."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final, cast, final

from kvraft import logs, sockets
from kvraft.api_v2.answers import Answer, Framing, answer_parts
from kvraft.api_v2.app import App
from kvraft.api_v2.backend import Backend
from kvraft.api_v2.fast_protocol import FastFront
from kvraft.api_v2.http_dates import DateLine
from kvraft.api_v2.late_front import LateFront
from kvraft.api_v2.listening import Listener
from kvraft.api_v2.request_heads import forget_lately
from kvraft.api_v2.settings import ApiSettings
from kvraft.api_v2.unfinished import Unfinished
from kvraft.api_v2.unread import Unread
from kvraft.background import Lasting
from kvraft.metrics import Metrics

log = logs.get(__name__)

_SWEEP_S: Final = 30.0
"""How often idle connections are looked for, and passwords in heads are forgotten."""


@final
class _Refusal(asyncio.Protocol):
    """Serves a connection too many: one answer, whatever is asked, and the end."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        refused = cast("asyncio.Transport", transport)
        parts, _ = answer_parts(self._answer, Framing(http10=False, head=False, keep_alive=False), b"")
        refused.writelines(parts)
        refused.close()


@final
class ApiServer:
    """A served API. Made by `serve`."""

    def __init__(self, app: App, listeners: Sequence[Listener], dates: DateLine) -> None:
        self._app = app
        self._unread = Unread(app.settings.unread_bytes_max)
        self._unfinished = Unfinished(app.settings.unfinished_bytes_max)
        self._aiohttp = LateFront(app, dates, self._unread, self._unfinished)
        self._loading: Lasting | None = None
        self._fast: FastFront | None = None
        if app.settings.fast_front:
            self._fast = FastFront(app, dates, self._aiohttp, self._unread, self._unfinished)
        self._listeners = listeners
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def ports(self) -> list[int]:
        """The port of each listener, in order."""
        return [int(listener.socket.getsockname()[1]) for listener in self._listeners]

    async def start(self) -> None:
        """Accept connections."""
        loop = asyncio.get_running_loop()
        self._loading = Lasting(self._aiohttp.load(), "loading of aiohttp", may_return=True)
        if self._fast is None:
            await self._loading.task
        accept = partial(self._accept, self._fast or self._aiohttp)
        for listener in self._listeners:
            listener.open()
            new_protocol = accept if listener.tls is None else listener.tls.behind(accept)
            server = await loop.create_server(new_protocol, sock=listener.socket, backlog=sockets.BACKLOG)
            self._servers.append(server)
        self._sweep()

    def _accept(self, front: FastFront | LateFront) -> asyncio.Protocol:
        """What serves a new connection."""
        count = self._aiohttp.connection_count + (len(self._fast.connections) if self._fast is not None else 0)
        if count >= self._app.settings.connections_max:
            return _Refusal(self._app.too_many_requests())
        return front.new_protocol()

    async def stop(self) -> None:
        """Stop accepting, break watches off, let requests under way finish, close everything.

        Takes at most `ApiSettings.stop_s`; what is not done by then is dropped.
        """
        if self._sweeper is not None:
            self._sweeper.cancel()
        for server in self._servers:
            server.close()
        for listener in self._listeners:
            if listener.tls is not None:
                listener.tls.close()
        timeout_s = self._app.settings.stop_s
        if self._fast is not None:
            self._fast.begin_stop()
        self._aiohttp.begin_stop()
        self._app.end_streams()
        if self._loading is not None:
            await asyncio.wait((self._loading.task,))
        await asyncio.gather(self._stop_fast(timeout_s), self._aiohttp.stop(timeout_s))
        forget_lately()
        self._unread.close()
        self._app.close()
        self._unfinished.close()

    def give_up(self) -> None:
        """The process ends without a stop: what is still being loaded is missed by nobody."""
        if self._loading is not None:
            self._loading.end()

    async def _stop_fast(self, timeout_s: float) -> None:
        fast = self._fast
        if fast is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await fast.all_closed.wait()
        if fast.connections:
            log.warning("requests cut off by the stop", connections=len(fast.connections))
            fast.abort_all()

    def _sweep(self) -> None:
        if self._fast is not None:
            forget_lately()
            self._fast.close_idle(int(self._app.settings.keep_alive_s / _SWEEP_S))
            self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_S, self._sweep)


async def serve(backend: Backend, listeners: Sequence[Listener], settings: ApiSettings, metrics: Metrics) -> ApiServer:
    """Serve a member's API on every listener; returns once connections are accepted."""
    server = ApiServer(App(backend, settings, metrics), listeners, DateLine(backend.wall_ns))
    await server.start()
    return server


async def serve_metrics(
    backend: Backend, listeners: Sequence[Listener], settings: ApiSettings, metrics: Metrics
) -> ApiServer:
    """Serve /metrics and /health alone, without CORS, as etcd does at `--listen-metrics-urls`."""
    settings = replace(settings, fast_front=False, cors_origins=frozenset())
    server = ApiServer(App(backend, settings, metrics, metrics_only=True), listeners, DateLine(backend.wall_ns))
    await server.start()
    return server
