"""URLs of members, checked as etcd checks them (v3.4.23 pkg/types/urls.go), with its error texts."""

import dataclasses
import ipaddress
import urllib.parse
from typing import final


@final
@dataclasses.dataclass(slots=True, frozen=True, order=True)
class Url:
    """`http://host:port`, or `https`. Sorts by its text, as etcd sorts URL lists."""

    text: str
    """As it was given, without surrounding blanks, the scheme in small letters as Go writes it: it goes into ids."""
    host: str
    """Without brackets."""
    port: int

    def __str__(self) -> str:
        """The text."""
        return self.text

    @property
    def is_secure(self) -> bool:
        """Whether TLS is spoken there."""
        return self.text.startswith("https:")

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach it."""
        return self.host == "localhost" or (is_ip(self.host) and ipaddress.ip_address(self.host).is_loopback)

    @property
    def is_everywhere(self) -> bool:
        """Whether it means every address of a host, which is nothing to connect to."""
        return is_ip(self.host) and ipaddress.ip_address(self.host).is_unspecified

    def overlaps(self, other: "Url") -> bool:
        """Whether only one of the two can be listened on."""
        if self.port != other.port:
            return False
        return self.is_everywhere or other.is_everywhere or _same_host(self.bind_host, other.bind_host)

    @property
    def bind_host(self) -> str:
        """The address to listen on. `localhost` means IPv4's, which every client tries; `::ffff:` before it nothing."""
        if self.host == "localhost":
            return "127.0.0.1"
        if self.host.startswith("::ffff:") and is_ip(self.host):
            mapped = ipaddress.IPv6Address(self.host).ipv4_mapped
            return str(mapped) if mapped is not None else self.host
        return self.host

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
    if not text.isascii():
        raise ValueError(f"URL must be ASCII, international names in their xn-- form: {text}")
    if not text.isprintable() or " " in text:  # which urlsplit would take out, and Go refuses
        raise ValueError(f"URL must have no blanks or control characters within: {text}")
    try:
        parts = urllib.parse.urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{error}: {text}") from None
    if parts.scheme in {"unix", "unixs"}:
        raise ValueError(f"Unix sockets are not served by this version: {text}")
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"URL scheme must be http or https: {text}")
    if not parts.hostname or port is None:
        raise ValueError(f'URL address does not have the form "host:port": {text}')
    for what, there in (
        ("user", parts.username is not None),
        ("path", parts.path),
        ("query", parts.query),
        ("fragment", parts.fragment),
    ):
        if there:
            raise ValueError(f"URL must not contain a {what}: {text}")
    if port == 0:
        raise ValueError(f"URL must have a port from 1 to 65535: {text}")
    return Url(parts.scheme + text[len(parts.scheme) :], parts.hostname, port)


def parse_list(text: str) -> tuple[Url, ...]:
    """A comma-separated list, sorted; what is there twice is there twice, as in etcd.

    Raises:
        ValueError: a URL is wrong, or missing beside a comma.
    """
    parts = text.split(",")
    if not all(part.strip() for part in parts):
        raise ValueError("a URL is missing before or after a comma" if len(parts) > 1 else "there is no URL")
    return tuple(sorted(parse(part) for part in parts))


def _same_host(first: str, second: str) -> bool:
    """Addresses have several spellings."""
    if is_ip(first) and is_ip(second):
        return ipaddress.ip_address(first) == ipaddress.ip_address(second)
    return first == second


def is_ip(host: str) -> bool:
    """Whether a host is an address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
