"""Dials one peer: two streams, kept open, each fed from its queue.

A wake-up takes everything that queued since the last one into one message, and a stream has one write in flight; so
the busier the member, the more frames a message carries, and gRPC's cost for each message (some 100 µs) is shared.
"""

import asyncio
import random
from collections.abc import Sequence
from typing import Final, Protocol, final

import grpc
import grpc.aio

from kvraft import clock, logs
from kvraft.peer_frames import Frame, Refusal
from kvraft.transport.channels import FRAMES, SERVICE, OpenChannel
from kvraft.transport.codec import WireError, encode_fragments, encode_frames, frame_size
from kvraft.transport.envelope import decode_answer, encode_dialler_refusal, encode_greeting
from kvraft.transport.handshake import Gate, Greeting, Lane
from kvraft.transport.lanes import OutboundQueue, lane_of
from kvraft.transport.sealing import seal, unseal
from kvraft.transport.settings import TransportSettings

_METHOD: Final = f"/{SERVICE}/{FRAMES}"
_log = logs.get(__name__)

Call = grpc.aio.StreamStreamCall[bytes, bytes]


class PeerStreamOwner(Protocol):
    """The transport around the streams to one peer."""

    def on_outbound_up(self, member_id: int, instance: bytes) -> None:
        """Both streams to the peer's process `instance` are accepted."""
        ...

    def on_outbound_down(self, member_id: int) -> None:
        """One of them broke."""
        ...

    def on_refused_by(self, member_id: int, refusal: Refusal) -> None:
        """The peer does not accept us."""
        ...

    def on_refusing(self, member_id: int, address: str, refusal: Refusal) -> None:
        """We do not accept the peer."""
        ...

    def on_sent(self, member_id: int, size: int) -> None:
        """A message of so many bytes was given to a stream."""
        ...

    def on_unsent(self, member_id: int, frames: Sequence[Frame]) -> None:
        """Frames that had queued were dropped with the streams; nothing of them has left."""
        ...


@final
class _RefusedError(Exception):
    """One side does not accept the other; it has been reported."""


class _OvertakenError(Exception):
    """The greeting told too little by the time that it was judged; the next one will do."""


@final
class PeerStream:
    """The streams to one peer. `run` never ends by itself."""

    def __init__(
        self,
        member_id: int,
        urls: Sequence[str],
        gate: Gate,
        open_channel: OpenChannel,
        owner: PeerStreamOwner,
        settings: TransportSettings,
        rng: random.Random,
    ) -> None:
        self.member_id: Final = member_id
        self.urls: Final = tuple(urls)
        self._gate = gate
        self._open_channel = open_channel
        self._owner = owner
        self._settings = settings
        self._rng = rng
        message_bytes_max = settings.message_bytes_max
        self._control = OutboundQueue(settings.control_frames_max, settings.control_bytes_max, message_bytes_max)
        self._entries = OutboundQueue(settings.entries_frames_max, settings.entries_bytes_max, message_bytes_max)
        self._up = False
        self._instance: bytes | None = None
        self._superseded: asyncio.Future[None] | None = None
        self._knocked = asyncio.Event()
        self._complain_at_ms = 0
        """When it is next said that the peer is out of reach; 0: it is not, or was not dialled yet."""

    def send(self, frames: Sequence[Frame]) -> Sequence[Frame]:
        """Queue frames for the next wake-up; returns those that were dropped."""
        if not self._up:
            return frames
        dropped: list[Frame] = []
        bulk_command_bytes = self._settings.bulk_command_bytes
        for frame in frames:
            frame_bytes = frame_size(frame)
            lane = lane_of(frame, frame_bytes, bulk_command_bytes)
            queue = self._entries if lane is Lane.ENTRIES else self._control
            if not queue.push(frame, frame_bytes):
                dropped.append(frame)
        return dropped

    def knock(self, instance: bytes) -> None:
        """The peer's process `instance` has just dialled us: it is there, so do not wait for the next attempt.

        Streams to an earlier process of that peer lead nowhere, even if nothing has told us so yet.
        """
        if not self._up:
            self._knocked.set()
        elif instance != self._instance and self._superseded is not None and not self._superseded.done():
            self._superseded.set_result(None)

    async def run(self) -> None:
        """Dial, feed the streams until one breaks, pause, and again with the next URL, until cancelled."""
        attempt = failures = 0
        while True:
            url = self.urls[attempt % len(self.urls)]
            attempt += 1
            started_ms = clock.monotonic_ms()
            self._knocked.clear()
            try:
                await self._session(url)
            except _RefusedError:
                pause_ms = self._settings.refused_backoff_ms
            else:
                settled = clock.monotonic_ms() - started_ms > 2 * self._settings.backoff_max_ms
                failures = 0 if settled else min(failures + 1, 16)
                pause_ms = min(self._settings.backoff_max_ms, self._settings.backoff_min_ms << failures)
            await self._pause(self._rng.uniform(pause_ms / 2, pause_ms) / 1000)

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until the peer knocks."""
        try:
            async with asyncio.timeout(seconds):
                await self._knocked.wait()
        except TimeoutError:
            return

    async def _session(self, url: str) -> None:
        """One life of both streams. Returns when they end, and raises only `_RefusedError` for a peer's reasons."""
        channels = (self._open_channel(url), self._open_channel(url))
        try:
            async with asyncio.timeout(self._settings.connect_timeout_ms / 1000):
                control, _ = await self._open(channels[0], url, Lane.CONTROL)
                entries, greeting = await self._open(channels[1], url, Lane.ENTRIES)
            self._complain_at_ms = 0
            await self._feed(control, entries, greeting.instance)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError) as error:
            reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else repr(error)
            self._out_of_reach(url, reason)
        except _OvertakenError:
            _log.info("greeted too late", peer=f"{self.member_id:x}", url=url)
        except WireError as error:
            _log.warning("peer speaks another protocol", peer=f"{self.member_id:x}", url=url, error=error)
        finally:
            for channel in channels:
                await channel.close(None)

    def _out_of_reach(self, url: str, reason: object) -> None:
        """Log a failed attempt: most of them for those who debug, one a minute for whoever is on duty."""
        now_ms = clock.monotonic_ms()
        complain_at_ms = self._complain_at_ms or now_ms + self._settings.unreachable_after_ms
        if now_ms >= complain_at_ms:
            complain_at_ms = now_ms + self._settings.unreachable_again_ms
            _log.warning(
                "no connection to peer: is it running, and is this its address?",
                peer=f"{self.member_id:x}",
                url=url,
                error=reason,
            )
        else:
            _log.debug("no connection to peer", peer=f"{self.member_id:x}", url=url, error=reason)
        self._complain_at_ms = complain_at_ms

    async def _open(self, channel: grpc.aio.Channel, url: str, lane: Lane) -> tuple[Call, Greeting]:
        """Open one stream, greet, and judge the answer."""
        call: Call = channel.stream_stream(_METHOD, seal, unseal)(None)
        await call.wait_for_connection()  # What it says shall not be older than it must.
        await call.write(encode_greeting(self._gate.greeting(self.member_id, lane)))
        data = await call.read()
        if not isinstance(data, bytes):
            raise WireError("the stream ended without an answer to the greeting")
        answer = decode_answer(data)
        if isinstance(answer, Refusal):
            if answer.is_overtaken(self._gate.local_hello().last_log_index):
                raise _OvertakenError
            self._owner.on_refused_by(self.member_id, answer)
            raise _RefusedError
        refusal = self._gate.judge_answer(answer, self.member_id, lane)
        if refusal is not None:
            self._owner.on_refusing(self.member_id, url, refusal)
            await call.write(encode_dialler_refusal(refusal))
            await call.done_writing()
            await call.read()  # The peer ends the stream once it has read the refusal.
            raise _RefusedError
        return call, answer

    async def _feed(self, control: Call, entries: Call, instance: bytes) -> None:
        """Send what queues until a stream ends or the peer's process is known to be another."""
        self._superseded = asyncio.get_running_loop().create_future()
        self._instance = instance
        self._up = True
        self._owner.on_outbound_up(self.member_id, instance)
        tasks = [
            asyncio.create_task(work)
            for work in (
                self._pump(control, self._control),
                self._pump(entries, self._entries),
                self._watch(control),
                self._watch(entries),
            )
        ]
        try:
            done, _ = await asyncio.wait([*tasks, self._superseded], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._up = False
            unsent = self._control.clear() + self._entries.clear()
            self._owner.on_outbound_down(self.member_id)
            if unsent:
                self._owner.on_unsent(self.member_id, unsent)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for ended in done:
            ended.result()  # Why it ended: for `_session`, or beyond it if it is our bug.

    async def _watch(self, call: Call) -> None:
        """Wait for the end of a stream; the acceptor says nothing more on it."""
        if isinstance(await call.read(), bytes):
            raise WireError("an acceptor that goes on talking")

    async def _pump(self, call: Call, queue: OutboundQueue) -> None:
        """Feed one stream."""
        message_bytes_max = self._settings.message_bytes_max
        while True:
            await queue.wait()
            frames, size = queue.take()
            if size <= message_bytes_max:
                message = encode_frames(frames)
                await call.write(message)
                self._owner.on_sent(self.member_id, len(message))
            else:
                for part in encode_fragments(frames[0], message_bytes_max):
                    await call.write(part)
                    self._owner.on_sent(self.member_id, len(part))
