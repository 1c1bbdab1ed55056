"""What `/metrics` shows, under etcd's names where the meaning is the same (contract A.11).

One `Metrics` a member, with its own registry, so that several members in one process do not mix. Counters that would
be touched for every request are kept as plain integers by whoever counts, and copied here by a `before_scrape`
callback: a scrape may cost something, a write must not.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, final

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4

SECONDS_BUCKETS: Final = tuple(0.001 * 2**power for power in range(14))
"""1 ms to 8.192 s, doubling: etcd's buckets for disk durations (3.4 wal/metrics.go)."""
ROUND_TRIP_BUCKETS: Final = tuple(0.0001 * 2**power for power in range(16))
"""0.1 ms to 3.2768 s, doubling: etcd's for round trips (etcdserver/api/rafthttp/metrics.go, `rttSec`)."""

# Otherwise each histogram has a `*_created` series beside it, which etcd does not have.
disable_created_metrics()  # type: ignore[no-untyped-call] # the library left this one without annotations


@final
class Metrics:
    """Every figure of one member. Owners set the fields; `render` is the page."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.registry: Final = registry
        self.before_scrape: Final[list[Callable[[], None]]] = []
        """Called before each page is made, to copy plain integers into the fields."""

        def gauge(name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        def histogram(name: str, text: str, labels: Iterable[str] = ()) -> Histogram:
            return Histogram(name, text, labels, registry=registry, buckets=SECONDS_BUCKETS)

        # Consensus. Set from `before_scrape`, hence gauges, as the two `proposals_*_total` are in etcd itself.
        self.has_leader: Final = gauge("etcd_server_has_leader", "Whether a leader is known: 1 or 0.")
        self.is_leader: Final = gauge("etcd_server_is_leader", "Whether this member is the leader: 1 or 0.")
        self.is_learner: Final = gauge("etcd_server_is_learner", "Whether this member is a learner: 1 or 0.")
        self.leader_changes_seen: Final = Total(registry, "etcd_server_leader_changes_seen", "Leader changes seen.")
        self.proposals_committed: Final = gauge("etcd_server_proposals_committed_total", "The commit index.")
        self.proposals_applied: Final = gauge("etcd_server_proposals_applied_total", "The applied index.")
        self.proposals_pending: Final = gauge("etcd_server_proposals_pending", "Requests that wait for their outcome.")
        self.proposals_failed: Final = Total(
            registry, "etcd_server_proposals_failed", "Requests that ended without a known outcome."
        )
        self.slow_applies: Final = Total(registry, "etcd_server_slow_apply", "Turns of applying that took over 100 ms.")
        self.heartbeat_send_failures: Final = Total(
            registry, "etcd_server_heartbeat_send_failures", "Heartbeats that left late by an interval or more."
        )
        self.read_indexes_failed: Final = Total(
            registry, "etcd_server_read_indexes_failed", "Linearizable reads that got no leader's word in time."
        )
        # etcd names these two without the suffix that a Prometheus counter has.
        self.health_success: Final = gauge("etcd_server_health_success", "Health checks that succeeded.")
        self.health_failures: Final = gauge("etcd_server_health_failures", "Health checks that failed.")
        self.snapshot_apply_in_progress: Final = gauge(
            "etcd_server_snapshot_apply_in_progress_total", "1 while a snapshot from the leader is installed."
        )

        self.certificate_end: Final = gauge(
            "kvraft_certificate_end_seconds", "When the certificate that is served ends, in Unix time.", ["listener"]
        )

        # Who this is: a label with the value 1.
        self.server_id: Final = gauge("etcd_server_id", "The member id, in hexadecimal.", ["server_id"])
        self.server_version: Final = gauge(
            "etcd_server_version", "The etcd version whose API this member speaks.", ["server_version"]
        )
        self.cluster_version: Final = gauge(
            "etcd_cluster_version", "The version that all members agreed on, without its patch.", ["cluster_version"]
        )
        self.kvraft_version: Final = gauge(
            "kvraft_version", "The version of this program, and whether it is compiled.", ["version", "form"]
        )

        # Disk. Observed once a batch, not once a write.
        self.log_sync_seconds: Final = histogram(
            "etcd_disk_wal_fsync_duration_seconds", "Durable commits of the log environment."
        )
        self.log_written_bytes: Final = gauge("etcd_disk_wal_write_bytes_total", "Bytes of entries written to the log.")
        self.state_flush_seconds: Final = histogram(
            "etcd_disk_backend_commit_duration_seconds", "Durable commits of the state environment."
        )
        self.snapshot_spool_seconds: Final = histogram(
            "etcd_disk_backend_snapshot_duration_seconds", "Copying the state to a snapshot file."
        )

        # The keyspace.
        self.store_reads: Final = Total(
            registry, "etcd_debugging_store_reads", "Reads of this member (get, getRecursive).", "action"
        )
        self.store_writes: Final = Total(
            registry, "etcd_debugging_store_writes", "Successful writes applied by this member.", "action"
        )
        self.store_expires: Final = Total(registry, "etcd_debugging_store_expires", "Keys that expired.")
        self.store_watch_requests: Final = Total(
            registry, "etcd_debugging_store_watch_requests", "Watches that were opened."
        )
        self.store_watchers: Final = gauge("etcd_debugging_store_watchers", "Watchers open now.")
        self.history_events: Final = gauge("kvraft_history_events", "Events in the watch history.")
        self.history_start_index: Final = gauge(
            "kvraft_history_start_index", "The oldest etcd_index from which a watch can still start."
        )

        # HTTP.
        self.http_received: Final = Total(
            registry, "etcd_http_received", "Requests on keys that were understood, watches aside.", "method"
        )
        self.http_failed: Final = Total(
            registry, "etcd_http_failed", "Requests on keys that were understood and not done.", "code", "method"
        )

        # Peers.
        self.peer_sent_bytes: Final = Total(
            registry, "etcd_network_peer_sent_bytes", "Bytes of messages sent to a peer.", "To"
        )
        self.peer_received_bytes: Final = Total(
            registry, "etcd_network_peer_received_bytes", "Bytes of messages from a peer.", "From"
        )
        self.peer_sent_failures: Final = Total(
            registry, "etcd_network_peer_sent_failures", "Frames for a peer that were dropped.", "To"
        )
        self.peer_round_trips: Final = Durations(
            registry, "etcd_network_peer_round_trip_time_seconds", "Round trips to a peer.", ROUND_TRIP_BUCKETS, "To"
        )
        self.active_peers: Final = gauge(
            "etcd_network_active_peers", "1 for a peer whose streams are up.", ["Local", "Remote"]
        )

        # The process.
        self.disk_full: Final = gauge(
            "kvraft_disk_full", "Whether clients' writes are refused for want of space on the disk: 1 or 0."
        )
        self.loop_stall_seconds: Final = gauge(
            "kvraft_loop_stall_seconds", "The longest time since the last scrape that the event loop was held."
        )
        self.log_lines_lost: Final = Total(
            registry, "kvraft_log_lines_lost", "Log lines that were lost, as stderr did not take them."
        )
        ProcessCollector(registry=registry)

    def forget_peer(self, local: str, remote: str) -> None:
        """A peer is no longer a member: its figures go with it, as etcd's do."""
        for total in (self.peer_sent_bytes, self.peer_received_bytes, self.peer_sent_failures):
            total.forget(remote)
        self.active_peers.remove(local, remote)

    def render(self) -> bytes:
        """The page, in Prometheus' text format 0.0.4 (`CONTENT_TYPE`)."""
        for callback in self.before_scrape:
            callback()
        page: bytes = generate_latest(self.registry)
        return page


@final
class Total(Collector):
    """A count that is kept elsewhere as a plain integer, or here with `add`; shown as `<name>_total`.

    prometheus-client's own Counter takes a lock and a float for each increment, and cannot be set.
    """

    __slots__ = ("_labels", "_name", "_text", "_values")

    def __init__(self, registry: CollectorRegistry, name: str, text: str, *labels: str) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._values: dict[tuple[str, ...], int] = {} if labels else {(): 0}
        """The count by the values of its labels."""
        registry.register(self)

    def add(self, count: int = 1, *labels: str) -> None:
        """Count more. Called on the event loop only. Values of labels are kept for ever: no client may choose them."""
        self._values[labels] = self._values.get(labels, 0) + count

    def set(self, count: int, *labels: str) -> None:
        """Copy a count that is kept elsewhere; it must not be smaller than before."""
        self._values[labels] = count

    def forget(self, *labels: str) -> None:
        """Show no figure with these any more."""
        self._values.pop(labels, None)

    def collect(self) -> Iterable[Metric]:
        """What the registry asks for."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for labels, count in self._values.items():
            family.add_metric(labels, count)
        yield family


@final
class Durations(Collector):
    """A histogram whose counts are kept elsewhere as plain integers."""

    __slots__ = ("_bounds", "_labels", "_name", "_seen", "_text")

    def __init__(
        self, registry: CollectorRegistry, name: str, text: str, buckets: Sequence[float], *labels: str
    ) -> None:
        """`buckets` are their upper ends in seconds; one without an end comes behind them."""
        self._name = name
        self._text = text
        self._bounds = [*(f"{end:g}" for end in buckets), "+Inf"]
        self._labels = labels
        self._seen: Mapping[tuple[str, ...], tuple[Sequence[int], float]] = {}
        registry.register(self)

    def replace(self, seen: Mapping[tuple[str, ...], tuple[Sequence[int], float]]) -> None:
        """Show this: by the values of the labels, how many fell into each bucket, and the sum in seconds."""
        self._seen = seen

    def collect(self) -> Iterable[Metric]:
        """What the registry asks for."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for labels, (counts, sum_s) in self._seen.items():
            family.add_metric(labels, list(zip(self._bounds, itertools.accumulate(counts), strict=True)), sum_s)
        yield family
