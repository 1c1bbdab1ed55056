"""What clients of this member wait for, writes and quorum reads: taken within limits, and each told its end once.

`Waiters` has the writes and `ReadBarriers` the reads; both end what is overdue and everything at a stop, and whatever
has ended is held nowhere. Commands of other members' clients are these members' to wait for (`forwarding.py`).
"""

from collections.abc import Callable
from typing import final

from kvraft.member.reads import ReadBarriers
from kvraft.member.settings import MemberSettings
from kvraft.member.waiters import Waiter, Waiters


@final
class Requests:
    """One member's."""

    def __init__(self, member_id: int, boot_nonce: int, settings: MemberSettings) -> None:
        self.writes = Waiters(member_id, boot_nonce, settings.request_timeout_ms)
        self.reads = ReadBarriers(settings.request_timeout_ms)
        self.timed_out = 0
        """Writes whose outcome nobody knew in time, since the start."""
        self.leader_elected_ms = 0
        """When a leader was elected last, as far as this member has heard."""
        self._settings = settings

    def is_full(self) -> bool:
        """Whether one more is too many: asked for each request."""
        settings = self._settings
        return (
            len(self.writes) + len(self.reads) >= settings.waiting_requests_max
            or self.writes.payload_bytes >= settings.waiting_bytes_max
        )

    def on_leader(self, now_ms: int) -> None:
        """A leader was elected: what waited for one can go to it."""
        self.leader_elected_ms = now_ms
        self.writes.release()

    def wants_leader(self) -> bool:
        """Whether something waits that a step may get under way."""
        return self.writes.unsent > 0 or self.writes.fencing.wants_answer or self.reads.wants_round()

    def end_overdue(self, now_ms: int, cause: Callable[[Waiter], bytes]) -> None:
        """Answer whatever has waited for its whole time; a write with the cause that its waiter has."""
        self.timed_out += self.writes.end_overdue(now_ms, cause)
        self.reads.end_overdue(now_ms)

    def end_all(self, cause: bytes) -> None:
        """Answer everything (the member stops)."""
        self.writes.end_all(cause)
        self.reads.end_all(cause)
