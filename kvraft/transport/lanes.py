"""Which lane a frame takes, and the bounded queue in front of it. No I/O.

AppendEntries all take the entries lane, so that they arrive in the order in which they were sent and pipelining
needs no probes. Everything else is small and takes the control lane, where nothing large ever stands before it;
its order against AppendEntries does not matter to Raft.
"""

from collections import deque
from typing import final

from kvraft.peer_frames import ForwardedCommand, Frame
from kvraft.raft.messages import AppendEntries
from kvraft.transport.handshake import Lane


def lane_of(frame: Frame, frame_bytes: int, bulk_command_bytes: int) -> Lane:
    """The lane for a frame of this size."""
    if isinstance(frame, AppendEntries) or (isinstance(frame, ForwardedCommand) and frame_bytes > bulk_command_bytes):
        return Lane.ENTRIES
    return Lane.CONTROL


@final
class OutboundQueue:
    """Frames that wait for room on one connection: bounded in number and bytes, in order."""

    __slots__ = ("_bytes", "_bytes_max", "_frames_max", "_message_bytes_max", "frames")

    def __init__(self, frames_max: int, bytes_max: int, message_bytes_max: int) -> None:
        self.frames: deque[tuple[Frame, int]] = deque()
        """With their sizes. To be looked at: every message asks whether others wait before it."""
        self._bytes = 0
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._message_bytes_max = message_bytes_max

    def push(self, frame: Frame, frame_bytes: int) -> bool:
        """Queue a frame; False, and nothing changed, if it does not fit. An empty queue takes one of any size."""
        if self.frames and (len(self.frames) >= self._frames_max or self._bytes + frame_bytes > self._bytes_max):
            return False
        self.frames.append((frame, frame_bytes))
        self._bytes += frame_bytes
        return True

    def take(self) -> tuple[list[Frame], int]:
        """The frames of the next message and their size: as many as fit one message, and always at least one.

        Only a frame that is alone may be larger than a message; it then has to leave in fragments.
        """
        assert self.frames, "nothing is queued"
        if self._bytes <= self._message_bytes_max:
            frames = [frame for frame, _ in self.frames]
            total = self._bytes
            self.frames.clear()
            self._bytes = 0
            return frames, total
        frame, total = self.frames.popleft()
        frames = [frame]
        while self.frames and total + self.frames[0][1] <= self._message_bytes_max:
            frame, frame_bytes = self.frames.popleft()
            frames.append(frame)
            total += frame_bytes
        self._bytes -= total
        return frames, total

    def clear(self) -> list[Frame]:
        """Drop everything; returns what it was: none of it has left."""
        dropped = [frame for frame, _ in self.frames]
        self.frames.clear()
        self._bytes = 0
        return dropped
