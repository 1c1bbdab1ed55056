"""gRPC's options on both sides, and addresses in its form."""

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

import grpc
import grpc.aio

from kvraft.transport.pb import raft_pb2 as pb
from kvraft.transport.settings import TransportSettings

_PEER_SERVICE: Final = pb.DESCRIPTOR.services_by_name["Peer"]
SERVICE: Final = _PEER_SERVICE.full_name
FRAMES: Final = _PEER_SERVICE.methods_by_name["Frames"].name
SNAPSHOT: Final = _PEER_SERVICE.methods_by_name["Snapshot"].name
_MESSAGE_OVERHEAD: Final = 64 << 10
"""What a message may hold beside `message_bytes_max` (or a chunk) of frames: a first message, tags and lengths."""

_READ_BYTES: Final = 64 << 10
_WINDOW_BYTES: Final = 4 << 20
"""What may be on its way on a stream, and wait in memory until it is read."""

OpenChannel = Callable[[str], grpc.aio.Channel]
"""Opens a channel to a peer URL, with a TCP connection of its own."""


def target_of(url: str) -> str:
    """`http://127.0.0.1:2380` as `127.0.0.1:2380`.

    Raises:
        ValueError: not an http or https URL with host and port.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port is None:
        raise ValueError(f"peer URL {url!r} is not of the form http://host:port")
    return f"[{parts.hostname}]:{parts.port}" if ":" in parts.hostname else f"{parts.hostname}:{parts.port}"


def channel_opener(settings: TransportSettings, credentials: grpc.ChannelCredentials | None) -> OpenChannel:
    """How this member opens channels: with TLS if there are credentials."""
    options = [
        *_common_options(settings),
        # Channels to one target would share a TCP connection: heartbeats would queue behind snapshots.
        ("grpc.use_local_subchannel_pool", 1),
        # Peers are named by the operator; a proxy variable meant for the outside world has no say.
        ("grpc.enable_http_proxy", 0),
        # A stream is retried by us, with a new greeting.
        ("grpc.enable_retries", 0),
    ]

    def open_channel(url: str) -> grpc.aio.Channel:
        target = target_of(url)
        if credentials is None:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(target, credentials, options=options)

    return open_channel


def new_server(settings: TransportSettings) -> grpc.aio.Server:
    """A server that takes a limited number of streams and of bytes, and soon drops who says nothing."""
    options = [
        *_common_options(settings),
        # Two processes on one port would each get half of the streams.
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", 8),
        ("grpc.server_handshake_timeout_ms", settings.greeting_timeout_ms),
        ("grpc.max_connection_idle_ms", settings.idle_connection_ms),
        # Peers ping at our own interval; the default takes that for an attack.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", settings.keepalive_interval_ms // 2),
        ("grpc.http2.max_ping_strikes", 0),
    ]
    return grpc.aio.server(options=options, maximum_concurrent_rpcs=settings.inbound_streams_max)


def _common_options(settings: TransportSettings) -> list[tuple[str, int]]:
    message_bytes = max(settings.message_bytes_max, settings.snapshot_chunk_bytes) + _MESSAGE_OVERHEAD
    return [
        # The default limit of 4 MiB on what is received is silent and fatal for a stream that exceeds it.
        ("grpc.max_receive_message_length", message_bytes),
        ("grpc.max_send_message_length", message_bytes),
        # Reading in pieces of 8 KiB, the default, takes twice the CPU for bulk, and a sixth more for 64 entries.
        ("grpc.experimental.tcp_min_read_chunk_size", _READ_BYTES),
        ("grpc.experimental.tcp_read_chunk_size", _READ_BYTES),
        ("grpc.experimental.tcp_max_read_chunk_size", _WINDOW_BYTES),
        # A fixed window of a few messages instead of one that is probed for with pings.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
        ("grpc.keepalive_time_ms", settings.keepalive_interval_ms),
        ("grpc.keepalive_timeout_ms", settings.keepalive_timeout_ms),
        # What gRPC 1.85 really waits for the answer to a keepalive ping (60 s by default), whatever the line above.
        ("grpc.http2.ping_timeout_ms", settings.keepalive_timeout_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        # A stream without traffic is the normal state between two followers.
        ("grpc.http2.max_pings_without_data", 0),
    ]
