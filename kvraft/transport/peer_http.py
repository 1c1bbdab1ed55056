"""HTTP/1 on the peer port, as etcd answers it there: `/members` and `/version` (etcdserver/api/etcdhttp/peer.go).

Patroni and others find a cluster by its peer URLs and ask them who the members are. One request at a time, each small.
"""

import asyncio
import json
from collections.abc import Callable, Collection
from email.utils import formatdate
from typing import Final, cast, final

from kvraft import clock
from kvraft.settings.settings import ETCD_VERSION
from kvraft.transport.interfaces import PeerPages
from kvraft.transport.peer_requests import BEGINNING, HEAD_END, Asked, Refused, location, moved_page, read_head

_HEAD_BYTES_MAX: Final = 8 << 10
_JSON: Final = "application/json"
_TEXT: Final = "text/plain; charset=utf-8"
_ESCAPED: Final = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})
"""What Go's JSON escapes, beside what everybody does."""
_NOT_ALLOWED: Final = {"Allow": "GET"}


@final
class PeerHttp(asyncio.Protocol):
    """One connection that speaks HTTP/1. It keeps its stranger's place and time limit until it ends."""

    def __init__(
        self,
        pages: PeerPages,
        voters: Callable[[], Collection[int]],
        on_garbage: Callable[[str], None],
        on_end: Callable[[], None],
    ) -> None:
        self._pages = pages
        self._voters = voters
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
        end = HEAD_END.search(self._head)
        if end is not None and end.start() <= _HEAD_BYTES_MAX:
            head, self._head = self._head[: end.start()], self._head[end.end() :]
            self._has_answered = True
            # Who asks again before it has been answered would fill our memory without reading; it may connect again.
            self._answer(read_head(head), last=bool(self._head))
        if self._head and not BEGINNING.match(self._head):
            self._on_garbage("no protocol of ours")
        elif len(self._head) > _HEAD_BYTES_MAX:
            self._on_garbage("an endless HTTP request")

    def connection_lost(self, _error: Exception | None) -> None:
        """It has ended. What is left of a request goes now: we are in a cycle, and collections are rare."""
        self._head = b""
        self._on_end()

    def _answer(self, asked: Asked | Refused, *, last: bool) -> None:
        if isinstance(asked, Refused):
            body = (asked.status if asked.text == "" else asked.text or "").encode()
            kind = b"" if asked.text is None else b"Content-Type: text/plain; charset=utf-8\r\n"
            self._transport.write(b"HTTP/1.1 %b\r\n%bConnection: close\r\n\r\n%b" % (asked.status.encode(), kind, body))
            self._transport.close()
            return
        stays = asked.stays and not last
        if asked.path == "*" and asked.method != "OPTIONS":
            status, fields, body, stays = "400 Bad Request", dict[str, str](), b"", False
        elif asked.path == "*":
            status, fields, body = "200 OK", {}, b""
        elif asked.moved_to:
            status, fields, body = "301 Moved Permanently", {"Location": location(asked.moved_to)}, b""
            if asked.method in {"GET", "HEAD"}:
                fields, body = {"Content-Type": "text/html; charset=utf-8", **fields}, moved_page(asked.moved_to)
        else:
            status, fields, body = self._page(asked.method, asked.path)
        if stays == asked.is_old:  # each version has its default
            fields = {**fields, "Connection": "keep-alive" if stays else "close"}
        self._write(f"HTTP/1.{0 if asked.is_old else 1} {status}", fields, body, head_only=asked.method == "HEAD")
        if not stays:
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
        if voters := sorted(self._voters()):  # for a member that rebuilds: whoever learns counts in no majority
            fields["X-Kvraft-Voters"] = ",".join(f"{voter:x}" for voter in voters)
        return "200 OK", fields, _json(members).encode() + b"\n"

    def _write(self, status: str, fields: dict[str, str], body: bytes, *, head_only: bool) -> None:
        fields = {**fields, "Date": formatdate(clock.wall_ns() // 10**9, usegmt=True), "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self._transport.write(f"{status}\r\n{head}\r\n".encode() + (b"" if head_only else body))


def _plain(status: str, fields: dict[str, str], text: str) -> tuple[str, dict[str, str], bytes]:
    return status, {**fields, "Content-Type": _TEXT, "X-Content-Type-Options": "nosniff"}, text.encode()


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).translate(_ESCAPED)
