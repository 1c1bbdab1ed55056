"""One server: its core, its disk, and what each action makes of them.

A `Local` is a state of one server, a `Cast` knows all that were met. The core itself is kept as bytes: an action thaws
a copy, steps it, and freezes what came of it. Every (state, action) is computed once.
"""

import itertools
import pickle
import random
from dataclasses import dataclass
from typing import Any, Final, final

from kvraft.raft.configuration import Configuration
from kvraft.raft.core import Raft
from kvraft.raft.effects import Effects, HardState, Outgoing, Persist
from kvraft.raft.entries import Entry
from kvraft.raft.inputs import Input, Propose, Received
from kvraft.raft.messages import (
    AppendEntriesReply,
    HeartbeatReply,
    Message,
    RequestPreVoteReply,
    RequestVoteReply,
)
from kvraft.raft.restored import LogPosition, Restored
from kvraft.raft.roles import Candidate, Follower, Leader, PreCandidate
from kvraft.raft.settings import RaftSettings
from kvraft.raft.state import State
from tests.simulation.small_scope.image import Imager, Renaming
from tests.simulation.small_scope.scope import SERVERS, Scope

TIME_OUT: Final = -1
"""The election timer of a server that does not lead, the heartbeat timer of one that does."""
STEP_DOWN: Final = -2
"""A leader has heard no majority for an election timeout (CheckQuorum)."""
PROPOSE: Final = -3
COMPLETE: Final = -4
"""The oldest batch becomes durable."""
CRASH: Final = -5
"""And start again from what is durable."""

RENAMINGS: Final[tuple[Renaming, ...]] = tuple((0, *order) for order in itertools.permutations(SERVERS))
_NOW_MS: Final = 1 << 20
"""Time stands still; a timer that runs out is set back to here."""
_ANSWERS: Final = (RequestVoteReply, AppendEntriesReply, HeartbeatReply)
_SETTINGS: Final = RaftSettings(message_bytes_max=1, inflight_messages_max=2, disconnect_delay_ms_max=1)
"""One entry a message, so that each can be lost alone; and no delay may end in the moment in which it begins."""


class _Even(random.Random):
    """Always draws the most: timers need no chance where each may run out at any moment, and none does by itself."""

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return (start if stop is None else stop) - step

    def getrandbits(self, _k: int, /) -> int:
        return 0


_RANDOM: Final = _Even()


@final
class _Reader:
    """The core's view of its disk."""

    def __init__(self, entries: tuple[Entry, ...]) -> None:
        self._entries = entries

    def term_at(self, index: int) -> int:
        """The term of a durable entry; 0 if it is not held."""
        return self._entries[index - 1].term if 0 < index <= len(self._entries) else 0

    def slice(self, first: int, last: int, bytes_max: int) -> list[Entry]:
        """Durable entries `first`..`last`, cut after `bytes_max` but never before the first."""
        taken: list[Entry] = []
        size = 0
        for entry in self._entries[first - 1 : last]:
            size += len(entry.record)
            if taken and size > bytes_max:
                break
            taken.append(entry)
        return taken


@final
@dataclass(slots=True, eq=False)
class Local:
    """One state of one server."""

    number: int
    server_id: int
    core: bytes
    """Pickled, without what all states share."""
    hard_state: HardState
    durable: tuple[Entry, ...]
    pending: tuple[Persist, ...]
    """Batches on their way to the disk, oldest first."""
    held: tuple[Outgoing, ...]
    """What waits for the disk."""
    symbols: tuple[int, ...]
    """A number for its image under each of `RENAMINGS`."""
    shape: int
    """Equal for states that differ in the names of servers only."""
    role: str
    term: int
    leads: int
    """The term that it leads; 0 if it does not."""
    commit_index: int
    log: tuple[Entry, ...]
    logs: tuple[int, int]
    """Numbers for the contents of its log and of its disk's."""


@final
@dataclass(slots=True)
class Transition:
    """What an action makes of a server."""

    after: Local
    sent: tuple[int, ...]
    """Numbers of the messages that leave."""
    finding: str = ""
    """What the core itself said was wrong."""


@final
class Cast:
    """Every state of a server and every message that was met, each with a number."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._numbers: dict[object, int] = {}
        """Images of all kinds to numbers, in the order in which they were met."""
        self._locals: dict[int, Local] = {}
        self.messages: list[tuple[int, int, Message]] = []
        """(from, to, message) by number."""
        self._message_numbers: dict[object, int] = {}
        self.renamed: list[tuple[int, ...]] = []
        """By message: its number under each of `RENAMINGS`."""
        self.answer_term: list[int] = []
        """By message: see `answer_term`."""
        self._transitions: dict[tuple[int, int], Transition] = {}
        self.steps = 0
        """Steps of a core that were really taken."""
        configuration = Configuration.of(SERVERS)
        self._configurations = ((0, configuration),)

    def first(self, server_id: int) -> Local:
        """A server that starts for the first time."""
        hard_state = HardState(0, 0, 0)
        return self._freeze(self._start(server_id, hard_state, ()), hard_state, (), (), ())

    def transition(self, local: Local, action: int) -> Transition:
        """What follows from an action, from the core or from memory."""
        key = (local.number, action)
        known = self._transitions.get(key)
        if known is None:
            known = self._transitions[key] = self._take(local, action)
        return known

    def _take(self, local: Local, action: int) -> Transition:
        self.steps += 1
        if action == CRASH:
            core = self._start(local.server_id, local.hard_state, local.durable)
            return Transition(self._freeze(core, local.hard_state, local.durable, (), ()), ())
        work = _Work(self._thaw(local), local)
        try:
            if action == COMPLETE:
                work.complete()
            else:
                work.step(self._inputs(work.core, action))
                while work.pending and not self._scope.slow_disk:
                    work.complete()
        except AssertionError as error:
            return Transition(local, (), f"server {local.server_id} stops: {error}")
        after = self._freeze(work.core, work.hard_state, work.durable, tuple(work.pending), tuple(work.held))
        sent = tuple(self._number_of(local.server_id, outgoing.to_server, outgoing.message) for outgoing in work.sent)
        return Transition(after, sent, work.finding)

    def _inputs(self, core: Raft, action: int) -> list[Input]:
        state = core._state
        role = state.role
        if action >= 0:
            from_server, _, message = self.messages[action]
            return [Received(from_server, message)]
        if action == PROPOSE:
            return [Propose(1, b"")]
        if action == STEP_DOWN:
            assert isinstance(role, Leader)
            role.quorum_deadline_ms = _NOW_MS
            for progress in role.progress.values():
                progress.last_contact_ms = _NOW_MS - state.settings.election_timeout_ms
        elif isinstance(role, Leader):
            role.heartbeat_deadline_ms = _NOW_MS
            for progress in role.progress.values():
                progress.sent_ms = _NOW_MS - state.settings.heartbeat_interval_ms
        else:
            assert isinstance(role, Follower | PreCandidate | Candidate)
            role.election_deadline_ms = _NOW_MS
        return []

    def _start(self, server_id: int, hard_state: HardState, durable: tuple[Entry, ...]) -> Raft:
        last = durable[-1] if durable else None
        position = LogPosition(last.index, last.term, last.chain_hash, last.clock_ms) if last else LogPosition()
        restored = Restored(hard_state, LogPosition(), position, self._configurations, 0)
        return Raft(server_id, restored, _SETTINGS, _RANDOM, _Reader(durable), _NOW_MS)

    def _thaw(self, local: Local) -> Raft:
        core: Raft = pickle.loads(local.core)
        core._state.settings = _SETTINGS
        core._state.random = _RANDOM
        core._state.log._reader = _Reader(local.durable)
        core._state.effects = Effects()
        return core

    def _freeze(
        self,
        core: Raft,
        hard_state: HardState,
        durable: tuple[Entry, ...],
        pending: tuple[Persist, ...],
        held: tuple[Outgoing, ...],
    ) -> Local:
        state = core._state
        images = []
        for renaming in RENAMINGS:
            imager = Imager(renaming, core.durable_batch)
            images.append((imager.of(state), imager.of_disk(hard_state, durable, pending), imager.of(held)))
            if len(images) == 1:
                known = self._locals.get(self._numbers.get(images[0], -1))
                if known is not None:
                    return known
        symbols = tuple(self._number(image) for image in images)
        log = _whole_log(state, durable)
        shared: Any = state
        shared.settings = shared.random = shared.effects = shared.log._reader = None
        local = Local(
            number=symbols[0],
            server_id=state.server_id,
            core=pickle.dumps(core, pickle.HIGHEST_PROTOCOL),
            hard_state=hard_state,
            durable=durable,
            pending=pending,
            held=held,
            symbols=symbols,
            shape=min(
                symbol
                for symbol, renaming in zip(symbols, RENAMINGS, strict=True)
                if renaming[state.server_id] == SERVERS[0]
            ),
            role=state.role.kind.value,
            term=state.current_term,
            leads=state.current_term if isinstance(state.role, Leader) else 0,
            commit_index=state.commit_index,
            log=log,
            logs=(
                self._number(("log", *[entry.chain_hash for entry in log])),
                self._number(("log", *[entry.chain_hash for entry in durable])),
            ),
        )
        self._locals[local.number] = local
        return local

    def local(self, number: int) -> Local:
        """The state of that number."""
        return self._locals[number]

    def _number(self, image: object) -> int:
        return self._numbers.setdefault(image, len(self._numbers))

    def _number_of(self, from_server: int, to_server: int, message: Message) -> int:
        """A message's number. What it says names no server, so renaming changes its ends only."""
        said = Imager(RENAMINGS[0], 0).of(message)
        key = (from_server, to_server, said)
        number = self._message_numbers.get(key)
        if number is not None:
            return number
        for renaming in RENAMINGS:
            ends = (renaming[from_server], renaming[to_server])
            if (*ends, said) not in self._message_numbers:
                self._message_numbers[*ends, said] = len(self.messages)
                self.messages.append((*ends, message))
                self.answer_term.append(answer_term(message))
        for each in range(len(self.renamed), len(self.messages)):
            source, target, _ = self.messages[each]
            self.renamed.append(
                tuple(self._message_numbers[renaming[source], renaming[target], said] for renaming in RENAMINGS)
            )
        return self._message_numbers[key]


@final
class _Work:
    """A thawed server in the middle of an action."""

    def __init__(self, core: Raft, local: Local) -> None:
        self.core = core
        self.hard_state = local.hard_state
        self.durable = local.durable
        self.pending = list(local.pending)
        self.held = list(local.held)
        self.sent: list[Outgoing] = []
        self.finding = ""

    def step(self, inputs: list[Input]) -> None:
        """Step the core and take over what its caller owes."""
        effects = self.core.step(inputs, _NOW_MS)
        if effects.divergence is not None:
            self.finding = f"server {self.core._state.server_id} reports {effects.divergence.detail}"
        if effects.corrupt_from:
            self.finding = f"server {self.core._state.server_id} got a broken entry"
        if effects.persist is not None:
            self.pending.append(effects.persist)
        for outgoing in effects.messages:
            if outgoing.after_batch and must_wait(outgoing.message):
                self.held.append(outgoing)
            else:
                self.sent.append(outgoing)

    def complete(self) -> None:
        """The oldest batch becomes durable, and what waited for it leaves."""
        batch = self.pending.pop(0)
        if batch.hard_state is not None:
            self.hard_state = batch.hard_state
        kept = self.durable[: batch.truncate_from - 1] if batch.truncate_from else self.durable
        self.durable = (*kept, *batch.entries)
        self.core._state.log._reader = _Reader(self.durable)
        wanted = self.core.persisted(batch.batch_id)
        self.sent.extend(outgoing for outgoing in self.held if outgoing.after_batch <= batch.batch_id)
        self.held = [outgoing for outgoing in self.held if outgoing.after_batch > batch.batch_id]
        if wanted:
            self.step([])


def answer_term(message: Message) -> int:
    """The term in which a message is an answer: in a later one its receiver does not read it. 0 for a request.

    A pre-vote counts whatever the term of its sender; what makes it void is that the term asked about has come.
    """
    if isinstance(message, RequestPreVoteReply):
        return message.prospective_term - 1
    return message.term if isinstance(message, _ANSWERS) else 0


def must_wait(_message: Message) -> bool:
    """Whether a message that names a batch waits for the disk: each does. Planted bugs say otherwise."""
    return True


def _whole_log(state: State, durable: tuple[Entry, ...]) -> tuple[Entry, ...]:
    log = state.log
    return (*durable[: log._tail_first - 1], *log._entries)
