"""A member without Raft and disk: commands go straight into a keyspace. For tests of the HTTP API."""

import asyncio
from collections.abc import Callable, Sequence
from typing import final

from kvraft import clock
from kvraft.keyspace.answers import Answer
from kvraft.keyspace.commands import Command, PublishMember, RegisterFounders, SetClusterVersion, SetHistorySize, Sync
from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.watchers import WatcherHub
from kvraft.records import BackupCopy, BackupRefused, MemberRecord, Written

MEMBER_ID = 0xCC4AC920D46FF089
CLUSTER_ID = 0xA511A62EF3D4EB6A
"""What etcd computes for the member and the cluster of the golden vectors."""
SYNC_S = 0.1


@final
class MemoryBackups:
    """Copies that a test has put here."""

    def __init__(self) -> None:
        self.outcome: BackupCopy | BackupRefused = BackupRefused("nothing was prepared")
        """What the next one comes to."""
        self.copies: dict[str, BackupCopy] = {}
        self.asked: list[bool] = []
        """Whether each that was asked for is to have the history."""
        self.ends: list[bool] = []
        """Whether each that was read was read to its end."""
        self.readers = 0
        self.is_read_no_more = asyncio.Event()

    def take(self, *, with_history: bool, done: Callable[[BackupCopy | BackupRefused], None]) -> Callable[[], None]:
        self.asked.append(with_history)
        return asyncio.get_running_loop().call_soon(done, self.outcome).cancel

    def find(self, copy_id: str) -> BackupCopy | None:
        return self.copies.get(copy_id)

    def opened(self, copy: BackupCopy) -> None:
        assert copy.copy_id
        self.readers += 1

    def closed(self, copy: BackupCopy, *, to_its_end: bool) -> None:
        assert copy.copy_id
        self.readers -= 1
        self.ends.append(to_its_end)
        self.is_read_no_more.set()


@final
class MemoryBackend:
    """Satisfies `api_v2.backend.Backend`. Switches let a test take leader and quorum away."""

    def __init__(
        self, client_urls: Sequence[str] = ("http://127.0.0.1:33791",), history_events_max: int = 1000
    ) -> None:
        self.keyspace = Keyspace()
        self.leader_id = MEMBER_ID
        self.is_disk_full = False
        self.has_quorum = True
        """False: submitted commands and barriers wait for ever."""
        self.waiting: list[Callable[[EtcdError], None]] = []
        """Who waits while there is no quorum."""
        self.nobody_waits = asyncio.Event()
        """Set when the last of them has gone."""
        self.backups = MemoryBackups()
        self.certificates: list[dict[str, object]] = []
        """As the status shows them."""
        self.raft_index = 3
        self.raft_term = 2
        self._start_ns = clock.wall_ns()
        self._timer: asyncio.TimerHandle | None = None
        # A fresh etcd stands at index 3 after a member has published itself and the version is decided.
        self.apply(SetHistorySize(history_events_max))
        self.apply(RegisterFounders(((MEMBER_ID, "g", ("http://127.0.0.1:33801",)),)))
        self.apply(PublishMember(MEMBER_ID, "g", tuple(client_urls)))
        self.apply(SetClusterVersion("3.4.0"))

    @property
    def watchers(self) -> WatcherHub:
        return self.keyspace.watchers

    @property
    def cluster_id(self) -> int:
        return CLUSTER_ID

    @property
    def member_id(self) -> int:
        return MEMBER_ID

    @property
    def name(self) -> str:
        return "g"

    def members(self) -> Sequence[MemberRecord]:
        members = sorted(self.keyspace.cluster.members.items())
        return [MemberRecord(member_id, it.name, it.peer_urls, it.client_urls) for member_id, it in members]

    def cluster_version(self) -> str:
        return self.keyspace.cluster.version

    def wall_ns(self) -> int:
        return clock.wall_ns()

    def log_clock_ms(self) -> int:
        return clock.monotonic_ms()

    def apply(self, command: Command) -> Answer:
        """Apply at once."""
        self.raft_index += 1
        return self.keyspace.apply(command, clock.monotonic_ms())

    def submit(self, command: Command, done: Callable[[Written | EtcdError], None]) -> Callable[[], None]:
        if not self.has_quorum:
            return self._wait(done)
        asyncio.get_running_loop().call_soon(self._apply_and_answer, command, done)
        return lambda: None

    def change_members(self, command: Command, done: Callable[[Written | EtcdError], None]) -> Callable[[], None]:
        return self.submit(command, done)

    def _apply_and_answer(self, command: Command, done: Callable[[Written | EtcdError], None]) -> None:
        done(Written(self.apply(command), self.keyspace.etcd_index, self.raft_index, self.raft_term))

    def read_barrier(self, done: Callable[[EtcdError | None], None]) -> Callable[[], None]:
        if not self.has_quorum:
            return self._wait(done)
        return asyncio.get_running_loop().call_soon(done, None).cancel

    def _wait(self, done: Callable[[EtcdError], None]) -> Callable[[], None]:
        self.waiting.append(done)

        def abandon() -> None:
            if done in self.waiting:
                self.waiting.remove(done)
            if not self.waiting:
                self.nobody_waits.set()

        return abandon

    def time_out(self) -> None:
        """Answer everything that waits as a member does after its request timeout."""
        waiting, self.waiting = self.waiting, []
        for done in waiting:
            done(EtcdError(ErrorCode.RAFT_INTERNAL, b"etcdserver: request timed out"))

    def status(self) -> dict[str, object]:
        return {
            "id": f"{MEMBER_ID:x}",
            "name": self.name,
            "clusterId": f"{CLUSTER_ID:x}",
            "clusterVersion": self.cluster_version(),
            "role": "leader" if self.leader_id == MEMBER_ID else "follower",
            "leader": f"{self.leader_id:x}" if self.leader_id else "",
            "term": self.raft_term,
            "commitIndex": self.raft_index,
            "appliedIndex": self.raft_index,
            "firstIndex": 1,
            "lastIndex": self.raft_index,
            "etcdIndex": self.keyspace.etcd_index,
            "historyStart": self.keyspace.history.floor,
            "historyEvents": self.keyspace.history.last_index - self.keyspace.history.floor + 1,
            "watchers": self.watchers.count,
            "startTime": clock.utc_text(self._start_ns // 1_000_000_000) + "Z",
            "logBytes": 4096,
            "stateBytes": 1 << 20,
            "alarms": ["NOSPACE"] if self.is_disk_full else [],
            "followers": [],
            "version": "0.1.0",
            "etcdVersion": "3.4.23",
            "diskUsedBytes": 3 << 20,
            "diskFreeBytes": 5 << 30,
            "certificates": self.certificates,
        }

    def self_stats(self) -> dict[str, object]:
        start = clock.utc_text(self._start_ns // 1_000_000_000) + "Z"
        return {
            "name": self.name,
            "id": f"{MEMBER_ID:x}",
            "state": "StateLeader",
            "startTime": start,
            "leaderInfo": {"leader": f"{self.leader_id:x}", "uptime": "1s", "startTime": start},
            "recvAppendRequestCnt": 0,
            "sendAppendRequestCnt": 0,
        }

    def leader_stats(self) -> dict[str, object] | None:
        return {"leader": f"{MEMBER_ID:x}", "followers": {}} if self.leader_id == MEMBER_ID else None

    def start_expiry(self) -> None:
        """Expire what is due, ten times a second. Call `stop_expiry` in the end."""
        due_ms = self.keyspace.next_deadline_ms()
        if due_ms is not None and due_ms <= clock.monotonic_ms():
            self.apply(Sync())
        self._timer = asyncio.get_running_loop().call_later(SYNC_S, self.start_expiry)

    def stop_expiry(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
