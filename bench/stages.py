"""`python -m bench.stages [--batch 1,16]`: microseconds of CPU per write in the interpreter, stage by stage.

What the leader and one follower do for writes of 256 bytes that go through the log in groups of `--batch`, on this
thread, without sockets and disks. Each figure is a quartile of many: whatever else runs on the machine adds to some.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast, final

from kvraft.api_v2.app import App
from kvraft.api_v2.backend import Backend
from kvraft.api_v2.fast_protocol import FastFront
from kvraft.api_v2.http_dates import DateLine
from kvraft.api_v2.settings import ApiSettings
from kvraft.api_v2.unfinished import Unfinished
from kvraft.api_v2.unread import Unread
from kvraft.keyspace.command_codec import encode_command
from kvraft.keyspace.commands import Command
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.applier import Applier
from kvraft.member.waiters import Waiters
from kvraft.metrics import Metrics
from kvraft.raft.configuration import Configuration
from kvraft.raft.core import Raft
from kvraft.raft.effects import Effects, HardState
from kvraft.raft.entries import Entry
from kvraft.raft.inputs import Input, Received
from kvraft.raft.messages import Message
from kvraft.raft.restored import LogPosition, Restored
from kvraft.raft.settings import RaftSettings
from kvraft.records import Written
from kvraft.storage import codec as disk_codec
from kvraft.transport.codec import decode_message, encode_frames
from kvraft.transport.framing import Splitter, seal
from kvraft.transport.session import LastFrame
from kvraft.transport.settings import TransportSettings

KEYS: Final = 10_000
VALUE: Final = b"value=" + b"v" * 256
IDS: Final = (1, 2, 3)
WRITES: Final = 20_000
FLUSH_WRITES: Final = 5_000
DEADLINE_MS: Final = 100_000

T = TypeVar("T")


@final
class Stages:
    """CPU time by stage, in pieces."""

    def __init__(self) -> None:
        self._found: dict[str, list[float]] = {}

    def timed(self, stage: str, writes: int, work: Callable[[], T]) -> T:
        """What `work` gives, which is done for so many writes."""
        begun_ns = time.thread_time_ns()
        given = work()
        self._found.setdefault(stage, []).append((time.thread_time_ns() - begun_ns) / writes / 1000)
        return given

    def show(self) -> None:
        """A line for each stage, and what they come to."""
        quartiles = {stage: sorted(found)[len(found) // 4] for stage, found in self._found.items()}
        for stage, each in quartiles.items():
            print(f"  {stage:<40}{each:>7.2f}")
        sums = {who: sum(each for stage, each in quartiles.items() if stage.startswith(who)) for who in ("l", "f")}
        print(f"  a leader and two followers              {sums['l'] + 2 * sums['f']:>7.2f}", flush=True)


@final
class Client:
    """A connection that keeps nothing of its answers."""

    def get_extra_info(self, name: str) -> Any:
        """The socket, as far as it is asked for."""
        return self if name == "socket" else None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_arguments, **_named: None


class Server:
    """One server: core, keyspace, and of a leader what its clients wait for."""

    def __init__(self, server_id: int) -> None:
        configurations = ((0, Configuration.of(IDS)),)
        restored = Restored(HardState(0, 0, 0), LogPosition(), LogPosition(), configurations, 0)
        self.server_id = server_id
        self.raft = Raft(server_id, restored, RaftSettings(), random.Random(server_id), cast("Any", None), 0)
        self.waiters = Waiters(server_id, 1, DEADLINE_MS)
        self.told: list[tuple[Callable[[Written | EtcdError], None], Written | EtcdError]] = []
        self.keyspace = Keyspace()
        self.applier = Applier(self.keyspace, LogPosition(), configurations[0][1], self.waiters, lambda: 0, DEADLINE_MS)
        self.applier.on_applied = cast("Callable[[int], None]", self.raft.applied)
        self.applier.on_later_term = lambda _term: None
        self.applier.on_state_hash = lambda _index, _hash: None
        self.splitter = Splitter(1 << 24)
        # What the API asks of a member.
        self.cluster_id, self.raft_index, self.raft_term = 7, 1, 1
        self.watchers, self.wall_ns = self.keyspace.watchers, lambda: 0

    def submit(self, command: Command, done: Callable[[Written | EtcdError], None]) -> Callable[[], None]:
        """As `ClientPort`, but that answers are held until they are measured."""
        self.waiters.add(encode_command(command), lambda outcome: self.told.append((done, outcome)), 0)
        return lambda: None

    def answer(self) -> None:
        """Let the API tell its clients."""
        for done, outcome in self.told:
            done(outcome)
        self.told.clear()

    def step(self, inputs: Sequence[Input], now_ms: int) -> Effects:
        """A step, and all that it must make durable is so at once."""
        effects = self.raft.step(inputs, now_ms)
        if effects.persist is not None:
            self.raft.persisted(effects.persist.batch_id)
        return effects

    def hear(self, from_server: int, data: bytes, now_ms: int) -> Effects:
        """A step with what has arrived from another."""
        frames: list[Any] = [frame for each in self.splitter.feed(data) for frame in cast("Any", decode_message(each))]
        return self.step([Received(from_server, frame) for frame in frames], now_ms)

    def apply(self, committed: list[Entry]) -> None:
        """All of it."""
        self.applier.enqueue(committed)
        while self.applier.apply_slice():
            pass

    def flush(self) -> None:
        """The records of what has changed, as they are given to LMDB."""
        pending = self.keyspace.begin_changes()
        while pending.encode_some():
            pass
        for key, record in sorted(pending.changes.nodes):
            disk_codec.seal(key, record)
        disk_codec.encode_history(pending.changes.history)
        self.keyspace.mark_durable(pending.etcd_index)


def elect(servers: dict[int, Server]) -> int:
    """Let the first one lead; the time then."""
    now_ms = servers[1].raft.next_deadline_ms
    mail: list[tuple[int, int, Message]] = []
    effects = servers[1].step((), now_ms)
    mail += [(1, outgoing.to_server, outgoing.message) for outgoing in effects.messages]
    while mail:
        sender, to_server, message = mail.pop(0)
        heard = servers[to_server].step([Received(sender, message)], now_ms)
        mail += [(to_server, outgoing.to_server, outgoing.message) for outgoing in heard.messages]
        servers[to_server].apply(heard.committed)
    assert servers[1].raft.commit_index == 1
    return now_ms


def sealed_for(effects: Effects, last_frame: LastFrame) -> bytes:
    """What a leader sends of a step to each of its followers."""
    sealed = b""
    for outgoing in effects.messages:
        frame = cast("Any", outgoing.message)
        last_frame.be(frame)
        sealed = last_frame.sealed()
    return sealed


@final
class Trio:
    """A leader, the follower that is measured, and another one."""

    def __init__(self, batch: int, stages: Stages) -> None:
        self.batch = batch
        self.stages = stages
        servers = {server_id: Server(server_id) for server_id in IDS}
        self.leader, self.follower, self.other = (servers[server_id] for server_id in IDS)
        self.now_ms = elect(servers)
        app = App(cast("Backend", self.leader), ApiSettings(), Metrics())
        front = FastFront(app, DateLine(lambda: 0), cast("Any", None), Unread(1 << 20), Unfinished(1 << 20))
        self.connections = [cast("Any", front.new_protocol()) for _ in range(batch)]
        for connection in self.connections:
            connection.connection_made(Client())
        self.last_frame = LastFrame(TransportSettings().bulk_command_bytes)

    def timed(self, stage: str, work: Callable[[], T]) -> T:
        """What `work` gives, which is done for one group."""
        return self.stages.timed(stage, self.batch, work)

    def write(self, requests: Sequence[bytes]) -> None:
        """One group, from its requests to its answers and to the follower that has applied it."""
        leader, follower, now_ms = self.leader, self.follower, self.now_ms

        def arrive() -> None:
            for connection, request in zip(self.connections, requests, strict=True):
                connection.data_received(request)

        def propose() -> Effects:
            return leader.step(leader.waiters.route(leader.raft, cast("Any", None)), now_ms)

        self.timed("leader: request in", arrive)
        proposed = self.timed("leader: step that proposes", propose)
        append = self.timed("leader: AppendEntries out", lambda: sealed_for(proposed, self.last_frame))
        assert proposed.persist is not None
        entries = proposed.persist.entries
        self.timed("leader: group for the log", lambda: disk_codec.encode_groups(entries))
        heard = self.timed("follower: AppendEntries in, step", lambda: follower.hear(1, append, now_ms))
        assert heard.persist is not None
        received = heard.persist.entries
        self.timed("follower: group for the log", lambda: disk_codec.encode_groups(received))
        acknowledged = cast("Any", heard.messages[0].message)
        reply = self.timed("follower: reply out", lambda: seal(encode_frames((acknowledged,))))
        committed = self.timed("leader: reply in, step that commits", lambda: leader.hear(2, reply, now_ms))
        notice = self.timed("leader: notice out", lambda: sealed_for(committed, self.last_frame))
        self.timed("leader: apply", lambda: leader.apply(committed.committed))
        self.timed("leader: answer out", leader.answer)
        told = self.timed("follower: notice in, step", lambda: follower.hear(1, notice, now_ms))
        self.timed("follower: apply", lambda: follower.apply(told.committed))
        leader.raft.step([Received(3, acknowledged)], now_ms)
        self.other.apply(self.other.hear(1, append + notice, now_ms).committed)

    def flush(self) -> None:
        """What has changed becomes records, on all three."""
        self.stages.timed("leader: records of a flush", FLUSH_WRITES, self.leader.flush)
        self.stages.timed("follower: records of a flush", FLUSH_WRITES, self.follower.flush)
        self.other.flush()
        assert self.follower.keyspace.state_hash == self.leader.keyspace.state_hash


def run(batch: int, stages: Stages) -> None:
    """Write, in groups of `batch`."""
    trio = Trio(batch, stages)
    head = b"HTTP/1.1\r\nHost: 127.0.0.1:2379\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: "
    head += b"%d\r\n\r\n" % len(VALUE)
    keys = random.Random(4711)
    for done in range(0, WRITES, batch):
        trio.write([b"PUT /v2/keys/bench/%d %b%b" % (keys.randrange(KEYS), head, VALUE) for _ in range(batch)])
        if (done + batch) // FLUSH_WRITES > done // FLUSH_WRITES:
            trio.flush()


def main() -> None:
    """Print a table for each size of a group."""
    parser = argparse.ArgumentParser(prog="python -m bench.stages", description=__doc__)
    parser.add_argument("--batch", default="1,16", help="writes that go through the log together, by commas")
    for batch in map(int, parser.parse_args().batch.split(",")):
        print(f"{batch} at a time, us of CPU a write")
        stages = Stages()
        run(batch, stages)
        stages.show()


if __name__ == "__main__":
    main()
