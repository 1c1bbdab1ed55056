"""Who asks, as far as his request and his connection say so; nothing of it is believed yet."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol, final

VERIFIED_CERTIFICATE: Final = "verified_certificate"
"""What a connection over TLS calls, in `get_extra_info`, the leaf of a client's verified chain."""
_AUTHORIZATION: Final = re.compile(rb"(?:^|\n)authorization:([^\r\n]*)\r?\n", re.IGNORECASE)
_FORWARDING: Final = re.compile(
    rb"via|(?:x-)?forwarded(?:-.+)?|x-real-ip|x-(?:client|ssl|envoy|original)-.+", re.IGNORECASE
)
"""Names of headers by which proxies tell whom they speak for: the standard's (RFC 7239, RFC 9110 7.6.3), and those that
HAProxy, nginx, Envoy and Traefik send or that their manuals give."""


@final
@dataclass(slots=True, frozen=True)
class Asker:
    """Whoever has sent a request."""

    authorization: bytes | None = field(repr=False)
    """The first Authorization header."""
    address: str
    """From where he has connected."""
    common_name: str = ""
    """Of the certificate that he has shown and that the client CA has signed; empty without one. A request that came
    through a proxy has none: the certificate would be the proxy's (CVE-2018-16886)."""


class _Certificate(Protocol):
    @property
    def common_name(self) -> str: ...


class _Connection(Protocol):
    def get_extra_info(self, name: str) -> object: ...


def authorization_in(block: bytes) -> bytes | None:
    """The first Authorization header in the header lines of a plain request."""
    found = _AUTHORIZATION.search(block)
    return None if found is None else found[1].strip(b" \t")


def says_forwarded(names: Iterable[bytes]) -> bool:
    """Whether a request with headers of these names says that a proxy has sent it on."""
    return any(map(_FORWARDING.fullmatch, names))


def asker_on(connection: _Connection, authorization: bytes | None, *, forwarded: bool) -> Asker:
    """Who has sent a request with this header on this connection; `forwarded`: it says that a proxy sent it on."""
    peer = connection.get_extra_info("peername")
    address = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    common_name = ""
    if not forwarded:
        certificate: _Certificate | None = connection.get_extra_info(VERIFIED_CERTIFICATE)  # type: ignore[assignment] # that is what stands under this name
        common_name = "" if certificate is None else certificate.common_name
    return Asker(authorization, address, common_name)
