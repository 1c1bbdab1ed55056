"""A whole member whose peers are played by the test: requests across leader changes, installs and a stop."""

import asyncio
import gc
import pathlib
import random
import shutil
from collections.abc import Callable, Coroutine
from typing import Any, final

from kvraft.keyspace.account_commands import DisableAuth
from kvraft.keyspace.commands import Command, CreateInOrder, PublishMember, RemoveMember, Set, SetClusterVersion
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.cluster import Cluster
from kvraft.member.member import Member
from kvraft.member.outcomes import OLDER_MEMBERS
from kvraft.member.peer_memory import PeerMemory
from kvraft.member.settings import MemberSettings
from kvraft.member.waiters import REQUEST_ID_BYTES, Waiter
from kvraft.peer_frames import ForwardedCommand, ForwardRefused
from kvraft.raft.core import Raft
from kvraft.raft.effects import ProposalRefusalReason
from kvraft.raft.entries import ZERO_HASH, Entry, EntryKind, make_entry
from kvraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    HeartbeatReply,
    ReadIndexReply,
    ReadIndexRequest,
    RebuildRequest,
)
from kvraft.raft.settings import RaftSettings
from kvraft.records import Written
from tests.member import virtual_time
from tests.member.fakes import RecordingTransport, payload_of
from tests.member.host import CLUSTER_ID, CONFIGURATION, FOUNDERS, REGISTRATION
from tests.storage.memory import MemoryDisk, open_memory


@final
class Follower:
    """Member 1, which follows what the test sends as members 2 and 3."""

    def __init__(self, directory: pathlib.Path) -> None:
        directory.mkdir(exist_ok=True)
        loop = asyncio.get_running_loop()
        self.disk = MemoryDisk.empty(CONFIGURATION)
        self.storage = open_memory(self.disk, directory)
        self.transport = RecordingTransport()
        self.outcomes: list[Written | EtcdError] = []
        self.last: Entry | None = None
        self.free_bytes = 1 << 40

        async def load() -> Keyspace:
            keyspace = Keyspace(history_reader=self.storage.state)
            keyspace.load(self.storage.state.load())
            return keyspace

        raft = Raft(1, self.storage.log.restored(), RaftSettings(), random.Random(1), self.storage.log, 0)
        keyspace = Keyspace()
        cluster = Cluster(CLUSTER_ID, PublishMember(1, "m1", ()), FOUNDERS, 1000, keyspace)
        self.member = Member(
            raft=raft,
            keyspace=keyspace,
            cluster=cluster,
            memory=PeerMemory(cluster, raft, self.storage.log, created_now=True),
            log_store=self.storage.log,
            state_store=self.storage.state,
            transport=self.transport,
            settings=MemberSettings(),
            configuration=CONFIGURATION,
            load_keyspace=load,
            free_bytes=lambda: self.free_bytes,
            boot_nonce=5,
        )
        self.storage.start(loop, self.member.loop.on_persisted, lambda error: self.member.failure.tell(str(error)))

    async def lead(self, leader: int, term: int, *payloads: bytes | None) -> None:
        """Entries of a leader, committed at once: commands for bytes, the leader's empty entry for None."""
        previous, entries = self.last, []
        for payload in payloads:
            index, chain_hash = (self.last.index, self.last.chain_hash) if self.last is not None else (0, ZERO_HASH)
            kind = EntryKind.NOOP if payload is None else EntryKind.COMMAND
            self.last = make_entry(chain_hash, index + 1, term, kind, 0, payload or b"")
            entries.append(self.last)
        at = (previous.index, previous.term, previous.chain_hash) if previous is not None else (0, 0, ZERO_HASH)
        assert self.last is not None
        self.member.peers.on_frames(leader, [AppendEntries(term, *at, entries, self.last.index, 0)])
        await virtual_time.turns()

    async def post(self) -> None:
        """A client's POST."""
        self.member.clients.submit(CreateInOrder(path=b"/q", value=b"job"), self.outcomes.append)
        await virtual_time.turns()

    async def answer_read(self) -> None:
        """The leader answers the read that waits with what has been sent."""
        [(leader, asked)] = [(to, frame) for to, frame in self.transport.take() if isinstance(frame, ReadIndexRequest)]
        assert self.last is not None
        self.member.peers.on_frames(leader, [ReadIndexReply(asked.term, asked.read_id, self.last.index)])
        await virtual_time.turns()

    def forwarded(self) -> list[tuple[int, ForwardedCommand]]:
        """Commands sent to leaders since the last call."""
        return [(to, frame) for to, frame in self.transport.take() if isinstance(frame, ForwardedCommand)]

    def children(self) -> int:
        """How many jobs are in the queue."""
        return sum(node.path.startswith(b"/q/") for node in self.member.clients.keyspace.nodes())


def tell(tmp_path: pathlib.Path, story: Callable[[Follower], Coroutine[Any, Any, None]]) -> None:
    """Run a story about a fresh follower."""

    async def whole() -> None:
        await story(Follower(tmp_path / "data"))

    virtual_time.run(whole())


def count(kind: type) -> int:
    """How many objects of a kind somebody holds, be it in a cycle."""
    return sum(type(held) is kind for held in gc.get_objects())


def refusal(frame: ForwardedCommand) -> ForwardRefused:
    return ForwardRefused(frame.payload[:REQUEST_ID_BYTES], ProposalRefusalReason.NOT_LEADER, frame.term)


def test_late_refusal_by_a_deposed_leader_sends_nothing_again(tmp_path: pathlib.Path) -> None:
    """The next leader has the command already: one POST makes one child."""

    async def story(follower: Follower) -> None:
        await follower.lead(2, 1, None)
        await follower.post()
        [(first_leader, first)] = follower.forwarded()
        await follower.lead(3, 2, None)
        [(second_leader, second)] = follower.forwarded()
        assert (first_leader, first.term, second_leader, second.term) == (2, 1, 3, 2)
        follower.member.peers.on_frames(2, [refusal(first)])
        await virtual_time.turns()
        assert follower.forwarded() == []
        await follower.lead(3, 2, second.payload)
        assert follower.children() == 1
        assert len(follower.outcomes) == 1 and isinstance(follower.outcomes[0], Written)

    tell(tmp_path, story)


def test_refused_command_waits_for_the_next_leader(tmp_path: pathlib.Path) -> None:
    """It entered no log: the same command, with the same request id, is for the leader of then."""

    async def story(follower: Follower) -> None:
        await follower.lead(2, 1, None)
        await follower.post()
        [(_, first)] = follower.forwarded()
        follower.member.peers.on_frames(2, [refusal(first)])
        await virtual_time.turns()
        assert follower.forwarded() == []
        await follower.lead(3, 2, None)
        assert follower.forwarded() == [(3, ForwardedCommand(2, first.payload))]
        assert follower.outcomes == []

    tell(tmp_path, story)


def test_command_dropped_from_the_send_queue_is_sent_again_within_moments(tmp_path: pathlib.Path) -> None:
    """It never left, so its client need not wait until its time is over; a drop told late moves nothing."""

    async def story(follower: Follower) -> None:
        await follower.lead(2, 1, None)
        await follower.post()
        [(_, first)] = follower.forwarded()
        follower.member.peers.on_dropped(2, [first])
        await virtual_time.turns()
        assert follower.forwarded() == []
        follower.member._housekeeping.look_around(int(asyncio.get_running_loop().time() * 1000) + 100)
        await virtual_time.turns()
        assert (2, first) in follower.forwarded()  # beside what the member publishes of itself
        await follower.lead(3, 2, None)
        second = ForwardedCommand(2, first.payload)
        assert (3, second) in follower.forwarded()
        follower.member.peers.on_dropped(2, [first])
        follower.member._housekeeping.look_around(int(asyncio.get_running_loop().time() * 1000) + 200)
        await virtual_time.turns()
        assert second not in [frame for _, frame in follower.forwarded()]
        await follower.lead(3, 2, second.payload)
        assert follower.children() == len(follower.outcomes) == 1

    tell(tmp_path, story)


def test_peer_that_asks_what_it_lost_is_counted_on_again_once_it_answers(tmp_path: pathlib.Path) -> None:
    """Each question says anew that it has forgotten; a heartbeat's answer, or one to entries, that it takes part."""

    async def story(follower: Follower) -> None:
        answers = HeartbeatReply(1, 0, 0), AppendEntriesReply(1, False, 0, 0, 0)
        for answer in answers:
            follower.member.peers.on_frames(3, [RebuildRequest(0, 7)])
            assert follower.member.memory.has_forgotten(3)
            assert not follower.member.memory.has_forgotten(2)
            follower.member.peers.on_frames(3, [answer])
            assert not follower.member.memory.has_forgotten(3)

    tell(tmp_path, story)


def test_refusal_dropped_from_the_send_queue_is_sent_again(tmp_path: pathlib.Path) -> None:
    """The member that asked would otherwise keep its client waiting for its whole time."""

    async def story(follower: Follower) -> None:
        command = ForwardedCommand(9, bytes(REQUEST_ID_BYTES))
        follower.member.peers.on_frames(3, [command])
        assert follower.transport.take() == [(3, refusal(command))]
        follower.member.peers.on_dropped(3, [refusal(command)])
        follower.member._housekeeping.look_around(int(asyncio.get_running_loop().time() * 1000) + 100)
        assert follower.transport.take() == [(3, refusal(command))]

    tell(tmp_path, story)


def test_command_that_was_committed_in_the_earlier_term_is_not_sent_again(tmp_path: pathlib.Path) -> None:
    """Its entry stands before those of the next term, in one message or not."""

    async def story(follower: Follower) -> None:
        await follower.lead(2, 1, None)
        await follower.post()
        [(_, first)] = follower.forwarded()
        await follower.lead(2, 1, first.payload)
        await follower.lead(3, 2, None)
        assert follower.forwarded() == []
        assert follower.children() == len(follower.outcomes) == 1

    tell(tmp_path, story)


def test_requests_under_way_at_an_install_are_unknown_and_never_sent_again(tmp_path: pathlib.Path) -> None:
    """They may be inside the snapshot: their clients hear of a timeout, whatever terms and refusals come."""

    async def story(follower: Follower) -> None:
        await follower.lead(2, 1, None)
        await follower.post()
        [(_, first)] = follower.forwarded()
        giver = Follower(tmp_path / "giver")
        await giver.lead(2, 1, None, first.payload)
        await giver.member.stop()
        spooled: list[Any] = []
        giver.storage.state.spool_snapshot(spooled.append)
        await virtual_time.turns()
        [snapshot] = spooled
        shutil.copyfile(snapshot.path, follower.storage.state.spool.path_of(snapshot.snapshot_id))
        follower.member.peers.on_snapshot(2, snapshot.installation(1))
        await virtual_time.turns(50)
        assert (follower.member.clients.raft_index, follower.children()) == (2, 1)
        follower.last = giver.last
        await follower.lead(3, 2, None)
        follower.member.peers.on_frames(2, [refusal(first)])
        await virtual_time.turns()
        assert follower.forwarded() == []
        follower.member._housekeeping.look_around(int(asyncio.get_running_loop().time() * 1000) + 7000)
        assert len(follower.outcomes) == 1 and isinstance(follower.outcomes[0], EtcdError)
        assert follower.children() == 1

    tell(tmp_path, story)


def test_turn_of_applying_that_takes_long_is_counted(tmp_path: pathlib.Path) -> None:
    """etcd_server_slow_apply_total: over 100 ms, by whatever it was held."""

    async def story(follower: Follower) -> None:
        await follower.lead(2, 1, None)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, virtual_time.VirtualLoop)
        for milliseconds, slow in ((100, 0), (101, 1)):
            follower.member.clients.submit(CreateInOrder(path=b"/q"), lambda _: loop.spend(milliseconds))  # noqa: B023 -- called within this turn of the loop over both
            await virtual_time.turns()
            [(_, frame)] = follower.forwarded()
            await follower.lead(2, 1, frame.payload)
            assert b"etcd_server_slow_apply_total %d.0" % slow in follower.member.metrics.render()

    tell(tmp_path, story)


def test_stop_right_after_a_write_was_applied_flushes_it(tmp_path: pathlib.Path) -> None:
    """Also with a batch that the loop has postponed; the next start replays nothing."""

    async def story(follower: Follower) -> None:
        await follower.lead(2, 1, None)
        await follower.post()
        [(_, first)] = follower.forwarded()
        await follower.lead(2, 1, first.payload)
        async with asyncio.timeout(60):
            await follower.member.stop()
        assert follower.disk.position.index == follower.disk.last.index == 2
        answers: list[Written | EtcdError] = []
        follower.member.clients.submit(Set(path=b"/late"), answers.append)
        await virtual_time.turns()
        assert len(answers) == 1 and isinstance(answers[0], EtcdError)

    tell(tmp_path, story)


def test_housekeeping_that_is_cancelled_by_a_stray_hand_stops_the_member(tmp_path: pathlib.Path) -> None:
    """Without it no request would time out and nothing be flushed, and nobody would know."""

    async def story(follower: Follower) -> None:
        member = follower.member
        starting = asyncio.ensure_future(member.start())
        await virtual_time.turns()
        assert member._housekeeping._task is not None
        member._housekeeping._task.cancel()
        await virtual_time.turns()
        starting.cancel()
        assert member.failure.reason.done()
        assert "housekeeping" in member.failure.reason.result()

    tell(tmp_path, story)


def test_request_that_cannot_be_told_its_end_harms_nobody_else(tmp_path: pathlib.Path) -> None:
    """Applied, refused, timed out, stopped, turned away, a read that is ready: one log line each, and no more."""

    async def story(follower: Follower) -> None:
        member, told = follower.member, list[object]()

        def broken(outcome: object) -> None:
            told.append(outcome)
            raise RuntimeError("a bug of this request")

        async def ask() -> list[ForwardedCommand]:
            member.clients.submit(CreateInOrder(path=b"/q"), broken)
            member.clients.read_barrier(broken)
            await virtual_time.turns()
            return [frame for _, frame in follower.forwarded()]

        async def pass_time(milliseconds: int) -> None:
            member._housekeeping.look_around(int(asyncio.get_running_loop().time() * 1000) + milliseconds)
            await virtual_time.turns()

        await follower.lead(2, 1, None)
        [applied] = await ask()
        await follower.lead(2, 1, applied.payload)
        [refused] = await ask()
        no_space = ForwardRefused(refused.payload[:REQUEST_ID_BYTES], "no space", 1)
        member.peers.on_frames(2, [no_space])
        assert [type(outcome) for outcome in told] == [Written, EtcdError]
        await pass_time(7100)  # the two reads as well, and a write that is on its way to the leader
        assert len(told) == 4
        await ask()
        await pass_time(20_000)
        assert len(told) == 6
        await ask()
        await member.stop()
        assert len(told) == 8
        await ask()
        assert len(told) == 10
        assert not member.failure.reason.done()
        requests = member._requests
        assert (len(requests.writes), len(requests.reads), requests.writes.payload_bytes) == (0, 0, 0)

    tell(tmp_path, story)


def test_requests_that_time_out_without_a_leader_are_freed(tmp_path: pathlib.Path) -> None:
    """Again and again, as clients do that try anew: what waits is what came within one request timeout."""

    async def story(follower: Follower) -> None:
        member = follower.member
        gc.collect()  # members of earlier tests
        for _second in range(30):
            for _ in range(4):
                member.clients.submit(Set(path=b"/key", value=b"v" * 1000), follower.outcomes.append)
                member.clients.read_barrier(lambda _error: None)
            await asyncio.sleep(1)
            member._housekeeping.look_around(int(asyncio.get_running_loop().time() * 1000))
            assert count(Waiter) <= 4 * 7
        member._housekeeping.look_around(int(asyncio.get_running_loop().time() * 1000) + 7000)
        assert len(follower.outcomes) == 120
        assert count(Waiter) == 0

    tell(tmp_path, story)


def test_member_starts_to_serve_once_it_is_published_and_the_cluster_has_its_version(tmp_path: pathlib.Path) -> None:
    """Before that nobody would find it by `/v2/machines`, and the index would move between a client's two writes."""

    async def story(follower: Follower) -> None:
        starting = asyncio.ensure_future(follower.member.start())
        await follower.lead(2, 1, None)
        await follower.answer_read()
        [(_, own)] = follower.forwarded()
        others: tuple[Command, ...] = (
            REGISTRATION,
            PublishMember(2, "m2", ()),
            PublishMember(3, "m3", ()),
        )
        for payload in [*map(payload_of, others), own.payload, payload_of(SetClusterVersion("3.4.0"))]:
            assert not starting.done()
            await follower.lead(2, 1, payload)
        assert starting.done()
        await starting
        await follower.member.stop()

    tell(tmp_path, story)


def test_changes_of_members_and_users_wait_until_no_member_is_of_an_older_version(tmp_path: pathlib.Path) -> None:
    """An older one would stop at them. Writes go on, and who is not there at all holds up nobody."""

    async def story(follower: Follower) -> None:
        changes: list[Command] = [RemoveMember(3), DisableAuth()]
        follower.transport.protocols = {2: 1, 3: 0}
        await follower.lead(2, 1, payload_of(REGISTRATION))
        for command in changes:
            follower.member.clients.submit(command, follower.outcomes.append)
        await follower.post()
        assert [ended.cause for ended in follower.outcomes if isinstance(ended, EtcdError)] == [OLDER_MEMBERS] * 2
        assert len(follower.forwarded()) == 1
        follower.transport.protocols[2] = 2
        for command in changes:
            follower.member.clients.submit(command, follower.outcomes.append)
        await virtual_time.turns()
        assert len(follower.forwarded()) == 2

    tell(tmp_path, story)


def test_status_is_the_members_own(tmp_path: pathlib.Path) -> None:
    """Role, leader, indices and sizes as they are now, and what others add to it."""

    async def story(follower: Follower) -> None:
        await follower.lead(2, 1, None)
        await follower.lead(2, 1, payload_of(REGISTRATION), payload_of(Set(path=b"/a", value=b"1")))
        follower.member.clients.status.more.append(lambda: {"version": "1.2.3"})
        shown = follower.member.clients.status()
        told = ("id", "name", "role", "leader", "term", "appliedIndex", "commitIndex", "lastIndex", "version")
        assert [shown[name] for name in told] == ["1", "m1", "follower", "2", 1, 3, 3, 3, "1.2.3"]
        assert (shown["alarms"], shown["followers"], shown["firstIndex"]) == ([], [], 1)
        assert (shown["etcdIndex"], shown["historyStart"]) == (follower.member.clients.keyspace.etcd_index, 1)
        assert isinstance(shown["logBytes"], int) and shown["logBytes"] > 0
        follower.free_bytes = 0
        follower.member._housekeeping.look_around(1000)
        assert follower.member.clients.status()["alarms"] == ["NOSPACE"]

    tell(tmp_path, story)
