"""Accepts streams from peers: greeting first, then frames to the member."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Protocol, final

import grpc
import grpc.aio

from kvraft.peer_frames import Frame, Refusal
from kvraft.transport.channels import FRAMES, SERVICE, SNAPSHOT
from kvraft.transport.codec import Fragment, WireError, decode_frame, decode_frames
from kvraft.transport.envelope import decode_greeting, encode_answer
from kvraft.transport.handshake import Gate, Lane
from kvraft.transport.links import Inbound, Links
from kvraft.transport.sealing import seal, unseal
from kvraft.transport.settings import TransportSettings

Context = grpc.aio.ServicerContext[object, bytes]
"""A stream being served; what is read is bytes, or `grpc.aio.EOF`."""
_Handler = Callable[[AsyncIterator[bytes], Context], Awaitable[None]]


class ServicerOwner(Protocol):
    """The transport around the accepted streams."""

    def on_frames(self, member_id: int, frames: list[Frame]) -> None:
        """Frames of one message, in order."""
        ...

    def on_received(self, member_id: int, size: int) -> None:
        """A message of so many bytes has arrived."""
        ...

    def on_greeted(self, member_id: int, instance: bytes) -> None:
        """The peer's process `instance` has opened a stream."""
        ...

    def on_refused_by(self, member_id: int, refusal: Refusal) -> None:
        """The peer does not accept us."""
        ...

    def on_refusing(self, member_id: int, address: str, refusal: Refusal) -> None:
        """We do not accept the peer."""
        ...

    def on_garbage(self, address: str, error: WireError) -> None:
        """Somebody sent what no correct member sends."""
        ...

    def on_bug(self, error: Exception) -> None:
        """An exception that is ours: the member must not go on as if nothing had happened."""
        ...


@final
class Servicer:
    """The server's side of `Peer.Frames`."""

    def __init__(self, gate: Gate, links: Links, owner: ServicerOwner, settings: TransportSettings) -> None:
        self._gate = gate
        self._links = links
        self._owner = owner
        self._settings = settings

    def handler(self, snapshot: _Handler) -> "grpc.GenericRpcHandler[bytes, bytes]":
        """The handlers of the whole service; `snapshot` serves `Peer.Snapshot`. Messages stay bytes, with a seal."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                FRAMES: grpc.stream_stream_rpc_method_handler(self.serve, unseal, seal),
                SNAPSHOT: grpc.stream_stream_rpc_method_handler(snapshot, unseal, seal),
            },
        )

    async def serve(self, _requests: AsyncIterator[bytes], context: Context) -> None:
        """One stream, from its greeting to its end."""
        try:
            await self._serve(context)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no greeting")
        except WireError as error:
            self._owner.on_garbage(context.peer(), error)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))

    async def _serve(self, context: Context) -> None:
        data = await read_first(context, self._settings)
        if data is None:
            return
        theirs = decode_greeting(data)
        if theirs.lane is Lane.SNAPSHOT:
            raise WireError("a greeting for a snapshot on a stream for frames")
        member_id = theirs.hello.member_id
        refusal = self._gate.judge(theirs)
        if refusal is not None:
            self._owner.on_refusing(member_id, context.peer(), refusal)
            await context.write(encode_answer(refusal))
            return
        # Before the answer, without which nothing is sent on it: so streams take one another's place in the order of
        # their processes, and none of an earlier process is read behind one of a later (`kvraft/raft/rebuild.py`).
        inbound = self._links.inbound_up(member_id, theirs.lane, theirs.instance)
        try:
            await context.write(encode_answer(self._gate.greeting(member_id, theirs.lane)))
            self._owner.on_greeted(member_id, theirs.instance)
            await self._receive(context, inbound)
        finally:
            self._links.inbound_down(inbound)

    async def _receive(self, context: Context, inbound: Inbound) -> None:
        """Hand on what arrives, until the stream ends or a newer one has taken its place."""
        member_id = inbound.member_id
        parts = Reassembly(self._settings.frame_bytes_max)
        while True:
            data = await context.read()
            if not isinstance(data, bytes) or inbound.stale:
                return
            self._owner.on_received(member_id, len(data))
            received = decode_frames(data)
            if isinstance(received, Refusal):
                self._owner.on_refused_by(member_id, received)
                return
            if isinstance(received, Fragment):
                frame = parts.add(received)
                if frame is None:
                    continue
                received = [frame]
            elif not parts.is_empty:
                raise WireError("frames between the fragments of another")
            try:
                self._owner.on_frames(member_id, received)
            except Exception as error:
                self._owner.on_bug(error)
                raise


async def read_first(context: Context, settings: TransportSettings) -> bytes | None:
    """The first message of a stream; None if the dialler ended it instead.

    Raises:
        TimeoutError: it did not come in time.
    """
    async with asyncio.timeout(settings.greeting_timeout_ms / 1000):
        data = await context.read()
    return data if isinstance(data, bytes) else None


@final
class Reassembly:
    """Puts a frame together from its fragments."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max: Final = frame_bytes_max
        self._data = bytearray()
        self._frame_bytes = 0

    @property
    def is_empty(self) -> bool:
        """Whether no frame is half here."""
        return not self._data

    def add(self, fragment: Fragment) -> Frame | None:
        """Take the next fragment; the frame, if it was the last one.

        Raises:
            WireError: it does not fit the ones before it, the frame is larger than allowed, or is none.
        """
        if not self._data:
            self._frame_bytes = fragment.frame_bytes
        if fragment.frame_bytes != self._frame_bytes or fragment.frame_bytes > self._frame_bytes_max:
            raise WireError(f"a fragment of a frame of {fragment.frame_bytes} bytes")
        self._data += fragment.data
        if len(self._data) < self._frame_bytes:
            return None
        if len(self._data) > self._frame_bytes:
            raise WireError(f"fragments beyond the {self._frame_bytes} bytes of their frame")
        whole = bytes(self._data)
        self._data = bytearray()
        return decode_frame(whole)
