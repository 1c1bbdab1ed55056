"""Which stream a frame takes, and the bounded queue in front of it. No I/O.

AppendEntries all take the entries stream, so that they arrive in the order in which they were sent and pipelining
needs no probes. Everything else is small and takes the control stream, where nothing large ever stands before it;
its order against AppendEntries does not matter to Raft.
"""

import asyncio
from collections import deque
from typing import final

from kvraft.peer_frames import ForwardedCommand, Frame
from kvraft.raft.messages import AppendEntries
from kvraft.transport.handshake import Lane


def lane_of(frame: Frame, frame_bytes: int, bulk_command_bytes: int) -> Lane:
    """The stream for a frame of this size."""
    if isinstance(frame, AppendEntries) or (isinstance(frame, ForwardedCommand) and frame_bytes > bulk_command_bytes):
        return Lane.ENTRIES
    return Lane.CONTROL


@final
class OutboundQueue:
    """Frames that wait for one stream: bounded in number and bytes, in order, with one reader."""

    __slots__ = ("_bytes", "_bytes_max", "_frames", "_frames_max", "_message_bytes_max", "_waiter")

    def __init__(self, frames_max: int, bytes_max: int, message_bytes_max: int) -> None:
        self._frames: deque[tuple[Frame, int]] = deque()
        self._bytes = 0
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._message_bytes_max = message_bytes_max
        self._waiter: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._frames)

    def push(self, frame: Frame, frame_bytes: int) -> bool:
        """Queue a frame; False, and nothing changed, if it does not fit. An empty queue takes one of any size."""
        if self._frames and (len(self._frames) >= self._frames_max or self._bytes + frame_bytes > self._bytes_max):
            return False
        self._frames.append((frame, frame_bytes))
        self._bytes += frame_bytes
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        return True

    async def wait(self) -> None:
        """Return once a frame is queued."""
        if not self._frames:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def take(self) -> tuple[list[Frame], int]:
        """The frames of the next message and their size: as many as fit one message, and always at least one.

        Only a frame that is alone may be larger than a message; it then has to leave in fragments.
        """
        assert self._frames, "take follows wait"
        if self._bytes <= self._message_bytes_max:
            frames = [frame for frame, _ in self._frames]
            total = self._bytes
            self._frames.clear()
            self._bytes = 0
            return frames, total
        frame, total = self._frames.popleft()
        frames = [frame]
        while self._frames and total + self._frames[0][1] <= self._message_bytes_max:
            frame, frame_bytes = self._frames.popleft()
            frames.append(frame)
            total += frame_bytes
        self._bytes -= total
        return frames, total

    def clear(self) -> list[Frame]:
        """Drop everything; returns what it was: none of it has left."""
        dropped = [frame for frame, _ in self._frames]
        self._frames.clear()
        self._bytes = 0
        return dropped
