"""Frames between transports on one loop: order, batches, fragments, overflow, reconnects."""

import asyncio
import dataclasses
import os
import socket
from collections.abc import Iterable

import pytest

from kvraft.peer_frames import ForwardedCommand, Frame, GreetingRefusalReason, GreetingRefused
from kvraft.raft.messages import AppendEntries, AppendEntriesReply, Heartbeat, HeartbeatReply
from kvraft.testing import ports
from kvraft.transport import session
from kvraft.transport.codec import decode_message, encode_frames
from kvraft.transport.connection import Connection
from kvraft.transport.framing import PING, seal
from kvraft.transport.handshake import LANES, Greeting, Lane
from tests.transport import raw, support


async def test_three_members_connect_to_each_other() -> None:
    """Each member is told of both others once frames can go both ways."""
    async with support.cluster(3) as peers:
        for peer in peers:
            others = {1, 2, 3} - {peer.transport.member_id}
            assert peer.events.connected == others
            assert all(peer.transport.is_connected(other) for other in others)


async def test_appends_arrive_in_the_order_in_which_they_were_sent() -> None:
    """Pipelining needs no probes: whatever the sizes, AppendEntries do not overtake each other."""
    async with support.cluster(2) as (leader, follower):
        log = support.entries(200, 200)
        sent = [support.append(log[start : start + 2]) for start in range(0, 200, 2)]
        sent[50] = support.append(support.entries(1, 3 << 20, first=101))
        for message in sent:
            leader.transport.send(2, (message,))
        await follower.events.until(lambda events: len(events.frames) == len(sent))
        assert follower.events.frames == sent


async def test_frames_of_one_step_arrive_in_one_piece() -> None:
    """They leave in one write, and what one read brings is one call of the member: one step there, too."""
    async with support.cluster(2) as (leader, follower):
        leader.transport.send(2, [Heartbeat(3, 0, 5, read_id) for read_id in range(1, 101)])
        await follower.events.until(lambda events: len(events.frames) == 100)
        assert len(follower.events.messages) == 1


async def test_frames_of_a_step_have_left_in_one_write_a_lane_when_send_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A commit on the loop right behind it holds none of them up: the sockets have them, without a turn of the loop."""
    settings = dataclasses.replace(support.QUICK, silence_ms=60_000)
    urgent: list[Frame] = [Heartbeat(3, 0, 5, 1), HeartbeatReply(3, 1, 0), AppendEntriesReply(3, True, 1, 0, 0)]
    appends: list[Frame] = [support.append([entry]) for entry in support.entries(3, 100)]
    writes: list[bytes] = []
    write_sealed = Connection.write_sealed

    def writing(connection: Connection, data: bytes) -> None:
        writes.append(data)
        write_sealed(connection, data)

    async with support.cluster(1, settings) as (leader,), raw.session(leader.transport.ports[0]) as lanes:
        await leader.events.until(lambda events: events.connected == {2})
        monkeypatch.setattr(Connection, "write_sealed", writing)
        leader.transport.send(2, [urgent[0], *appends, *urgent[1:]])
        arrived = [_arrived(lanes[lane].writer) for lane in (Lane.CONTROL, Lane.ENTRIES)]
        assert arrived == [seal(encode_frames(frames)) for frames in (urgent, appends)]
        assert writes == arrived


def _arrived(writer: asyncio.StreamWriter) -> bytes:
    """What lies in the socket and was not read."""
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as reading:
        return reading.recv(1 << 20, socket.MSG_PEEK | socket.MSG_DONTWAIT)


@pytest.mark.pure
async def test_one_encoding_of_an_append_serves_all_followers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers that are level are sent the same, whether it is one object or several equal ones."""
    encoded = 0
    original = encode_frames

    def counting(frames: Iterable[Frame]) -> bytes:
        nonlocal encoded
        encoded += 1
        return original(frames)

    async with support.cluster(3) as (leader, *followers):
        monkeypatch.setattr(session, "encode_frames", counting)
        log = support.entries(2, 1000)
        for batch in (log[:1], log[1:]):
            for to_member in (2, 3):
                leader.transport.send(to_member, (support.append(list(batch)),))
        for follower in followers:
            await follower.events.until(lambda events: len(events.frames) == 2)
            assert follower.events.frames == [support.append(log[:1]), support.append(log[1:])]
        assert encoded == 2


async def test_ten_mebibytes_arrive_and_heartbeats_do_not_wait_for_them() -> None:
    """Entries above a message's size travel in fragments, on another connection than heartbeats (decision 12)."""
    async with support.cluster(2) as (leader, follower):
        rounds = 0

        def on_leader(_from: int, _frames: list[Frame]) -> None:
            nonlocal rounds
            rounds += 1
            leader.transport.send(2, (Heartbeat(3, 0, 5, rounds + 1),))

        def on_follower(_from: int, frames: list[Frame]) -> None:
            if isinstance(frames[0], Heartbeat):
                follower.transport.send(1, (HeartbeatReply(3, frames[0].read_id, 0),))

        leader.events.react, follower.events.react = on_leader, on_follower
        big = support.append(support.entries(1, 10 << 20))
        command = ForwardedCommand(3, b"c" * (10 << 20))
        leader.transport.send(2, (big, command, Heartbeat(3, 0, 5, 1)))
        await follower.events.until(
            lambda events: sum(isinstance(frame, AppendEntries | ForwardedCommand) for frame in events.frames) == 2
        )
        large = [frame for frame in follower.events.frames if not isinstance(frame, Heartbeat)]
        assert large == [big, command]
        first_large = next(
            position for position, frame in enumerate(follower.events.frames) if not isinstance(frame, Heartbeat)
        )
        assert first_large >= 2, "no heartbeat round ended while 10 MiB were on their way"


async def test_a_full_queue_drops_frames_and_says_so() -> None:
    """A peer that does not read fills bounded queues; Raft hears of the loss, and what was queued still arrives."""
    settings = dataclasses.replace(support.QUICK, entries_frames_max=10, silence_ms=60_000)
    async with support.cluster(1, settings) as (leader,), raw.session(leader.transport.ports[0]) as lanes:
        await leader.events.until(lambda events: events.connected == {2})
        log = support.entries(100, 1 << 20)
        sent = [support.append([entry]) for entry in log]
        for frame in sent:
            leader.transport.send(2, (frame,))
        assert leader.events.dropped == [], "on_dropped came from inside send"
        await leader.events.until(lambda events: events.dropped == [2])
        accepted = sent[: -len(leader.events.dropped_frames)]
        assert leader.events.dropped_frames == sent[len(accepted) :]
        assert len(accepted) >= 10
        arrived: list[Frame] = []
        while len(arrived) < len(accepted):
            message = await lanes[Lane.ENTRIES].hear()
            assert message is not None
            frames = decode_message(message)
            assert isinstance(frames, list)
            arrived += frames
        assert arrived == accepted


async def test_a_queue_full_of_bytes_drops_but_always_takes_one_frame() -> None:
    """The bound in bytes holds too, yet a value larger than the queue still passes alone."""
    settings = dataclasses.replace(support.QUICK, entries_bytes_max=1 << 20)
    async with support.cluster(2, settings) as (leader, follower):
        sent = [support.append(support.entries(1, 3 << 20)), support.append(support.entries(1, 100, first=2))]
        leader.transport.send(2, sent)
        await leader.events.until(lambda events: events.dropped == [2])
        await follower.events.until(lambda events: events.frames)
        assert follower.events.frames == sent[:1]


async def test_frames_still_queued_when_the_stream_breaks_are_reported() -> None:
    """Dropped at once or later is all the same: a large frame of which a part has left, and what stood behind it."""
    async with support.cluster(2) as (first, second):
        command = ForwardedCommand(3, bytes(support.QUICK.bulk_command_bytes))
        large = support.append(support.entries(1, 10 << 20))
        first.transport.send(2, (large, command))
        first.transport.set_peers({})
        await first.events.until(lambda events: events.dropped)
        assert first.events.dropped_frames == [large, command]
        assert second.events.frames == []


async def test_frames_for_a_peer_without_a_stream_are_dropped_and_reported() -> None:
    """Nothing is kept for a peer that is away: it would be old when the peer comes back."""
    reservation = ports.reserve(2)
    alone = support.make_peer(1, dict(enumerate(reservation.ports, start=1)))
    async with support.running(alone):
        assert not alone.transport.is_connected(2)
        alone.transport.send(2, (AppendEntriesReply(3, True, 1, 0, 0),))
        alone.transport.send(99, (AppendEntriesReply(3, True, 1, 0, 0),))
        await alone.events.until(lambda events: sorted(events.dropped) == [2, 99])
    reservation.release()


async def test_a_restarted_peer_is_connected_again_on_the_same_port() -> None:
    """Both sides hear of the break, and frames flow to the new process."""
    reservation = ports.reserve(2)
    port_of = dict(enumerate(reservation.ports, start=1))
    first = support.make_peer(1, port_of)
    async with support.running(first):
        for round_number in range(1, 4):
            second = support.make_peer(2, port_of)
            async with support.running(second):
                await first.events.until(lambda events: events.connected == {2})
                await second.events.until(lambda events: events.connected == {1})
                first.transport.send(2, (Heartbeat(3, 0, 5, round_number),))
                await second.events.until(lambda events: events.frames)
                assert second.events.frames == [Heartbeat(3, 0, 5, round_number)]
            await first.events.until(lambda events: not events.connected)
            assert first.events.disconnects == round_number
    reservation.release()


async def test_a_peer_that_leaves_the_configuration_is_disconnected() -> None:
    """`set_peers` ends the streams of who left, and dials who came."""
    async with support.cluster(3) as (first, second, third):
        first.transport.set_peers({2: (support.url(second.transport.ports[0]),)})
        await first.events.until(lambda events: events.connected == {2})
        await third.events.until(lambda events: events.connected == {2})
        assert not first.transport.is_connected(3)
        third.transport.send(1, (Heartbeat(3, 0, 5, 1),))
        await third.events.until(lambda events: events.dropped or events.refused)
        assert first.events.frames == []
        first.transport.set_peers(
            {peer.transport.member_id: (support.url(peer.transport.ports[0]),) for peer in (second, third)}
        )
        await first.events.until(lambda events: events.connected == {2, 3})
        await third.events.until(lambda events: events.connected == {1, 2})


async def test_session_with_an_earlier_process_is_given_up_when_its_successor_answers() -> None:
    """A half-open connection would swallow frames until its silence is noticed; the new process is proof enough."""
    async with support.cluster(2) as (first, second), raw.session(first.transport.ports[0], instance=b"newer me"):
        await second.events.until(lambda events: events.disconnects == 1)
        await first.events.until(lambda events: events.disconnects >= 1)


async def test_greeting_of_a_dead_process_that_comes_late_ends_nothing() -> None:
    """It was on its way for long, and nobody answers: frames go on both ways on the session that there is."""
    async with support.cluster(2) as (first, second):
        for number in range(10):
            greeting = Greeting(support.hello(2), 1, Lane.CONTROL, b"dead one", number)
            async with raw.greeted(first.transport.ports[0], greeting):
                first.transport.send(2, (Heartbeat(1, 0, number, 1),))
                second.transport.send(1, (Heartbeat(1, 0, number, 1),))
        for peer in (first, second):
            await peer.events.until(lambda events: len(events.frames) == 10)
            assert peer.events.disconnects == 0


async def test_successor_is_judged_by_all_that_its_predecessor_had_sent() -> None:
    """An acknowledgement on its way when the new process greeted would otherwise count for a disk that has lost it."""
    async with support.cluster(2) as (first, second):
        greetings = [Greeting(support.hello(2), 1, lane, b"newer me", 1) for lane in LANES]
        port = first.transport.ports[0]
        async with raw.greeted(port, greetings[0]) as control, raw.greeted(port, greetings[1]) as entries:
            forgotten = GreetingRefused(GreetingRefusalReason.SHORTER_LOG, "it has forgotten")
            first.local.verdict = lambda hello: forgotten if hello.member_id == 2 else None
            for lane in (control, entries):
                lane.say(raw.ACCEPTED, encode_frames([Heartbeat(7, 0, 7, 7)]))
            for lane in (control, entries):
                await lane.ended()
            await second.events.until(lambda events: events.disconnects)
        assert first.events.frames == []


async def test_half_open_session_ends_within_its_silence_limit_and_not_much_before() -> None:
    """The limit is the election timeout; five of its six parts may pass, as one of them is the peer's own pause."""
    settings = dataclasses.replace(support.QUICK, silence_ms=60_000)
    async with support.cluster(1, settings) as (member,), raw.session(member.transport.ports[0]) as lanes:
        await member.events.until(lambda events: events.connected == {2})
        pulse = member.transport._pulse

        def pass_parts(count: int) -> None:
            for connection in tuple(pulse.connections) * count:
                connection.tick()

        pass_parts(5)
        lanes[Lane.ENTRIES].say(encode_frames([Heartbeat(3, 0, 5, 1)]))
        await member.events.until(lambda events: events.frames)
        pass_parts(5)
        assert member.events.connected == {2}
        pass_parts(1)
        assert member.events.connected == set()
        assert 6 * pulse._interval_s <= settings.silence_ms / 1000


async def test_each_lane_that_is_quiet_says_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """In every part of the silence limit: a NAT that counts packets forgets both at about the same time."""
    said: list[Connection] = []

    def writing(connection: Connection, data: bytes) -> None:
        assert data == PING
        said.append(connection)

    settings = dataclasses.replace(support.QUICK, silence_ms=60_000)
    async with support.cluster(1, settings) as (member,), raw.session(member.transport.ports[0]):
        await member.events.until(lambda events: events.connected == {2})
        connections = tuple(member.transport._pulse.connections)
        monkeypatch.setattr(Connection, "write_sealed", writing)
        for _ in range(10):
            for connection in connections:
                connection.silent_ticks = 0
                connection.tick()
        monkeypatch.undo()
    assert len(connections) == 2
    assert all(said.count(connection) >= 9 for connection in connections)


async def test_large_frame_whose_last_fragment_has_left_is_not_reported_as_unsent() -> None:
    """Who is told so sends it again: a command that has arrived would be done twice."""
    async with support.cluster(2) as (first, second):
        command = ForwardedCommand(3, bytes(3 << 20))
        first.transport.send(2, (command,))
        await second.events.until(lambda events: events.frames)
        assert second.events.frames == [command]
        first.transport.set_peers({})
        await second.events.until(lambda events: not events.connected)
        assert first.events.dropped_frames == []
