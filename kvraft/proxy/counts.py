"""What the proxy's `/metrics` shows, under etcd's names (v3.4.23 proxy/httpproxy/metrics.go)."""

import enum
from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

_BUCKETS_MS: Final = tuple(0.5 * 2**power for power in range(13))
_METHODS: Final = frozenset((b"GET", b"HEAD", b"PUT", b"POST", b"DELETE", b"OPTIONS", b"PATCH", b"CONNECT", b"TRACE"))
_OTHER: Final = "other"
"""Any other method: a client must not choose labels, which are kept for ever."""


@final
class Drop(enum.Enum):
    """Why a request, or an attempt at one, led to nothing."""

    ZERO_ENDPOINTS = "zero_endpoints"
    NOT_SENT = "failed_sending_request"
    NO_ANSWER = "failed_getting_response"


@final
class Counts:
    """Plain integers, made into a page when somebody asks."""

    def __init__(self, connections: Callable[[], int], endpoints: Callable[[], int]) -> None:
        self._connections = connections
        self._endpoints = endpoints
        self._requests: dict[str, int] = {}
        self._handled: dict[tuple[str, int], int] = {}
        self._dropped: dict[tuple[str, str], int] = {}
        self._times: dict[str, list[int]] = {}
        """By method: how many took no longer than each bucket, the last for those that took longer than all."""
        self._sums_ms: dict[str, float] = {}

    def begun(self, method: bytes) -> None:
        """A request that is to be forwarded has come."""
        name = _named(method)
        self._requests[name] = self._requests.get(name, 0) + 1

    def handled(self, method: bytes, status: int, took_ms: float) -> None:
        """A member has begun to answer one."""
        name = _named(method)
        self._handled[name, status] = self._handled.get((name, status), 0) + 1
        times = self._times.get(name)
        if times is None:
            times = self._times[name] = [0] * (len(_BUCKETS_MS) + 1)
            self._sums_ms[name] = 0
        times[bisect_left(_BUCKETS_MS, took_ms)] += 1
        self._sums_ms[name] += took_ms

    def dropped(self, method: bytes, why: Drop) -> None:
        """One led to nothing, or one attempt of several at it."""
        key = _named(method), why.value
        self._dropped[key] = self._dropped.get(key, 0) + 1

    def page(self) -> bytes:
        """The page, in Prometheus' text format 0.0.4."""
        # It makes a fifth of a small process, and many proxies are never asked for this page.
        from prometheus_client import CollectorRegistry, ProcessCollector  # noqa: PLC0415 -- as said
        from prometheus_client.exposition import generate_latest  # noqa: PLC0415 -- as said

        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        page: bytes = generate_latest(registry)
        return page

    def collect(self) -> Iterable["Metric"]:
        """What a registry asks for."""
        from prometheus_client.metrics_core import (  # noqa: PLC0415 -- as in `page`
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        requests = CounterMetricFamily("etcd_proxy_requests", "Requests that came.", labels=["method"])
        for name, count in self._requests.items():
            requests.add_metric([name], count)
        handled = CounterMetricFamily(
            "etcd_proxy_handled", "Requests that members answered.", labels=["method", "code"]
        )
        for (name, status), count in self._handled.items():
            handled.add_metric([name, str(status)], count)
        dropped = CounterMetricFamily(
            "etcd_proxy_dropped", "Requests that led to nothing.", labels=["method", "proxying_error"]
        )
        for labels, count in self._dropped.items():
            dropped.add_metric(labels, count)
        times = HistogramMetricFamily(
            "etcd_proxy_handling_duration_seconds", "Until a member began to answer.", labels=["method"]
        )
        for name, counts in self._times.items():
            total, buckets = 0, []
            for bound, count in zip((*_BUCKETS_MS, None), counts, strict=True):
                total += count
                buckets.append(("+Inf" if bound is None else str(bound / 1000), total))
            times.add_metric([name], buckets, self._sums_ms[name] / 1000)
        yield from (requests, handled, dropped, times)
        yield GaugeMetricFamily("kvraft_proxy_connections", "Clients connected now.", self._connections())
        yield GaugeMetricFamily("kvraft_proxy_endpoints", "Endpoints that may be asked now.", self._endpoints())


def _named(method: bytes) -> str:
    return method.decode() if method in _METHODS else _OTHER
