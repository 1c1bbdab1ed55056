"""Copies of the state that clients fetch as backups: made one at a time, kept until they were read, or for a while."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from kvraft import clock, logs
from kvraft.member.cluster import Cluster
from kvraft.member.durable_state import DurableState
from kvraft.member.interfaces import StateStore
from kvraft.records import BackupCopy, BackupFacts, BackupRefused

COPIES_MAX: Final = 2
"""At once: one that is read, and one that was begun and broke off."""
KEPT_MS: Final = 600_000
"""How long a copy waits for whoever has broken off, or never came."""
KEPT_READ_MS: Final = 30_000
"""And one that was sent to its end: its last bytes may not have arrived."""

_STOPPING: Final = BackupRefused("this member is stopping: ask another one")

log = logs.get(__name__)


@final
@dataclass(slots=True)
class _Held:
    """A copy on the disk."""

    copy: BackupCopy
    until_ms: int
    readers: int = 0


@final
class Backups:
    """Satisfies `api_v2.backend.Backups`.

    A copy is of what this member has applied, with a leader or without: consistent at one index, which may be a little
    behind the others.
    """

    def __init__(
        self, cluster: Cluster, durable: DurableState, state_store: StateStore, log_clock_ms: Callable[[], int]
    ) -> None:
        self._cluster = cluster
        self._durable = durable
        self._state_store = state_store
        self._log_clock_ms = log_clock_ms
        until_ms = clock.monotonic_ms() + KEPT_MS
        self._held = {copy.copy_id: _Held(copy, until_ms) for copy in state_store.backups()}
        self._is_busy = False
        self._is_stopped = False

    def take(self, *, with_history: bool, done: Callable[[BackupCopy | BackupRefused], None]) -> Callable[[], None]:
        """Make a copy; `done` is called once, never from inside this call, unless what is returned was called."""
        is_wanted = True

        def abandon() -> None:
            nonlocal is_wanted
            is_wanted = False

        def tell(outcome: BackupCopy | BackupRefused) -> None:
            if is_wanted:
                done(outcome)

        refusal = self._refusal()
        if refusal is not None:
            asyncio.get_running_loop().call_soon(tell, refusal)
            return abandon
        self._is_busy = True
        task = self._durable.copy_for_backup(
            lambda: self._facts(with_history=with_history), lambda: is_wanted and not self._is_stopped
        )
        task.add_done_callback(lambda ended: self._made(ended, tell))
        return abandon

    def find(self, copy_id: str) -> BackupCopy | None:
        """A copy that is here still."""
        held = self._held.get(copy_id)
        return None if held is None else held.copy

    def opened(self, copy: BackupCopy) -> None:
        """Somebody reads it."""
        self._held[copy.copy_id].readers += 1

    def closed(self, copy: BackupCopy, *, to_its_end: bool) -> None:
        """And no longer."""
        held = self._held[copy.copy_id]
        held.readers -= 1
        held.until_ms = clock.monotonic_ms() + (KEPT_READ_MS if to_its_end else KEPT_MS)

    def look(self, now_ms: int) -> None:
        """Remove what nobody comes for."""
        for held in list(self._held.values()):
            if not held.readers and held.until_ms <= now_ms:
                self._remove(held)

    def stop(self) -> None:
        """Make no more."""
        self._is_stopped = True

    def _refusal(self) -> BackupRefused | None:
        if self._is_stopped:
            return _STOPPING
        if self._is_busy:
            return BackupRefused("this member is making a copy for somebody else: try again later")
        if len(self._held) >= COPIES_MAX:
            unread = [held for held in self._held.values() if not held.readers]
            if not unread:
                return BackupRefused(f"{COPIES_MAX} copies of this member are being read: try again later")
            self._remove(min(unread, key=lambda held: held.until_ms))
        return None

    def _facts(self, *, with_history: bool) -> BackupFacts:
        own = self._cluster.own
        return BackupFacts(own.member_id, own.name, clock.wall_ns(), self._log_clock_ms(), with_history)

    def _made(
        self,
        ended: "asyncio.Task[BackupCopy | BackupRefused]",
        tell: Callable[[BackupCopy | BackupRefused], None],
    ) -> None:
        self._is_busy = False
        if ended.cancelled() or ended.exception() is not None:  # the member fails, or stops
            tell(BackupRefused("this member has stopped: ask another one"))
            return
        outcome = ended.result()
        if self._is_stopped and isinstance(outcome, BackupRefused):
            outcome = _STOPPING
        if isinstance(outcome, BackupCopy):
            log.info("copied for a backup", copy=outcome.copy_id, bytes=outcome.size_bytes)
            until_ms = clock.monotonic_ms() + KEPT_MS
            self._held.setdefault(outcome.copy_id, _Held(outcome, until_ms)).until_ms = until_ms
        tell(outcome)

    def _remove(self, held: _Held) -> None:
        """Not on the loop: to give back a large file takes the file system a while."""
        del self._held[held.copy.copy_id]
        path = Path(held.copy.path)
        self._state_store.beside("removing a copy", lambda: path.unlink(missing_ok=True))
