"""Drives the core: collects inputs, steps once a wake-up, and carries out what a step's caller owes (design.md).

Everything that arrives in one turn of the event loop goes into one step, so one transaction, one sync and one message
serve many writes. What the disk has done and what is applied is told to the core without a step of its own.
"""

import asyncio
from collections.abc import Callable
from typing import final

from kvraft.member.disk_pace import DiskPace
from kvraft.member.failure import Failure
from kvraft.member.interfaces import Frame, LogStore, Transport
from kvraft.member.stats import ServerStats
from kvraft.raft.core import Raft
from kvraft.raft.effects import Effects, Outgoing, Persist
from kvraft.raft.inputs import Input
from kvraft.raft.messages import AppendEntries

_IDLE_COMMIT_ENTRIES = 4
"""An idle member commits batches of up to this many entries on the loop: the hand-over to the log thread and back
costs more than the sync itself, and little else waits; unless the disk stalls (`DiskPace`)."""


@final
class RaftLoop:
    """The inbox, the timer and the order of disk and network around `Raft.step`."""

    def __init__(
        self,
        raft: Raft,
        log_store: LogStore,
        transport: Transport,
        monotonic_ms: Callable[[], int],
        stats: ServerStats,
        failure: Failure,
        slow_commit_ms: int,
    ) -> None:
        """A commit on the loop must not take `slow_commit_ms`."""
        self.raft = raft
        self.before_step: Callable[[int], None]
        """The last chance to add inputs to this step (routing of new requests)."""
        self.after_step: Callable[[Effects, int], None]
        """Persistence and messages are under way; the rest of the effects is carried out there."""
        self._log_store = log_store
        self._transport = transport
        self._monotonic_ms = monotonic_ms
        self._stats = stats
        self._failure = failure
        failure.at_once.append(self.stop)
        self._pace = DiskPace(slow_commit_ms)
        self._inbox: list[Input] = []
        self._scheduled = False
        self._stopped = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at_ms = 0
        self._postponed: Persist | None = None
        """A small batch of a leader that will be committed on the loop once its messages have left."""
        self._held: dict[int, list[Outgoing]] = {}
        """Messages that wait for the disk, by the batch they wait for."""

    def put(self, *inputs: Input) -> None:
        """Add inputs to the next step."""
        self._inbox.extend(inputs)
        self.wake()

    def add(self, item: Input) -> None:
        """Add an input without a wake-up: for use within a step, or for what can wait for the next one."""
        self._inbox.append(item)

    def applied(self, index: int) -> None:
        """The keyspace is at `index`. The core may hold back more that is committed: then it is asked at once."""
        if self.raft.applied(index):
            self.wake()

    def wake(self) -> None:
        """Step in this turn of the event loop."""
        if not self._scheduled and not self._stopped:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def stop(self) -> None:
        """No step after this. What was given to this loop for the disk still gets there."""
        self._stopped = True
        if self._postponed is not None:
            self._hand_over_postponed()
        if self._timer is not None:
            self._timer.cancel()

    def on_persisted(self, batch_id: int) -> None:
        """The log thread made batches up to `batch_id` durable."""
        if self._stopped:
            return
        self._pace.durable(batch_id, self._monotonic_ms())
        self._now_durable(batch_id)

    def _now_durable(self, batch_id: int) -> None:
        """What waited for this batch leaves; the core has a step only if it can commit by it."""
        if self.raft.persisted(batch_id):
            self.wake()
        if self._held:
            for after in sorted(self._held):
                if after <= batch_id:
                    self._send(self._held.pop(after))

    def _run(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        now_ms = self._monotonic_ms()
        try:
            self.before_step(now_ms)
            inputs, self._inbox = self._inbox, []
            effects = self.raft.step(inputs, now_ms)
            if effects.divergence is None:
                self._carry_out(effects)
            self.after_step(effects, now_ms)
        except Exception as error:
            self._stopped = True
            self._failure.tell_of(error)
            raise
        self._arm_timer(now_ms)
        if self._inbox:
            self.wake()

    def _carry_out(self, effects: Effects) -> None:
        now = [outgoing for outgoing in effects.messages if not outgoing.after_batch]
        for outgoing in effects.messages:
            if outgoing.after_batch:
                self._held.setdefault(outgoing.after_batch, []).append(outgoing)
        self._send(now)
        if effects.persist is not None:
            self._persist(effects.persist, alone=not now)
        if effects.install is not None and self._postponed is not None:
            # A snapshot empties the log in the order in which the log thread is given work. What came before must be
            # before it there: committed behind it, it would stand in the new log.
            self._hand_over_postponed()

    def _persist(self, batch: Persist, *, alone: bool) -> None:
        if self._postponed is not None:
            self._hand_over_postponed()
        elif self._may_commit_here(batch):
            if alone:
                self._commit_here(batch)
            else:
                # Its messages have left, and before the loop stands still for the disk it looks whether more has come.
                self._postponed = batch
                asyncio.get_running_loop().call_soon(self._commit_postponed, batch)
            return
        self._hand_over(batch)

    def _may_commit_here(self, batch: Persist) -> bool:
        small = batch.must_sync and len(batch.entries) <= _IDLE_COMMIT_ENTRIES
        return small and self._pace.is_quick(self._monotonic_ms())

    def _hand_over(self, batch: Persist) -> None:
        if batch.must_sync:
            self._pace.handed_over(batch.batch_id, self._monotonic_ms())
        self._log_store.persist(batch)

    def _commit_postponed(self, batch: Persist) -> None:
        """Behind a step that is due: if that has entries, too, the log thread commits them together."""
        if self._scheduled:
            asyncio.get_running_loop().call_soon(self._commit_if_postponed, batch)
        else:
            self._commit_if_postponed(batch)

    def _commit_if_postponed(self, batch: Persist) -> None:
        if self._postponed is batch and not self._stopped:
            self._postponed = None
            self._commit_here(batch)

    def _hand_over_postponed(self) -> None:
        """Something has come that must be behind it: the log thread does all in order."""
        assert self._postponed is not None
        batch, self._postponed = self._postponed, None
        self._hand_over(batch)

    def _commit_here(self, batch: Persist) -> None:
        began_ms = self._monotonic_ms()
        if self._log_store.persist_now(batch):
            now_ms = self._monotonic_ms()
            self._pace.took(now_ms - began_ms, now_ms)
            self._now_durable(batch.batch_id)
        else:
            self._pace.handed_over(batch.batch_id, began_ms)

    def _send(self, messages: list[Outgoing]) -> None:
        if not messages:
            return
        for outgoing in messages:
            if isinstance(outgoing.message, AppendEntries) and not outgoing.message.notice:
                self._stats.on_append_sent(outgoing.to_server, outgoing.message.entries)
        if len(messages) == 1:
            self._transport.send(messages[0].to_server, (messages[0].message,))
            return
        by_server: dict[int, list[Frame]] = {}
        for outgoing in messages:
            by_server.setdefault(outgoing.to_server, []).append(outgoing.message)
        for server, frames in by_server.items():
            self._transport.send(server, frames)

    def _arm_timer(self, now_ms: int) -> None:
        deadline_ms = self.raft.next_deadline_ms
        if self._timer is not None:
            if self._timer_at_ms <= deadline_ms:
                return  # It fires early, finds nothing due and is armed anew: cheaper than a new timer each step.
            self._timer.cancel()
        self._timer_at_ms = deadline_ms
        delay_s = max(0, deadline_ms - now_ms) / 1000
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._stopped:
            return
        if self._monotonic_ms() >= self.raft.next_deadline_ms:
            if not self._scheduled:
                self._run()
        else:
            self._arm_timer(self._monotonic_ms())
