"""A cluster that only talks: it answers what a start asks of running members, on one port for clients and peers."""

import http.server
import json
import threading
from types import TracebackType
from typing import Any, Final, Self

from kvraft.testing import ports

CLUSTER_ID: Final = "a511a62ef3d4eb6a"


class FakeCluster:
    """Members by name, each at the URL of its peers."""

    def __init__(self, **peer_urls: str) -> None:
        self.cluster_id = CLUSTER_ID
        self.members: dict[int, dict[str, Any]] = {}
        for number, (name, url) in enumerate(peer_urls.items(), 1):
            self.members[number] = _member(number, name, url)
        self.changes: list[tuple[str, str]] = []
        """Method and path of every change that was asked for, with its body."""
        self.status = 0
        """What a change is answered; 0: carried out."""
        self.times = -1
        """How often it is answered so; negative: always."""
        self.has_leader = True
        self.is_etcd = False
        self.hides_newest = False
        """The member that is asked has not heard of the newest one, until it refuses it."""
        handler = type("Handler", (_Handler,), {"cluster": self})
        self._reservation = ports.reserve(1)
        (port,) = self._reservation.ports
        self._server = http.server.HTTPServer((ports.LOOPBACK, port), handler)
        self.url = f"http://{ports.LOOPBACK}:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._reservation.release()

    def add(self, peer_urls: list[str]) -> dict[str, Any] | None:
        """As the API does; None if somebody is there."""
        self.hides_newest = False
        if any(set(peer_urls) & set(member["peerURLs"]) for member in self.members.values()):
            return None
        number = max(self.members, default=0) + 1
        self.members[number] = _member(number, "", *peer_urls)
        return self.members[number]

    def refusal(self) -> int:
        """The status by which the next change is refused; 0: it is not."""
        if not self.times:
            return 0
        self.times -= 1
        return self.status

    def listed(self) -> list[dict[str, Any]]:
        """What a member shows."""
        members = [self.members[number] for number in sorted(self.members)]
        return members[:-1] if self.hides_newest else members


def _member(number: int, name: str, *peer_urls: str) -> dict[str, Any]:
    client_urls = [f"http://clients.example:{number}"] if name else []
    return {"id": number, "name": name, "peerURLs": list(peer_urls), "clientURLs": client_urls}


class _Handler(http.server.BaseHTTPRequestHandler):
    cluster: FakeCluster

    def log_message(self, *_words: object) -> None:
        """Nothing: a test's output is its own."""

    def do_GET(self) -> None:
        cluster = self.cluster
        if self.path == "/members":
            self._answer(200, cluster.listed())
        elif self.path == "/v2/members":
            self._answer(200, {"members": [member | {"id": f"{member['id']:x}"} for member in cluster.listed()]})
        elif self.path == "/v2/members/leader":
            self._answer(200 if cluster.has_leader else 503, {})
        else:
            self._answer(200 if self.path == "/raft/probing" and cluster.is_etcd else 404, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.cluster.changes.append(("POST", ",".join(body["peerURLs"])))
        if status := self.cluster.refusal():
            self._answer(status, {"message": "Internal Server Error"})
            return
        added = self.cluster.add(body["peerURLs"])
        if added is None:
            self._answer(409, {"message": "membership: peerURL exists"})
        else:
            self._answer(201, added | {"id": f"{added['id']:x}"})

    def do_DELETE(self) -> None:
        number = int(self.path.rpartition("/")[2], 16)
        self.cluster.changes.append(("DELETE", f"{number:x}"))
        if status := self.cluster.refusal():
            self._answer(status, {"message": "Internal Server Error"})
        else:
            self._answer(204 if self.cluster.members.pop(number, None) else 410, {})

    def _answer(self, status: int, value: object) -> None:
        body = b"" if status == 204 else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Etcd-Cluster-Id", self.cluster.cluster_id)
        self.end_headers()
        self.wfile.write(body)
