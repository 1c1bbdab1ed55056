"""Peer URLs in requests, checked as etcd does with Go's url.Parse, in its order and words.

Sources: etcd v3.4.23 pkg/types/urls.go (`NewURLs`); go1.19 net/url url.go (`Parse`), net ipsock.go (`SplitHostPort`).
What etcd takes and no member can be started with is refused here as well, as the flags do (`kvraft/settings/urls.py`).
"""

import re
import string
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, final

from kvraft.api_v2.go_json_scanner import go_quote

URLS_MAX: Final = 64
"""Of one member: each is dialled in turn."""
URL_CHARS_MAX: Final = 1024
"""A host name has 253 characters at most."""
_SPACES: Final = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
_TRIMMED: Final = _SPACES + "\u2028\u2029\u202f\u205f\u3000"
"""unicode.IsSpace."""
_CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+\-.]*)?:")
_PORT: Final = re.compile(r"(:[0-9]*)?")
_ALNUM: Final = frozenset(string.ascii_letters + string.digits)
_IN_HOST: Final = _ALNUM | frozenset("!$&'()*+,;=:[]<>\"-_.~")
_IN_USER: Final = _ALNUM | frozenset("-._:~!$&'()*+,;=%@")
_NOTABLE: Final = re.compile("%(?:[0-9A-Fa-f]{2})?|[\x00-\x7f]")
"""An escape, or what only begins as one, or any letter of ASCII."""
_FIRST_OF_NON_ASCII: Final = 0x80
_PORT_MAX: Final = 65535


@final
@dataclass(slots=True, frozen=True)
class _Parts:
    """What matters of a URL."""

    scheme: str
    """In small letters."""
    host: str
    """With the port."""
    path: str
    extra: str
    """What is there that a member's URL cannot have; empty: nothing."""


def peer_urls(texts: Iterable[str]) -> tuple[str, ...]:
    """The URLs, sorted; what is there twice is there twice, as in etcd.

    Raises:
        ValueError: with etcd's words, or ours for what kvraft does not serve.
    """
    given = [text.strip(_TRIMMED) for text in texts]
    if not given:
        raise ValueError("no valid URLs given")
    # First, as each letter is looked at.
    if len(given) > URLS_MAX:
        raise ValueError(f"at most {URLS_MAX} URLs for one member: {len(given)}")
    for text in given:
        if len(text) > URL_CHARS_MAX:
            raise ValueError(f"URL must have at most {URL_CHARS_MAX} characters: {text[:80]}...")
    parsed = [_checked(text) for text in given]
    return tuple(sorted(_dialable(text, *parts) for text, parts in zip(given, parsed, strict=True)))


def _checked(text: str) -> tuple[_Parts, str]:
    """What etcd looks at, and the port."""
    parts = _parse(text)
    if parts.scheme not in {"http", "https", "unix", "unixs"}:
        raise ValueError(f"URL scheme must be http, https, unix, or unixs: {text}")
    port = _port_of(parts.host)
    if port is None:
        raise ValueError(f'URL address does not have the form "host:port": {text}')
    if parts.path:
        raise ValueError(f"URL must not contain a path: {text}")
    return parts, port


def _dialable(text: str, parts: _Parts, port: str) -> str:
    """The URL as it is kept."""
    if parts.scheme in {"unix", "unixs"}:
        raise ValueError(f"Unix sockets are not served by this version: {text}")
    if parts.extra:
        raise ValueError(f"URL must not contain a {parts.extra}: {text}")
    if not text.isascii():
        raise ValueError(f"URL must be ASCII, international names in their xn-- form: {text}")
    if not port or len(port) > len(str(_PORT_MAX)) or not 1 <= int(port) <= _PORT_MAX or parts.host.startswith(":"):
        raise ValueError(f"URL must have a host, and a port from 1 to {_PORT_MAX}: {text}")
    return f"{parts.scheme}://{parts.host}"


def _parse(text: str) -> _Parts:
    """url.Parse."""
    url, _, fragment = text.partition("#")
    parts = _parse_all_but_fragment(url)
    _check_escapes(text, fragment)
    return replace(parts, extra="fragment") if fragment and not parts.extra else parts


def _parse_all_but_fragment(url: str) -> _Parts:
    if _CONTROL.search(url):
        raise _error(url, "net/url: invalid control character in URL")
    scheme, rest = "", url
    found = _SCHEME.match(url)
    if found is not None:
        if found[1] is None:
            raise _error(url, "missing protocol scheme")
        scheme, rest = found[1].lower(), url[found.end() :]
    rest, mark, _query = rest.partition("?")
    if scheme and not rest.startswith("/"):
        return _Parts(scheme, "", "", "")  # opaque
    if not rest.startswith("/") and ":" in rest.partition("/")[0]:
        raise _error(url, "first path segment in URL cannot contain colon")
    host = at = ""
    if rest.startswith("//") and (scheme or not rest.startswith("///")):
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
        user, at, host = authority.rpartition("@")
        _check_host(url, host)
        if not _IN_USER.issuperset(user):
            raise _error(url, "net/url: invalid userinfo")
        _check_escapes(url, user)
    _check_escapes(url, rest)
    return _Parts(scheme, host, rest, "user" if at else "query" if mark else "")


def _check_host(url: str, host: str) -> None:
    """url.parseHost."""
    zone = ""
    end = len(host)
    if host.startswith("["):
        end = host.rfind("]")
        if end < 0:
            raise _error(url, "missing ']' in host")
        port = host[end + 1 :]
        zone_at = host.find("%25", 0, end)
        if zone_at >= 0:
            zone, host = host[zone_at:end], host[:zone_at] + host[end:]
    else:
        colon = host.rfind(":")
        port = host[colon:] if colon >= 0 else ""
    if _PORT.fullmatch(port) is None:
        raise _error(url, f"invalid port {go_quote(port)} after host")
    _check_escapes(url, host, of_host=True)
    _check_escapes(url, zone, of_zone=True)


def _check_escapes(url: str, text: str, *, of_host: bool = False, of_zone: bool = False) -> None:
    """url.unescape, as far as it complains: `%` begins two hexadecimal digits, and a host has its own letters."""
    for found in _NOTABLE.finditer(text):
        if not found.group().startswith("%"):
            if (of_host or of_zone) and found.group() not in _IN_HOST:
                raise _error(url, f"invalid character {go_quote(found.group())} in host name")
            continue
        # Go cuts bytes, through a letter if need be.
        escape = text[found.start() : found.start() + 3].encode()[:3].decode("utf-8", "surrogateescape")
        is_whole, byte = len(found.group()) > 1, int(found.group()[1:] or "0", 16)
        refused = (of_host and byte < _FIRST_OF_NON_ASCII) or (
            of_zone and chr(byte) not in _IN_HOST and byte != ord(" ")
        )
        if not is_whole or (refused and escape != "%25"):
            raise _error(url, f"invalid URL escape {go_quote(escape)}")


def _port_of(host: str) -> str | None:
    """What net.SplitHostPort has as the port; None where it complains."""
    name, colon, port = host.rpartition(":")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1].replace(":", "")
    return None if not colon or any(char in ":[]" for char in name + port) else port


def _error(url: str, reason: str) -> ValueError:
    """url.Error."""
    return ValueError(f"parse {go_quote(url)}: {reason}")
