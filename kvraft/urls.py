"""URLs of members, checked as etcd checks them (v3.4.23 pkg/types/urls.go), with its error texts."""

import dataclasses
import ipaddress
import itertools
import urllib.parse
from typing import final


@final
@dataclasses.dataclass(slots=True, frozen=True, order=True)
class Url:
    """`http://host:port`. Sorts by its text, as etcd sorts URL lists."""

    text: str
    """As it was given, without surrounding blanks."""
    host: str
    """Without brackets."""
    port: int

    def __str__(self) -> str:
        """The text."""
        return self.text

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach it."""
        return self.host == "localhost" or (is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)

    @property
    def bind_host(self) -> str:
        """The address to listen on. `localhost` means IPv4's, which every client tries."""
        return "127.0.0.1" if self.host == "localhost" else self.host

    @property
    def bind_address(self) -> str:
        """`bind_host` with the port, as gRPC takes it: an IPv6 address in brackets."""
        return f"[{self.bind_host}]:{self.port}" if ":" in self.bind_host else f"{self.bind_host}:{self.port}"


def parse(text: str) -> Url:
    """One URL of a member.

    Raises:
        ValueError: with etcd's words for what is wrong, or ours for what kvraft does not serve.
    """
    text = text.strip()
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{error}: {text}") from None
    if parts.scheme in {"https", "unixs"}:
        raise ValueError("TLS is not served by this version: use http:// on a trusted network, or a TLS proxy in front")
    if parts.scheme != "http":
        raise ValueError(f"URL scheme must be http: {text}")
    if not parts.hostname or port is None or not text.isascii() or parts.username is not None:
        raise ValueError(f'URL address does not have the form "host:port": {text}')
    if parts.path or parts.query or parts.fragment:
        raise ValueError(f"URL must not contain a path: {text}")
    if port == 0:
        raise ValueError(f"URL must have a port from 1 to 65535: {text}")
    return Url(text, parts.hostname, port)


def parse_list(text: str) -> tuple[Url, ...]:
    """A comma-separated list, sorted.

    Raises:
        ValueError: a URL is wrong, is there twice, or there is none.
    """
    urls = sorted(parse(part) for part in text.split(","))
    for first, second in itertools.pairwise(urls):
        if first == second:
            raise ValueError(f"{first} is there twice")
    return tuple(urls)


def is_ip(host: str) -> bool:
    """Whether a host is an address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
