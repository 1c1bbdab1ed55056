"""Sessions, calls and pages inside TLS, with transports in one process."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, final

import grpc
import pytest

from kvraft.peer_frames import GreetingRefused, PeerHello
from kvraft.raft.messages import Heartbeat
from kvraft.security.files import TlsFiles
from kvraft.settings import urls
from kvraft.start.keepers import Keeper
from kvraft.start.tls import Peers
from kvraft.testing import ports
from kvraft.testing.certificates import Authority, Pair, append_odd
from kvraft.transport.dialler import UnreachableError
from kvraft.transport.pb import raft_pb2 as pb
from kvraft.transport.transport import PeerTransport
from tests.transport import support

SERVICE = "kvraft.peer.v1.Peer"
SECURE_URL = urls.parse("https://127.0.0.1:1")


def tls_of(ca: Authority, pair: Pair, crl_file: str = "", **more: Any) -> Peers:
    """What a member has that is given this certificate."""
    files = TlsFiles("peer-", pair.cert_file, pair.key_file, ca.ca_file, True, crl_file, **more)
    return Peers(Keeper(files, [SECURE_URL], ("http/1.1", "h2")), 128)


@final
class Members:
    """Transports that listen with TLS, by member id."""

    def __init__(self, certificates: Sequence[Peers], hosts: Sequence[str], connect_timeout_ms: int = 5000) -> None:
        self.reserved = ports.reserve(len(certificates))
        self.port_of = dict(enumerate(self.reserved.ports, 1))
        self.judged: list[int] = []
        url_of = {
            member_id: (f"https://{host}:{port}",)
            for (member_id, port), host in zip(self.port_of.items(), hosts, strict=True)
        }
        self.peers = []
        for (member_id, port), tls in zip(self.port_of.items(), certificates, strict=True):
            local = support.Local(support.hello(member_id), self._judge)
            address = support.address(port)
            transport = PeerTransport(
                member_id,
                (address,),
                url_of,
                local,
                support.Pages(),
                support.NoSnapshots(),
                dataclasses.replace(support.QUICK, connect_timeout_ms=connect_timeout_ms),
                tls=tls,
                tls_addresses=(address,),
            )
            self.peers.append(support.Peer(transport, support.Events(), local))

    def _judge(self, hello: PeerHello) -> GreetingRefused | None:
        self.judged.append(hello.member_id)
        return None


@asynccontextmanager
async def members(certificates: Sequence[Peers], hosts: Sequence[str] = ()) -> AsyncIterator[Members]:
    """Started and stopped."""
    made = Members(certificates, hosts or ["127.0.0.1"] * len(certificates))
    try:
        for peer in made.peers:
            await peer.transport.start(peer.events)
        yield made
    finally:
        for peer in made.peers:
            await peer.transport.stop()
        made.reserved.release()


async def test_frames_go_both_ways_inside_tls(tmp_path: Path) -> None:
    """One session, whoever has dialled it."""
    ca = Authority(tmp_path)
    async with members([tls_of(ca, ca.issue("1")), tls_of(ca, ca.issue("2"))]) as made:
        first, second = made.peers
        for peer in made.peers:
            await peer.events.until(lambda events: len(events.connected) == 1)
        first.transport.send(2, (Heartbeat(3, 0, 0, 1),))
        second.transport.send(1, (Heartbeat(3, 0, 0, 2),))
        for peer in made.peers:
            await peer.events.until(lambda events: bool(events.frames))


async def test_certificate_is_judged_before_what_its_owner_says(tmp_path: Path) -> None:
    """Nothing is asked of what is remembered about a member when another's certificate is shown for it."""
    ca = Authority(tmp_path)
    honest = tls_of(ca, ca.issue("1"))
    thief = tls_of(ca, ca.issue("2", hosts=("127.0.0.1",)))
    async with members([honest, thief], ["127.0.0.1", "localhost"]) as made:
        _, astray = made.peers
        await astray.events.until(lambda events: bool(events.refused))
        member_id, detail, fatal = astray.events.refused[0]
        assert (member_id, fatal) == (1, False)
        assert "the certificate that was shown is for 127.0.0.1" in str(detail) or detail == "WRONG_MEMBER"
        assert 2 not in made.judged
        assert not astray.events.connected


@pytest.mark.parametrize(
    ("hosts", "revoked", "reason"),
    [
        (("n9.example",), False, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ((), False, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        (("127.0.0.1",), True, "certificate serial [0-9a-f]+ revoked"),
    ],
    ids=["another's name", "no name at all", "revoked"],
)
async def test_dialler_looks_at_whom_it_has_reached(
    tmp_path: Path, hosts: tuple[str, ...], revoked: bool, reason: str
) -> None:
    """Also where the other side would let everybody in; the common name is nobody's address."""
    ca = Authority(tmp_path)
    pair = ca.issue("2", common_name="127.0.0.1", hosts=hosts)
    crl_file = ca.revoke(pair) if revoked else ca.revoke()
    lax = Peers(Keeper(TlsFiles("peer-", pair.cert_file, pair.key_file), [SECURE_URL], ("h2",)), 128)
    async with members([tls_of(ca, ca.issue("1"), crl_file), lax]) as made:
        with pytest.raises(UnreachableError, match=reason):
            await made.peers[0].transport._diallers[2]._dial()
        assert not made.peers[0].events.connected


async def test_dialler_says_how_far_it_came_with_who_stalls(tmp_path: Path) -> None:
    """Somebody accepts the connection and says no word of TLS: that is neither an address nor a name that is wrong."""
    ca = Authority(tmp_path)
    made = Members([tls_of(ca, ca.issue("1")), tls_of(ca, ca.issue("2"))], ["127.0.0.1"] * 2, connect_timeout_ms=300)
    first = made.peers[0]
    came: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _reader, writer: came.append(writer), "127.0.0.1", made.port_of[2])
    try:
        await first.transport.start(first.events)
        text = "no answer in 300 ms; 127.0.0.1: it is connected and does not finish the TLS handshake"
        with pytest.raises(UnreachableError, match=text):
            await first.transport._diallers[2]._dial()
    finally:
        await first.transport.stop()
        silent.close()
        for writer in came:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await silent.wait_closed()
        made.reserved.release()


async def test_dialler_is_not_confused_by_a_certificate_that_cannot_be_read(tmp_path: Path) -> None:
    """It has reached nobody, as with any other that it does not accept."""
    ca = Authority(tmp_path)
    pair = ca.issue("2")
    append_odd(pair.cert_file)
    async with members([tls_of(ca, ca.issue("1")), tls_of(ca, pair)]) as made:
        with pytest.raises(UnreachableError, match="cannot be read"):
            await made.peers[0].transport._diallers[2]._dial()


async def test_members_with_one_name_are_let_in_where_one_is_allowed(tmp_path: Path) -> None:
    """In both directions, and nobody else."""
    ca = Authority(tmp_path)
    first = tls_of(ca, ca.issue("1", common_name="member"), allowed_cn="member")
    second = tls_of(ca, ca.issue("2", common_name="member"), allowed_cn="member")
    async with members([first, second]) as made:
        for peer in made.peers:
            await peer.events.until(lambda events: len(events.connected) == 1)
    stranger = tls_of(ca, ca.issue("3", common_name="stranger"))
    async with members([first, stranger]) as made:
        await made.peers[1].events.until(lambda events: bool(events.refused))
        assert not made.peers[0].events.connected


@pytest.mark.slow
async def test_call_reaches_grpc_inside_tls(tmp_path: Path) -> None:
    """GRPC offers `h2` alone and gets it; whoever offers HTTP/1.1, too, gets pages."""
    ca = Authority(tmp_path)
    pair = ca.issue("1")
    files = [Path(path).read_bytes() for path in (ca.ca_file, pair.key_file, pair.cert_file)]  # noqa: ASYNC240 -- before anything runs
    async with members([tls_of(ca, pair)]) as made:
        address = f"localhost:{made.port_of[1]}"
        async with grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(*files)) as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/Status", None, None)
            status = pb.StatusAnswer.FromString(await call(b"", timeout=support.WAIT_S))
        assert (status.cluster_id, status.member_id) == (support.CLUSTER, 1)
        process = await asyncio.create_subprocess_exec(
            *("curl", "-sS", "--cacert", ca.ca_file, "--cert", pair.cert_file, "--key", pair.key_file),
            f"https://{address}/version",
            stdout=asyncio.subprocess.PIPE,
        )
        said, _ = await process.communicate()
        assert b'"etcdcluster":"3.4.0"' in said
