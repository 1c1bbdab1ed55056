"""No key outlives its time: every expiry is judged by how late it came, while a leader is at work and without break.

Log time stands still while nobody leads, so lateness is counted on the clock of the log. What the design gives: a
leader looks for keys that are due every 100 ms and asks again after half a second, so a key goes within a second of its
deadline. That holds for a leader at work: it runs freely, it hands over to nobody, and what stood in its log at one
look has been committed and applied by the next. Whatever is not so begins the second anew.
"""

from typing import Final, final

from kvraft.raft.effects import Role
from kvraft.raft.roles import Leader
from tests.simulation.checkers import Violation
from tests.simulation.context import Context
from tests.simulation.member import SimulatedMember

_LOOK_US: Final = 250_000
LATE_MS: Final = 1_000


@final
class Lateness:
    """Looks at the leader and at what expired, four times a virtual second."""

    def __init__(self, context: Context, members: dict[int, SimulatedMember]) -> None:
        self._context = context
        self._members = members
        self._leader: tuple[int, int, int] = (0, 0, 0)
        """(server, boot, term) that was at work at the last look; zeros if none was."""
        self._last_log_index = 0
        self._since_log_ms = 0
        """Log time at the first look of many at which this leader was at work."""
        self.judged = 0
        """Expiries whose whole lateness fell into the time of one leader at work."""

    def start(self) -> None:
        """Begin."""
        self._context.scheduler.after(_LOOK_US, self._look)

    def _look(self) -> None:
        log_ms = self._follow_leader()
        expiries = self._context.history.take_expiries()
        if log_ms:
            for path, deadline_ms, expired_ms in expiries:
                self.judged += deadline_ms >= self._since_log_ms
                self._judge(path, expired_ms, deadline_ms)
            for path, deadline_ms in self._context.history.overdue(log_ms, LATE_MS):
                self._judge(path, log_ms, deadline_ms)
        self._context.scheduler.after(_LOOK_US, self._look)

    def _judge(self, path: bytes, log_ms: int, deadline_ms: int) -> None:
        late_ms = log_ms - max(deadline_ms, self._since_log_ms)
        if late_ms > LATE_MS:
            raise Violation("I11", f"{path!r} is {late_ms} ms past its deadline under a leader at work")

    def _follow_leader(self) -> int:
        """The clock of the log, if a leader has been at work since the last look; else 0."""
        leader = max((member for member in self._members.values() if _leads(member)), key=_term, default=None)
        if leader is None or leader.core is None:
            self._leader = (0, 0, 0)
            return 0
        core, log_ms = leader.core, leader.core.log_clock_ms(leader.clock.now_ms())
        same = self._leader == (leader.server_id, leader.boots, core.current_term)
        moved = leader.position.index >= self._last_log_index
        self._leader = (leader.server_id, leader.boots, core.current_term)
        self._last_log_index = core.last_log_index
        if same and moved and _runs_freely(leader):
            return log_ms
        self._since_log_ms = log_ms
        return 0


def _leads(member: SimulatedMember) -> bool:
    return member.core is not None and member.core.role is Role.LEADER


def _term(member: SimulatedMember) -> int:
    assert member.core is not None
    return member.core.current_term


def _runs_freely(member: SimulatedMember) -> bool:
    assert member.core is not None
    role = member.core._state.role
    hands_over = isinstance(role, Leader) and role.transfer is not None
    return not (hands_over or member.paused or member.extra_step_us or member.disk.extra_sync_us or member.installing)
