"""The endpoints, in the order in which they are asked, and which of them are set aside.

As in etcd all requests go to the first of them that is available, so that a client reads what it has written before,
over whichever connection. At each refresh another one comes first (etcd shuffles them), so that the load of a proxy
goes round all members.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final, final

from kvraft import logs
from kvraft.proxy.upstream import Upstream
from kvraft.transport.names import is_secure, target_of

log = logs.get(__name__)

IDLE_MAX: Final = 128
"""Connections to an endpoint that are kept for the next request: etcd's DefaultMaxIdleConnsPerHost."""
_IDLE_SWEEPS_MAX: Final = 2


@final
class Endpoint:
    """A client URL of a member."""

    def __init__(self, url: str, when_failed: "Callable[[Endpoint], None]") -> None:
        self.url: Final = url
        self.target: Final = target_of(url)
        self.is_secure: Final = is_secure(url)
        host, port = self.target
        self.host_header: Final = (f"[{host}]:{port}" if ":" in host else f"{host}:{port}").encode()
        self.is_available = True
        self.retest: asyncio.TimerHandle | None = None
        self._when_failed = when_failed
        self._idle: list[Upstream] = []
        self._is_gone = False

    def failed(self, error: str) -> None:
        """It did not answer: set it aside for a while."""
        if self.is_available:
            log.warning("endpoint set aside", url=self.url, error=error)
            self.is_available = False
            self._when_failed(self)

    def put_back(self) -> None:
        """Its wait is over."""
        log.info("endpoint is asked again", url=self.url)
        self.is_available = True

    def take(self) -> Upstream | None:
        """A connection that waits for a request; the one that was used last, so that the others can be closed."""
        while self._idle:
            upstream = self._idle.pop()
            if upstream.is_usable:
                return upstream
        return None

    def keep(self, upstream: Upstream) -> None:
        """It can take another request."""
        if self._is_gone or len(self._idle) >= IDLE_MAX:
            upstream.close()
        else:
            self._idle.append(upstream)

    def sweep(self) -> None:
        """Close connections that nobody has used for a while, and forget those that are gone."""
        kept = []
        for upstream in self._idle:
            upstream.idle_sweeps += 1
            if upstream.idle_sweeps > _IDLE_SWEEPS_MAX:
                upstream.close()
            elif upstream.is_usable:
                kept.append(upstream)
        self._idle = kept

    def drop(self) -> None:
        """It is a member's no more. Requests under way go on."""
        self._is_gone = True
        if self.retest is not None:
            self.retest.cancel()
        for upstream in self._idle:
            upstream.close()
        self._idle.clear()


@final
class Director:
    """All endpoints of the cluster.

    Args:
        failure_wait_ms: How long one is set aside.
        when_failed: Called for each that is.
    """

    def __init__(self, failure_wait_ms: int, when_failed: Callable[[], None]) -> None:
        self._wait_s = failure_wait_ms / 1000
        self._when_failed = when_failed
        self._endpoints: list[Endpoint] = []
        self._turn = 0

    def available(self) -> list[Endpoint]:
        """Those that may be asked, in order."""
        return [endpoint for endpoint in self._endpoints if endpoint.is_available]

    def refresh(self, urls: Iterable[str]) -> None:
        """These are the cluster's now. One that is set aside stays so, whose connections are kept."""
        known = {endpoint.url: endpoint for endpoint in self._endpoints}
        wanted = sorted(set(urls))
        if known.keys() != set(wanted):
            log.info("endpoints found", urls=",".join(wanted))
        endpoints = []
        for url in wanted:
            endpoint = known.pop(url, None)
            endpoints.append(Endpoint(url, self._set_aside) if endpoint is None else endpoint)
        for gone in known.values():
            gone.drop()
        first = self._turn % len(endpoints) if endpoints else 0
        self._turn += 1
        self._endpoints = endpoints[first:] + endpoints[:first]

    def sweep(self) -> None:
        """See `Endpoint.sweep`."""
        for endpoint in self._endpoints:
            endpoint.sweep()

    def close(self) -> None:
        """No request goes out any more."""
        for endpoint in self._endpoints:
            endpoint.drop()
        self._endpoints = []

    def _set_aside(self, endpoint: Endpoint) -> None:
        endpoint.retest = asyncio.get_running_loop().call_later(self._wait_s, endpoint.put_back)
        self._when_failed()
