"""TLS of the real etcd and of kvraft side by side: the same clients are served, and real clients see the same."""

import contextlib
import http.client
import os
import re
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import etcd
import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from kvraft.testing.certificates import Authority, Pair
from kvraft.testing.cluster import Cluster, Kind, Member, Program
from tests.conformance.etcdctl import ETCDCTL_TIMEOUTS

pytestmark = pytest.mark.slow

KINDS: Final[tuple[Kind, Kind]] = ("etcd", "kvraft")
ENDS_WITHIN_S: Final = 30


def trust(ca: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    """A client that believes the authority, and shows this certificate."""
    context = ssl.create_default_context(cafile=ca.ca_file)
    if pair is not None:
        context.load_cert_chain(pair.cert_file, pair.key_file)
    return context


@contextlib.contextmanager
def both(directory: Path, ca: Authority, client: Pair, flags: dict[str, str]) -> Iterator[dict[Kind, Member]]:
    """A member of each, alone, served with the same certificate."""
    server = ca.issue("server")
    given = {"cert-file": server.cert_file, "key-file": server.key_file, **flags}
    with contextlib.ExitStack() as stack:
        members: dict[Kind, Member] = {}
        for kind in KINDS:
            program = Program(kind=kind, flags=given, client_tls=trust(ca, client))
            members[kind] = stack.enter_context(Cluster(directory / kind, size=1, program=program)).members[0]
        yield members


def served(member: Member, context: ssl.SSLContext) -> bool:
    """Whether a request over TLS is answered."""
    connection = http.client.HTTPSConnection("127.0.0.1", member.client_port, timeout=10, context=context)
    try:
        connection.request("GET", "/v2/keys/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def same(members: dict[Kind, Member], context: Callable[[], ssl.SSLContext]) -> bool:
    """What both do with this client."""
    outcomes = {kind: served(member, context()) for kind, member in members.items()}
    assert outcomes["etcd"] == outcomes["kvraft"], outcomes
    return outcomes["kvraft"]


def test_same_certificates_are_served(tmp_path: Path) -> None:
    """With a trusted CA alone, which asks for them by itself, and with a revocation list."""
    ca, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "other")
    impostor = Authority(tmp_path / "impostor")
    client, revoked = ca.issue("client", hosts=()), ca.issue("revoked", hosts=())
    pairs: dict[str, tuple[Pair | None, bool]] = {
        "good": (client, True),
        "with names": (ca.issue("named", hosts=("n1.example", "10.0.0.1")), True),
        "none": (None, False),
        "revoked": (revoked, False),
        "expired": (ca.issue("expired", hosts=(), begins_days=-9, ends_days=-1), False),
        "early": (ca.issue("early", hosts=(), begins_days=1), False),
        "wrong CA": (other.issue("stranger", hosts=()), False),
        "CA of the same name": (impostor.issue("impostor", hosts=()), False),
        "self-signed": (ca.issue("own", hosts=(), self_signed=True), False),
        "for servers": (ca.issue("served", purposes=(ExtendedKeyUsageOID.SERVER_AUTH,)), False),
        "for clients": (ca.issue("asking", purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,)), True),
    }
    flags = {"trusted-ca-file": ca.ca_file, "client-crl-file": ca.revoke(revoked)}
    with both(tmp_path, ca, client, flags) as members:
        for what, (pair, expected) in pairs.items():
            assert same(members, lambda pair=pair: trust(ca, pair)) is expected, what  # type: ignore[misc]  # bound at once


def test_same_hostnames_are_allowed(tmp_path: Path) -> None:
    """Names and wildcards; not the common name."""
    ca = Authority(tmp_path / "ca")
    client = ca.issue("client", hosts=("n1.example",))
    flags = {"trusted-ca-file": ca.ca_file, "client-cert-allowed-hostname": "n1.example"}
    with both(tmp_path, ca, client, flags) as members:
        for hosts, expected in (
            (("n1.example",), True),
            (("*.example",), True),
            (("*.n1.example",), False),
            (("n2.example", "N1.Example"), True),
            (("n2.example",), False),
            ((), False),
        ):
            pair = ca.issue("asking", common_name="n1.example", hosts=hosts)
            assert same(members, lambda pair=pair: trust(ca, pair)) is expected, hosts  # type: ignore[misc]  # bound at once


def test_same_versions_and_suites_are_spoken(tmp_path: Path) -> None:
    """TLS 1.2, nothing older, and of the suites those that are named."""
    ca = Authority(tmp_path / "ca")

    def of(version: ssl.TLSVersion, suites: str) -> ssl.SSLContext:
        context = trust(ca)
        context.set_ciphers(f"{suites}:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        return context

    flags = {"cipher-suites": "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"}
    with both(tmp_path, ca, ca.issue("client"), flags) as members:
        new = ssl.TLSVersion.TLSv1_2
        assert same(members, lambda: of(new, "ECDHE-ECDSA-AES128-GCM-SHA256"))
        assert same(members, lambda: of(new, "ECDHE-ECDSA-AES256-SHA"))
        assert not same(members, lambda: of(new, "ECDHE-ECDSA-AES256-GCM-SHA384"))
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            assert not same(members, lambda: of(ssl.TLSVersion.TLSv1_1, "ALL"))


@pytest.mark.parametrize(
    "flags",
    [
        {"cert-file": "", "key-file": ""},
        {"key-file": ""},
        {"cert-file": ""},
        {"cert-file": "/nowhere.pem"},
        {"key-file": "/nowhere.key"},
        {"trusted-ca-file": "/nowhere.pem"},
        {"cipher-suites": "TLS_NO_SUCH_SUITE"},
        {"peer-trusted-ca-file": "/nowhere.pem", "listen-peer-urls": "https"},
        {"peer-cert-file": "/nowhere.pem", "listen-peer-urls": "https"},
        {"listen-peer-urls": "https"},
        {"peer-cert-allowed-cn": "a", "peer-cert-allowed-hostname": "b", "listen-peer-urls": "https"},
    ],
    ids=",".join,
)
def test_what_etcd_does_not_start_with_kvraft_refuses_untouched(tmp_path: Path, flags: dict[str, str]) -> None:
    """Both end with code 1; kvraft with one line, and without a directory."""
    ca = Authority(tmp_path / "ca")
    server = ca.issue("server")
    peers = {"peer-cert-file": server.cert_file, "peer-key-file": server.key_file} if len(flags) > 1 else {}
    for kind in KINDS:
        given = {"cert-file": server.cert_file, "key-file": server.key_file, **peers, **flags}
        program = Program(kind=kind, client_tls=trust(ca))
        cluster = Cluster(tmp_path / kind, size=1, program=program)
        [member] = cluster.members
        if flags.get("listen-peer-urls") == "https":
            secure = member.peer_url.replace("http:", "https:")
            given |= {
                "listen-peer-urls": secure,
                "initial-advertise-peer-urls": secure,
                "initial-cluster": f"n1={secure}",
            }
        member.cluster_flags |= {name: value for name, value in given.items() if value}
        cluster.directory.mkdir(parents=True, exist_ok=True)
        try:
            member.start()
            assert member.wait_exit(ENDS_WITHIN_S) == 1, member.log_text()
        finally:
            cluster.stop()
    assert len(member.log_text().strip().splitlines()) == 1, member.log_text()
    assert not member.data_dir.exists()


def _run(*words: str) -> tuple[int, str]:
    environment = {**os.environ, "ETCDCTL_API": "2"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=ENDS_WITHIN_S, env=environment, check=False)
    return done.returncode, done.stdout + done.stderr


def test_etcdctl_and_curl_and_python_etcd_see_the_same(tmp_path: Path) -> None:
    """By certificate and CA, and when one of them is missing or wrong."""
    ca, other = Authority(tmp_path / "ca"), Authority(tmp_path / "other", "other")
    client = ca.issue("client", hosts=())
    flags = {"trusted-ca-file": ca.ca_file, "client-cert-auth": "true"}
    credentials = ("--ca-file", ca.ca_file, "--cert-file", client.cert_file, "--key-file", client.key_file)
    with both(tmp_path, ca, client, flags) as members:

        def outcomes(kind: Kind) -> Iterator[object]:
            member = members[kind]

            def etcdctl(*words: str) -> tuple[int, str]:
                code, text = _run("etcdctl", "--endpoints", member.client_url, *ETCDCTL_TIMEOUTS, *words)
                text = text.replace(str(member.client_port), "C").replace(str(member.peer_port), "P")
                return code, re.sub(r"\b[0-9a-f]{12,16}\b", "ID", text)

            yield etcdctl(*credentials, "set", "/a/b", "c")
            yield etcdctl(*credentials, "mk", "/a/b", "c")
            yield etcdctl(*credentials, "get", "/a/b")
            yield etcdctl(*credentials, "ls", "-r", "-p", "/")
            yield etcdctl(*credentials, "rm", "-r", "/a")
            yield etcdctl(*credentials, "member", "list")
            yield etcdctl(*credentials, "cluster-health")
            yield etcdctl("--ca-file", other.ca_file, *credentials[2:], "get", "/a/b")
            yield etcdctl("--cert-file", client.cert_file, "--key-file", client.key_file, "get", "/a/b")
            url = f"{member.client_url}/v2/keys/x"
            shown = ("--cacert", ca.ca_file, "--cert", client.cert_file, "--key", client.key_file)
            yield _run("curl", "-sS", *shown, "-XPUT", "-dvalue=1", url)
            yield _run("curl", "-sS", "--cacert", other.ca_file, *shown[2:], url)[0]
            asking = etcd.Client(
                port=member.client_port,
                protocol="https",
                ca_cert=ca.ca_file,
                cert=(client.cert_file, client.key_file),
                allow_reconnect=False,
            )
            yield asking.write("/y", "2").value
            yield asking.read("/y").value
            with pytest.raises(etcd.EtcdException) as caught:
                etcd.Client(port=member.client_port, protocol="https", ca_cert=ca.ca_file).read("/y")
            yield type(caught.value).__name__

        ours, theirs = list(outcomes("kvraft")), list(outcomes("etcd"))
        assert ours == theirs
        assert ours[0] == (0, "c\n")


def test_alpn_leaves_room_for_http_2(tmp_path: Path) -> None:
    """A client that offers both gets HTTP/1.1, and one that offers nothing is served as well."""
    ca = Authority(tmp_path / "ca")
    with both(tmp_path, ca, ca.issue("client"), {}) as members:
        context = trust(ca)
        context.set_alpn_protocols(["h2", "http/1.1"])
        plain = socket.create_connection(("127.0.0.1", members["kvraft"].client_port))
        with context.wrap_socket(plain, server_hostname="localhost") as encrypted:
            assert encrypted.selected_alpn_protocol() == "http/1.1"
        assert same(members, lambda: trust(ca))
