"""The part of a simulated server that faces clients: writes with their way to the leader, reads, answers."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kvraft.keyspace.commands import Command
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import ReadReady, Role
from kvraft.raft.entries import HEADER_BYTES, Entry
from kvraft.raft.inputs import Propose, ProposeConfiguration, ReadRequest
from tests.simulation.frames import Forwarded, ForwardRefused
from tests.simulation.machine import REQUEST_ID_BYTES
from tests.simulation.model import Result

if TYPE_CHECKING:
    from tests.simulation.member import SimulatedMember

_REQUEST_ID: Final = struct.Struct("<QQQ")

WriteDone = Callable[[int, Result], None]
"""(log index, answer) of a write that its member has applied."""
ReadDone = Callable[[int, tuple[bytes, int] | None], None]
"""(applied index, value and modifiedIndex) of a linearizable read."""
Failed = Callable[[bool], None]
"""The operation has no answer; True if it certainly did not happen."""


@dataclass(slots=True)
class Write:
    """A write without an answer."""

    done: WriteDone
    failed: Failed


@dataclass(slots=True)
class Read:
    """A linearizable read without an answer."""

    path: bytes
    done: ReadDone
    failed: Failed
    read_index: int = 0


class Desk:
    """One run of one server's clients. A restart makes a new one."""

    def __init__(self, member: "SimulatedMember") -> None:
        self._member = member
        self._context = member.context
        self._counter = 0
        self._writes: dict[bytes, Write] = {}
        self._tokens: dict[int, tuple[int, bytes]] = {}
        """Proposals without an answer: token -> (member that took it, request id)."""
        self._reads: dict[int, Read] = {}
        self._reads_waiting: list[Read] = []
        """Reads whose read index is known and not applied yet."""
        self._read_id = 0

    def close(self) -> None:
        """The process died: nobody gets an answer."""
        writes, reads = list(self._writes.values()), [*self._reads.values(), *self._reads_waiting]
        self._writes.clear()
        self._reads.clear()
        self._reads_waiting.clear()
        if writes:
            self._context.reach("crash: with writes whose outcome nobody knows")
        for write in writes:
            write.failed(False)
        for read in reads:
            read.failed(False)

    # Writes.

    def submit(self, command: Command, done: WriteDone, failed: Failed, user: str = "") -> bytes | None:
        """Take a client's write. Returns its request id, None if it was not sent: no leader known, or no right."""
        member = self._member
        core, machine = member.core, member.machine
        if core is None or machine is None or not core.leader_id:
            self._context.reach("write not sent: no leader known")
            return None
        judged = machine.judged(user, command)
        if judged is None:
            self._context.reach("write not sent: no right")
            return None
        self._counter += 1
        request_id = _REQUEST_ID.pack(member.server_id, member.boots, self._counter)
        payload = request_id + self.encode(judged)
        self._context.commands[request_id] = judged
        self._context.users[request_id] = user
        self._writes[request_id] = Write(done, failed)
        if core.role is Role.LEADER:
            self.propose(member.server_id, payload)
        else:
            self._context.network.send(
                member.server_id, core.leader_id, Forwarded(core.current_term, payload), once=True
            )
        return request_id

    def encode(self, command: Command) -> bytes:
        """A command's bytes behind the request id."""
        assert self._member.machine is not None
        return self._member.machine.encode(command)

    def forget(self, request_id: bytes) -> None:
        """A client gave up."""
        self._writes.pop(request_id, None)

    def propose(self, origin: int, payload: bytes) -> None:
        """Give a command to this server's own core."""
        self._counter += 1
        self._tokens[self._counter] = (origin, payload[:REQUEST_ID_BYTES])
        self._member.put(Propose(self._counter, payload))

    def propose_configuration(self, configuration: Configuration) -> None:
        """An operator asks this leader for another configuration; nobody waits for the answer."""
        self._counter += 1
        self._tokens[self._counter] = (self._member.server_id, b"")
        self._member.put(ProposeConfiguration(self._counter, configuration))

    def take_forwarded(self, from_server: int, frame: Forwarded) -> None:
        """A command from another member: taken only while this server leads the term that it was meant for."""
        core = self._member.core
        assert core is not None
        if core.role is Role.LEADER and core.current_term == frame.term:
            self.propose(from_server, frame.payload)
        else:
            self._context.reach("forwarded write refused: not the leader any more")
            self._refuse(from_server, frame.payload[:REQUEST_ID_BYTES])

    def accepted(self, token: int) -> None:
        """The proposal is in the log."""
        self._tokens.pop(token)

    def refused(self, token: int) -> None:
        """The proposal is in no log."""
        self._context.reached["proposal refused"] += 1
        origin, request_id = self._tokens.pop(token)
        self._refuse(origin, request_id)

    def _refuse(self, origin: int, request_id: bytes) -> None:
        if origin != self._member.server_id:
            self._context.network.send(self._member.server_id, origin, ForwardRefused(request_id), once=True)
        else:
            self.write_refused(request_id)

    def write_refused(self, request_id: bytes) -> None:
        """A write of this member certainly did not happen."""
        write = self._writes.pop(request_id, None)
        if write is not None:
            write.failed(True)

    def waiting_for(self, entry: Entry) -> Write | None:
        """Take the write that waits for an entry."""
        return self._writes.pop(entry.record[HEADER_BYTES : HEADER_BYTES + REQUEST_ID_BYTES], None)

    # Reads.

    def read(self, path: bytes, done: ReadDone, failed: Failed) -> None:
        """Take a client's linearizable read."""
        self._read_id += 1
        self._reads[self._read_id] = Read(path, done, failed)
        self._member.put(ReadRequest(self._read_id))

    def read_ready(self, ready: ReadReady) -> None:
        """The core knows the read index: answer once it is applied."""
        read = self._reads.pop(ready.read_id, None)
        if read is not None:
            read.read_index = ready.read_index
            self._reads_waiting.append(read)
            self.answer_reads()

    def read_failed(self, read_id: int) -> None:
        """The core could not confirm that there is still a leader."""
        self._context.reached["read failed"] += 1
        read = self._reads.pop(read_id, None)
        if read is not None:
            read.failed(True)

    def answer_reads(self) -> None:
        """Answer what the applied state is new enough for."""
        member = self._member
        if not self._reads_waiting or member.installing or member.machine is None:
            return
        waiting, self._reads_waiting = self._reads_waiting, []
        for read in waiting:
            if self.may_answer(read):
                read.done(member.position.index, member.machine.read(read.path))
            else:
                self._context.reach("read waits until its index is applied")
                self._reads_waiting.append(read)

    def may_answer(self, read: Read) -> bool:
        """Whether a read's index is applied."""
        return read.read_index <= self._member.position.index

    def local_read(self, path: bytes) -> tuple[int, int, tuple[bytes, int] | None] | None:
        """(applied index, etcd_index, node) as this server has it; None while it serves nothing."""
        member = self._member
        if member.machine is None or member.paused or member.installing:
            return None
        return member.position.index, member.machine.etcd_index, member.machine.read(path)
