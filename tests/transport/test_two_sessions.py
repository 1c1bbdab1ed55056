"""Two sessions between the same two members, which have dialled each other: both carry, and one of them is retired."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator

import pytest

from kvraft.peer_frames import Frame
from kvraft.raft.messages import Heartbeat
from kvraft.testing import ports
from kvraft.transport.handshake import LANES
from kvraft.transport.session import Session
from kvraft.transport.settings import TransportSettings
from tests.transport import raw, support

PATIENT = dataclasses.replace(support.QUICK, silence_ms=60_000)
"""Nothing is retired in the time of a test but by the test."""


@contextlib.asynccontextmanager
async def _two_sessions(settings: TransportSettings) -> AsyncIterator[tuple[support.Peer, support.Peer]]:
    """Members 1 and 2; the first session was dialled by 1, the second, on which both send, by 2."""
    reservation = ports.reserve(3)
    first_port, second_port, nobody = reservation.ports
    first = support.make_peer(1, {1: first_port, 2: second_port}, settings)
    second = support.make_peer(2, {1: nobody, 2: second_port}, settings)
    async with support.running(first), support.running(second):
        for peer in (first, second):
            await peer.events.until(lambda events: events.connected)
        second.transport.set_peers({1: (support.url(first_port),)})
        ours = await second.transport._diallers[1]._dial()
        assert _sessions(second, 1)[-1] is ours
        second.transport.send(1, (Heartbeat(3, 0, 0, 1),))
        await first.events.until(lambda events: events.frames)
        first.events.frames.clear()
        assert [session.dialled_here for session in _sessions(first, 2)] == [True, False]
        yield first, second
    reservation.release()


def _sessions(peer: support.Peer, with_member: int) -> list[Session]:
    """Those that carry frames, the one that is sent on last."""
    return [session for session, _since in peer.transport._links._links[with_member].up.values()]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> asyncio.Queue[Session]:
    """Every session that ends."""
    sessions: asyncio.Queue[Session] = asyncio.Queue()
    end = Session.end

    def ending(session: Session, reason: str) -> None:
        end(session, reason)
        sessions.put_nowait(session)

    monkeypatch.setattr(Session, "end", ending)
    return sessions


async def _until_one_is_left(ended: asyncio.Queue[Session], *peers: support.Peer) -> None:
    async with asyncio.timeout(support.WAIT_S):
        while any(len(link.entered) > 1 for peer in peers for link in peer.transport._links._links.values()):
            await ended.get()


def _assert_nothing_was_lost(sent: list[Frame], first: support.Peer, second: support.Peer) -> None:
    for peer in (first, second):
        assert len(peer.events.frames) == len(sent)
        assert all(frame in peer.events.frames for frame in sent)
        assert (peer.events.disconnects, peer.events.dropped) == (0, [])
    (left,), (right,) = _sessions(first, 2), _sessions(second, 1)
    assert (left.dialled_here, right.dialled_here) == (True, False), "the higher id gave up what it had dialled"


@pytest.mark.pure
async def test_retired_session_delivers_what_was_on_its_way(
    ended: asyncio.Queue[Session],
) -> None:
    """Megabytes are queued both ways when it is retired: each lane ends behind its last frame."""
    large = [support.append(support.entries(1, 5 << 20, first=first)) for first in (1, 2)]
    sent: list[Frame] = [*large, *(Heartbeat(3, 0, 0, number) for number in range(10))]
    async with _two_sessions(PATIENT) as (first, second):
        first.transport.send(2, sent[:7])
        second.transport.send(1, sent[:7])
        assert first.transport._links.redundant(0) == []
        (redundant,) = second.transport._links.redundant(0)
        redundant.retire()
        first.transport.send(2, sent[7:])
        second.transport.send(1, sent[7:])
        for peer in (first, second):
            await peer.events.until(lambda events: len(events.frames) >= len(sent))
        await _until_one_is_left(ended, first, second)
        _assert_nothing_was_lost(sent, first, second)


async def test_last_lane_of_a_retired_session_ends_with_its_own_silence() -> None:
    """The other one has ended and hears nothing any more: what it heard before says nothing of this one."""
    async with support.cluster(1, PATIENT) as (member,), raw.session(member.transport.ports[0]):
        await member.events.until(lambda events: events.connected == {2})
        (session,) = _sessions(member, 2)
        session.is_retired = True
        control, entries = (session._lanes[lane].connection for lane in LANES)
        control.abort("its dialler has retired the session")
        assert entries.is_open
        for _tick in range(6):
            entries.tick()
        assert not entries.is_open


@pytest.mark.pure
@pytest.mark.slow
async def test_two_sessions_become_one_by_themselves(ended: asyncio.Queue[Session]) -> None:
    """Once both have stood for two silence limits; frames go on meanwhile."""
    settings = dataclasses.replace(support.QUICK, silence_ms=500)
    sent: list[Frame] = []
    async with _two_sessions(settings) as (first, second):
        while len(_sessions(second, 1)) == 2 or len(_sessions(first, 2)) == 2:
            sent.append(Heartbeat(3, 0, 0, len(sent)))
            first.transport.send(2, sent[-1:])
            second.transport.send(1, sent[-1:])
            await asyncio.sleep(0.01)
        await _until_one_is_left(ended, first, second)
        for peer in (first, second):
            await peer.events.until(lambda events: len(events.frames) >= len(sent))
        _assert_nothing_was_lost(sent, first, second)
