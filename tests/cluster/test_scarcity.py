"""Too little of something: descriptors, disk, speed; or too much of something: connections, requests."""

import asyncio
import contextlib
import dataclasses
import json
import resource
import socket
import time
import urllib.parse
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from kvraft.storage.codec import REMEDY
from kvraft.testing.cluster import Cluster, ClusterError, Member
from kvraft.testing.member import pause_or_exit
from tests.jepsen_like import db
from tests.jepsen_like.network import run_command

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

CONNECTIONS: Final = 10_000
ELECTION_TIMEOUT_S: Final = 1.0
FLOOD: Final = 4_000
FLOOD_VALUE_BYTES: Final = 40_000
"""All together 160 MB: more than a leader takes on before it is committed (64 MiB)."""
TOO_MANY: Final = "500 etcdserver: too many requests"
MEMORY_BYTES_MAX: Final = 1 << 30

Connection: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _write(member: Member, key: str, value: str = "v") -> float:
    """How long it took."""
    began = time.monotonic()
    answer = member.http("PUT", f"/v2/keys/{key}", form={"value": value})
    assert answer.status in {200, 201}, answer.body
    return time.monotonic() - began


def _elections(cluster: Cluster) -> int:
    return sum(member.log_text().count("became leader") for member in cluster.members)


def _resident_bytes(member: Member) -> int:
    return int(Path(f"/proc/{member.pid}/statm").read_text().split()[1]) * 4096


def test_leader_without_descriptors_keeps_its_peers_and_serves_again_later(tmp_path: Path) -> None:
    """New clients wait or are refused; what is connected goes on; with descriptors free again all is as before."""
    with Cluster(tmp_path / "cluster") as cluster:
        leader = cluster.leader()
        others = [member for member in cluster.members if member is not leader]
        used = len(list(Path(f"/proc/{leader.pid}/fd").iterdir()))
        _, hard = resource.prlimit(leader.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(leader.pid, resource.RLIMIT_NOFILE, (used + 4, hard))
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                connection = stack.enter_context(socket.create_connection(("127.0.0.1", leader.client_port), 10))
                connection.sendall(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
            until = time.monotonic() + 4 * ELECTION_TIMEOUT_S
            while time.monotonic() < until:
                _write(others[0], "a")
            assert cluster.wait_for("leader", lambda: _elections(cluster) == 1, 1)
        leader.wait_ready(20)
        _write(leader, "a")
        assert leader.is_running
        assert _elections(cluster) == 1


@pytest.mark.parametrize("environment", ["log", "state-1"])
def test_file_that_is_truncated_under_a_running_member_ends_it_and_is_refused_afterwards(
    tmp_path: Path, environment: str
) -> None:
    """What is not there any more is never served: the process dies or stops, and the next start says why it cannot."""
    with Cluster(tmp_path / "cluster", size=1) as cluster:
        member = cluster.members[0]
        for number in range(300):
            _write(member, f"k{number}", "v" * 1000)
        data = member.data_dir / environment / "data.mdb"
        with data.open("r+b") as file:
            file.truncate(2 * 4096)
        if environment == "log":
            with contextlib.suppress(OSError, ClusterError):
                member.wait_for("its end", lambda: _write(member, "more") < 0, 20)
            assert member.wait_exit(1.0) != 0
        member.kill()
        member.start()
        assert member.wait_exit(20) == 1
        assert member.log_text().splitlines()[-1].endswith(REMEDY)


def test_disk_of_a_follower_that_takes_half_a_second_slows_nobody_else(tmp_path: Path) -> None:
    """Writes follow the fastest quorum, and nobody wants another leader."""
    cluster = Cluster(tmp_path / "cluster")
    slow = cluster.members[0]
    trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]
    with cluster:
        if cluster.leader() is slow:
            slow.terminate()
        slow.kill()
        slow.program = dataclasses.replace(slow.program, wrapper=(*trace, "-e", "inject=fdatasync:delay_enter=500000"))
        slow.start()
        slow.wait_ready()
        leader = cluster.leader()
        assert leader is not slow
        elections = _elections(cluster)
        seconds = [_write(leader, f"k{number}") for number in range(40)]
        assert sorted(seconds)[20] < 0.25, seconds
        assert sum(seconds) < 40 * 0.5 / 2
        slow.wait_for("the last write", lambda: slow.http("GET", "/v2/keys/k39").status == 200, 60)
        assert _elections(cluster) == elections


def test_disk_that_becomes_read_only_stops_the_member_with_one_line(tmp_path: Path) -> None:
    """The kernel has found an error in the file system, and takes no more writes."""
    with db.started(tmp_path, "kvraft", size=1, small_disks=True) as database:
        (member,) = database.members
        _write(member, "a")
        mount = db._mount_point(member)
        device = next(
            line.split()[0] for line in Path("/proc/self/mounts").read_text().splitlines() if str(mount) in line
        )
        run_command("mount", "-o", "remount,errors=remount-ro", str(mount))
        Path(f"/sys/fs/ext4/{Path(device).name}/trigger_fs_error").write_text("1")
        with contextlib.suppress(OSError, ClusterError, AssertionError):
            member.wait_for("its end", lambda: _write(member, "b") < 0, 20)
        assert member.wait_exit(5.0) == 1
        assert "Read-only file system" in member.log_text().splitlines()[-1]
        member.start()
        assert member.wait_exit(20.0) == 1
        assert member.log_text().splitlines()[-1].startswith("kvraft: "), "a traceback"


@contextlib.asynccontextmanager
async def _connections(
    member: Member, count: int
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """So many connections to a member, each of which has been answered once."""
    part = urllib.parse.urlsplit(member.client_url)
    opened: list[Connection] = []
    gate = asyncio.Semaphore(200)

    async def connect() -> None:
        async with gate:
            reader, writer = await asyncio.open_connection(part.hostname, part.port)
            opened.append((reader, writer))
            writer.write(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readuntil(b"}")

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(connect())
        yield opened
    finally:
        for _, writer in opened:
            writer.close()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """This process and the members that it starts may have more than ten thousand files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CONNECTIONS + 2000
    assert hard >= wanted or hard == resource.RLIM_INFINITY, "ulimit -Hn is too low for this test"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_ten_thousand_connections_slow_nobody_down_and_cost_no_election(tmp_path: Path) -> None:
    """Idle ones on the leader, then a storm of short ones beside them: writes take at most some three times as long."""
    with Cluster(tmp_path / "cluster") as cluster:
        leader = cluster.leader()

        async def measure() -> list[float]:
            return sorted([await asyncio.to_thread(_write, leader, f"k{number}") for number in range(200)])

        async def crowd() -> tuple[list[float], list[float], list[float]]:
            alone = await measure()
            async with _connections(leader, CONNECTIONS):
                among = await measure()

                async def churn() -> None:
                    while True:
                        async with _connections(leader, 100):
                            pass

                churning = asyncio.create_task(churn())
                beside = await measure()
                churning.cancel()
                await asyncio.gather(churning, return_exceptions=True)
            return alone, among, beside

        alone, among, beside = asyncio.run(crowd())
        figures = [f"{each[100] * 1000:.1f}/{each[197] * 1000:.1f} ms" for each in (alone, among, beside)]
        print(f"median/p99 alone, among {CONNECTIONS}, with churn: {', '.join(figures)}")
        assert among[197] < 3 * alone[197] + 0.1
        assert beside[197] < 3 * alone[197] + 0.3
        assert _elections(cluster) == 1
        assert _resident_bytes(leader) < MEMORY_BYTES_MAX


def test_flood_is_refused_in_part_and_costs_no_election(tmp_path: Path) -> None:
    """What exceeds the leader's bound is answered 500/300 at once, the rest is written; then all is as before."""
    body = b"value=" + b"v" * FLOOD_VALUE_BYTES
    head = b"Host: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n" % len(body)

    async def flood(leader: Member) -> Counter[str]:
        answers: Counter[str] = Counter()

        async def send(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"PUT /v2/keys/flood/%d HTTP/1.1\r\n" % (number % 100) + head + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = int(answer.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or b"0")
            text = await reader.readexactly(length) if b"chunked" not in answer.lower() else b""
            cause = json.loads(text)["cause"] if answer[9:12] == b"500" else ""
            answers[f"{answer[9:12].decode()} {cause}".rstrip()] += 1

        async with _connections(leader, FLOOD) as connections, asyncio.timeout(120):
            await asyncio.gather(*(send(number, *connection) for number, connection in enumerate(connections)))
        return answers

    flags = {"election-timeout": "5000", "heartbeat-interval": "500"}  # two cores serve clients and members alike
    with Cluster(tmp_path / "cluster", flags=flags) as cluster:
        leader = cluster.leader()
        answers = asyncio.run(flood(leader))
        print(f"{FLOOD} writes of {FLOOD_VALUE_BYTES} bytes at once: {dict(answers)}")
        assert set(answers) <= {"200", "201", TOO_MANY}
        assert answers[TOO_MANY] > 0
        assert answers["200"] + answers["201"] > FLOOD // 10
        assert _elections(cluster) == 1
        leader.wait_for("a write as ever", lambda: _write(leader, "after") < 1.0, 10)
        assert _resident_bytes(leader) < MEMORY_BYTES_MAX
        pause_or_exit(leader.pid)
