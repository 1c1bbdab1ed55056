"""A server that answers what etcd shows to everybody, and nothing of kvraft's."""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from tests.commands.conftest import Background

_MEMBERS: Final = ({"id": "1", "name": "one", "peerURLs": ["http://h:1"], "clientURLs": ["{own}"]},)
_HEADERS: Final = b"X-Etcd-Cluster-Id: c\r\nX-Etcd-Index: 8\r\nX-Raft-Index: 12\r\nX-Raft-Term: 2\r\n"


@contextlib.contextmanager
def fake_etcd(
    background: Background,
    members: Sequence[dict[str, Any]] = _MEMBERS,
    *,
    refuses: bytes = b"",
    lost: Sequence[str] = (),
) -> Iterator[str]:
    """Its URL, which stands for `{own}` in the members' URLs; `refuses` is the status of kvraft's own pages.

    `lost` are pages that it has not, as Go's servers say it.
    """
    pages: dict[str, Any] = {
        "/v2/stats/self": {
            "id": "1",
            "name": "one",
            "state": "StateLeader",
            "startTime": "x",
            "leaderInfo": {"leader": "1"},
        },
        "/version": {"etcdserver": "3.4.23", "etcdcluster": "3.4.0"},
        "/v2/keys/": {"action": "get", "node": {"dir": True}},
        "/health": {"health": "true"},
        "/v2/members/leader": {"id": "1"},
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode().partition("?")[0]
                if path in lost:
                    writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 19\r\n\r\n404 page not found\n")
                    continue
                status, page = b"200 OK", pages.get(path)
                if page is None:
                    status, page = refuses or b"404 Not Found", {"message": "Insufficient credentials"}
                body = json.dumps(page).encode()
                writer.write(b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (status, _HEADERS, len(body), body))

    server = background.do(asyncio.start_server(serve, "127.0.0.1", 0))
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    own = [{**member, "clientURLs": [each.format(own=url) for each in member["clientURLs"]]} for member in members]
    pages["/v2/members"] = {"members": own}
    yield url

    async def close() -> None:
        server.close()
        await server.wait_closed()

    background.do(close())
