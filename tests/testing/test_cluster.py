import gc
import http.client
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import warnings

import pytest

from kvraft.testing import cluster as clusters_module
from kvraft.testing import raw_http
from kvraft.testing.cluster import Cluster, ClusterError, Program
from kvraft.testing.plugin import ClusterFactory


def test_killed_leader_is_succeeded_and_rejoins_with_its_data(etcd_cluster: Cluster) -> None:
    """Start, write, kill -9 the leader, find the next one, restart the first: the write is everywhere."""
    leader = etcd_cluster.leader()
    assert leader.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
    leader.kill()
    assert leader.exit_code == -signal.SIGKILL
    assert etcd_cluster.leader() is not leader
    leader.restart()
    for member in etcd_cluster.members:
        assert member.http("GET", "/v2/keys/a?quorum=true").json()["node"]["value"] == "1"


def test_paused_member_does_not_answer_until_resumed(etcd_member: Cluster) -> None:
    """SIGSTOP keeps the sockets open and answers nothing; SIGCONT brings the member back."""
    member = etcd_member.members[0]
    member.pause()
    with pytest.raises(TimeoutError):
        member.http("GET", "/version", timeout_s=0.2)
    member.resume()
    assert member.http("GET", "/version").status == 200


def test_terminated_member_gives_its_exit_code(etcd_member: Cluster) -> None:
    """SIGTERM ends a member; its log stays readable."""
    member = etcd_member.members[0]
    member.terminate()
    assert not member.is_running
    assert "terminated" in member.log_text()


def test_member_that_ends_at_once_is_reported_with_its_log(tmp_path: pathlib.Path) -> None:
    """Waiting for a member that died tells what it said, and does not wait for the deadline."""
    cluster = Cluster(tmp_path, size=1, kind="etcd", flags={"no-such-flag": "1"})
    with pytest.raises(ClusterError, match=r"n1 ended with [12](.|\n)*no-such-flag"):
        cluster.start()
    cluster.stop()


def test_clusters_of_a_run_that_is_killed_die_with_it(tmp_path: pathlib.Path) -> None:
    """SIGKILL of the test run leaves no member behind."""
    script = (
        "import pathlib, sys\n"
        "from kvraft.testing.cluster import Cluster\n"
        "cluster = Cluster(pathlib.Path(sys.argv[1]), size=1, kind='etcd')\n"
        "cluster.start()\n"
        "print(cluster.members[0].pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        member = os.pidfd_open(int(run.stdout.readline()))
        run.kill()
    poll = select.poll()
    poll.register(member, select.POLLIN)
    assert poll.poll(10_000), "the member outlived the run that started it"
    os.close(member)


def test_cluster_on_memory_disk_is_refused() -> None:
    """What a tmpfs keeps says nothing about durability."""
    with pytest.raises(ClusterError, match="tmpfs: give a directory on a real disk"):
        Cluster(pathlib.Path("/dev/shm/kvraft"), size=1)  # never made


def test_missing_etcd_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Conformance never skips for a missing oracle."""
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ClusterError, match="make deps"):
        Program(kind="etcd").command()


def test_file_system_of_a_path_is_that_of_its_mount() -> None:
    """The longest mount point that holds the path counts, for paths that do not exist yet too."""
    assert clusters_module.file_system_of(pathlib.Path("/proc/self")) == "proc"
    assert clusters_module.file_system_of(pathlib.Path("/dev/shm/a/b")) == "tmpfs"


async def test_raw_connection_reads_answers_and_streams(clusters: ClusterFactory) -> None:
    """Header names keep their case, several requests share a connection, stream chunks come one by one."""
    member = clusters("etcd", size=1).members[0]
    async with await member.connect() as connection, await member.connect() as watching:
        head = await watching.stream("/v2/keys/w?wait=true&stream=true")
        assert head.status == 200
        for value in ("1", "2"):
            answer = await connection.request("PUT", "/v2/keys/w", form={"value": value})
            assert dict(answer.headers)["X-Etcd-Index"] == str(answer.etcd_index)
            assert (await watching.read_chunk()).endswith(b"}\n")
        await connection.send_raw(b"GET /v2//keys HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await connection.read_answer()).status == 301
        assert (await connection.request("HEAD", "/v2/keys/w")).body == b""
        assert (await connection.request("GET", "/v2/keys/none")).json()["errorCode"] == 100


def test_exchange_sends_targets_as_they_are(etcd_member: Cluster) -> None:
    """No client in between cleans or escapes what a test sends."""
    answer = raw_http.exchange(etcd_member.client_urls[0], "GET", "/v2/keys/../x%2Fy")
    assert (answer.status, answer.header("location")) == (301, "/v2/x/y")
    assert raw_http.exchange(etcd_member.client_urls[0], "BREW", "/v2/keys/a").status == 405


def test_connection_that_is_reset_before_its_handshake_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own TLS socket stays open then, and is told of as a leak of whatever test runs when it is collected."""
    connect = http.client.HTTPConnection.connect

    def connect_and_see_the_reset(connection: http.client.HTTPConnection) -> None:
        connect(connection)
        client, _ = server.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        poll = select.poll()
        poll.register(connection.sock, select.POLLHUP)
        assert poll.poll(5000)

    monkeypatch.setattr(http.client.HTTPConnection, "connect", connect_and_see_the_reset)
    with socket.create_server(("127.0.0.1", 0)) as server, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(ConnectionResetError):
            raw_http.exchange(f"https://127.0.0.1:{server.getsockname()[1]}", "GET", "/")
        gc.collect()
    assert [str(warning.message) for warning in seen] == []
