"""A peer that has no business here is refused before anything reaches Raft, with one line on both sides."""

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from typing import Any

import pytest

from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused, PeerHello
from kvraft.raft.messages import Heartbeat
from kvraft.testing import ports
from kvraft.transport import handshake
from tests.transport import support

WIPED = GreetingRefused(GreetingRefusalReason.WIPED, "its data directory is empty: restore it")
SHORTER = GreetingRefused(GreetingRefusalReason.SHORTER_LOG, "its log ends at 3 but it acknowledged 9")
REMOVED = GreetingRefused(GreetingRefusalReason.REMOVED, "it was removed from the cluster")


def _lines(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, object]]:
    """The fields of the lines with this event."""
    return [record.kvraft_fields for record in caplog.records if record.getMessage() == event]  # type: ignore[attr-defined]  # set by kvraft.logs


async def _two(
    caplog: pytest.LogCaptureFixture,
    refused_hello: PeerHello,
    verdict: Callable[[PeerHello], GreetingRefused | None] = lambda _hello: None,
) -> tuple[support.Events, support.Events]:
    """Member 1 refuses member 2 for as long as it takes to dial twice; returns what both were told."""
    caplog.set_level(logging.INFO, "kvraft")
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, start=1))
    refusing = support.make_peer(1, port_of, local=support.Local(support.hello(1), verdict))
    refused = support.make_peer(2, port_of, local=support.Local(refused_hello))
    async with support.running(refusing), support.running(refused):
        await refused.events.until(lambda events: len(events.refused) >= 3)
        refused.transport.send(1, (Heartbeat(3, 0, 0, 1),))
        refusing.transport.send(2, (Heartbeat(3, 0, 0, 1),))
        await refused.events.until(lambda events: events.dropped)
        await refusing.events.until(lambda events: events.dropped)
    reservation.release()
    assert refusing.events.frames == refused.events.frames == []
    assert refusing.events.connected == refused.events.connected == set()
    return refusing.events, refused.events


@pytest.mark.parametrize("refusal", [WIPED, SHORTER, REMOVED])
async def test_a_member_that_forgot_is_refused_for_good(
    caplog: pytest.LogCaptureFixture, refusal: GreetingRefused
) -> None:
    """The peer's memory decides; the refused member is told that this is fatal, and both say so once."""
    _, refused = await _two(caplog, support.hello(2), lambda _hello: refusal)
    assert set(refused.refused) == {(1, refusal.detail, True)}
    expected = {"peer": "2", "kind": refusal.reason.name, "reason": refusal.detail}
    lines = _lines(caplog, "refused a peer")
    assert [{name: line[name] for name in expected} for line in lines] == [expected]
    # That a member was removed is no fault of its own: what it says of that is its last line, and not the transport's.
    said = [] if refusal is REMOVED else [{**expected, "peer": "1"}]
    assert _lines(caplog, "refused by peer") == said


async def test_a_refusal_that_was_overtaken_is_no_event(caplog: pytest.LogCaptureFixture) -> None:
    """The member holds what it is said to lack: its greeting was under way for too long, and the next one is heard."""
    caplog.set_level(logging.INFO, "kvraft")
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, start=1))
    overtaken = [dataclasses.replace(SHORTER, remembered_index=9)]
    holding = dataclasses.replace(support.hello(2), last_log_index=9, last_log_term=3)
    local = support.Local(support.hello(1), lambda _hello: overtaken.pop() if overtaken else None)
    refusing = support.make_peer(1, port_of, local=local)
    refused = support.make_peer(2, port_of, local=support.Local(holding))
    async with support.running(refusing), support.running(refused):
        await refused.events.until(lambda events: 1 in events.connected)
    reservation.release()
    assert not overtaken
    assert refused.events.refused == []
    assert _lines(caplog, "refused by peer") == []


async def test_a_member_of_another_cluster_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """Both refuse each other; each says it once on its own side and once about the other."""
    refusing, refused = await _two(caplog, support.hello(2, cluster_id=0xBAD))
    assert all("--initial-cluster-token" in reason and not fatal for _, reason, fatal in refused.refused)
    assert {member_id for member_id, _, _ in refusing.refused} == {2}
    assert sorted(str(line["peer"]) for line in _lines(caplog, "refused a peer")) == ["1", "2"]
    assert sorted(str(line["peer"]) for line in _lines(caplog, "refused by peer")) == ["1", "2"]


@pytest.mark.parametrize("difference", [{"cluster_id": 0xBAD}, {"founding": b"another founding"}], ids="".join)
async def test_another_cluster_is_fatal_once_no_quorum_of_ones_own_can_be_left(difference: dict[str, Any]) -> None:
    """One astray member must not stop two healthy ones, and the two together stop the astray one."""
    reservation = ports.reserve(3)
    port_of = dict(enumerate(reservation.ports, start=1))
    one, two, three = (dataclasses.replace(support.hello(member), founding=b"the same for all") for member in (1, 2, 3))
    healthy = [support.make_peer(hello.member_id, port_of, local=support.Local(hello)) for hello in (one, two)]
    astray = support.make_peer(3, port_of, local=support.Local(dataclasses.replace(three, **difference)))
    async with support.running(healthy[0]), support.running(healthy[1]), support.running(astray):
        await astray.events.until(lambda events: any(fatal for _, _, fatal in events.refused))
        for peer in healthy:
            await peer.events.until(lambda events: events.connected and len(events.refused) >= 2)
            assert not any(fatal for _, _, fatal in peer.events.refused)
    reservation.release()


async def test_crossed_peer_urls_are_refused_by_name(caplog: pytest.LogCaptureFixture) -> None:
    """Member 1 dials member 3 under the address of member 2."""
    caplog.set_level(logging.INFO, "kvraft")
    reservation = ports.reserve(2)
    first = support.make_peer(1, {1: reservation.ports[0], 3: reservation.ports[1]})
    second = support.make_peer(2, {1: reservation.ports[0], 2: reservation.ports[1]})
    async with support.running(first), support.running(second):
        await first.events.until(lambda events: events.refused)
        member_id, reason, fatal = first.events.refused[0]
        assert (member_id, fatal) == (3, False)
        assert "looked for member 3 where member 2 listens" in reason
        await second.events.until(lambda events: events.refused)
        assert "does not know member 2" in second.events.refused[0][1]
    reservation.release()
    assert {line["kind"] for line in _lines(caplog, "refused a peer")} == {"WRONG_MEMBER", "UNKNOWN_MEMBER"}


async def test_a_newer_protocol_is_refused(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that no longer speaks ours is told to wait for the others' upgrade."""
    original = handshake.Gate.greeting

    def greeting(self: handshake.Gate, to_member_id: int, lane: handshake.Lane, session: int) -> handshake.Greeting:
        ours = original(self, to_member_id, lane, session)
        if ours.hello.member_id == 2:
            return dataclasses.replace(ours, protocol_version_min=7, protocol_version_max=8)
        return ours

    monkeypatch.setattr(handshake.Gate, "greeting", greeting)
    _, refused = await _two(caplog, support.hello(2))
    assert {(member_id, fatal) for member_id, _, fatal in refused.refused} == {(1, False)}
    assert "peer protocol 7 to 8" in refused.refused[0][1]
    assert [line["kind"] for line in _lines(caplog, "refused a peer")] == ["PROTOCOL"]
    assert [line["kind"] for line in _lines(caplog, "refused by peer")] == ["PROTOCOL"]


async def test_a_dialler_that_refuses_the_acceptor_tells_it(caplog: pytest.LogCaptureFixture) -> None:
    """The member that was wiped may not dial at all for long; whoever reaches it says why it is not accepted."""
    caplog.set_level(logging.INFO, "kvraft")
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, start=1))
    refusing = support.make_peer(1, port_of, local=support.Local(support.hello(1), lambda _hello: WIPED))
    refused = support.make_peer(2, port_of)
    refused.transport.set_peers({})
    refused.transport._gate.members = frozenset({1})
    async with support.running(refusing), support.running(refused):
        await refused.events.until(lambda events: events.refused)
    reservation.release()
    assert refused.events.refused[0] == (1, WIPED.detail, True)
    assert refused.events.connected == set()
    assert [line["peer"] for line in _lines(caplog, "refused a peer")] == ["2"]
    assert [line["peer"] for line in _lines(caplog, "refused by peer")] == ["1"]


async def test_a_refused_member_is_accepted_when_the_reason_is_gone() -> None:
    """A configuration change or an operator ends it; nobody is restarted."""
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, start=1))
    verdicts = [WIPED]
    refusing = support.make_peer(
        1, port_of, local=support.Local(support.hello(1), lambda _hello: verdicts[0] if verdicts else None)
    )
    refused = support.make_peer(2, port_of)
    async with support.running(refusing), support.running(refused):
        await refused.events.until(lambda events: events.refused)
        verdicts.clear()
        await refused.events.until(lambda events: events.connected == {1})
        await refusing.events.until(lambda events: events.connected == {2})
    reservation.release()


async def test_peer_that_stays_out_of_reach_is_named_once_in_a_while(caplog: pytest.LogCaptureFixture) -> None:
    """A wrong address or a host that is down: most attempts are for those who debug, a few for whoever is on duty."""
    settings = dataclasses.replace(support.QUICK, unreachable_after_ms=40, unreachable_again_ms=40)
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, start=1))
    alone = support.make_peer(1, port_of, settings)
    said, complaints = asyncio.Event(), 0

    class Listening(logging.Handler):
        """Tells when the second complaint has come."""

        def emit(self, record: logging.LogRecord) -> None:
            nonlocal complaints
            complaints += record.levelno == logging.WARNING and record.getMessage().startswith("no connection to peer")
            if complaints == 2:
                said.set()

    caplog.set_level(logging.DEBUG, "kvraft")
    handler = Listening()
    logging.getLogger("kvraft").addHandler(handler)
    try:
        async with support.running(alone), asyncio.timeout(30):
            await said.wait()
    finally:
        logging.getLogger("kvraft").removeHandler(handler)
    reservation.release()
    lines = [line for line in caplog.records if line.getMessage().startswith("no connection to peer")]
    assert lines[0].levelno == logging.DEBUG, "members are started together: not at once"
    (first, *_) = _lines(caplog, "no connection to peer: is it running, and is this its address?")
    assert (first["peer"], first["url"]) == ("2", support.url(port_of[2]))
