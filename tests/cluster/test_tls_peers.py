"""TLS between members, live: who is let in, how both sides say why not, and files that change under load."""

import asyncio
import contextlib
import http.client
import json
import re
import shutil
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal

import pytest

from kvraft.testing import ports, raw_http
from kvraft.testing.certificates import Authority, Pair, replace
from kvraft.testing.cluster import Cluster, Member, Program
from tests.cluster.load import write_many, write_until_compacted
from tests.cluster.secured import Secured, Writing, put, secured

pytestmark = pytest.mark.slow


def test_members_speak_tls_and_nothing_else(tmp_path: Path) -> None:
    """Writes, followers that were away, pages of the peer port; plain HTTP and strangers are told no."""
    with secured(tmp_path) as made:
        leader = made.cluster.leader()
        follower = made.cluster.followers()[0]
        put(leader)
        follower.kill()
        for number in range(20):
            put(leader, f"k{number}")
        follower.start()
        follower.wait_ready()
        assert follower.http("GET", "/v2/keys/k19").json()["node"]["value"] == "v"
        pair = made.pairs["n1"]
        context = ssl.create_default_context(cafile=made.ca.ca_file)
        context.load_cert_chain(pair.cert_file, pair.key_file)
        answer = raw_http.exchange(leader.peer_url, "GET", "/members", tls=context)
        assert len(answer.json()) == 3
        plain = raw_http.exchange(leader.peer_url.replace("https", "http"), "GET", "/members")
        assert (plain.status, plain.body) == (400, b"Client sent an HTTP request to an HTTPS server.\n")
        leader.wait_for_log(
            'rejected connection listener=peer .*error="client sent an HTTP request to an HTTPS server"'
        )
        with pytest.raises((OSError, http.client.HTTPException)):
            raw_http.exchange(
                leader.peer_url, "GET", "/members", tls=ssl.create_default_context(cafile=made.ca.ca_file)
            )
        leader.wait_for_log('rejected connection listener=peer .*error="it sent no certificate, and must"')


@pytest.mark.parametrize("kind", ["kvraft", "etcd"])
def test_an_issuing_ca_alone_is_an_anchor(tmp_path: Path, kind: Literal["kvraft", "etcd"]) -> None:
    """As in Go, for members and for their clients: who has signed it need not be in the file.

    What only that other one has signed is not let in.
    """
    root = Authority(tmp_path, "root")
    ca = Authority(tmp_path, "issuing", signed_by=root)

    def showing(pair: Pair) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=ca.ca_file)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_cert_chain(pair.cert_file, pair.key_file)
        return context

    pair = ca.issue("member")
    files = {"cert-file": pair.cert_file, "key-file": pair.key_file, "trusted-ca-file": ca.ca_file}
    flags = {f"{prefix}{name}": value for prefix in ("", "peer-") for name, value in files.items()}
    flags |= {"client-cert-auth": "true", "peer-client-cert-auth": "true"}
    ours, foreign = showing(ca.issue("client")), showing(root.issue("foreign"))
    program = Program(kind, flags, client_tls=ours, peer_scheme="https")
    with Cluster(tmp_path / kind, program=program) as cluster:
        for member in cluster.members:
            put(member, member.name)
            raw_http.exchange(member.client_url, "GET", "/v2/keys/", tls=ours)
            with pytest.raises((OSError, http.client.HTTPException)):
                raw_http.exchange(member.client_url, "GET", "/v2/keys/", tls=foreign)
        assert {node["key"] for node in cluster.leader().http("GET", "/v2/keys/").json()["node"]["nodes"]} == {
            f"/{member.name}" for member in cluster.members
        }


def test_followers_that_are_far_behind_get_a_snapshot_over_tls(tmp_path: Path) -> None:
    """On a connection of its own, as in the clear."""
    with secured(tmp_path, snapshot_count="1000") as made:
        leader, follower = made.cluster.leader(), made.cluster.followers()[0]
        missed_from = int(leader.http("GET", "/v2/keys/").header("X-Raft-Index") or "") + 1
        follower.kill()
        asyncio.run(write_many(leader.client_url, 5_000, "/k"))
        write_until_compacted(leader, missed_from)
        follower.start()
        follower.wait_ready()
        leader.wait_for_log("snapshot sent")
        assert follower.http("GET", "/v2/keys/k4999").status == 200


BAD: Final[dict[str, tuple[Callable[[Secured], Pair], str, str]]] = {
    "wrong CA": (
        lambda made: Authority(made.ca.directory / "other", "other").issue("n3", common_name="member"),
        "its certificate is not accepted: unable to get local issuer certificate",
        "trust our CA|unable to get local issuer",
    ),
    "expired": (
        lambda made: made.ca.issue("bad", common_name="member", begins_days=-9, ends_days=-1),
        "its certificate is not accepted: certificate has expired",
        "it does not accept our certificate: it has expired",
    ),
    "not yet valid": (
        lambda made: made.ca.issue("bad", common_name="member", begins_days=1),
        "its certificate is not accepted: certificate is not yet valid",
        "it does not accept our certificate",
    ),
    "self-signed": (
        lambda made: made.ca.issue("bad", common_name="member", self_signed=True),
        "its certificate is not accepted: self-signed certificate",
        "trust our CA",
    ),
    "for another address": (
        lambda made: made.ca.issue("bad", common_name="member", hosts=("10.9.9.9",)),
        "its certificate is for 10.9.9.9, not for 127.0.0.1",
        "its certificate is for 10.9.9.9, not for 127.0.0.1",
    ),
    "another common name": (
        lambda made: made.ca.issue("bad", common_name="stranger"),
        "its certificate has the common name 'stranger', and only 'member' is allowed",
        "its certificate has the common name 'stranger', and only 'member' is allowed",
    ),
}


def test_member_with_a_bad_certificate_stays_outside_and_the_cluster_up(tmp_path: Path) -> None:
    """Of each kind: a line with the reason on both sides, and no line of Raft."""
    with secured(tmp_path, peer_cert_allowed_cn="member", peer_crl_file=str(tmp_path / "ca" / "crl.pem")) as made:
        leader = made.cluster.leader()
        outsider = made.cluster.followers()[0]
        others = [member for member in made.cluster.members if member is not outsider]
        for kind, (make, there, here) in BAD.items():
            outsider.kill()
            made.give(outsider, make(made))
            before = len(outsider.log_text())
            outsider.start()
            leader.wait_for_log(f'rejected connection listener=peer address=[^ ]+ error="{there}', 30)
            outsider.wait_for(f"its own line ({kind})", lambda: _said(outsider, before, here), 30)  # noqa: B023 -- asked at once
            for member in others:
                put(member)
            assert "connected to peer" not in outsider.log_text()[before:], kind
        outsider.kill()
        made.give(outsider, made.pairs[outsider.name])
        outsider.start()
        outsider.wait_ready()
        made.ca.revoke(made.pairs[outsider.name])
        outsider.kill()
        outsider.start()
        revoked = f"certificate serial {made.pairs[outsider.name].certificate.serial_number:x} revoked"
        leader.wait_for_log(revoked)
        outsider.wait_for_log(revoked)
        for member in others:
            put(member)


def test_peers_whose_certificate_does_not_cover_the_allowed_name_stay_outside(tmp_path: Path) -> None:
    """`--peer-cert-allowed-hostname`, beside the address that the member is known by."""
    with secured(tmp_path, peer_cert_allowed_hostname="localhost") as made:
        leader, outsider = made.cluster.leader(), made.cluster.followers()[0]
        outsider.kill()
        made.give(outsider, made.ca.issue("narrow", common_name="member", hosts=("127.0.0.1",)))
        outsider.start()
        reason = "its certificate is for 127.0.0.1, and only one for localhost is allowed"
        leader.wait_for_log(f'rejected connection listener=peer .*error="{reason}"', 30)
        outsider.wait_for_log(reason, 30)
        put(leader)
        outsider.kill()
        made.give(outsider, made.pairs[outsider.name])
        outsider.start()
        outsider.wait_ready()


def _said(member: Member, begin: int, pattern: str) -> bool:
    return re.search(pattern, member.log_text()[begin:]) is not None


def test_certificates_of_peers_change_under_load_and_nobody_is_lost(tmp_path: Path) -> None:
    """Sessions go on; new ones come with what is in the files now, also when a CA takes another's place."""
    # Silence of a second is no lost session where two cores start three members.
    crl_file = tmp_path / "ca" / "crl.pem"
    with (
        secured(tmp_path, election_timeout="3000", peer_crl_file=str(crl_file)) as made,
        contextlib.ExitStack() as stack,
    ):
        cluster = made.cluster
        writing = stack.enter_context(Writing(cluster))
        successor = Authority(tmp_path / "successor", "successor")
        both = Path(made.ca.ca_file).read_bytes() + Path(successor.ca_file).read_bytes()
        replace(Path(made.ca.ca_file), both)
        for name, pair in made.pairs.items():
            renewed = successor.issue(name)
            replace(Path(pair.key_file), Path(renewed.key_file).read_bytes())
            replace(Path(pair.cert_file), Path(renewed.cert_file).read_bytes())
        replace(Path(made.ca.ca_file), Path(successor.ca_file).read_bytes())
        writing.wait_for(50)
        gone = ssl.create_default_context(cafile=successor.ca_file)
        shown = successor.issue("gone", common_name="member")
        gone.load_cert_chain(shown.cert_file, shown.key_file)
        asked = cluster.leader().peer_url
        assert raw_http.exchange(asked, "GET", "/members", tls=gone).status == 200
        replace(crl_file, Path(successor.revoke(shown)).read_bytes())
        with pytest.raises((OSError, http.client.HTTPException)):
            raw_http.exchange(asked, "GET", "/members", tls=gone)
        writing.wait_for(50)
        assert all("lost peer" not in member.log_text() for member in cluster.members)
        follower = cluster.followers()[0]
        writing.leave(follower)
        follower.restart()
        for member in cluster.running:
            if member is not follower:
                member.wait_for_log("TLS files read anew")
        writing.wait_for(50)
        assert writing.failures == []


def test_cluster_moves_to_tls_member_by_member_while_clients_write(tmp_path: Path) -> None:
    """First each serves both, then each is known at its https URL, then none serves http; the id stays."""
    ca = Authority(tmp_path / "ca")
    pair = ca.issue("member")
    with contextlib.ExitStack() as stack:
        secure = ports.reserve(3)
        stack.callback(secure.release)
        cluster = stack.enter_context(Cluster(tmp_path / "cluster"))
        writing = stack.enter_context(Writing(cluster))
        flags = {"peer-cert-file": pair.cert_file, "peer-key-file": pair.key_file, "peer-trusted-ca-file": ca.ca_file}
        url_of = {
            member: f"https://127.0.0.1:{port}" for member, port in zip(cluster.members, secure.ports, strict=True)
        }

        def restart(member: Member, listen: str) -> None:
            member.cluster_flags |= {**flags, "listen-peer-urls": listen}
            writing.leave(member)
            member.terminate()
            member.start()
            member.wait_ready()
            writing.come_back(member)

        for member in cluster.members:
            restart(member, f"{member.peer_url},{url_of[member]}")
        for member in cluster.members:
            answer = member.http("GET", "/v2/members").json()["members"]
            [member_id] = [each["id"] for each in answer if each["name"] == member.name]
            body = json.dumps({"peerURLs": [url_of[member]]}).encode()
            kind = [("Content-Type", "application/json")]
            moved = member.http("PUT", f"/v2/members/{member_id}", body=body, headers=kind)
            assert moved.status == 204, moved.body
            writing.wait_for(20)
        for member in cluster.members:
            restart(member, url_of[member])
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", member.peer_port)).close()
        writing.wait_for(50)
        assert [failure for failure in writing.failures if 'errorCode":300' not in failure] == []
        for member in cluster.members:
            shown = raw_http.exchange(member.client_url, "GET", "/v2/members").json()["members"]
            assert {url for each in shown for url in each["peerURLs"]} == set(url_of.values())


def test_certificate_of_another_member_claims_nobody(tmp_path: Path) -> None:
    """Known at `localhost`, it cannot come with one for 127.0.0.1 alone, though it comes from there."""
    made = Secured(tmp_path)
    thief = made.cluster.members[2]
    secret = thief.peer_url.replace("127.0.0.1", "localhost")
    names = ",".join(f"{member.name}={member.peer_url}" for member in made.cluster.members)
    for member in made.cluster.members:
        member.cluster_flags["initial-cluster"] = names.replace(thief.peer_url, secret)
    thief.cluster_flags["initial-advertise-peer-urls"] = secret
    with made.cluster:
        thief.kill()
        made.give(thief, made.ca.issue("other", hosts=("127.0.0.1",)))
        thief.start()
        said = "is at https://localhost:[0-9]+, and the certificate that was shown is for 127.0.0.1"
        thief.wait_for_log(f"refused by peer .*{said}")
        for member in made.cluster.members[:2]:
            member.wait_for_log(f"refused a peer .*{said}")
            put(member)


def test_plain_and_encrypted_members_tell_each_other_what_is_wrong(tmp_path: Path) -> None:
    """A URL that says http where TLS is spoken is a line on both sides."""
    made = Secured(tmp_path)
    first, astray = made.cluster.members[0], made.cluster.members[2]
    names = ",".join(f"{member.name}={member.peer_url}" for member in made.cluster.members)
    with made.cluster:
        astray.kill()
        astray.data_dir.rename(tmp_path / "aside")
        astray.cluster_flags["initial-cluster"] = names.replace(first.peer_url, first.peer_url.replace("https", "http"))
        astray.start()
        first.wait_for_log('rejected connection listener=peer .*error="it takes this URL for one that is http"')
        astray.wait_for_log("refused by peer .*this is an https URL, and was dialled as if it were http")
        put(first)


def test_peer_auto_tls_encrypts_and_believes_everybody(tmp_path: Path) -> None:
    """Each member makes its own certificate; nothing of a CA is needed, and nothing is proven."""
    program = Program(flags={"peer-auto-tls": "true"}, peer_scheme="https")
    with Cluster(tmp_path, program=program) as cluster:
        for member in cluster.members:
            put(member)
            assert (member.data_dir / "fixtures" / "peer" / "key.pem").stat().st_mode & 0o077 == 0
            member.wait_for_text("--peer-auto-tls encrypts, and nobody knows with whom")
        cluster.followers()[0].restart()


def test_member_joins_and_rebuilds_where_everything_is_tls(tmp_path: Path) -> None:
    """What it asks before it runs, of clients' and of peers' URLs, it asks by their scheme and with its certificate."""
    ca = Authority(tmp_path / "ca")
    pair = ca.issue("member")
    flags = {
        f"{prefix}{name}": value
        for prefix in ("", "peer-")
        for name, value in (
            ("cert-file", pair.cert_file),
            ("key-file", pair.key_file),
            ("trusted-ca-file", ca.ca_file),
            ("client-cert-auth", "true"),
        )
    }
    context = ssl.create_default_context(cafile=ca.ca_file)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    program = Program(flags=flags, client_tls=context, peer_scheme="https")
    with Cluster(tmp_path / "cluster", size=2, program=program) as cluster:
        first, second = cluster.members
        put(first)
        third = cluster.more("n3", join=first.client_url)
        third.start()
        third.wait_ready()
        assert third.http("GET", "/v2/keys/k").status == 200
        second.kill()
        shutil.rmtree(second.data_dir)
        second.cluster_flags["rebuild"] = "true"
        second.start()
        second.wait_ready()
        assert second.http("GET", "/v2/keys/k").status == 200
