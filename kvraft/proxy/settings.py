"""What the proxy can be told. Sizes are bytes."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(slots=True, frozen=True)
class ProxySettings:
    """Times are milliseconds; the defaults are etcd's (v3.4.23 etcdmain/config.go)."""

    is_readonly: bool = False
    """Only GET is forwarded."""
    failure_wait_ms: int = 5000
    """How long an endpoint is set aside that has failed."""
    refresh_interval_ms: int = 30_000
    """How often the members are asked who they are."""
    dial_timeout_ms: int = 1000
    """TLS included."""
    write_timeout_ms: int = 5000
    """How long an endpoint may take nothing of a request; 0: for ever."""
    read_timeout_ms: int = 0
    """How long it may say nothing of an answer; 0, without which no watch lives long: for ever."""
    cors_origins: frozenset[bytes] = frozenset()
    hosts: frozenset[bytes] = frozenset({b"*"})
    """What clients without TLS may call this proxy in Host; `*` means anything."""
    line_bytes_max: int = (2 << 20) + 4096
    """Of a request line, as at a member."""
    header_bytes_max: int = 1 << 20
    headers_max: int = 1000
    connections_max: int = 8192
    unread_bytes_max: int = 64 << 20
    """Answers in front of slow clients' sockets, all together, as at a member."""
    unfinished_bytes_max: int = 64 << 20
    """Requests that clients have sent a part of, all together, as at a member."""
    keep_alive_s: float = 3630.0
    """Idle clients are closed after this."""
    stop_s: float = 10.0
    """How long a stop waits for requests under way: longer than the 7 s that a write may take."""
