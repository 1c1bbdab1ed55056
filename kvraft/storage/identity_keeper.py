"""Keeps in the identity what later starts need to know, while the member is at work.

Nothing that a member has promised stands there. So a full disk, or a process without a descriptor left, does not
end the member: what could not be kept is kept a little later, in its order.
"""

import asyncio
import errno
from collections.abc import Callable
from typing import Final, final

from kvraft import logs
from kvraft.founding import Identity
from kvraft.storage import environment
from kvraft.storage.environment import DataDirectory

AGAIN_S: Final = 1.0
_PASSES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM})

log = logs.get(__name__)

Change = Callable[[Identity], Identity]


@final
class IdentityKeeper:
    """`keep` is called on the event loop; the disk is waited for elsewhere."""

    def __init__(self, directory: DataDirectory, beside: Callable[[str, Callable[[], None]], None]) -> None:
        """`beside(doing, job)` does a job on the state thread; what it raises ends the member."""
        self._directory = directory
        self._beside = beside
        self._changes: list[Change] = []
        """What is not kept yet. The event loop appends, the state thread removes from the front."""
        self._is_late = False
        self._again: asyncio.TimerHandle | None = None

    def keep(self, change: Change) -> None:
        """Write it down soon."""
        self._changes.append(change)
        self._write_soon()

    def stop(self) -> None:
        """Try nothing again."""
        if self._again is not None:
            self._again.cancel()

    def _write_soon(self) -> None:
        loop = asyncio.get_running_loop()
        self._again = None
        self._beside("keeping the identity", lambda: self._write(loop))

    def _write(self, loop: asyncio.AbstractEventLoop) -> None:
        count = len(self._changes)
        if not count:
            return  # it went with the one before
        try:
            environment.change_identity(self._directory, self._all_of)
        except OSError as error:
            if error.errno not in _PASSES:
                raise
            loop.call_soon_threadsafe(self._write_later, error)
        else:
            del self._changes[:count]
            self._is_late = False

    def _all_of(self, identity: Identity) -> Identity:
        for change in tuple(self._changes):
            identity = change(identity)
        return identity

    def _write_later(self, error: OSError) -> None:
        if not self._is_late:
            log.warning("the identity cannot be written, which is tried again", error=error)
        self._is_late = True
        if self._again is None:
            self._again = asyncio.get_running_loop().call_later(AGAIN_S, self._write_soon)
