"""A member that consists of a transport, as a process of its own: `python -m tests.transport.member_process`.

Its one argument is JSON: {"member": 2, "ports": {"1": 2380, ...}}. It answers every Heartbeat by a HeartbeatReply with
the number of AppendEntries that have arrived so far, in order, from that member; it writes a line for each change of
its connections.
"""

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence

import uvloop

from kvraft.peer_frames import Frame, GreetingRefused
from kvraft.raft.messages import AppendEntries, Heartbeat, HeartbeatReply, InstallSnapshot
from kvraft.transport.transport import PeerTransport
from tests.transport import support


class _Echo:
    """Counts appends and answers heartbeats."""

    def __init__(self) -> None:
        self.transport: PeerTransport
        self.appended: Counter[int] = Counter()

    def on_frames(self, from_member: int, frames: Iterable[Frame]) -> None:
        for frame in frames:
            if isinstance(frame, AppendEntries) and frame.prev_log_index == self.appended[from_member]:
                self.appended[from_member] += len(frame.entries)
            elif isinstance(frame, Heartbeat):
                reply = HeartbeatReply(frame.term, frame.read_id, self.appended[from_member])
                self.transport.send(from_member, (reply,))

    def on_connected(self, member_id: int) -> None:
        print(f"connected {member_id}", flush=True)

    def on_session_ended(self, member_id: int) -> None:
        """`on_disconnected` is enough here."""

    def on_disconnected(self, member_id: int) -> None:
        print(f"disconnected {member_id}", flush=True)

    def on_dropped(self, member_id: int, frames: Sequence[Frame]) -> None:
        print(f"dropped {member_id}", flush=True)

    def on_refused(self, member_id: int, refusal: GreetingRefused, *, fatal: bool) -> None:
        print(f"refused {member_id}", flush=True)

    def on_snapshot(self, from_member: int, snapshot: InstallSnapshot) -> None:
        print(f"snapshot {snapshot.snapshot_id}", flush=True)


async def main(arguments: dict[str, object]) -> None:
    """Run until standard input closes: the parent holds it, so no process outlives its test."""
    ports, member_id = arguments["ports"], arguments["member"]
    assert isinstance(ports, dict)
    assert isinstance(member_id, int)
    peer = support.make_peer(member_id, {int(name): port for name, port in ports.items()})
    echo = _Echo()
    echo.transport = peer.transport
    await peer.transport.start(echo)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    with contextlib.suppress(ConnectionError):
        await reader.read()
    await peer.transport.stop()


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
