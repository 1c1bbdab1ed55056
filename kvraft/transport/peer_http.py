"""HTTP/1 on the peer port, as etcd answers it there: `/members` and `/version` (etcdserver/api/etcdhttp/peer.go).

Patroni and others find a cluster by its peer URLs and ask them who the members are. One request at a time, each small.
"""

import asyncio
import json
import re
from collections.abc import Callable
from email.utils import formatdate
from typing import Final, cast, final
from urllib.parse import unquote

from kvraft import clock
from kvraft.settings.settings import ETCD_VERSION
from kvraft.transport.interfaces import PeerPages

_HEAD_BYTES_MAX: Final = 8 << 10
_REQUEST_LINE: Final = re.compile(rb"([A-Za-z]+) (\S+) HTTP/1\.([01])")
_ABSOLUTE: Final = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?]*(?=/)")
"""What a client that takes us for its proxy puts before the path."""
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_BAD_REQUEST: Final = b"\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
_ESCAPED: Final = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})
"""What Go's JSON escapes, beside what everybody does."""
_NOT_ALLOWED: Final = {"Allow": "GET"}


@final
class PeerHttp(asyncio.Protocol):
    """One connection that speaks HTTP/1. It keeps its stranger's place and time limit until it ends."""

    def __init__(self, pages: PeerPages, on_garbage: Callable[[str], None], on_end: Callable[[], None]) -> None:
        self._pages = pages
        self._on_garbage = on_garbage
        self._on_end = on_end
        self._head = b""
        self._has_answered = False
        self._transport: asyncio.Transport

    @property
    def is_at_rest(self) -> bool:
        """Whether it was asked, has answered, and is not being asked again."""
        return self._has_answered and not self._head

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Taken over from the doorway."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer a request whose head is complete."""
        if self._transport.is_closing():
            return
        self._head += data
        head, complete, rest = self._head.partition(b"\r\n\r\n")
        if complete:
            self._head = rest
            self._has_answered = True
            # Who asks again before it has been answered would fill our memory without reading; it may connect again.
            self._answer(head, last=bool(rest))
        if len(self._head) > _HEAD_BYTES_MAX:
            self._on_garbage("an endless HTTP request")

    def connection_lost(self, _error: Exception | None) -> None:
        """It has ended. What is left of a request goes now: we are in a cycle, and collections are rare."""
        self._head = b""
        self._on_end()

    def _answer(self, head: bytes, *, last: bool) -> None:
        line, _, rest = head.partition(b"\r\n")
        parsed = _REQUEST_LINE.fullmatch(line)
        headers = {
            name.strip().lower(): value.strip().lower()
            for name, _, value in (each.partition(b":") for each in rest.split(b"\r\n"))
        }
        if parsed is None or (parsed[3] == b"1" and b"host" not in headers):
            reason = b"400 Bad Request" if parsed is None else b"400 Bad Request: missing required Host header"
            self._transport.write(b"HTTP/1.1 " + reason + _BAD_REQUEST + reason)
            self._transport.close()
            return
        method, target = parsed[1].decode(), _ABSOLUTE.sub("", parsed[2].decode("latin-1"), 1)
        status, fields, body = self._page(method, unquote(target.partition("?")[0]))
        self._write(status, fields, body, head_only=method == "HEAD")
        has_body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        if last or has_body or parsed[3] == b"0" or headers.get(b"connection") == b"close":
            self._transport.close()

    def _page(self, method: str, path: str) -> tuple[str, dict[str, str], bytes]:
        """Status, own headers and body."""
        if path not in {"/members", "/version"}:
            return _plain("404 Not Found", {}, "404 page not found\n")
        if method != "GET":
            return _plain("405 Method Not Allowed", _NOT_ALLOWED, "Method Not Allowed\n")
        if path == "/version":
            versions = {"etcdserver": ETCD_VERSION, "etcdcluster": self._pages.cluster_version() or "not_decided"}
            return "200 OK", {"Content-Type": _JSON}, _json(versions).encode()
        members = [
            {
                "id": each.member_id,
                "peerURLs": each.peer_urls,
                **({"name": each.name} if each.name else {}),
                **({"clientURLs": each.client_urls} if each.client_urls else {}),
            }
            for each in self._pages.members()
        ]
        fields = {"Content-Type": _JSON, "X-Etcd-Cluster-Id": f"{self._pages.cluster_id:x}"}
        return "200 OK", fields, _json(members).encode() + b"\n"

    def _write(self, status: str, fields: dict[str, str], body: bytes, *, head_only: bool) -> None:
        fields = {**fields, "Date": formatdate(clock.wall_ns() // 10**9, usegmt=True), "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._transport.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + (b"" if head_only else body))


def _plain(status: str, fields: dict[str, str], text: str) -> tuple[str, dict[str, str], bytes]:
    return status, {**fields, "Content-Type": _TEXT, "X-Content-Type-Options": "nosniff"}, text.encode()


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).translate(_ESCAPED)
