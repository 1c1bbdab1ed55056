"""What the HTTP API can be told, each default with its reason."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(slots=True, frozen=True)
class AuthSettings:
    """Who may do what, where an operator is stricter than etcd, or knows clients by their certificates."""

    client_cert_auth: bool = False
    """The common name of a client's verified certificate is a user, for requests without an Authorization header."""
    denies_guests: bool = False
    """While auth is on, whoever does not say who he is may do nothing, whatever the role guest allows."""
    failures_max: int = 0
    """Wrong passwords of a user, or from an address, in a minute; no further one is compared. 0, as in etcd: any."""


@final
@dataclass(slots=True, frozen=True)
class ApiSettings:
    """Limits and choices of the HTTP API. Sizes are bytes, durations seconds."""

    fast_front: bool = True
    """Serve /v2/keys through `fast_protocol`; otherwise aiohttp serves everything. Answers are the same."""
    cors_origins: frozenset[bytes] = frozenset()
    """Origins that browsers may call from; `*` means any. Empty, as in etcd 2.3: no CORS headers at all."""
    hosts: frozenset[bytes] = frozenset({b"*"})
    """What clients may call this member in Host where they come without TLS; `*` means anything. Needs `fast_front` to
    be off: that looks at no Host."""
    profiles: bool = False
    """Serve /debug/pprof."""
    request_line_bytes_max: int = (2 << 20) + 4096
    """kube-apiserver puts an object's old value into the request line: up to 1 MiB, twice that when escaped."""
    header_bytes_max: int = 1 << 20
    """Go's DefaultMaxHeaderBytes."""
    headers_max: int = 1000
    """Far more than any client sends, few enough to be parsed at once."""
    connections_max: int = 16_384
    """One more connection is answered 500/300 `etcdserver: too many requests` and closed. Watches hold one each."""
    unread_bytes_max: int = 64 << 20
    """Answers and events in front of slow clients' sockets, all together, what several wait for counted once. More:
    those are cut off that leave the most unread for the longest."""
    unfinished_bytes_max: int = 64 << 20
    """Requests that clients have sent a part of, all together. More: they are read one after the other, and those are
    told 408 that do not go on."""
    keep_alive_s: float = 3630.0
    """Idle connections are closed after this; clients of watches keep pools of idle ones, so it is long."""
    unread_body_s: float = 2.0
    """How long the rest of a body that nobody asked for is read and thrown away before the connection is closed."""
    stop_s: float = 10.0
    """How long a graceful stop waits for requests under way: longer than the 7 s that a write may take."""
    health_timeout_s: float = 1.0
    """The linearizable read of /health has this long, as in etcd 3.4."""
    auth: AuthSettings = AuthSettings()
    is_audited: bool = False
    """Whether requests get entries in the audit log."""
    server_version: str = "3.4.23"
    """The etcd whose API this is. Clients read `X.Y` of it; `0.4` anywhere in it would mean etcd 0.4 to some."""
