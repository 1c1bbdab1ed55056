"""One machine: a disk that survives, and the runs of a member on it, put together as `start/composition.py` does."""

import asyncio
import errno
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast, final

from kvraft.founding import Founder
from kvraft.keyspace.commands import Command, PublishMember, RegisterFounders
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.cluster import Cluster
from kvraft.member.member import Member
from kvraft.member.peer_memory import PeerMemory
from kvraft.member.settings import MemberSettings
from kvraft.raft.configuration import Configuration
from kvraft.raft.core import Raft
from kvraft.raft.effects import Effects, HardState, Rebuilding
from kvraft.raft.settings import RaftSettings
from kvraft.records import Written
from tests.member.network import LinkTransport, Network
from tests.storage.memory import MemoryDisk, MemoryStorage, open_memory

T = TypeVar("T")

CLUSTER_ID: Final = 7
MEMBER_IDS: Final = (1, 2, 3)
HISTORY_EVENTS: Final = 100_000
PLENTY_BYTES: Final = 1 << 40
DISK_ERROR: Final = OSError(errno.EIO, "planted: the disk has failed")
"""What stops a process without being a defect of it."""
CONFIGURATION: Final = Configuration.of(MEMBER_IDS)
FOUNDERS: Final = [Founder(member_id, f"m{member_id}", (f"http://127.0.0.1:{member_id}",)) for member_id in MEMBER_IDS]
REGISTRATION: Final = RegisterFounders(tuple((it.member_id, it.name, it.peer_urls) for it in FOUNDERS))
"""What the first leader tells of the founders."""


def cluster_of(
    member_id: int,
    keyspace: Keyspace | None = None,
    founders: Sequence[Founder] = tuple(FOUNDERS),
    told: Sequence[Founder] = (),
) -> Cluster:
    """The cluster as this member was told of it, and as its state has it, if anything is applied."""
    own = PublishMember(member_id, f"m{member_id}", ())
    return Cluster(CLUSTER_ID, own, founders, HISTORY_EVENTS, keyspace or Keyspace(), told)


@final
class DiskLoop:
    """What the stores take for the event loop: each of their jobs comes `latency_s` later, in order."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.latency_s = 0.0
        self._loop = loop
        self._free_at = 0.0

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        self._free_at = max(self._free_at, self._loop.time() + self.latency_s)
        if self._free_at <= self._loop.time():
            return self._loop.call_soon(callback, *args)
        return self._loop.call_at(self._free_at, callback, *args)

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        return self._loop.call_soon(callback, *args)


@final
class Run:
    """One process's life. What it says after its crash is not heard."""

    def __init__(self, host: "Host", storage: MemoryStorage, member: Member, transport: LinkTransport) -> None:
        self.member = member
        self.storage = storage
        self.alive = True
        self.stopping = False
        self._killed = asyncio.Event()
        self._host = host
        self.transport = transport
        self._starting = asyncio.get_running_loop().create_task(self._start())

    async def _start(self) -> None:
        await self.member.start()
        host = self._host
        if self.alive and self.member.clients.leader_id:
            assert self.member.clients.keyspace.etcd_index >= host.shown_index, "an index went back across a restart"
        host.serving = self.alive

    async def write(self, command: Command) -> Written | EtcdError | None:
        """A client's write at this process; None if the process is killed meanwhile.

        Raises TimeoutError if it is not answered in the time that every request is answered in.
        """
        answer: asyncio.Future[Written | EtcdError | None] = asyncio.get_running_loop().create_future()

        def done(outcome: Written | EtcdError) -> None:
            if self.alive:
                assert not answer.done(), "answered twice"
                answer.set_result(outcome)

        self.member.clients.submit(command, done)
        return await self._answered(answer)

    async def read(self) -> EtcdError | bool | None:
        """A client's quorum read: True once local reads are linearizable; else as `write`."""
        answer: asyncio.Future[EtcdError | bool | None] = asyncio.get_running_loop().create_future()

        def done(error: EtcdError | None) -> None:
            if self.alive:
                assert not answer.done(), "answered twice"
                answer.set_result(True if error is None else error)

        self.member.clients.read_barrier(done)
        return await self._answered(answer)

    async def _answered(self, answer: asyncio.Future[T]) -> T | None:
        patience_s = self.member.settings.request_timeout_ms / 1000 + 0.5
        killed = asyncio.ensure_future(self._killed.wait())
        try:
            async with asyncio.timeout(patience_s):
                await asyncio.wait((answer, killed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            killed.cancel()
        return answer.result() if answer.done() else None

    def fail(self) -> None:
        """The disk fails under it: the process has to stop, and what it has said until then has to be true."""
        self.storage.latch.report("writing the log", DISK_ERROR)

    def crash(self) -> None:
        """The process is killed: only what the disk has got remains."""
        self._end()
        self._killed.set()
        self.storage.crash()
        self.transport.vanish()
        member = self.member
        member.failure.reason.cancel()  # what is cut off now is no defect
        member.loop.stop()
        member._chores.stop()
        member._housekeeping.stop()
        for task in [*member._durable._tasks, self._starting]:
            task.cancel()

    async def stop(self, patience_s: float = 60.0) -> None:
        """SIGTERM: hand leadership over, flush, leave. Ends early if the process is killed meanwhile.

        Raises TimeoutError if it never comes to an end.
        """
        assert not self.stopping
        self.stopping = True
        leaving = asyncio.get_running_loop().create_task(self._leave())
        killed = asyncio.ensure_future(self._killed.wait())
        try:
            async with asyncio.timeout(patience_s):
                await asyncio.wait((leaving, killed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            killed.cancel()
            if not leaving.done():
                leaving.cancel()
        if leaving.done():
            leaving.result()

    async def _leave(self) -> None:
        self._host.serving = False
        await self.member.transfer_leadership()
        self._starting.cancel()
        await self.member.stop()
        self._end()
        self.storage.close()
        if not self.member.failure.reason.done():
            applied, flushed = self.member.clients.raft_index, self.storage.state.position.index
            assert applied == flushed, f"applied {applied}, but a clean stop left {flushed} on disk"

    def _end(self) -> None:
        self.alive = False
        self._host.serving = False
        self._host.shown_index = max(self._host.shown_index, self.member.clients.keyspace.etcd_index)
        self._host.run = None


@final
class Host:
    """A machine with a disk."""

    def __init__(
        self,
        member_id: int,
        network: Network,
        directory: Path,
        settings: MemberSettings,
        rng: random.Random,
        founders: Sequence[Founder] = tuple(FOUNDERS),
        *,
        joins: bool = False,
    ) -> None:
        """`founders` are what it was told of the cluster: who founded it, or for one that joins, who was in it then."""
        self.member_id = member_id
        self.founders = founders
        self.url = f"http://127.0.0.1:{member_id}"
        """Where it listens from its next start on."""
        self.joins = joins
        self.known: Sequence[Founder] = ()
        """The members of the day, as its identity keeps them for the next start."""
        self.was_removed = 0
        """How many of its processes have ended because they were told so."""
        self.disk = self.empty_disk()
        self.disk_loop = DiskLoop(asyncio.get_running_loop())
        self.free_bytes = PLENTY_BYTES
        self.run: Run | None = None
        self.serving = False
        """Whether its HTTP listener is open."""
        self.shown_index = 0
        """The highest etcd_index that its clients can have seen."""
        self.after_step: Callable[[int, Raft], None] | None = None
        """Called after each step of its core."""
        self.on_removed: Callable[[int], None] | None = None
        """Called when its process ends for that."""
        self.failures: list[str] = []
        self.installed = 0
        """Snapshots from peers that replaced its state."""
        self._network = network
        self._directory = directory
        self._settings = settings
        self._rng = rng
        self._boots = 0

    def empty_disk(self) -> MemoryDisk:
        """What it begins with."""
        return MemoryDisk.empty(Configuration.of(() if self.joins else (it.member_id for it in self.founders)))

    def forget(self, told: Sequence[Founder]) -> None:
        """The disk is lost; whoever starts on the empty one knows it (`--rebuild`), and was told who the others are."""
        self.founders, self.joins, self.known = told, True, ()
        self.disk = MemoryDisk.empty(Configuration.of(it.member_id for it in told))
        self.disk.hard_state = HardState(0, 0, 0, Rebuilding(asking=True))

    def keep_members(self, members: Sequence[Founder]) -> None:
        """Satisfies `IdentityStore`; on disk at once."""
        self.known = tuple(members)

    def forget_replaced(self) -> None:
        """Satisfies `IdentityStore`: nobody came in the place of another."""
        raise AssertionError

    def start(self) -> Run:
        """Start a process on what the disk holds."""
        assert self.run is None
        self._boots += 1
        storage = open_memory(self.disk, self._directory)
        disk_loop = self.disk_loop

        def load() -> Keyspace:
            keyspace = Keyspace(history_reader=storage.state)
            keyspace.load(storage.state.load())
            return keyspace

        async def load_keyspace() -> Keyspace:
            self.installed += 1
            await asyncio.sleep(disk_loop.latency_s)
            return load()

        keyspace = load()
        restored = storage.log.restored()
        applied = storage.state.position.index
        loop = asyncio.get_running_loop()
        raft = Raft(
            self.member_id,
            restored,
            RaftSettings(committed_bytes_max=4096, log_tail_bytes_max=8192),
            random.Random(self._rng.random()),
            storage.log,
            int(loop.time() * 1000),
        )
        founders, told = ((), self.known or self.founders) if self.joins else (self.founders, self.known)
        cluster = cluster_of(self.member_id, keyspace, founders, told)
        memory = PeerMemory(cluster, raft, storage.log, created_now=storage.fresh)
        transport = LinkTransport(self._network, memory, self.member_id, storage.state.spool, self.url)
        member = Member(
            raft=raft,
            keyspace=keyspace,
            cluster=cluster,
            memory=memory,
            log_store=storage.log,
            state_store=storage.state,
            transport=transport,
            settings=self._settings,
            configuration=[held for index, held in restored.configurations if index <= applied][-1],
            load_keyspace=load_keyspace,
            free_bytes=lambda: self.free_bytes,
            boot_nonce=self._boots,
            identity=self,
        )
        storage.start(
            cast("asyncio.AbstractEventLoop", disk_loop),
            member.loop.on_persisted,
            lambda error: member.failure.tell(str(error)),
        )
        self._watch(member, raft)
        member.failure.reason.add_done_callback(lambda reason: self._failed(member, reason))
        self.run = Run(self, storage, member, transport)
        return self.run

    def _watch(self, member: Member, raft: Raft) -> None:
        """Let whoever watches the core see it after each step, before anything else happens."""
        watch, carried_out = self.after_step, member.loop.after_step
        if watch is None:
            return

        def after_step(effects: Effects, now_ms: int) -> None:
            watch(self.member_id, raft)
            carried_out(effects, now_ms)

        member.loop.after_step = after_step

    def _failed(self, member: Member, reason: asyncio.Future[str]) -> None:
        if reason.cancelled():
            return
        if member.failure.is_removal:
            self.was_removed += 1
            if self.on_removed is not None:
                self.on_removed(self.member_id)
            self._end(member)
        elif str(DISK_ERROR) in reason.result():
            self._end(member)
        else:
            self.failures.append(reason.result())

    def _end(self, member: Member) -> None:
        """Its process ends, unless that is under way."""
        if self.run is not None and self.run.member is member and not self.run.stopping:
            self.run.crash()
