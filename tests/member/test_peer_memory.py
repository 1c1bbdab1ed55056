"""A member that has forgotten what its peers remember of it is refused (design decision 5)."""

import asyncio
import dataclasses
import itertools
import pathlib
from types import SimpleNamespace
from typing import Final, cast, final

import pytest

from kvraft.member.peer_memory import PeerMemory, holders_of_one_history
from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused, MatchIndices, PeerHello
from kvraft.raft.effects import Role
from kvraft.raft.restored import LogPosition
from tests.member import virtual_time
from tests.member.fakes import ScriptedRaft
from tests.member.host import CONFIGURATION, cluster_of
from tests.storage.memory import MemoryDisk, MemoryLogStore, open_memory


@final
class Memory:
    """Member 1's memory of its peers, on a disk."""

    def __init__(self, directory: pathlib.Path, disk: MemoryDisk | None = None, *, created_now: bool = True) -> None:
        self.disk = disk or MemoryDisk.empty(CONFIGURATION)
        directory.mkdir(exist_ok=True)
        self.storage = open_memory(self.disk, directory)
        self.storage.start(asyncio.get_running_loop(), lambda _batch: None, lambda _error: None)
        self.raft = ScriptedRaft(term=0)
        self.log: MemoryLogStore = self.storage.log
        self.memory = PeerMemory(cluster_of(1), self.raft.core, self.log, created_now=created_now)


_INSTANCES: Final = itertools.count()


def judged(memory: PeerMemory, greeting: PeerHello) -> GreetingRefused | None:
    """What it thinks of the greeting of a process that has just started."""
    return memory.judge(greeting, b"%8d" % next(_INSTANCES))


def hello(last_log_index: int, *, term: int = 1, fresh: bool = False) -> PeerHello:
    return PeerHello(7, 2, term, last_log_index, 1, b"", fresh)


def test_new_member_is_fresh_until_it_has_promised_something(tmp_path: pathlib.Path) -> None:
    """A term may hold a vote; an entry may have been counted. A directory of an earlier start is never fresh."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        assert made.memory.local_hello().fresh
        made.raft.current_term = 1
        assert not made.memory.local_hello().fresh
        made.raft.current_term, made.raft.durable_position = 0, LogPosition(1, 1)
        assert not made.memory.local_hello().fresh
        assert not Memory(tmp_path / "b", created_now=False).memory.local_hello().fresh

    virtual_time.run(story())


def test_fresh_member_is_welcome_once_and_refused_after_it_took_part(tmp_path: pathlib.Path) -> None:
    """Whatever it sent in a term may have been a vote; that is remembered across a crash of this member too."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        assert judged(made.memory, hello(0, term=0, fresh=True)) is None
        assert judged(made.memory, hello(0, term=0, fresh=True)) is None
        made.memory.saw(2, 0)
        assert made.log.peer_seen(2) is None
        made.memory.saw(2, 1)
        refusal = judged(made.memory, hello(0, term=0, fresh=True))
        assert refusal is not None and refusal.reason is GreetingRefusalReason.WIPED
        await virtual_time.turns()
        made.storage.crash()
        again = judged(Memory(tmp_path / "a", made.disk, created_now=False).memory, hello(0, term=0, fresh=True))
        assert again is not None and again.reason is GreetingRefusalReason.WIPED

    virtual_time.run(story())


def test_wiped_member_is_refused_at_its_second_start_too(tmp_path: pathlib.Path) -> None:
    """Then its directory is not empty any more, but it still is in no term; and some remember no index of it."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        made.memory.saw(2, 1)
        refusal = judged(made.memory, hello(0, term=0))
        assert refusal is not None and refusal.reason is GreetingRefusalReason.WIPED

    virtual_time.run(story())


def test_term_of_a_greeting_alone_is_no_proof(tmp_path: pathlib.Path) -> None:
    """It need not be on disk yet, and may be gone after a crash that broke no promise; a log is."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        assert judged(made.memory, hello(0, term=1)) is None
        assert judged(made.memory, hello(0, term=0)) is None

    virtual_time.run(story())


def test_member_that_knows_what_it_lost_is_remembered(tmp_path: pathlib.Path) -> None:
    """It has taken part, if not here: should it lose its disk once more, it must not pass for a new one."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        assert judged(made.memory, dataclasses.replace(hello(0, term=0), rebuilding=True)) is None
        refusal = judged(made.memory, hello(0, term=0, fresh=True))
        assert refusal is not None and refusal.reason is GreetingRefusalReason.WIPED

    virtual_time.run(story())


def test_member_that_asks_what_it_lost_is_no_help_until_it_answers_a_leader(tmp_path: pathlib.Path) -> None:
    """Its connections stand meanwhile. A greeting without a loss ends it as well: its old disk was put back."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        lost = dataclasses.replace(hello(0, term=0), rebuilding=True)
        assert not made.memory.has_forgotten(2)
        judged(made.memory, lost)
        assert made.memory.has_forgotten(2)
        made.memory.took_part(2)
        assert not made.memory.has_forgotten(2)
        judged(made.memory, lost)
        judged(made.memory, hello(9, term=1))
        assert not made.memory.has_forgotten(2)
        made.memory.asks(2)
        assert made.memory.has_forgotten(2)

    virtual_time.run(story())


def test_member_that_knows_what_it_lost_is_not_judged_by_memory(tmp_path: pathlib.Path) -> None:
    """It promises nothing that it does not hold; its own greeting says so, and never that it is new."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        made.memory.saw(2, 1)
        made.log.remember_peer(2, 9)
        assert judged(made.memory, dataclasses.replace(hello(0, term=0), rebuilding=True)) is None
        made.raft.is_rebuilding = True
        mine = made.memory.local_hello()
        assert (mine.rebuilding, mine.fresh) == (True, False)

    virtual_time.run(story())


def test_greeting_with_a_log_is_remembered(tmp_path: pathlib.Path) -> None:
    """It has taken part before this member saw it."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        assert judged(made.memory, hello(5)) is None
        assert made.log.peer_seen(2) == 0
        refusal = judged(made.memory, hello(0, fresh=True))
        assert refusal is not None and refusal.reason is GreetingRefusalReason.WIPED

    virtual_time.run(story())


@pytest.mark.parametrize(("match_index", "commit_index", "remembered"), [(9, 5, 5), (5, 9, 5), (0, 9, None)])
def test_what_is_remembered_is_acknowledged_and_committed(
    tmp_path: pathlib.Path, match_index: int, commit_index: int, remembered: int | None
) -> None:
    """Never above the commit index: the rest may rightly be truncated by another leader. A shorter log is refused."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        made.raft.role, made.raft.commit_index = Role.LEADER, commit_index
        made.raft.progress = {2: cast("object", SimpleNamespace(match_index=match_index))}
        made.memory.look_around(0)
        assert made.log.peer_seen(2) == remembered
        if remembered is not None:
            assert judged(made.memory, hello(remembered)) is None
            refusal = judged(made.memory, hello(remembered - 1))
            assert refusal is not None and refusal.reason is GreetingRefusalReason.SHORTER_LOG
            made.raft.progress = {2: SimpleNamespace(match_index=2)}
            made.memory.look_around(1)
            assert made.log.peer_seen(2) == remembered

    virtual_time.run(story())


def test_leader_tells_what_everybody_holds_itself_included(tmp_path: pathlib.Path) -> None:
    """Of its own log what is on its disk, which may be less than is committed. Again when it changed, or after 1 s."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        made.raft.progress = {2: SimpleNamespace(match_index=9), 3: SimpleNamespace(match_index=0)}
        made.raft.commit_index, made.raft.durable_index = 7, 4
        assert made.memory.look_around(0) is None, "only leaders know"
        made.raft.role, made.raft.commit_index = Role.LEADER, 0
        assert made.memory.look_around(0) is None, "nothing is committed"
        made.raft.commit_index = 7
        told = MatchIndices(((1, 4), (2, 7)))
        assert [made.memory.look_around(now_ms) for now_ms in (0, 1, 999, 1000)] == [told, None, None, told]
        made.raft.durable_index = 8
        assert made.memory.look_around(1001) == MatchIndices(((1, 7), (2, 7)))
        assert made.log.peer_seen(1) is None

    virtual_time.run(story())


def test_old_copy_of_a_leaders_disk_is_refused_by_whom_it_told(tmp_path: pathlib.Path) -> None:
    """It counted its own entries for their commit, and nobody acknowledged them to anybody else."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        made.memory.remember(MatchIndices(((2, 6), (1, 6), (3, 5))))
        assert judged(made.memory, hello(6)) is None
        refusal = judged(made.memory, hello(5))
        assert refusal is not None and refusal.reason is GreetingRefusalReason.SHORTER_LOG
        assert (made.log.peer_seen(1), made.log.peer_seen(3)) == (None, 5)

    virtual_time.run(story())


def test_greeting_that_the_leaders_word_overtook_refuses_nobody_for_good(tmp_path: pathlib.Path) -> None:
    """It says how far its sender was when it left; by the time it is judged, the sender may have acknowledged more."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        for late in (hello(5), hello(0, term=0, fresh=True)):
            made.memory.remember(MatchIndices(((2, 9),)))
            refusal = judged(made.memory, late)
            assert refusal is not None
            assert [refusal.is_overtaken(durable_index) for durable_index in (8, 9, 10)] == [False, True, True]

    virtual_time.run(story())


def test_process_that_was_accepted_once_is_not_judged_again(tmp_path: pathlib.Path) -> None:
    """Its second stream may greet with what was true before its first one carried a vote; a later process is judged."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        fresh = hello(0, term=0, fresh=True)
        assert made.memory.judge(fresh, b"process1") is None
        made.memory.saw(2, 1)
        assert made.memory.judge(fresh, b"process1") is None
        refusal = made.memory.judge(fresh, b"process2")
        assert refusal is not None and refusal.reason is GreetingRefusalReason.WIPED
        assert not refusal.is_overtaken(10), "no index is remembered that it could have reached"
        assert made.memory.judge(hello(5), b"process1") is None
        made.memory.remember(MatchIndices(((2, 9),)))
        rolled_back = made.memory.judge(hello(5), b"process1")
        assert rolled_back is not None and rolled_back.reason is GreetingRefusalReason.SHORTER_LOG

    virtual_time.run(story())


def test_member_hears_that_it_lacks_what_it_acknowledged(tmp_path: pathlib.Path) -> None:
    """Its peer may have remembered nothing of it when it greeted. One that is being rebuilt knows."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        made.raft.durable_position = LogPosition(5, 1)
        assert made.memory.contradiction(MatchIndices(((1, 5), (2, 9)))) is None
        assert "ends at 5 but it has acknowledged 6" in (made.memory.contradiction(MatchIndices(((1, 6),))) or "")
        made.raft.is_rebuilding = True
        assert made.memory.contradiction(MatchIndices(((1, 6),))) is None

    virtual_time.run(story())


def test_holders_are_those_of_the_history_that_most_have() -> None:
    """Not who is fresh, empty or rebuilding; one that does not know its founding counts with any."""

    def hello(member_id: int, index: int = 9, founding: bytes = b"one", **facts: bool) -> PeerHello:
        return PeerHello(7, member_id, 2, index, 1, b"", founding=founding, **facts)

    assert holders_of_one_history([]) == set()
    useless = [hello(4, 0), hello(5, fresh=True), hello(6, rebuilding=True)]
    assert holders_of_one_history([hello(1), hello(2, founding=b""), *useless]) == {1, 2}
    assert holders_of_one_history([hello(1), hello(2, founding=b"two"), hello(3, founding=b"two")]) == {2, 3}


def test_removed_member_hears_that_it_was_and_is_remembered_all_the_same(tmp_path: pathlib.Path) -> None:
    """Whatever else is wrong with it says less. It is told once its removal is committed: until then it may count."""

    async def story() -> None:
        made = Memory(tmp_path / "a")
        made.memory.remember(MatchIndices(((2, 7),)))
        await virtual_time.turns()
        made.raft.configuration = CONFIGURATION.followed_by((1, 3), ())
        assert made.memory.removal(2) is None
        assert judged(made.memory, hello(7)) is None
        made.raft.committed_configuration = made.raft.configuration
        for greeting in (hello(7), hello(0, term=0, fresh=True)):
            refusal = judged(made.memory, greeting)
            assert refusal is not None and refusal.reason is GreetingRefusalReason.REMOVED
        assert made.memory.removal(3) is None
        assert made.log.peer_seen(2) == 7

    virtual_time.run(story())
