"""What a request on the peer port asks for, read as Go's net/http reads it (measured on etcd 3.4.23). Pure.

Source: Go 1.19 net/http readRequest, readTransfer and ServeMux, net/url parse.
"""

import posixpath
import re
from dataclasses import dataclass
from html import escape
from typing import Final, final
from urllib.parse import quote, unquote_to_bytes

HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
"""Go takes a line feed alone for the end of a line."""
BEGINNING: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}(?: |\Z)")
"""Of what may still become a request."""

_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([^ ]+) HTTP/([0-9])\.([0-9])")
_HEADER: Final = re.compile(rb"([^:]*):([\t\x20-\x7e\x80-\xff]*)")
_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HOST: Final = re.compile(rb"[A-Za-z0-9!$%&'()*+,\-.:;=\[\]_~]*")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*:(?://([^/?]*))?")
_AUTHORITY: Final = re.compile(rb"(?:[^@\[\]]*@)?(?:\[[0-9A-Za-z:.%]+\]|[^%\[\]:]*)(?::[0-9]*)?")
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_CONTROL: Final = re.compile(rb"[\x00-\x20\x7f]")


@final
@dataclass(slots=True, frozen=True)
class Asked:
    """A request that is HTTP."""

    method: str
    path: str
    """Decoded and clean; `*` for the server as a whole. Empty: elsewhere (`moved_to`)."""
    moved_to: str
    """Where a client is sent whose path was not clean, with its query as it came."""
    is_old: bool
    """HTTP/1.0."""
    stays: bool
    """The client may ask again on this connection: it wants to, and sends no body that we would have to read."""


@final
@dataclass(slots=True, frozen=True)
class Refused:
    """A request that Go refuses; the connection ends with the answer."""

    status: str
    text: str | None = ""
    """The body: the status and its reason if empty, none at all if None."""


_BAD: Final = Refused("400 Bad Request")


def read_head(head: bytes) -> Asked | Refused:
    """What is asked by a head, without the empty line behind it."""
    first, *lines = head.replace(b"\r\n", b"\n").split(b"\n")
    line = _LINE.fullmatch(first)
    if line is None:
        return _BAD
    method, target, major, minor = line.groups()
    if major != b"1":
        return Refused("505 HTTP Version Not Supported: unsupported protocol version")
    headers = _headers(lines, is_old=minor == b"0")
    if isinstance(headers, Refused):
        return headers
    where = _path_and_query(method, target)
    if where is None:
        return _BAD
    wishes = {wish.strip().lower() for wish in headers.get(b"connection", b"").split(b",")}
    has_body = headers.get(b"content-length", b"0").strip(b"0") != b"" or b"transfer-encoding" in headers
    stays = not has_body and b"close" not in wishes and (minor != b"0" or b"keep-alive" in wishes)
    path, query = where
    cleaned = path if path == "*" or method == b"CONNECT" else _clean(path)
    moved_to = "" if cleaned == path else _url(cleaned, query)
    return Asked(method.decode(), "" if moved_to else path, moved_to, is_old=minor == b"0", stays=stays)


def location(url: str) -> str:
    """As a header has it (net/http hexEscapeNonASCII)."""
    return re.sub("[\x80-\xff]", lambda found: f"%{ord(found.group()):02x}", url)


def moved_page(url: str) -> bytes:
    """http.Redirect's page."""
    shown = escape(url).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    return f'<a href="{shown}">Moved Permanently</a>.\n\n'.encode("latin-1")


def _headers(lines: list[bytes], *, is_old: bool) -> dict[bytes, bytes] | Refused:
    """By lower-case name, the last of each."""
    headers: dict[bytes, bytes] = {}
    hosts = []
    for text in lines:
        header = _HEADER.fullmatch(text)
        if header is None or text[:1] in b" \t":
            return _BAD
        name, value = header[1].lower(), header[2].strip(b" \t")
        headers[name] = value
        if name == b"host":
            hosts.append(value)
    if not hosts and not is_old:
        return Refused("400 Bad Request: missing required Host header")
    if len(hosts) > 1:
        return _BAD
    if hosts and not _HOST.fullmatch(hosts[0]):
        return Refused("400 Bad Request: malformed Host header")
    if not all(map(_NAME.fullmatch, filter(None, headers))):
        return Refused("400 Bad Request: invalid header name")
    if not re.fullmatch(rb"[0-9]{1,18}", headers.get(b"content-length", b"0")):
        return _BAD
    if headers.get(b"transfer-encoding", b"chunked").lower() != b"chunked":
        return Refused("501 Not Implemented", "Unsupported transfer encoding")
    if headers.get(b"expect", b"100-continue").lower() != b"100-continue":
        return Refused("417 Expectation Failed", None)
    return headers


def _path_and_query(method: bytes, target: bytes) -> tuple[str, str] | None:
    """Decoded path and raw query of a target; None if there is none in it that Go would find."""
    if target == b"*":
        return "*", ""
    if _CONTROL.search(target):
        return None
    if not target.startswith(b"/"):
        if method == b"CONNECT":
            target = b"http://" + target
        absolute = _ABSOLUTE.match(target)
        if absolute is None or not _AUTHORITY.fullmatch(absolute[1] or b""):
            return None
        # Without an authority the rest is opaque to Go, and its path empty.
        target = target[absolute.end() :] if absolute[1] is not None else b""
    path, _, query = target.partition(b"?")
    if _BROKEN_ESCAPE.search(path):
        return None
    return unquote_to_bytes(path).decode("latin-1"), query.decode("latin-1")


def _clean(path: str) -> str:
    """http.cleanPath."""
    cleaned = posixpath.normpath("/" + path.lstrip("/"))
    return cleaned + "/" if path.endswith("/") and cleaned != "/" else cleaned


def _url(path: str, query: str) -> str:
    escaped = quote(path.encode("latin-1"), safe="-_.~$&+,/:;=@")
    return f"{escaped}?{query}" if query else escaped
