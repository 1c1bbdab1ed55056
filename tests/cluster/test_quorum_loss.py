"""Without a quorum: local reads go on, everything else says so in etcd's words after etcd's time (contract A.13)."""

import asyncio
import contextlib
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster, Kind, Member
from kvraft.testing.raw_http import FORM, Connection

VALUE_BYTES = 256 << 10


def _cause_and_seconds(
    member: Member, method: str, target: str, form: dict[str, str] | None = None
) -> tuple[str, float]:
    began = time.monotonic()
    answer = member.http(method, target, form=form)
    assert answer.status == 500
    assert answer.json()["errorCode"] == 300
    assert answer.json()["index"] == 0
    return answer.json()["cause"], time.monotonic() - began


@pytest.mark.slow
def test_member_without_a_quorum_reads_locally_and_refuses_the_rest(tmp_path: Path) -> None:
    """The survivor answers what it knows; a write and a quorum read fail after 5 s + 2 election timeouts."""
    with Cluster(tmp_path / "cluster", flags={"election-timeout": "300", "heartbeat-interval": "30"}) as cluster:
        survivor = cluster.members[0]
        survivor.http("PUT", "/v2/keys/kept", form={"value": "yes"})
        for member in cluster.members[1:]:
            member.kill()
        assert survivor.http("GET", "/v2/keys/kept").json()["node"]["value"] == "yes"
        survivor.wait_for("loss of the leader", lambda: survivor.http("GET", "/health").status == 503, 10)
        with ThreadPoolExecutor(2) as pool:
            waiting = [
                pool.submit(_cause_and_seconds, survivor, "PUT", "/v2/keys/kept", {"value": "no"}),
                pool.submit(_cause_and_seconds, survivor, "GET", "/v2/keys/kept?quorum=true"),
            ]
        for request in waiting:
            cause, seconds = request.result()
            assert cause.startswith("etcdserver: request timed out")
            assert 5.5 < seconds < 10
        others = ",".join(member.name for member in cluster.members[1:])
        survivor.wait_for_text(f"connected=nobody missing={others}")
        assert survivor.http("GET", "/v2/members/leader").status == 503
        assert survivor.http("GET", "/v2/stats/leader").status == 403
        assert len(survivor.http("GET", "/v2/members").json()["members"]) == 3
        survivor.kill()
        survivor.start()
        survivor.wait_listening()
        assert survivor.http("GET", "/v2/keys/kept").json()["node"]["value"] == "yes"
        for member in cluster.members[1:]:
            member.start()
        survivor.wait_ready()
        # The write's outcome was unknown, and it may have been committed since.
        assert survivor.http("GET", "/v2/keys/kept?quorum=true").json()["node"]["value"] in {"yes", "no"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("clients", "rounds"), [(100, 5), pytest.param(150, 12, marks=pytest.mark.torture)], ids=["small", "a minute"]
)
def test_writes_that_time_out_without_a_leader_leave_nothing(tmp_path: Path, clients: int, rounds: int) -> None:
    """Clients of the only one of three members try again and again: memory is what one try of each takes."""
    cluster = Cluster(tmp_path / "cluster", flags={"election-timeout": "100", "heartbeat-interval": "10"})
    member = cluster.members[0]
    cluster.directory.mkdir()
    try:
        member.start()
        member.wait_listening()
        after_round = asyncio.run(_put_again_and_again(member, clients, rounds))
    finally:
        cluster.stop()
    # The allocator gives back every few rounds, and a single figure is a round and a half more or less: so the least of
    # the last ones is what is left, and the least of the first ones what it began with.
    grown = (min(after_round[-2:]) - min(after_round[:2])) / (rounds - 2)
    # What is kept for ever is all of it; what an allocator keeps of one round, or not, is less.
    assert grown < clients * VALUE_BYTES / 2, [resident >> 20 for resident in after_round]


async def _put_again_and_again(member: Member, clients: int, rounds: int) -> list[int]:
    """Each round is a PUT of every client that times out. What is resident after each of them, in bytes."""
    body = b"value=" + bytes(VALUE_BYTES - 6)
    connections = [await Connection.open(member.client_url) for _ in range(clients)]
    after_round = []
    try:
        for _ in range(rounds):
            answers = await asyncio.gather(
                *(
                    client.request("PUT", "/v2/keys/key", body=body, headers=(("Content-Type", FORM),))
                    for client in connections
                )
            )
            assert all(b"etcdserver: request timed out" in answer.body for answer in answers)
            after_round.append(_resident_bytes(member))
    finally:
        for client in connections:
            await client.close()
    return after_round


def _resident_bytes(member: Member) -> int:
    return int(Path(f"/proc/{member.pid}/statm").read_text(encoding="ascii").split()[1]) * 4096


@pytest.mark.slow
def test_writes_of_clients_that_have_gone_wait_no_longer(tmp_path: Path) -> None:
    """A hundred writes at the only one of three members, whose clients then close: none is pending, long before 7 s."""
    cluster = Cluster(tmp_path / "cluster")
    member = cluster.members[0]
    cluster.directory.mkdir()

    def pending() -> int:
        page = member.http("GET", "/metrics").body.decode()
        return int(float(page.partition("\netcd_server_proposals_pending ")[2].split()[0]))

    try:
        member.start()
        member.wait_listening()
        address = ("127.0.0.1", int(member.client_url.rpartition(":")[2]))
        clients = [socket.create_connection(address) for _ in range(100)]
        began = time.monotonic()
        for client in clients:
            client.sendall(b"PUT /v2/keys/a?value=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        member.wait_for("writes that wait", lambda: pending() >= 100 or None, 5)
        for client in clients:
            client.close()
        member.wait_for("nothing that waits", lambda: pending() <= 1 or None, 5)  # the member's own publication
        assert time.monotonic() - began < 6
    finally:
        cluster.stop()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["etcd", "kvraft"])
def test_stop_without_a_quorum_ends_what_waits_at_once(tmp_path: Path, kind: Kind) -> None:
    """Writes and quorum reads are told that the server has stopped, and a supervisor does not wait."""
    with Cluster(tmp_path / "cluster", kind=kind) as cluster:
        survivor = cluster.members[0]
        for member in cluster.members[1:]:
            member.kill()
        survivor.wait_for("loss of the leader", lambda: survivor.http("GET", "/health").status == 503, 15)
        address = ("127.0.0.1", int(survivor.client_url.rpartition(":")[2]))
        with contextlib.ExitStack() as opened:
            clients = []
            for request in (b"PUT /v2/keys/a?value=1", b"GET /v2/keys/a?quorum=true"):
                client = opened.enter_context(socket.create_connection(address, timeout=20))
                client.sendall(request + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                clients.append(client)
            assert survivor.http("GET", "/version").status == 200
            began = time.monotonic()
            survivor.signal(signal.SIGTERM)
            answers = [client.recv(4096) for client in clients]
            assert survivor.wait_exit() == (0 if kind == "kvraft" else -signal.SIGTERM)
            assert time.monotonic() - began < 3
        for answer in answers:
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert b'"errorCode":300' in answer
            assert b"etcdserver: server stopped" in answer
