"""A sync that is waited for on the event loop: until it ends, its server neither steps nor applies nor beats.

As the product does it (`kvraft/member/disk_pace.py`): an idle member whose disk is quick commits on its loop, so that
the first sync of a stall is waited for there; after that the log thread commits for a while.
"""

from typing import Final, final

from tests.simulation.context import Context

_SLOW_FOR_US: Final = 10_000_000


@final
class LoopHeld:
    """Whether the loop of one process waits for a sync."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.batch_id = 0
        """The batch that is waited for; 0 if the loop runs."""
        self._issued = 0
        self._since_us = 0
        self._slow_until_us = 0

    def issued(self, batch_id: int) -> None:
        """A batch is to be synced. The loop waits for it if it is the only one, on a disk that seems quick."""
        now_us = self._context.scheduler.now_us
        alone = not self._issued
        self._issued = batch_id
        if alone and self._context.options.sync_holds_loop and now_us >= self._slow_until_us:
            self.batch_id = batch_id
            self._since_us = now_us

    def ended(self, batch_id: int) -> bool:
        """A batch is durable. True if the loop runs again."""
        if batch_id >= self._issued:
            self._issued = 0
        if not self.batch_id or batch_id < self.batch_id:
            return False
        self.batch_id = 0
        now_us, options = self._context.scheduler.now_us, self._context.options
        if now_us - self._since_us >= options.heartbeat_interval_ms * 1000:
            self._context.reach("a sync held the loop for a heartbeat")
            self._slow_until_us = now_us + _SLOW_FOR_US
        return True
