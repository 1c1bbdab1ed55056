"""Open files: the soft limit follows the hard one, and connections stay below it."""

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kvraft.settings import flags, settings
from kvraft.start import composition, file_limit, start
from kvraft.testing.cluster import Cluster, Kind
from kvraft.testing.member import Member

SCRIPT = """
import resource
from kvraft.start import file_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 1000))
print(file_limit.raise_soft_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE), file_limit.raise_soft_limit())
"""


def test_soft_limit_is_raised_to_the_hard_one() -> None:
    """In a process of its own, since a hard limit cannot be raised again."""
    shown = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["1000", "1000", "1000", "1000"]


def test_connections_leave_files_for_everything_else() -> None:
    """All that are wanted if there is room, otherwise what is left, a quarter of it on the peer port."""
    for files_max, clients, strangers in ((16_740, 16_384, 256), (1024, 693, 231), (256, 117, 39), (150, 38, 12)):
        assert file_limit.shares_of(files_max, 16_384, 256) == file_limit.Shares(clients, strangers)
        assert clients + strangers + file_limit.OWN <= files_max
    assert file_limit.shares_of(149, 16_384, 256) is None


def test_few_open_files_mean_fewer_connections_and_a_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Rather than accepts that fail, of which no client would hear."""
    wanted = settings.from_flags(flags.read((), {}))
    for files_max, connections in ((20_000, 16_384), (1024, 693)):
        monkeypatch.setattr(file_limit, "raise_soft_limit", lambda: files_max)  # noqa: B023 -- called in this turn
        api = composition.api_settings(start.within_open_files(wanted))
        assert api.connections_max == connections
        assert ("few files may be open" in caplog.text) == (files_max == 1024)


def _limited(member: Member, files: int) -> list[str]:
    return ["/bin/sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *member.command()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("kvraft", "kvraft: only 149 files may be open: a member needs 150, and one for each client: raise"),
        ("etcd", "file descriptor limit[149] of etcd process is too low"),
    ],
)
def test_start_with_too_few_files_says_so(tmp_path: Path, kind: Kind, said: str) -> None:
    """And leaves no directory behind."""
    (member,) = Cluster(tmp_path / "cluster", size=1, kind=kind).members
    ended = subprocess.run(_limited(member, 149), capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 1
    assert said in ended.stderr
    if kind == "kvraft":
        assert len(ended.stderr.splitlines()) == 1
        assert not member.data_dir.exists()


@pytest.mark.slow
def test_member_with_few_files_serves_those_that_fit_and_refuses_the_rest(tmp_path: Path) -> None:
    """A hundred clients hold connections, strangers crowd the peer port, and whoever is too much is told."""
    cluster = Cluster(tmp_path / "cluster", size=1)
    (member,) = cluster.members
    process = subprocess.Popen(_limited(member, 256), stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = ""
        while "serving clients" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        assert "few files may be open: raise LimitNOFILE files=256 connections=117 all=16740" in said
        client_port, peer_port = (int(url.rpartition(":")[2]) for url in (member.client_url, member.peer_url))
        with contextlib.ExitStack() as opened:
            for _ in range(60):
                opened.enter_context(socket.create_connection(("127.0.0.1", peer_port)))
            answers = []
            for _ in range(150):
                client = opened.enter_context(socket.create_connection(("127.0.0.1", client_port), timeout=20))
                client.sendall(b"PUT /v2/keys/a?value=1 HTTP/1.1\r\nHost: x\r\n\r\n")
                answers.append(client.recv(4096))
        assert [answer[9:12] for answer in answers[:117]] == [b"201", *[b"200"] * 116]
        assert all(b"too many requests" in answer for answer in answers[117:])
    finally:
        process.terminate()
        assert process.wait(30) == 0
        process.communicate()
