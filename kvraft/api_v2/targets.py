"""Request targets as Go's net/url and http.ServeMux treat them: decoding, cleaning and the redirect to the clean path.

Source: Go 1.19 net/url parse and escape, net/http cleanPath and Redirect. Pure.
"""

import re
import string
from dataclasses import dataclass
from html import escape as _escape_html
from typing import Final, final

from kvraft.api_v2.go_forms import unescape

_CONTROL: Final = re.compile(rb"[\x00-\x20\x7f]")
_ABSOLUTE: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*://[^/?]*")
_PLAIN_IN_PATH: Final = frozenset((string.ascii_letters + string.digits + "-_.~$&+,/:;=@").encode())
"""url.shouldEscape for encodePath: the unreserved characters and `$&+,/:;=@` stand for themselves."""
_BYTES: Final = [bytes([byte]) for byte in range(256)]
_IN_PATH: Final = [byte if byte[0] in _PLAIN_IN_PATH else b"%%%02X" % byte[0] for byte in _BYTES]
_IN_HEADER: Final = [byte if byte.isascii() else b"%%%02x" % byte[0] for byte in _BYTES]


@final
@dataclass(slots=True)
class Target:
    """A request target, taken apart."""

    path: bytes
    """Decoded, not cleaned. Empty only for an absolute target without a path."""
    query: bytes
    """Raw, without its `?`."""


def parse_target(target: bytes) -> Target | None:
    """Take apart a request target; None if Go refuses it (400).

    Origin form (`/path?query`) and absolute form (`http://host/path?query`) are taken. A `#` is part of the path or
    query, since requests carry no fragment. `*` is not for this function.
    """
    if _CONTROL.search(target):
        return None
    if not target.startswith(b"/"):
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            return None
        target = target[absolute.end() :]
    raw_path, _, query = target.partition(b"?")
    path = unescape(raw_path)
    return None if path is None else Target(path, query)


def clean_path(path: bytes) -> bytes:
    """http.cleanPath: rooted, without empty, `.` and `..` segments; a trailing slash stays."""
    if b"//" not in path and b"/." not in path and path.startswith(b"/"):
        return path
    kept: list[bytes] = []
    for segment in path.split(b"/"):
        if segment == b"..":
            if kept:
                kept.pop()
        elif segment not in {b"", b"."}:
            kept.append(segment)
    cleaned = b"/" + b"/".join(kept)
    if path.endswith(b"/") and cleaned != b"/":
        cleaned += b"/"
    return cleaned


def host_name(host: bytes) -> bytes:
    """A Host header without its port, as etcd's httputil.GetHostname has it: what has no port stays as it is."""
    if host.startswith(b"["):
        inner, _, rest = host[1:].partition(b"]")
        return inner if rest.startswith(b":") and b":" not in rest[1:] else host
    name, _, port = host.partition(b":")
    return host if b":" in port else name


def authority(target: bytes, host: bytes) -> bytes:
    """Whom a request is for: what a target in a proxy's form names goes before Host (net/http, readRequest)."""
    scheme, separator, rest = target.partition(b"://")
    return rest.partition(b"/")[0] if separator and b"/" not in scheme else host


def redirect_url(path: bytes, query: bytes) -> bytes:
    """url.URL{Path, RawQuery}.String(): the escaped path, and the query as it came."""
    escaped = b"".join(map(_IN_PATH.__getitem__, path))
    return escaped + b"?" + query if query else escaped


def redirect_header(url: bytes) -> bytes:
    """http.hexEscapeNonASCII: `Location` is ASCII; lower-case hex, unlike the path's own escapes."""
    return url if url.isascii() else b"".join(map(_IN_HEADER.__getitem__, url))


def redirect_body(url: bytes) -> bytes:
    """The body http.Redirect writes for GET."""
    # Go's htmlEscape writes &#34; and &#39;; latin-1 carries the bytes through html.escape unchanged.
    text = _escape_html(url.decode("latin-1")).replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    return b'<a href="' + text.encode("latin-1") + b'">Moved Permanently</a>.\n\n'
