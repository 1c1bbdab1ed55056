"""Whoever comes to the TLS peer port and is no member: turned away in words, and nobody who writes notices."""

import contextlib
import re
import socket
import ssl
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing.certificates import Authority
from kvraft.testing.cluster import Cluster, Member
from tests.cluster.secured import Secured, Writing, put, secured

pytestmark = [pytest.mark.slow, pytest.mark.landing]

STALLED: Final = 100


def _context(made: Secured) -> ssl.SSLContext:
    """Of somebody with a certificate that is accepted."""
    context = ssl.create_default_context(cafile=made.ca.ca_file)
    context.load_cert_chain(made.pairs["n1"].cert_file, made.pairs["n1"].key_file)
    return context


def _old(context: ssl.SSLContext) -> ssl.SSLContext:
    """The same, which speaks TLS 1.1 and nothing else."""
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def _hello(context: ssl.SSLContext) -> bytes:
    """The first message of a handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def _lost_peers(cluster: Cluster) -> list[str]:
    return [line for member in cluster.running for line in member.log_text().splitlines() if "lost peer" in line]


def test_old_versions_resets_and_renegotiations_are_told_and_cost_nobody_anything(tmp_path: Path) -> None:
    """TLS 1.1 gets an alert and a line, a renegotiation a no, and resets nothing."""
    with secured(tmp_path, election_timeout="3000") as made, Writing(made.cluster) as writing:
        writing.wait_for(20)
        target = made.cluster.leader()
        address = ("127.0.0.1", target.peer_port)
        with socket.create_connection(address) as plain, pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            _old(_context(made)).wrap_socket(plain, server_hostname="localhost")
        target.wait_for_log('rejected connection listener=peer .*error="it speaks no TLS from version 1.2 on"')
        for _ in range(50):
            connection = socket.create_connection(address)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            encrypted = _context(made).wrap_socket(connection, server_hostname="localhost")
            encrypted.sendall(b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n")
            encrypted.close()
        assert "no renegotiation" in _renegotiate(made, target)
        writing.wait_for(50)
        assert writing.failures == []
        assert _lost_peers(made.cluster) == []
        assert "Traceback" not in target.log_text()


def _renegotiate(made: Secured, member: Member) -> str:
    """What `openssl s_client` says that is told to renegotiate as soon as it is connected."""
    pair = made.pairs["n1"]
    command = ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{member.peer_port}"]
    command += ["-cert", pair.cert_file, "-key", pair.key_file]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        said = ""
        while "Verify return code" not in said:
            said += client.stdout.readline()
        client.stdin.write("R\n")
        client.stdin.flush()
        return said + client.stdout.read()


def test_a_hundred_stalled_handshakes_at_each_member_hold_no_write_up(tmp_path: Path) -> None:
    """A third of them silent, a third in the midst, a third one byte behind: given up in time, with one line a host.

    Meanwhile a member is started anew: it finds its place among them.
    """
    with (
        secured(tmp_path, election_timeout="3000") as made,
        Writing(made.cluster) as writing,
        contextlib.ExitStack() as stalled,
    ):
        writing.wait_for(20)
        hello = _hello(_context(made))
        connections = []
        for number in range(STALLED * 3):
            member = made.cluster.members[number // STALLED]
            connection = stalled.enter_context(socket.create_connection(("127.0.0.1", member.peer_port)))
            connection.sendall((b"", hello, hello[:1])[number % 3])
            connections.append(connection)
        writing.wait_for(60)
        follower = made.cluster.followers()[0]
        writing.leave(follower)
        assert _lost_peers(made.cluster) == []
        follower.restart()
        writing.come_back(follower)
        writing.wait_for(60)
        for member in made.cluster.members:
            if member is not follower:
                member.wait_for_log('rejected connection listener=peer .*error="no handshake within 10000 ms"')
        for connection in connections:
            connection.settimeout(30)
            with contextlib.suppress(ConnectionError):
                while connection.recv(4096):
                    pass
        writing.wait_for(20)
        assert writing.failures == []
        for member in made.cluster.members:
            assert member.log_text().count("no handshake within") <= 2, "a line a minute"


@contextlib.contextmanager
def _in_place_of(member: Member) -> Iterator[socket.socket]:
    """Somebody else listens where a dead member did."""
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", member.peer_port))
        listening.listen(64)
        listening.settimeout(30)
        yield listening


def test_member_that_dials_an_old_server_says_what_it_met(tmp_path: Path) -> None:
    """TLS 1.1 alone: a line with the reason, and writes go on without it."""
    with secured(tmp_path) as made:
        gone = made.cluster.followers()[0]
        others = [member for member in made.cluster.members if member is not gone]
        gone.kill()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.pairs["n1"].cert_file, made.pairs["n1"].key_file)
        _old(context)
        said = "no connection to peer: is it running, and is this its address\\?.*peer={}.*{}"
        with _in_place_of(gone) as listening:
            while not re.search(said.format(gone.name, "TLS version"), others[0].log_text()):
                plain, _ = listening.accept()
                with plain, contextlib.suppress(OSError):
                    context.wrap_socket(plain, server_side=True).close()
                put(others[0])
        put(others[1])


def test_member_that_expects_tls_of_a_plain_one_says_so(tmp_path: Path) -> None:
    """The URL says https, and who listens there speaks plainly."""
    ca = Authority(tmp_path / "ca")
    pair = ca.issue("member")
    with Cluster(tmp_path / "cluster") as cluster:
        astray, first = cluster.members[2], cluster.members[0]
        names = ",".join(f"{member.name}={member.peer_url}" for member in cluster.members)
        astray.kill()
        astray.data_dir.rename(tmp_path / "aside")
        astray.cluster_flags |= {
            "initial-cluster": names.replace(first.peer_url, first.peer_url.replace("http", "https")),
            "peer-cert-file": pair.cert_file,
            "peer-key-file": pair.key_file,
            "peer-trusted-ca-file": ca.ca_file,
        }
        astray.start()
        astray.wait_for_log(
            "no connection to peer.*peer=n1 .*it hung up without a word of TLS: is its URL one that is http", 30
        )
        first.wait_for_log("TLS on a peer URL that is http")
        put(first)
