"""Carries one snapshot to a peer, or takes one in: chunks, one in memory at a time, resumed where it broke.

A transfer has a TCP connection of its own, so that nothing else waits behind it, and TCP's flow control: the sender
waits for room, the receiver reads on once its disk has what came before. Either side dials it.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar, final

from kvraft import logs
from kvraft.raft.messages import InstallSnapshot
from kvraft.transport.codec import WireError
from kvraft.transport.connection import Mailbox
from kvraft.transport.dialler import GreetingRefusedError, UnreachableError
from kvraft.transport.envelope import (
    NotReceived,
    Received,
    Resume,
    SnapshotHeader,
    decode_chunk,
    decode_header,
    decode_snapshot_answer,
    encode_chunk,
    encode_header,
    encode_snapshot_answer,
)
from kvraft.transport.interfaces import SnapshotSink, SnapshotSpool
from kvraft.transport.reports import Reports
from kvraft.transport.settings import TransportSettings

_log = logs.get(__name__)
_Result = TypeVar("_Result")

Connect = Callable[[], Awaitable[Mailbox]]
"""Gives a connection to the peer."""


@final
class SnapshotSender:
    """Sends one spool file to one peer."""

    def __init__(self, peer: str, connect: Connect, settings: TransportSettings) -> None:
        self._peer = peer
        self._connect = connect
        self._settings = settings
        self._acknowledged = 0

    async def send(self, header: SnapshotHeader, path: str) -> bool:
        """Whether the peer has the whole snapshot, after as many attempts as bring it further."""
        failures = 0
        while failures < self._settings.snapshot_failures_max:
            before = self._acknowledged
            error = await self._attempt(header, path)
            if error is None:
                return True
            failures = 1 if self._acknowledged > before else failures + 1
            _log.warning("snapshot not sent yet", peer=self._peer, index=header.index, error=error)
            await asyncio.sleep(self._settings.backoff_max_ms / 1000)
        return False

    async def _attempt(self, header: SnapshotHeader, path: str) -> str | None:
        """Why this attempt failed; None if the peer has everything."""
        try:
            mailbox = await self._connect()
        except (UnreachableError, GreetingRefusedError) as error:
            return str(error) or type(error).__name__
        try:
            return await self._transfer(mailbox, header, path)
        except (WireError, OSError) as error:
            return str(error)
        finally:
            mailbox.connection.abort("the transfer has ended")

    async def _transfer(self, mailbox: Mailbox, header: SnapshotHeader, path: str) -> str | None:
        await mailbox.write(encode_header(header))
        answer = decode_snapshot_answer(await mailbox.read())
        if isinstance(answer, NotReceived):
            return answer.reason
        if not isinstance(answer, Resume) or answer.offset > header.size_bytes:
            raise WireError("a snapshot accepted without an offset inside it")
        self._acknowledged = answer.offset
        file = await asyncio.get_running_loop().run_in_executor(None, os.open, path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            await self._send_chunks(mailbox, file, answer.offset, header.size_bytes)
        finally:
            os.close(file)
        answer = decode_snapshot_answer(await mailbox.read())
        if isinstance(answer, NotReceived):
            return answer.reason
        return None if isinstance(answer, Received) else "the peer did not confirm the snapshot"

    async def _send_chunks(self, mailbox: Mailbox, file: int, start: int, end: int) -> None:
        loop = asyncio.get_running_loop()
        offset = start
        while offset < end:
            wanted = min(self._settings.snapshot_chunk_bytes, end - offset)
            data = await loop.run_in_executor(None, os.pread, file, wanted, offset)
            if not data:
                raise OSError(f"the spool file ends at {offset} of {end} bytes")
            await mailbox.write(encode_chunk(offset, data))
            offset += len(data)


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
    """Takes snapshots in. One transfer at a time; a newer one takes the place of the one before."""

    def __init__(self, sink: SnapshotSink, reports: Reports) -> None:
        self._sink = sink
        self._reports = reports
        self._current: _Transfer | None = None
        self._unannounced: dict[int, Mailbox] = {}
        """By peer, the connection whose header is awaited: a peer that dials anew has given up the one before."""
        self._disk = asyncio.Lock()
        """Held during each call of sink and spool: one at a time, in order."""

    async def receive(self, member_id: int, mailbox: Mailbox) -> None:
        """One transfer, from its header to its end."""
        connection = mailbox.connection
        try:
            await self._receive(member_id, mailbox)
            connection.close("the snapshot is here")
        except WireError as error:
            self._reports.garbage(connection.address, error)
            connection.abort(str(error))
        except _SpoolError as error:
            _log.warning("snapshot not received", peer=self._reports.name(member_id), error=error)
            connection.write(encode_snapshot_answer(NotReceived(str(error))))
            connection.close(str(error))
        except OSError as error:
            _log.info("snapshot cut off", peer=self._reports.name(member_id), error=error)
        except BaseException:
            connection.abort("the transfer was given up")
            raise

    async def _receive(self, member_id: int, mailbox: Mailbox) -> None:
        header = await self._header(member_id, mailbox)
        transfer = await self._begin(header)
        try:
            snapshot = await self._take_chunks(mailbox, transfer, header, self._reports.name(member_id))
        except BaseException:
            await self._end(transfer)
            raise
        self._reports.snapshot(member_id, snapshot)
        await mailbox.write(encode_snapshot_answer(Received()))

    async def _header(self, member_id: int, mailbox: Mailbox) -> SnapshotHeader:
        earlier = self._unannounced.get(member_id)
        if earlier is not None:
            earlier.connection.abort("its dialler has dialled anew")
        self._unannounced[member_id] = mailbox
        try:
            return decode_header(await mailbox.read())
        finally:
            if self._unannounced.get(member_id) is mailbox:
                del self._unannounced[member_id]

    async def _take_chunks(
        self, mailbox: Mailbox, transfer: _Transfer, header: SnapshotHeader, peer: str
    ) -> InstallSnapshot:
        offset = transfer.spool.offset
        _log.info("receiving snapshot", peer=peer, index=header.index, offset=offset)
        await mailbox.write(encode_snapshot_answer(Resume(offset)))
        while offset < header.size_bytes:
            chunk = decode_chunk(await mailbox.read())
            if chunk.offset != offset or offset + len(chunk.data) > header.size_bytes:
                raise WireError(f"a snapshot chunk at {chunk.offset} where {offset} of {header.size_bytes} was due")
            await self._with(transfer, partial(transfer.spool.write, offset, chunk.data))
            offset += len(chunk.data)
        file = await self._with(transfer, transfer.spool.finish)
        self._current = None if self._current is transfer else self._current
        return file.installation(header.term)

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
    """Do this in a worker thread, to its end even if the transfer is cancelled meanwhile.

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
