"""Carries one snapshot to a peer, or takes one in: checksummed chunks, one in memory at a time, resumed where it broke.

A transfer has a TCP connection of its own, so that nothing else waits behind it.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar, final

import grpc
import grpc.aio

from kvraft import logs
from kvraft.peer_frames import Refusal
from kvraft.raft.configuration import Configuration
from kvraft.raft.messages import InstallSnapshot
from kvraft.raft.restored import SnapshotFile
from kvraft.transport.channels import SERVICE, SNAPSHOT, OpenChannel
from kvraft.transport.codec import WireError
from kvraft.transport.envelope import (
    Received,
    Resume,
    SnapshotHeader,
    decode_chunk,
    decode_snapshot_answer,
    decode_snapshot_start,
    encode_chunk,
    encode_snapshot_answer,
    encode_snapshot_start,
)
from kvraft.transport.handshake import Gate, Lane
from kvraft.transport.interfaces import SnapshotSink, SnapshotSpool
from kvraft.transport.sealing import seal, unseal
from kvraft.transport.servicer import Context, read_first
from kvraft.transport.settings import TransportSettings

_METHOD: Final = f"/{SERVICE}/{SNAPSHOT}"
_log = logs.get(__name__)
_Result = TypeVar("_Result")


@final
class SnapshotSender:
    """Sends one spool file to one peer."""

    def __init__(
        self, member_id: int, urls: Sequence[str], gate: Gate, open_channel: OpenChannel, settings: TransportSettings
    ) -> None:
        self._member_id = member_id
        self._urls = urls
        self._gate = gate
        self._open_channel = open_channel
        self._settings = settings
        self._acknowledged = 0

    async def send(self, header: SnapshotHeader, path: str) -> bool:
        """Whether the peer has the whole snapshot, after as many attempts as bring it further."""
        attempts = failures = 0
        while failures < self._settings.snapshot_failures_max:
            before = self._acknowledged
            error = await self._attempt(self._urls[attempts % len(self._urls)], header, path)
            attempts += 1
            if error is None:
                return True
            failures = 1 if self._acknowledged > before else failures + 1
            peer = f"{self._member_id:x}"
            _log.warning("snapshot not sent yet", peer=peer, index=header.index, error=error)
            await asyncio.sleep(self._settings.backoff_max_ms / 1000)
        return False

    async def _attempt(self, url: str, header: SnapshotHeader, path: str) -> str | None:
        """Why this attempt failed; None if the peer has everything."""
        channel = self._open_channel(url)
        try:
            return await self._transfer(channel, header, path)
        except grpc.aio.AioRpcError as error:
            return error.details() or error.code().name
        except (WireError, OSError, asyncio.InvalidStateError) as error:
            return repr(error)
        finally:
            await channel.close(None)

    async def _transfer(self, channel: grpc.aio.Channel, header: SnapshotHeader, path: str) -> str | None:
        call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(_METHOD, seal, unseal)(None)
        async with asyncio.timeout(self._settings.connect_timeout_ms / 1000):
            await call.wait_for_connection()
            await call.write(encode_snapshot_start(self._gate.greeting(self._member_id, Lane.SNAPSHOT), header))
            data = await call.read()
        answer = decode_snapshot_answer(data if isinstance(data, bytes) else b"")
        if isinstance(answer, Refusal):
            return answer.detail
        if not isinstance(answer, Resume) or answer.offset > header.size_bytes:
            raise WireError("a snapshot accepted without an offset inside it")
        refusal = self._gate.judge_answer(answer.greeting, self._member_id, Lane.SNAPSHOT)
        if refusal is not None:
            return refusal.detail
        self._acknowledged = answer.offset
        file = await asyncio.get_running_loop().run_in_executor(None, os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self._send_chunks(call, file, answer.offset, header.size_bytes)
        finally:
            os.close(file)
        await call.done_writing()
        data = await call.read()
        received = isinstance(data, bytes) and isinstance(decode_snapshot_answer(data), Received)
        return None if received else "the peer did not confirm the snapshot"

    async def _send_chunks(
        self, call: grpc.aio.StreamStreamCall[bytes, bytes], file: int, start: int, end: int
    ) -> None:
        loop = asyncio.get_running_loop()
        offset = start
        while offset < end:
            wanted = min(self._settings.snapshot_chunk_bytes, end - offset)
            data = await loop.run_in_executor(None, os.pread, file, wanted, offset)
            if not data:
                raise OSError(f"the spool file ends at {offset} of {end} bytes")
            await call.write(encode_chunk(offset, data))
            offset += len(data)


class SnapshotReceiverOwner(Protocol):
    """The transport around snapshots that arrive."""

    def on_snapshot(self, member_id: int, snapshot: InstallSnapshot) -> None:
        """A snapshot is whole, verified and durable."""
        ...

    def on_refusing(self, member_id: int, address: str, refusal: Refusal) -> None:
        """We do not accept the peer."""
        ...

    def on_garbage(self, address: str, error: WireError) -> None:
        """Somebody sent what no correct member sends."""
        ...

    def on_bug(self, error: Exception) -> None:
        """An exception that is ours."""
        ...


@final
class _SpoolError(Exception):
    """The sink could not take what arrived: no room, or the whole was not what its id says."""


@final
class _Transfer:
    """A snapshot that is arriving."""

    __slots__ = ("replaced", "spool")

    def __init__(self, spool: SnapshotSpool) -> None:
        self.spool = spool
        self.replaced = False


@final
class SnapshotReceiver:
    """The server's side of `Peer.Snapshot`. One transfer at a time; a newer one takes the place of the one before."""

    def __init__(
        self, gate: Gate, sink: SnapshotSink, owner: SnapshotReceiverOwner, settings: TransportSettings
    ) -> None:
        self._gate = gate
        self._sink = sink
        self._owner = owner
        self._settings = settings
        self._current: _Transfer | None = None
        self._disk = asyncio.Lock()
        """Held during each call of sink and spool: one at a time, in order."""

    async def serve(self, _requests: AsyncIterator[bytes], context: Context) -> None:
        """One stream, from its greeting to its end."""
        try:
            await self._serve(context)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no greeting")
        except WireError as error:
            self._owner.on_garbage(context.peer(), error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except _SpoolError as error:
            _log.warning("snapshot not received", address=context.peer(), error=error)
            await context.abort(grpc.StatusCode.DATA_LOSS, str(error))

    async def _serve(self, context: Context) -> None:
        data = await read_first(context, self._settings)
        if data is None:
            return
        theirs, header = decode_snapshot_start(data)
        if theirs.lane is not Lane.SNAPSHOT:
            raise WireError("a snapshot greeted as a stream for frames")
        member_id = theirs.hello.member_id
        refusal = self._gate.judge(theirs)
        if refusal is not None:
            self._owner.on_refusing(member_id, context.peer(), refusal)
            await context.write(encode_snapshot_answer(refusal))
            return
        transfer = await self._begin(header)
        try:
            snapshot = await self._receive(context, transfer, header, member_id)
        except BaseException:
            await self._end(transfer)
            raise
        if snapshot is None:
            return
        try:
            self._owner.on_snapshot(member_id, snapshot)
        except Exception as error:
            self._owner.on_bug(error)
            raise
        await context.write(encode_snapshot_answer(Received()))

    async def _receive(
        self, context: Context, transfer: _Transfer, header: SnapshotHeader, member_id: int
    ) -> InstallSnapshot | None:
        """Take chunks in; the snapshot when it is whole, None if the dialler stopped early."""
        offset = transfer.spool.offset
        _log.info("receiving snapshot", peer=f"{member_id:x}", index=header.index, offset=offset)
        await context.write(encode_snapshot_answer(Resume(self._gate.greeting(member_id, Lane.SNAPSHOT), offset)))
        while True:
            data = await context.read()
            if not isinstance(data, bytes):
                break
            chunk = decode_chunk(data)
            if chunk.offset != offset or offset + len(chunk.data) > header.size_bytes:
                raise WireError(f"a snapshot chunk at {chunk.offset} where {offset} of {header.size_bytes} was due")
            await self._with(transfer, partial(transfer.spool.write, offset, chunk.data))
            offset += len(chunk.data)
        if offset < header.size_bytes:
            await self._end(transfer)
            return None
        file = await self._with(transfer, transfer.spool.finish)
        self._current = None if self._current is transfer else self._current
        return _installation(file, header.term)

    async def _begin(self, header: SnapshotHeader) -> _Transfer:
        async with self._disk:
            if self._current is not None:
                self._current.replaced = True
                await _in_worker(self._current.spool.close)
                self._current = None
            self._current = _Transfer(
                await _in_worker(partial(self._sink.receive, header.snapshot_id, header.size_bytes))
            )
            return self._current

    async def _with(self, transfer: _Transfer, work: Callable[[], _Result]) -> _Result:
        """Do this in a worker thread, unless the transfer was replaced."""
        async with self._disk:
            if transfer.replaced:
                raise _SpoolError("a newer snapshot is arriving")
            return await _in_worker(work)

    async def _end(self, transfer: _Transfer) -> None:
        """Give up a transfer that is not whole; its bytes may stay for the next one."""
        async with self._disk:
            if not transfer.replaced:
                transfer.replaced = True
                self._current = None
                await _in_worker(transfer.spool.close)


async def _in_worker(work: Callable[[], _Result]) -> _Result:
    """Do this in a worker thread, to its end even if the stream is cancelled meanwhile.

    Raises:
        _SpoolError: for whatever went wrong; the transfer ends, and the sender tries anew.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
    except Exception as error:
        raise _SpoolError(str(error)) from error


def _installation(file: SnapshotFile, term: int) -> InstallSnapshot:
    """What the core is told about a snapshot from the leader of `term`."""
    position = file.position
    configuration = Configuration.decode(file.configuration)
    return InstallSnapshot(
        term,
        position.index,
        position.term,
        position.chain_hash,
        configuration,
        file.snapshot_id,
        position.clock_ms,
    )
