"""Snapshots on their way: whole, damaged, cut and resumed, refused."""

import asyncio
import dataclasses
import hashlib
import os
import random
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, Final

import pytest

from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused
from kvraft.raft.configuration import Configuration
from kvraft.raft.messages import Heartbeat, InstallSnapshot
from kvraft.raft.restored import LogPosition, SnapshotFile
from kvraft.testing import ports
from kvraft.transport.connection import Connection, Mailbox
from kvraft.transport.envelope import (
    NotReceived,
    Resume,
    SnapshotHeader,
    decode_snapshot_answer,
    encode_chunk,
    encode_header,
)
from kvraft.transport.handshake import Greeting, Lane
from tests.transport import raw, support

CONFIGURATION: Final = Configuration.of([1, 2])
POSITION: Final = LogPosition(1000, 3, b"h" * 16, 5000)
SETTINGS: Final = dataclasses.replace(support.QUICK, backoff_max_ms=20, snapshot_chunk_bytes=16 << 10)


class MemorySpool:
    """A snapshot that arrives in memory, verified as a spool must."""

    def __init__(self, sink: "MemorySink", snapshot_id: str, size_bytes: int) -> None:
        self._sink = sink
        self._snapshot_id = snapshot_id
        self._size_bytes = size_bytes
        self._data = sink.unfinished.setdefault(snapshot_id, bytearray())

    @property
    def offset(self) -> int:
        return len(self._data)

    def write(self, offset: int, chunk: bytes, /) -> None:
        assert offset == len(self._data)
        self._data += chunk

    def finish(self) -> SnapshotFile:
        data = bytes(self._sink.unfinished.pop(self._snapshot_id))
        if len(data) != self._size_bytes or _snapshot_id(data) != self._snapshot_id:
            raise ValueError("the snapshot arrived damaged")
        self._sink.finished[self._snapshot_id] = data
        return SnapshotFile(self._snapshot_id, "memory", len(data), POSITION, CONFIGURATION.encode())

    def close(self) -> None:
        self._sink.closed += 1


class MemorySink:
    """Keeps snapshots in memory."""

    def __init__(self) -> None:
        self.unfinished: dict[str, bytearray] = {}
        self.finished: dict[str, bytes] = {}
        self.resumed_at: list[int] = []
        self.closed = 0
        self.full = False

    def receive(self, snapshot_id: str, size_bytes: int, /) -> MemorySpool:
        if self.full:
            raise OSError("no space left on device")
        spool = MemorySpool(self, snapshot_id, size_bytes)
        self.resumed_at.append(spool.offset)
        return spool


class Wire:
    """A TCP proxy that may cut a connection, or flip a bit, after so many bytes in one direction."""

    def __init__(self, target_port: int, *, forth: bool) -> None:
        """`forth`: faults are in what the dialler sends; else in what it gets."""
        self._forth = forth
        self.port = 0
        self.faults: list[tuple[str, int]] = []
        """("cut" or "flip", after so many bytes): each is used by the first connection that gets so far."""
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            back, forth = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.close()
            return
        pumps = [
            asyncio.create_task(self._pump(reader, forth, faulty=self._forth)),
            asyncio.create_task(self._pump(back, writer, faulty=not self._forth)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in (writer, forth):
                end.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, faulty: bool) -> None:
        passed = 0
        while data := await reader.read(16 << 10):
            passed += len(data)
            if faulty and self.faults and passed > self.faults[0][1]:
                fault, _ = self.faults.pop(0)
                if fault == "cut":
                    return
                data = data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]
            writer.write(data)
            await writer.drain()


def _snapshot_id(data: bytes) -> str:
    return f"3e8-3-{hashlib.blake2b(data, digest_size=16).hexdigest()}"


def _spool_file(directory: Path, size_bytes: int) -> tuple[SnapshotFile, bytes]:
    data = random.Random(size_bytes).randbytes(size_bytes)
    path = directory / "spool"
    path.write_bytes(data)
    return SnapshotFile(_snapshot_id(data), str(path), size_bytes, POSITION, CONFIGURATION.encode()), data


@dataclasses.dataclass
class Pair:
    """A leader and a follower, of whom only one can dial the other, through a faulty wire."""

    leader: support.Peer
    follower: support.Peer
    sink: MemorySink
    wire: Wire
    leader_dials: ClassVar[bool] = True

    async def send(self, snapshot: SnapshotFile, term: int = 4) -> bool:
        """Send a snapshot and wait for the outcome."""
        outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.leader.transport.send_snapshot(2, term, snapshot, outcome.set_result)
        assert not outcome.done(), "done was called from inside send_snapshot"
        async with asyncio.timeout(support.WAIT_S):
            return await outcome


@pytest.fixture(params=["leader dials", "follower dials"], autouse=True)
def diallers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every story is told twice: a snapshot must reach its follower whoever of the two can dial."""
    monkeypatch.setattr(Pair, "leader_dials", request.param == "leader dials")


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    reservation = ports.reserve(3)
    first, second, nobody = reservation.ports
    sink = MemorySink()
    leader_dials = Pair.leader_dials
    wire = Wire(second if leader_dials else first, forth=leader_dials)
    await wire.start()
    try:
        leader = support.make_peer(1, {1: first, 2: wire.port if leader_dials else nobody}, SETTINGS)
        follower = support.make_peer(2, {1: nobody if leader_dials else wire.port, 2: second}, SETTINGS, sink=sink)
        async with support.running(leader), support.running(follower):
            await leader.events.until(lambda events: events.connected == {2})
            await follower.events.until(lambda events: events.connected == {1})
            yield Pair(leader, follower, sink, wire)
    finally:
        await wire.stop()
        reservation.release()


def _installed(term: int, snapshot: SnapshotFile) -> InstallSnapshot:
    return InstallSnapshot(
        term,
        POSITION.index,
        POSITION.term,
        POSITION.chain_hash,
        CONFIGURATION,
        snapshot.snapshot_id,
        POSITION.clock_ms,
    )


async def test_a_snapshot_arrives_whole_and_is_reported_before_its_sender_hears(tmp_path: Path) -> None:
    """The follower's core knows of it before the leader goes on with entries behind it."""
    snapshot, data = _spool_file(tmp_path, 1_000_003)
    async with pair() as both:
        assert await both.send(snapshot)
        assert both.follower.events.snapshots == [(1, _installed(4, snapshot))]
        assert both.sink.finished == {snapshot.snapshot_id: data}
        assert both.leader.events.disconnects == 0


async def test_heartbeats_pass_while_a_snapshot_is_on_its_way(tmp_path: Path) -> None:
    """It has a connection of its own (faults N7)."""
    snapshot, _ = _spool_file(tmp_path, 8 << 20)
    async with pair() as both:
        before_end: list[int] = []

        def on_frame(_from: int, _frames: object) -> None:
            before_end.append(len(both.follower.events.snapshots))

        both.follower.events.react = on_frame
        sending = asyncio.create_task(both.send(snapshot))
        beats = 0
        while not sending.done():
            beats += 1
            both.leader.transport.send(2, (Heartbeat(4, 0, 0, beats),))
            await both.follower.events.until(lambda events, due=beats: len(events.frames) >= due)  # type: ignore[misc]  # mypy cannot infer a default's type in a lambda
        assert await sending
        assert before_end.count(0) >= 5


async def test_a_cut_transfer_goes_on_where_it_ended(tmp_path: Path) -> None:
    """Nothing that has arrived is sent again."""
    snapshot, data = _spool_file(tmp_path, 2 << 20)
    async with pair() as both:
        both.wire.faults = [("cut", 500_000), ("cut", 600_000), ("cut", 400_000)]
        assert await both.send(snapshot)
        assert both.sink.finished == {snapshot.snapshot_id: data}
        assert len(both.sink.resumed_at) == 4
        assert both.sink.resumed_at == sorted(set(both.sink.resumed_at))
        assert both.sink.resumed_at[1] >= 300_000


async def test_disk_that_stands_still_is_not_taken_for_a_silent_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever holds the sender back hears nothing of it, signs of life among the rest, and must not miss them."""
    moves, held = threading.Event(), asyncio.Queue[Connection]()
    write, hold_back = MemorySpool.write, Connection.hold_back

    def stalling(spool: MemorySpool, offset: int, chunk: bytes, /) -> None:
        assert moves.wait(support.WAIT_S)
        write(spool, offset, chunk)

    def holding(connection: Connection) -> None:
        hold_back(connection)
        if isinstance(connection.user, Mailbox):
            held.put_nowait(connection)

    monkeypatch.setattr(MemorySpool, "write", stalling)
    monkeypatch.setattr(Connection, "hold_back", holding)
    async with pair() as both, asyncio.timeout(support.WAIT_S):
        snapshot, _ = _spool_file(tmp_path, 1 << 20)
        sending = asyncio.create_task(both.send(snapshot))
        connection = await held.get()
        for _silence in range(100):
            connection.tick()
        moves.set()
        assert await sending
        assert both.sink.resumed_at == [0]


async def test_a_damaged_chunk_is_not_taken_and_sent_again(tmp_path: Path) -> None:
    """Each chunk carries its checksum; what came before it stays."""
    snapshot, data = _spool_file(tmp_path, 1 << 20)
    async with pair() as both:
        both.wire.faults = [("flip", 500_000)]
        assert await both.send(snapshot)
        assert both.sink.finished == {snapshot.snapshot_id: data}
        assert len(both.sink.resumed_at) == 2
        assert 200_000 <= both.sink.resumed_at[1] < 600_000


async def test_a_snapshot_whose_whole_is_wrong_is_thrown_away_and_sent_anew(tmp_path: Path) -> None:
    """What an earlier transfer left may be damaged on disk: the hash of the whole decides."""
    snapshot, data = _spool_file(tmp_path, 500_000)
    async with pair() as both:
        both.sink.unfinished[snapshot.snapshot_id] = bytearray(data[:100_000] + b"?" + data[100_001:200_000])
        assert await both.send(snapshot)
        assert both.sink.resumed_at == [200_000, 0]
        assert both.sink.finished == {snapshot.snapshot_id: data}
        assert len(both.follower.events.snapshots) == 1


def _no_room(both: Pair, _path: Path) -> None:
    both.sink.full = True


def _shorter_file(_both: Pair, path: Path) -> None:
    os.truncate(path, 1000)


def _no_file(_both: Pair, path: Path) -> None:
    path.unlink()


def _refused(both: Pair, _path: Path) -> None:
    both.follower.local.verdict = lambda _hello: GreetingRefused(GreetingRefusalReason.OTHER, "not now")


@pytest.mark.parametrize("fault", [_no_room, _shorter_file, _no_file, _refused])
async def test_a_transfer_that_gets_nowhere_fails_and_harms_nobody(
    tmp_path: Path, fault: Callable[[Pair, Path], None]
) -> None:
    """After a bounded number of attempts the core hears of it and decides anew."""
    snapshot, _ = _spool_file(tmp_path, 100_000)
    async with pair() as both:
        fault(both, Path(snapshot.path))
        assert not await both.send(snapshot)
        assert both.follower.events.snapshots == []
        both.leader.transport.send(2, (Heartbeat(4, 0, 0, 1),))
        await both.follower.events.until(lambda events: events.frames)


async def test_a_second_transfer_to_the_same_peer_fails_at_once(tmp_path: Path) -> None:
    """One at a time; the first goes on."""
    snapshot, data = _spool_file(tmp_path, 1 << 20)
    async with pair() as both:
        first = asyncio.create_task(both.send(snapshot))
        await asyncio.sleep(0)
        assert not await both.send(snapshot)
        assert await first
        assert both.sink.finished == {snapshot.snapshot_id: data}
        outcome: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        both.leader.transport.send_snapshot(99, 4, snapshot, outcome.set_result)
        assert not await outcome, "nobody is called 99"


@asynccontextmanager
async def _announced(port: int, header: SnapshotHeader, instance: bytes) -> AsyncIterator[raw.Raw]:
    """A leader's connection for a snapshot that the follower is ready to take."""
    async with raw.greeted(port, Greeting(support.hello(1), 2, Lane.SNAPSHOT, instance, 0)) as leader:
        leader.say(raw.ACCEPTED, encode_header(header))
        answer = await leader.hear()
        assert answer is not None
        assert decode_snapshot_answer(answer) == Resume(0)
        yield leader


async def test_a_newer_transfer_takes_the_place_of_one_that_stands_still(tmp_path: Path) -> None:
    """A leader that fell silent in mid-transfer does not keep the next one from helping, and cannot disturb it."""
    snapshot, data = _spool_file(tmp_path, 100_000)
    async with pair() as both:
        header = SnapshotHeader("3e7-3-" + "0" * 32, 1000, 999, 3)
        async with _announced(both.follower.transport.ports[0], header, b"silent!!") as silent:
            silent.say(encode_chunk(0, b"x" * 500))
            assert await both.send(snapshot)
            assert both.sink.closed == 1
            silent.say(encode_chunk(500, b"x" * 500))
            (answer,) = await silent.ended()
            assert isinstance(decode_snapshot_answer(answer), NotReceived)
        assert both.sink.finished == {snapshot.snapshot_id: data}
        assert len(both.follower.events.snapshots) == 1
        assert both.sink.closed == 1


async def test_a_chunk_out_of_place_ends_the_transfer() -> None:
    """Offsets must follow each other and stay inside what was announced."""
    async with pair() as both:
        for header_bytes, chunk in ((1000, (10, b"x")), (1000, (0, b"x" * 1001))):
            header = SnapshotHeader("3e7-3-" + "0" * 32, header_bytes, 999, 3)
            async with _announced(both.follower.transport.ports[0], header, b"confused") as confused:
                confused.say(encode_chunk(*chunk))
                assert await confused.ended() == []
        assert both.sink.unfinished == {header.snapshot_id: b""}
