"""When a peer counts as connected, which lane a frame takes, and what a queue holds."""

from dataclasses import dataclass

import pytest

from kvraft.peer_frames import ForwardedCommand, Frame, GreetingRefusalReason, GreetingRefused
from kvraft.raft.messages import AppendEntriesReply, Heartbeat
from kvraft.repeats import Repeats
from kvraft.transport.handshake import Lane
from kvraft.transport.lanes import OutboundQueue, lane_of
from kvraft.transport.links import Links
from tests.transport import support

NEW, OLD = b"new proc", b"old proc"
SETTLED_MS = 1000


@dataclass(eq=False)
class _Session:
    """A session of member 5 with another."""

    story: "_Story"
    member_id: int
    instance: bytes = NEW
    dialled_here: bool = True
    number: int = 1
    address: str = "there"
    ended: str = ""

    last_word: GreetingRefused | None = None

    def end(self, reason: str, refusal: GreetingRefused | None = None) -> None:
        if not self.ended:
            self.ended, self.last_word = reason, refusal
            self.story.links.down(self, reason)


class _Story:
    """Links of member 5, and what they reported."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ended: list[int] = []
        """The peers of sessions that had carried frames."""
        self.now_ms = 0
        self.links: Links[_Session] = Links(
            5,
            lambda: self.now_ms,
            lambda member_id, _address: self.told.append(f"up {member_id}"),
            lambda member_id, _reason: self.told.append(f"down {member_id}"),
            self.ended.append,
        )

    def enter(self, member_id: int = 2, **fields: object) -> _Session:
        session = _Session(self, member_id, **fields)  # type: ignore[arg-type]  # each test gives what it is about
        self.links.enter(session)
        return session

    def up(self, member_id: int = 2, **fields: object) -> _Session:
        session = self.enter(member_id, **fields)
        self.links.replace(session)
        self.links.up(session)
        return session


def test_peer_is_connected_while_a_session_is_up() -> None:
    """Entered is not up yet; the end is told once, however often it is heard of."""
    story = _Story()
    session = story.enter()
    assert (story.told, story.links.current(2)) == ([], None)
    story.links.up(session)
    assert (story.told, story.links.current(2)) == (["up 2"], session)
    session.end("it fell silent")
    story.links.down(session, "again")
    assert story.told == ["up 2", "down 2"]
    assert story.links.current(2) is None


def test_end_of_each_session_that_has_carried_frames_is_told_whether_or_not_another_stands() -> None:
    """What was on its way on it may be lost, and nothing else says so."""
    story = _Story()
    one, other = story.up(dialled_here=True), story.up(dialled_here=False)
    story.enter(number=2).end("it was never up")
    assert story.ended == []
    other.end("a reset")
    assert (story.ended, story.told, story.links.current(2)) == ([2], ["up 2"], one)
    third = story.up(dialled_here=False, number=3)
    story.links.retire(one)
    assert story.ended == [2]
    one.end("it was retired")
    third.end("a reset")
    assert (story.ended, story.told) == ([2, 2, 2], ["up 2", "down 2"])


@pytest.mark.parametrize("number", [6, 7])
def test_session_that_the_peer_numbered_before_the_one_that_is_up_ends(number: int) -> None:
    """A late one, or one that somebody plays again: no frame leaves on it, and the one that is up stays."""
    story = _Story()
    up = story.up(dialled_here=False, number=7)
    late = story.up(dialled_here=False, number=number)
    assert late.ended
    assert not up.ended
    assert (story.links.current(2), story.told) == (up, ["up 2"])
    up.end("it fell silent")  # a peer whose memory was rolled back numbers from before: then nothing is later any more
    assert story.links.current(2) is None
    again = story.up(dialled_here=False, number=number)
    assert story.links.current(2) is again


def test_session_with_another_process_ends_those_with_the_one_before() -> None:
    """Before anything is read on the new one: a half-open connection to a dead process neither delivers nor counts."""
    story = _Story()
    old, waiting = story.up(instance=OLD), story.enter(instance=OLD, number=2)
    new = story.enter(instance=NEW)
    assert story.told == ["up 2"]
    assert story.links.replace(new)
    assert old.ended
    assert waiting.ended
    assert story.told == ["up 2", "down 2"]
    story.links.up(new)
    assert not story.links.replace(story.enter(instance=NEW, number=2))
    assert story.told == ["up 2", "down 2", "up 2"]


def test_late_greeting_of_a_dead_process_ends_nothing() -> None:
    """It was on its way while the next one came up, or came behind it: nobody answers our answer."""
    story = _Story()
    early = story.enter(instance=OLD, dialled_here=False)
    new = story.up(instance=NEW, dialled_here=False)
    assert early.ended, "greeted before, so its process cannot live"
    late = story.enter(instance=OLD, dialled_here=False, number=9)
    assert (story.links.current(2), story.told) == (new, ["up 2"])
    late.end("it does not answer")
    again = story.up(instance=NEW, dialled_here=True)
    assert (story.links.current(2), story.told) == (again, ["up 2"])
    assert not new.ended


def test_later_session_of_the_same_dialler_ends_the_earlier_one_once_it_is_up() -> None:
    """Who has a session does not dial: it has lost the earlier one, and what was sent there is lost."""
    story = _Story()
    earlier = story.up(number=3, dialled_here=False)
    later = story.enter(number=4, dialled_here=False)
    assert story.links.current(2) is earlier, "its dialler may try two addresses at once, and use the first"
    story.links.up(later)
    assert earlier.ended
    assert story.told == ["up 2", "down 2", "up 2"]


def test_of_two_sessions_by_two_diallers_the_last_one_up_is_sent_on_and_both_stay() -> None:
    """Either may be half open, and nobody knows yet which."""
    story = _Story()
    ours, theirs = story.up(dialled_here=True), story.up(dialled_here=False)
    assert story.links.current(2) is theirs
    assert not ours.ended
    theirs.end("it was the half-open one")
    assert story.links.current(2) is ours
    assert story.told == ["up 2"]


@pytest.mark.parametrize(("peer", "retired"), [(2, True), (9, False)])
def test_redundant_session_is_retired_by_the_higher_id_once_both_are_settled(peer: int, retired: bool) -> None:
    """One rule that both sides know, and only the dialler acts on it."""
    story = _Story()
    ours = story.up(peer, dialled_here=True)
    story.now_ms = SETTLED_MS // 2
    story.up(peer, dialled_here=False)
    story.now_ms = SETTLED_MS
    assert story.links.redundant(SETTLED_MS) == []
    story.now_ms = 2 * SETTLED_MS
    assert story.links.redundant(SETTLED_MS) == ([ours] if retired else [])


def test_single_session_is_never_redundant_whoever_dialled_it() -> None:
    """A link that only one side can dial stands for ever."""
    story = _Story()
    story.up(2, dialled_here=True)
    story.up(9, dialled_here=False)
    story.now_ms = 100 * SETTLED_MS
    assert story.links.redundant(SETTLED_MS) == []


def test_retired_session_is_sent_on_no_more_and_its_end_is_no_loss() -> None:
    """What was on its way still arrives."""
    story = _Story()
    ours, theirs = story.up(dialled_here=True), story.up(dialled_here=False)
    story.links.retire(theirs)
    assert story.links.current(2) is ours
    theirs.end("done")
    assert story.told == ["up 2"]
    story.links.retire(ours)
    assert story.told == ["up 2", "down 2"], "there is no other"


def test_nothing_of_a_retired_session_comes_once_the_peer_is_disconnected() -> None:
    """It ends with the one that took over; a session that is only being greeted goes on."""
    story = _Story()
    ours, theirs = story.up(dialled_here=True), story.up(dialled_here=False)
    coming = story.enter(dialled_here=True, number=2)
    story.links.retire(ours)
    theirs.end("it fell silent")
    assert ours.ended == "it fell silent"
    assert story.told == ["up 2", "down 2"]
    assert not coming.ended


def test_sessions_that_never_come_up_are_bounded() -> None:
    """Who greets again and again has the last few only."""
    story = _Story()
    begun = [story.enter(number=number, dialled_here=False) for number in range(1, 21)]
    assert [bool(session.ended) for session in begun] == [True] * 16 + [False] * 4
    assert story.told == []


def test_peer_that_is_forgotten_is_disconnected_and_its_sessions_end() -> None:
    """It was removed from the configuration."""
    story = _Story()
    session, waiting = story.up(), story.enter(number=2)
    removed = GreetingRefused(GreetingRefusalReason.REMOVED, "you were removed")
    story.links.forget(2, removed)
    story.links.forget(2, removed)
    assert session.last_word is removed
    assert story.links.peers() == ()
    assert session.ended
    assert waiting.ended
    assert story.told == ["up 2", "down 2"]
    assert story.links.current(2) is None


def test_only_appends_and_large_commands_take_the_entries_lane() -> None:
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
    while queue.frames:
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
    assert (small.clear(), len(small.frames)) == ([frame], 0)


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
