"""All snapshot transfers of a member: who dials, and which connection belongs to which transfer."""

import asyncio
from collections.abc import Callable, Mapping
from typing import final

from kvraft import logs
from kvraft.raft.restored import SnapshotFile
from kvraft.transport.codec import Word
from kvraft.transport.connection import Mailbox
from kvraft.transport.dialler import Dialler, GreetingRefusedError, UnreachableError
from kvraft.transport.envelope import SnapshotHeader
from kvraft.transport.handshake import Greeting, Lane
from kvraft.transport.interfaces import SnapshotSink
from kvraft.transport.session import Wiring
from kvraft.transport.snapshot_stream import SnapshotReceiver, SnapshotSender

_log = logs.get(__name__)


@final
class Snapshots:
    """Sends and receives them, one at a time to each peer and one at a time in all from peers."""

    def __init__(self, wiring: Wiring, sink: SnapshotSink, diallers: Mapping[int, Dialler]) -> None:
        self._wiring = wiring
        self._diallers = diallers
        self._receiver = SnapshotReceiver(sink, wiring.reports)
        self._sending: dict[int, asyncio.Task[None]] = {}
        self._awaited: dict[int, asyncio.Future[Mailbox]] = {}
        """By peer that was asked to dial: where its connection goes."""
        self._fetching: dict[int, asyncio.Task[None]] = {}
        self._receiving: set[asyncio.Task[None]] = set()

    def send(self, to_member: int, term: int, snapshot: SnapshotFile, done: Callable[[bool], None]) -> None:
        """See `PeerTransport.send_snapshot`."""
        loop = asyncio.get_running_loop()
        if to_member not in self._diallers or to_member in self._sending:
            loop.call_soon(done, False)
            return
        header = SnapshotHeader(snapshot.snapshot_id, snapshot.size_bytes, snapshot.position.index, term)
        task = loop.create_task(self._send(to_member, header, snapshot.path, done), name=f"snapshot to {to_member:x}")
        self._sending[to_member] = task
        task.add_done_callback(self._on_task_done)

    def take(self, theirs: Greeting, mailbox: Mailbox) -> None:
        """A peer has dialled for a snapshot: to send one, or to fetch the one that it was told of."""
        member_id = theirs.hello.member_id
        if theirs.lane is Lane.SNAPSHOT:
            self._receive(member_id, mailbox)
            return
        awaited = self._awaited.pop(member_id, None)
        if awaited is None or awaited.done():
            mailbox.connection.close("nobody waits for it any more")
        else:
            awaited.set_result(mailbox)

    def hear(self, member_id: int, word: Word) -> None:
        """A peer has a snapshot for us and cannot dial us (FETCH), or could not fetch ours (NOT_FETCHED)."""
        if word is Word.NOT_FETCHED:
            awaited = self._awaited.pop(member_id, None)
            if awaited is not None and not awaited.done():
                awaited.set_exception(UnreachableError("it could not fetch the snapshot"))
            return
        dialler = self._diallers.get(member_id)
        if dialler is not None and member_id not in self._fetching:
            task = asyncio.get_running_loop().create_task(self._fetch(member_id, dialler), name="fetch a snapshot")
            self._fetching[member_id] = task
            task.add_done_callback(self._on_task_done)

    async def stop(self) -> None:
        """Give up every transfer."""
        tasks = [*self._sending.values(), *self._fetching.values(), *self._receiving]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _receive(self, member_id: int, mailbox: Mailbox) -> None:
        task = asyncio.get_running_loop().create_task(self._receiver.receive(member_id, mailbox), name="snapshot")
        self._receiving.add(task)
        task.add_done_callback(self._receiving.discard)
        task.add_done_callback(self._on_task_done)

    async def _send(self, to_member: int, header: SnapshotHeader, path: str, done: Callable[[bool], None]) -> None:
        sent = False
        peer = self._wiring.reports.name(to_member)

        other_way = False

        async def connect() -> Mailbox:
            nonlocal other_way
            try:
                return await self._connect(to_member, other_way=other_way)
            except UnreachableError:
                other_way = not other_way
                raise

        try:
            sent = await SnapshotSender(peer, connect, self._wiring.settings).send(header, path)
        finally:
            del self._sending[to_member]
            _log.info("snapshot sent" if sent else "snapshot failed", peer=peer, index=header.index)
            done(sent)

    async def _connect(self, to_member: int, *, other_way: bool) -> Mailbox:
        """Dialled by whoever dialled the session, as that works; unless it no longer does."""
        session = self._wiring.links.current(to_member)
        dialler = self._diallers.get(to_member)
        if dialler is None:
            raise UnreachableError("it is no longer a member")
        if session is None or session.dialled_here != other_way:
            return await dialler.open(Lane.SNAPSHOT)
        awaited: asyncio.Future[Mailbox] = asyncio.get_running_loop().create_future()
        self._awaited[to_member] = awaited
        session.say(Word.FETCH)
        try:
            async with asyncio.timeout(2 * self._wiring.settings.connect_timeout_ms / 1000):
                return await awaited
        except TimeoutError:
            raise UnreachableError("it did not come to fetch the snapshot") from None
        finally:
            if self._awaited.get(to_member) is awaited:
                del self._awaited[to_member]

    async def _fetch(self, member_id: int, dialler: Dialler) -> None:
        try:
            self._receive(member_id, await dialler.open(Lane.FETCH))
        except (UnreachableError, GreetingRefusedError) as error:
            _log.info("cannot fetch a snapshot", peer=self._wiring.reports.name(member_id), error=error)
            session = self._wiring.links.current(member_id)
            if session is not None:
                session.say(Word.NOT_FETCHED)
        finally:
            del self._fetching[member_id]

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            self._wiring.reports.bug(error)
