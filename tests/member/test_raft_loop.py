"""The order of disk and network around a step (design.md, "The core's door")."""

import asyncio
from typing import cast, final

import pytest

from kvraft.member.failure import Failure
from kvraft.member.interfaces import LogStore
from kvraft.member.raft_loop import RaftLoop
from kvraft.member.stats import ServerStats
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Effects, HardState, Outgoing, Persist, Role
from kvraft.raft.entries import Entry
from kvraft.raft.inputs import PeerUnreachable
from kvraft.raft.messages import Heartbeat, InstallSnapshot
from tests.member import virtual_time
from tests.member.fakes import ManualLog, RecordingTransport, ScriptedRaft, log_of

pytestmark = pytest.mark.pure

ENTRIES = log_of(*[b"x"] * 40)


@final
class Desk:
    """A loop over a scripted core and a manual disk; `journal` is the order in which things happened."""

    def __init__(self) -> None:
        self.journal: list[str] = []
        self.raft = ScriptedRaft()
        self.log = ManualLog(self.journal)
        self.transport = RecordingTransport()
        store = cast("LogStore", self.log)
        self.now_ms = 0
        self.failure = Failure("m1")
        self.loop = RaftLoop(
            self.raft.core,
            store,
            self.transport,
            lambda: self.now_ms,
            ServerStats(1, "m1"),
            self.failure,
            slow_commit_ms=50,
        )
        self.loop.before_step = lambda _now_ms: None
        self.loop.after_step = lambda _effects, _now_ms: None

    def step(self, *effects: Effects) -> None:
        """One step for each of these, in one turn each."""
        for one in effects:
            self.raft.effects.append(one)
            self.loop._run()

    def durable(self, batch_id: int) -> None:
        """The log thread answers."""
        self.log.queued = [batch for batch in self.log.queued if batch.batch_id > batch_id]
        self.loop.on_persisted(batch_id)

    def sent(self) -> list[int]:
        """Terms of the heartbeats sent since the last call: the tests' names for messages."""
        return [frame.term for _, frame in self.transport.take() if isinstance(frame, Heartbeat)]


def message(name: int, after_batch: int = 0) -> list[Outgoing]:
    return [Outgoing(2, Heartbeat(name, 0, 0, 0), after_batch)]


def batch(batch_id: int, entries: list[Entry], *, must_sync: bool = True) -> Persist:
    return Persist(batch_id, HardState(1, 0, 0), 0, entries, must_sync)


def test_messages_now_leave_beside_the_disk_the_others_after_it() -> None:
    """The leader's entries are on their way while its own disk works; replies wait for it."""

    async def story() -> None:
        desk = Desk()
        desk.step(Effects(batch(1, ENTRIES[:10]), message(1) + message(2, 1)))
        assert desk.journal == ["queue 1"]
        assert desk.sent() == [1]
        desk.durable(1)
        assert desk.sent() == [2]

    virtual_time.run(story())


def test_each_message_waits_for_the_batch_that_it_names() -> None:
    """A step without a batch of its own may still answer for what an earlier one has put on its way."""

    async def story() -> None:
        desk = Desk()
        desk.step(Effects(batch(1, ENTRIES[:10])), Effects(batch(2, ENTRIES[10:20]), message(7, 2)))
        desk.step(Effects(None, message(8, 2) + message(9, 1)))
        desk.durable(1)
        assert desk.sent() == [9]
        desk.durable(2)
        assert desk.sent() == [7, 8]

    virtual_time.run(story())


def test_batch_without_sync_holds_up_nothing() -> None:
    """A new commit index alone forces no sync, and no message waits for it."""

    async def story() -> None:
        desk = Desk()
        desk.step(Effects(batch(1, [], must_sync=False), message(3)))
        assert desk.journal == ["queue 1"]
        assert desk.sent() == [3]

    virtual_time.run(story())


def test_small_batch_of_a_follower_is_committed_at_once() -> None:
    """Nothing else waits: its reply leaves in the same step, and the core hears of it without another."""

    async def story() -> None:
        desk = Desk()
        desk.step(Effects(batch(1, ENTRIES[:1]), message(3, 1)))
        assert desk.journal == ["commit 1"]
        assert desk.sent() == [3]
        assert desk.raft.durable_batch == 1
        await virtual_time.turns()
        assert desk.raft.steps == 1

    virtual_time.run(story())


def test_a_durable_batch_makes_a_step_only_if_something_is_committed_by_it() -> None:
    """An answer has been sent already, and a leader whose followers lag behind its disk learns nothing."""

    async def story(*, commits: bool) -> int:
        desk = Desk()
        desk.raft.role, desk.raft.commits = Role.LEADER, commits
        desk.step(Effects(batch(1, ENTRIES[:10])), Effects(batch(2, ENTRIES[10:20]), message(7, 2)))
        desk.durable(1)
        desk.durable(2)
        assert desk.sent() == [7]
        await virtual_time.turns()
        assert desk.raft.durable_batch == 2
        return desk.raft.steps - 2

    assert virtual_time.run(story(commits=False)) == 0
    assert virtual_time.run(story(commits=True)) == 1


@pytest.mark.parametrize("comes", ["in the same step", "in the next one"])
def test_no_batch_is_committed_behind_the_snapshot_that_replaces_its_log(comes: str) -> None:
    """A follower's small batch waits for the loop, while the snapshot empties the log from another thread."""

    async def story() -> None:
        desk = Desk()
        small = Effects(batch(1, ENTRIES[:1]), message(7))
        install = small if comes == "in the same step" else Effects()
        install.install = InstallSnapshot(1, 100, 1, b"", Configuration.of([1]), "s", 0)

        def empty_the_log(effects: Effects, _now_ms: int) -> None:
            if effects.install is not None:
                desk.journal.append("empty")

        desk.loop.after_step = empty_the_log
        desk.step(*([install] if install is small else [small, install]))
        await virtual_time.turns()
        assert desk.journal == ["queue 1", "empty"]

    virtual_time.run(story())


def test_what_is_applied_makes_a_step_only_if_more_is_held_back() -> None:
    """The core hands out committed entries in bounded pieces."""

    async def story(commit_index: int) -> int:
        desk = Desk()
        desk.raft.commit_index = commit_index
        desk.loop.applied(7)
        await virtual_time.turns()
        return desk.raft.steps

    assert virtual_time.run(story(7)) == 0
    assert virtual_time.run(story(8)) == 1


def test_small_batch_of_a_leader_is_committed_once_its_messages_have_left() -> None:
    """The disk works beside the followers."""

    async def story() -> None:
        desk = Desk()
        desk.raft.role, desk.raft.commits = Role.LEADER, True
        desk.step(Effects(batch(1, ENTRIES[:1]), message(1) + message(2, 1)))
        assert desk.journal == []
        assert desk.sent() == [1]
        await virtual_time.turns()
        assert desk.journal == ["commit 1"]
        assert desk.sent() == [2]
        assert desk.raft.steps == 2

    virtual_time.run(story())


def test_postponed_batch_waits_for_a_step_that_is_due() -> None:
    """More has come while nobody looked: both batches are the log thread's, which syncs them at once."""

    async def story(*, more: bool) -> list[str]:
        desk = Desk()
        desk.step(Effects(batch(1, ENTRIES[:1]), message(1)))
        desk.raft.effects.append(Effects(batch(2, ENTRIES[1:2]) if more else None, message(2)))
        desk.loop.put(PeerUnreachable(2))
        await virtual_time.turns()
        return desk.journal

    assert virtual_time.run(story(more=True)) == ["queue 1", "queue 2"]
    assert virtual_time.run(story(more=False)) == ["commit 1"]


def test_batches_behind_a_postponed_one_do_not_overtake_it() -> None:
    """More has come: the postponed batch goes to the log thread, and the next one behind it."""

    async def story() -> None:
        desk = Desk()
        behind = Effects(batch(2, ENTRIES[1:2]), message(2) + message(9, 2))
        desk.step(Effects(batch(1, ENTRIES[:1]), message(1)), behind)
        await virtual_time.turns()
        assert desk.journal == ["queue 1", "queue 2"]
        assert desk.sent() == [1, 2]
        desk.durable(1)
        assert desk.sent() == []
        assert desk.raft.durable_batch == 1
        desk.durable(2)
        assert desk.sent() == [9]

    virtual_time.run(story())


def test_disk_that_stalls_is_waited_for_by_the_log_thread() -> None:
    """A commit on the loop holds up heartbeats: no more of them for ten seconds, and until one was quick again."""

    async def story() -> None:
        desk = Desk()

        def stall(milliseconds: int) -> None:
            desk.log.commit_takes = lambda: setattr(desk, "now_ms", desk.now_ms + milliseconds)

        for number, (takes_ms, then_ms) in enumerate(((49, 0), (50, 0), (0, 10_000), (51, 0), (0, 9_999), (0, 1)), 1):
            stall(takes_ms)
            desk.step(Effects(batch(number, ENTRIES[number - 1 : number])))
            if desk.log.queued:
                desk.now_ms += takes_ms
                desk.durable(number)
            desk.now_ms += then_ms
        desk.step(Effects(batch(7, ENTRIES[6:7])))
        assert desk.journal == ["commit 1", "commit 2", "queue 3", "commit 4", "queue 5", "queue 6", "commit 7"]

    virtual_time.run(story())


def test_stop_gives_a_postponed_batch_to_the_disk() -> None:
    """Its entries may be applied already: a last flush waits for them."""

    async def story() -> None:
        desk = Desk()
        desk.step(Effects(batch(1, ENTRIES[:1]), message(1) + message(2, 1)))
        desk.loop.stop()
        await virtual_time.turns()
        assert desk.journal == ["queue 1"]
        desk.durable(1)
        assert desk.sent() == [1]

    virtual_time.run(story())


def test_nothing_steps_after_a_stop_or_a_failure() -> None:
    """A member that has stopped says nothing more; a defect in a step stops it."""

    async def story() -> None:
        desk = Desk()
        desk.raft.effects.append(cast("Effects", None))
        desk.loop.wake()
        await virtual_time.turns()
        assert desk.failure.reason.done()
        desk.loop.put(PeerUnreachable(1))
        desk.loop.on_persisted(1)
        await virtual_time.turns()
        assert desk.raft.given == []

    unhandled: list[str] = []
    virtual_time.run(story(), unhandled=unhandled)
    assert len(unhandled) == 1


def test_inputs_of_one_turn_make_one_step() -> None:
    """So one transaction, one sync and one message serve many writes."""

    async def story() -> None:
        desk = Desk()
        desk.raft.effects = [Effects(None, message(1)), Effects(None, message(2))]
        desk.loop.put(PeerUnreachable(1))
        desk.loop.put(PeerUnreachable(2))
        await asyncio.sleep(0)
        assert desk.raft.given == [PeerUnreachable(1), PeerUnreachable(2)]
        assert desk.sent() == [1]

    virtual_time.run(story())
