"""When a peer counts as connected, which stream a frame takes, and what a queue holds."""

import asyncio

from kvraft.peer_frames import ForwardedCommand, Frame
from kvraft.raft.messages import AppendEntriesReply, Heartbeat
from kvraft.transport.handshake import Lane
from kvraft.transport.lanes import OutboundQueue, lane_of
from kvraft.transport.links import Links
from kvraft.transport.repeats import Repeats
from tests.transport import support

NEW, OLD = b"new proc", b"old proc"


class _Story:
    """Links, and what they reported."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.links = Links(
            lambda member_id: self.told.append(f"up {member_id}"),
            lambda member_id: self.told.append(f"down {member_id}"),
        )

    def connect(self, instance: bytes) -> None:
        self.links.outbound_up(2, instance)
        self.links.inbound_up(2, Lane.CONTROL, instance)
        self.links.inbound_up(2, Lane.ENTRIES, instance)


def test_a_peer_is_connected_once_all_its_streams_are_up() -> None:
    """In whatever order they come."""
    story = _Story()
    story.links.inbound_up(2, Lane.ENTRIES, NEW)
    story.links.outbound_up(2, NEW)
    assert story.told == []
    story.links.inbound_up(2, Lane.CONTROL, NEW)
    assert story.told == ["up 2"]
    assert story.links.is_connected(2)


def test_the_first_stream_that_breaks_disconnects_and_the_others_add_nothing() -> None:
    """A dead process breaks four streams; the member hears of it once, with the first."""
    story = _Story()
    control = story.links.inbound_up(2, Lane.CONTROL, NEW)
    entries = story.links.inbound_up(2, Lane.ENTRIES, NEW)
    story.links.outbound_up(2, NEW)
    story.links.inbound_down(entries)
    assert story.told == ["up 2", "down 2"]
    story.links.inbound_down(control)
    story.links.inbound_down(control)
    story.links.outbound_down(2)
    assert story.told == ["up 2", "down 2"]


def test_streams_of_a_new_process_replace_those_of_the_old_one() -> None:
    """A half-open connection to a process that is gone neither delivers nor counts."""
    story = _Story()
    old = story.links.inbound_up(2, Lane.CONTROL, OLD)
    story.connect(OLD)
    assert old.stale
    new = story.links.inbound_up(2, Lane.ENTRIES, NEW)
    assert story.told == ["up 2", "down 2"]
    story.links.inbound_up(2, Lane.CONTROL, NEW)
    assert story.told == ["up 2", "down 2"], "our own streams still lead to the old process"
    story.links.outbound_down(2)
    story.links.outbound_up(2, NEW)
    assert story.told == ["up 2", "down 2", "up 2"]
    story.links.inbound_down(old)
    assert story.links.is_connected(2)
    assert not new.stale


def test_a_peer_that_is_forgotten_is_disconnected_and_its_streams_are_stale() -> None:
    """It was removed from the configuration."""
    story = _Story()
    story.connect(NEW)
    control = story.links.inbound_up(2, Lane.CONTROL, NEW)
    story.links.forget(2)
    story.links.forget(2)
    assert control.stale
    assert story.told[-1] == "down 2"
    assert story.told.count("down 2") == story.told.count("up 2")
    story.links.outbound_down(2)
    assert not story.links.is_connected(2)


def test_only_appends_and_large_commands_take_the_entries_stream() -> None:
    """Appends must stay in order, and heartbeats must not wait."""
    command = ForwardedCommand(3, b"x" * 100)
    assert lane_of(support.append(support.entries(1, 1)), 10, 1000) is Lane.ENTRIES
    assert lane_of(command, 1001, 1000) is Lane.ENTRIES
    assert lane_of(command, 1000, 1000) is Lane.CONTROL
    assert lane_of(Heartbeat(3, 0, 0, 0), 50, 1000) is Lane.CONTROL
    assert lane_of(AppendEntriesReply(3, True, 1, 0, 0), 50, 1000) is Lane.CONTROL


def test_a_queue_gives_messages_of_bounded_size_in_order() -> None:
    """As much as fits one message at a time; a frame above that comes alone."""
    queue = OutboundQueue(frames_max=10, bytes_max=1000, message_bytes_max=100)
    sizes = [40, 60, 30, 150, 20, 20]
    frames: list[Frame] = [Heartbeat(3, 0, 0, number) for number in range(len(sizes))]
    assert all(queue.push(frame, size) for frame, size in zip(frames, sizes, strict=True))
    taken = []
    while len(queue):
        taken.append(queue.take())
    assert taken == [(frames[:2], 100), (frames[2:3], 30), (frames[3:4], 150), (frames[4:], 40)]


def test_a_queue_refuses_what_exceeds_its_bounds_and_keeps_what_it_has() -> None:
    """Frames and bytes are bounded; what was refused leaves no trace."""
    few = OutboundQueue(frames_max=2, bytes_max=1000, message_bytes_max=100)
    frame = Heartbeat(3, 0, 0, 0)
    assert [few.push(frame, 1) for _ in range(3)] == [True, True, False]
    small = OutboundQueue(frames_max=100, bytes_max=10, message_bytes_max=100)
    assert [small.push(frame, size) for size in (8, 3, 2, 1)] == [True, False, True, False]
    assert small.take() == ([frame, frame], 10)
    assert small.push(frame, 11), "an empty queue takes a frame of any size"
    assert (small.clear(), len(small)) == ([frame], 0)


async def test_a_waiting_queue_wakes_for_the_first_frame() -> None:
    """And does not wait at all if there is one."""
    queue = OutboundQueue(frames_max=10, bytes_max=1000, message_bytes_max=100)
    waiting = asyncio.create_task(queue.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    queue.push(Heartbeat(3, 0, 0, 0), 10)
    queue.push(Heartbeat(3, 0, 0, 0), 10)
    await waiting
    await queue.wait()
    assert len(queue) == 2


def test_a_fact_is_news_once_until_it_changes_settles_or_is_a_minute_old() -> None:
    """A refused peer redials all day and fills no log."""
    now = [0]
    repeats = Repeats(lambda: now[0])
    assert repeats.is_news("peer 2", "wiped")
    assert not repeats.is_news("peer 2", "wiped")
    assert repeats.is_news("peer 3", "wiped")
    assert repeats.is_news("peer 2", "removed")
    now[0] = 61_000
    assert repeats.is_news("peer 2", "removed")
    repeats.settle("peer 2")
    assert repeats.is_news("peer 2", "removed")


def test_what_strangers_say_takes_bounded_memory() -> None:
    """Keys hold names that strangers may choose."""
    repeats = Repeats(lambda: 0)
    for number in range(10_000):
        repeats.is_news(f"peer {number}", "unknown")
    assert len(repeats._said) <= 256
