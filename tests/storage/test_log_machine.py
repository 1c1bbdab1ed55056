"""A long random life of a log store, LMDB and memory, beside a model: batches, truncations, compactions, crashes."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Persist
from kvraft.raft.entries import Entry, EntryKind
from kvraft.raft.restored import LogPosition
from kvraft.storage.codec import position_of
from tests.storage.support import CONFIGURATION, HARNESSES, ORIGIN, Harness, batch, changes, entries_after, refuse_tmpfs

DIRECTORY = Path(__file__).parents[2] / "build"


class Model:
    """What the log is after a number of batches."""

    def __init__(self) -> None:
        self.base = ORIGIN
        self.entries: list[Entry] = []
        self.hard_state = HardState(0, 0, 0)

    def copy(self) -> "Model":
        made = Model()
        made.base, made.entries, made.hard_state = self.base, list(self.entries), self.hard_state
        return made

    @property
    def last(self) -> LogPosition:
        return position_of(self.entries[-1]) if self.entries else self.base

    def apply(self, persisted: Persist) -> None:
        if persisted.truncate_from:
            self.entries = [entry for entry in self.entries if entry.index < persisted.truncate_from]
        self.entries += persisted.entries
        self.hard_state = persisted.hard_state or self.hard_state

    def compact(self, base: LogPosition) -> None:
        self.base = base
        self.entries = [entry for entry in self.entries if entry.index > base.index]


class LogMachine(RuleBasedStateMachine):
    """Batches are queued without waiting; a crash may lose those that were not answered, in order, and nothing else.

    What a crash leaves depends on the threads, so no rule draws or is chosen by it: hypothesis could not replay it.
    """

    kind = "lmdb"

    def __init__(self) -> None:
        super().__init__()
        DIRECTORY.mkdir(exist_ok=True)
        refuse_tmpfs(DIRECTORY)
        self.path = Path(tempfile.mkdtemp(prefix="log-machine-", dir=DIRECTORY))
        self.loop = asyncio.new_event_loop()
        self.batch_id = 0
        self.sync_id = 0
        """The last batch that is answered."""
        self.first_id = 0
        """The batch whose state `history` begins with."""
        self.term = 1
        self.voted_for = 0
        self.history: list[Model] = []

    def run(self, job: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(job)

    @initialize()
    def begin(self) -> None:
        self.harness: Harness
        self.run(self._open_first())
        self.history = [Model()]

    async def _open_first(self) -> None:
        self.harness = HARNESSES[self.kind](self.path / "n1.kvraft")
        self.harness.start()

    def teardown(self) -> None:
        if self.history:
            self.run(self._crash())
        self.loop.close()
        shutil.rmtree(self.path)

    async def _crash(self) -> None:
        self.harness.crash()

    @property
    def model(self) -> Model:
        return self.history[-1]

    async def _persist(self, persisted: Persist, *, now: bool) -> None:
        changed = self.model.copy()
        changed.apply(persisted)
        self.history.append(changed)
        if now:
            if self.harness.log.persist_now(persisted):
                self._forget_before(len(self.history) - 1)
        else:
            self.harness.log.persist(persisted)

    def _forget_before(self, durable: int) -> None:
        """Earlier states can no longer be what a crash leaves."""
        del self.history[:durable]
        self.first_id += durable
        self.harness.persisted.clear()

    @rule(count=st.integers(0, 6), size=st.sampled_from([0, 10, 300, 5000, 300_000]), now=st.booleans())
    def append(self, count: int, size: int, now: bool) -> None:
        entries = entries_after(self.model.last, count, term=self.term, payload=bytes(size))
        self._queue(entries, now=now)

    @rule(now=st.booleans())
    def append_configuration(self, now: bool) -> None:
        payload = Configuration.of([1, 2, self.model.last.index + 3]).encode()
        entries = entries_after(self.model.last, 1, term=self.term, payload=payload, kind=EntryKind.CONFIGURATION)
        self._queue(entries, now=now)

    @rule(back=st.integers(1, 12), count=st.integers(0, 6), now=st.booleans())
    def truncate_and_append(self, back: int, count: int, now: bool) -> None:
        """A new leader overwrites what its predecessor could not commit."""
        self.term, self.voted_for = self.term + 1, 0
        removed = min(back, len(self.model.entries) - self._applied())
        kept = self.model.entries[: len(self.model.entries) - removed]
        if not removed:
            return
        last = position_of(kept[-1]) if kept else self.model.base
        self._queue(entries_after(last, count, term=self.term), truncate_from=last.index + 1, now=now)

    def _applied(self) -> int:
        return self.harness.state.position.index - self.model.base.index

    def _queue(self, entries: list[Entry], *, truncate_from: int = 0, now: bool) -> None:
        made = self._batch(entries, truncate_from=truncate_from)
        self.run(self._persist(made, now=now))

    def _batch(self, entries: Sequence[Entry] = (), *, truncate_from: int = 0) -> Persist:
        self.batch_id += 1
        self.sync_id = self.batch_id
        hard_state = HardState(self.term, self.voted_for, self.harness.state.position.index)
        return batch(self.batch_id, entries, hard_state=hard_state, truncate_from=truncate_from)

    def _lazy_batch(self) -> Persist:
        """Only the commit index moves: the term and the vote are those of the batch before."""
        self.batch_id += 1
        return batch(self.batch_id, hard_state=self.model.hard_state, must_sync=False)

    @rule(now=st.booleans())
    def commit(self, now: bool) -> None:
        """The commit index moved, which waits for something to ride on."""
        self.run(self._persist(self._lazy_batch(), now=now))

    @rule(candidate=st.integers(1, 3), now=st.booleans(), late=st.booleans(), crash=st.booleans())
    def vote(self, candidate: int, now: bool, late: bool, crash: bool) -> None:
        """A vote, perhaps in the moment in which the timer queues what was deferred before it."""

        async def vote_behind_a_deferred_batch() -> None:
            if late:
                await self._persist(self._lazy_batch(), now=now)
                self.harness.let_lazy_timer_fire()
            if self.voted_for:
                self.term += 1
            self.voted_for = candidate
            await self._persist(self._batch(), now=now)

        self.run(vote_behind_a_deferred_batch())
        if crash:
            self.crash_and_reopen()

    @rule()
    def wait_for_all(self) -> None:
        async def wait() -> None:
            if self.sync_id > self.first_id:
                await self.harness.until(lambda: self.sync_id in self.harness.persisted)
                self._forget_before(self.sync_id - self.first_id)

        self.run(wait())

    @rule(chosen=st.integers(0, 1000), compact=st.booleans())
    def flush(self, chosen: int, compact: bool) -> None:
        """The state moves up, and the log may be compacted behind it."""
        self.wait_for_all()
        ahead = [entry for entry in self.model.entries if entry.index > self.harness.state.position.index]
        if not ahead:
            return
        position = position_of(ahead[chosen % len(ahead)])

        async def flush_and_compact() -> None:
            await self.harness.flush(position, changes({1: b"%d" % position.index}))
            if compact:
                self.harness.log.compact(position)

        self.run(flush_and_compact())
        if compact:
            self.model.compact(position)

    @rule()
    def crash_and_reopen(self) -> None:
        async def reopen() -> None:
            answered = max(self.harness.persisted[-1] - self.first_id, 0) if self.harness.persisted else 0
            await self._crash()
            self.harness.reopen()
            restored, held = self.harness.log.restored(), self.harness.all_entries()
            found = [
                model
                for model in self.history[answered:]
                if model.last == restored.last
                and (model.hard_state.current_term, model.hard_state.voted_for)
                == (restored.hard_state.current_term, restored.hard_state.voted_for)
                and model.entries == [entry for entry in held if entry.index > model.base.index]
            ]
            assert found, f"{restored} is none of what a crash may leave, {answered} batches were answered"
            self.history = [found[0]]
            self.first_id = self.batch_id
            # A compaction that was asked for may be lost: then the log holds more than the model.
            assert restored.base.index <= found[0].base.index
            configurations = [
                (entry.index, Configuration.decode(entry.payload))
                for entry in held
                if entry.kind is EntryKind.CONFIGURATION
            ]
            assert list(restored.configurations[1:]) == configurations
            if not restored.base.index:
                assert restored.configurations[0] == (0, CONFIGURATION)
            self.harness.start()
            if found[0].base.index > restored.base.index:
                self.harness.log.compact(found[0].base)

        self.run(reopen())

    @invariant()
    def nothing_has_failed(self) -> None:
        if self.history:
            assert self.harness.failures == []

    @rule(first=st.integers(0, 40), count=st.integers(0, 40))
    def read(self, first: int, count: int) -> None:
        """Durable entries are those of some state since the last answer; compacted ones are not held."""
        read = self.harness.log.slice(first, first + count, 1 << 30)
        candidates = [
            [entry for entry in model.entries if first <= entry.index <= first + count] for model in self.history
        ]
        held = [part if part and part[0].index == first else [] for part in candidates]
        assert read in held


class MemoryLogMachine(LogMachine):
    """The same life in memory."""

    kind = "memory"


TestLmdbLog = LogMachine.TestCase
TestLmdbLog.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestMemoryLog = MemoryLogMachine.TestCase
TestMemoryLog.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
