"""A member, put together of its rooms; mypy checks here that each is what the others expect of it."""

import asyncio
import random
import secrets
from collections.abc import Callable, Collection
from typing import Final

from kvraft import clock, logs
from kvraft.api_v2.settings import ApiSettings, AuthSettings
from kvraft.keyspace.command_codec import encode_command
from kvraft.keyspace.commands import KeepMember, PublishMember
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.records import RecordError
from kvraft.member.cluster import Cluster
from kvraft.member.garbage import postpone_full_collections
from kvraft.member.member import Member
from kvraft.member.peer_memory import PeerMemory
from kvraft.member.settings import MemberSettings
from kvraft.member.status import Status
from kvraft.member.waiters import REQUEST_ID_BYTES
from kvraft.metrics import Metrics
from kvraft.raft.configuration import FOUNDING_BYTES
from kvraft.raft.core import Raft
from kvraft.raft.settings import RaftSettings
from kvraft.settings.settings import ETCD_VERSION, Settings
from kvraft.start import versions
from kvraft.storage.codec import REMEDY
from kvraft.storage.errors import CorruptStorageError
from kvraft.storage.going_alone import Survivor
from kvraft.storage.opening import Storage
from kvraft.transport.interfaces import PeerTls
from kvraft.transport.settings import TransportSettings
from kvraft.transport.transport import PeerTransport

MIN_SILENCE_MS: Final = 500
"""A peer whose process is held up for less is not dead, however short the election timeout is."""
MIN_CONNECT_MS: Final = 1000
"""A dial shorter than this would end before the kernel sends a lost first packet again."""


async def make_member(wanted: Settings, storage: Storage, tls: PeerTls) -> Member:
    """Everything of a member, nothing of it running yet."""

    async def load_keyspace() -> Keyspace:
        keyspace = Keyspace(history_reader=storage.state)
        try:
            loading = keyspace.begin_load(storage.state.load())
            while True:
                if not loading.load_some():
                    return keyspace
                await asyncio.sleep(0)  # during a snapshot install the loop has its turn between two slices
        except RecordError as error:
            # Intact, and still no state: another program wrote it, or a bug.
            raise CorruptStorageError(f"{wanted.data_dir}: {error}; {REMEDY}") from error

    keyspace = await load_keyspace()
    postpone_full_collections()
    restored = storage.log.restored()
    applied = storage.state.position.index
    in_force = [config for index, config in restored.configurations if index <= applied]
    raft = Raft(
        wanted.member_id,
        restored,
        RaftSettings(
            heartbeat_interval_ms=wanted.heartbeat_interval_ms,
            election_timeout_ms=wanted.election_timeout_ms,
            uncommitted_bytes_max=wanted.limits.uncommitted_bytes_max,
        ),
        random.Random(secrets.randbits(64)),  # noqa: S311 -- spreads election timeouts; nobody gains by guessing them
        storage.log,
        clock.monotonic_ms(),
    )

    cluster = _cluster(wanted, keyspace)
    memory = PeerMemory(cluster, raft, storage.log, created_now=storage.fresh)
    transport = _transport(wanted, cluster, memory, storage, tls)
    member = Member(
        raft=raft,
        keyspace=keyspace,
        cluster=cluster,
        memory=memory,
        log_store=storage.log,
        state_store=storage.state,
        transport=transport,
        settings=_member_settings(wanted),
        configuration=in_force[-1],
        identity=storage,
        replaces=wanted.replaces,
        load_keyspace=load_keyspace,
        free_bytes=storage.directory.free_bytes,
        boot_nonce=secrets.randbits(63),
    )
    member.metrics.before_scrape.append(lambda: transport.measure(member.metrics))
    return member


def _transport(wanted: Settings, cluster: Cluster, memory: PeerMemory, storage: Storage, tls: PeerTls) -> PeerTransport:
    members = cluster.members()
    return PeerTransport(
        member_id=wanted.member_id,
        listen_addresses=[url.bind_address for url in wanted.listen_peer_urls],
        peers={peer.member_id: peer.peer_urls for peer in members if peer.member_id != wanted.member_id},
        local=memory,
        pages=cluster,
        snapshot_sink=storage.state.spool,
        settings=transport_settings(wanted),
        name_of=cluster.peer_name,
        tls=tls,
        tls_addresses=[url.bind_address for url in wanted.listen_peer_urls if url.is_secure],
    )


def _cluster(wanted: Settings, keyspace: Keyspace) -> Cluster:
    own = PublishMember(wanted.member_id, wanted.name, wanted.advertise_client_urls)
    return Cluster(wanted.cluster_id, own, wanted.initial_cluster, wanted.history_size, keyspace, wanted.members)


def _member_settings(wanted: Settings) -> MemberSettings:
    return MemberSettings(
        heartbeat_interval_ms=wanted.heartbeat_interval_ms,
        election_timeout_ms=wanted.election_timeout_ms,
        snapshot_count=wanted.snapshot_count,
        history_events_max=wanted.history_size,
        strict_reconfig_check=wanted.strict_reconfig_check,
        waiting_requests_max=wanted.limits.waiting_requests_max,
        uncommitted_bytes_max=wanted.limits.uncommitted_bytes_max,
    )


def survivor(wanted: Settings) -> Survivor | None:
    """How this member parts from the others, if it is told to."""
    if not wanted.force_new_cluster or wanted.was_forced:
        return None

    def forget(others: Collection[int]) -> bytes:
        return bytes(REQUEST_ID_BYTES) + encode_command(KeepMember(wanted.member_id, tuple(sorted(others))))

    return Survivor(secrets.token_bytes(FOUNDING_BYTES), forget)


def measure_disk(storage: Storage, metrics: Metrics) -> None:
    """Storage tells the member's page how long its commits take, a batch at a time."""
    measures = storage.log.measures
    measures.log_commit = metrics.log_sync_seconds.observe
    measures.state_commit = metrics.state_flush_seconds.observe
    measures.spool = metrics.snapshot_spool_seconds.observe
    metrics.before_scrape.append(lambda: metrics.log_written_bytes.set(measures.log_bytes))
    metrics.before_scrape.append(lambda: metrics.log_lines_lost.set(logs.lost_lines()))
    metrics.before_scrape.append(
        lambda: metrics.kvraft_version.labels(versions.kvraft_version(), versions.form()).set(1)
    )


def show_status(storage: Storage, endings: Callable[[], dict[str, int]], status: Status) -> None:
    """What a member shows of itself and does not know: its program, its disk, when its certificates end."""

    def more() -> dict[str, object]:
        ends = [{"listener": name, "endsAt": f"{clock.utc_text(ends_s)}Z"} for name, ends_s in endings().items()]
        return {
            "version": versions.kvraft_version(),
            "etcdVersion": ETCD_VERSION,
            "diskUsedBytes": storage.log.size_bytes() + storage.state.size_bytes(),
            "diskFreeBytes": storage.directory.free_bytes(),
            "certificates": ends,
        }

    status.more.append(more)


def transport_settings(wanted: Settings) -> TransportSettings:
    """What follows from the election timeout: when a peer is gone, and how long a dial may take."""
    has_tls = any(url.is_secure for url in wanted.listen_peer_urls)
    return TransportSettings(
        silence_ms=max(wanted.election_timeout_ms, MIN_SILENCE_MS),
        connect_timeout_ms=max(wanted.election_timeout_ms, MIN_CONNECT_MS),
        # Half of the places are then for those who have not finished their handshakes.
        strangers_max=wanted.limits.strangers_max // 2 if has_tls else wanted.limits.strangers_max,
    )


def api_settings(wanted: Settings) -> ApiSettings:
    """The limits that clients meet, and what they are told."""
    limits = wanted.limits
    return ApiSettings(
        # The fast way looks at no Host.
        fast_front="*" in wanted.hosts,
        hosts=frozenset(host.encode() for host in wanted.hosts),
        profiles=wanted.profiles,
        cors_origins=frozenset(origin.encode() for origin in wanted.cors),
        request_line_bytes_max=limits.request_line_bytes_max,
        header_bytes_max=limits.header_bytes_max,
        headers_max=limits.headers_max,
        connections_max=limits.connections_max,
        unread_bytes_max=limits.unread_bytes_max,
        unfinished_bytes_max=limits.unfinished_bytes_max,
        auth=AuthSettings(
            client_cert_auth=wanted.client_tls.client_cert_auth,
            denies_guests=wanted.access.denies_guests,
            failures_max=wanted.access.failures_max,
        ),
        is_audited=bool(wanted.access.audit_log),
        server_version=ETCD_VERSION,
    )
