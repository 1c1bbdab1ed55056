"""What /v2/stats/self and /v2/stats/leader show, in etcd's field order (contract A.10)."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, final

from kvraft import clock
from kvraft.raft.effects import Role, RoleChange
from kvraft.raft.entries import Entry

_NO_MINIMUM: Final = float(1 << 63)
"""etcd's `minimum` before the first reply: the largest int64 as a float64, 9223372036854776000 as Go prints it."""
SLOW_APPLY_MS: Final = 100
"""etcd's (v3.4.23 etcdserver/util.go, warnApplyDuration)."""
_RATE_SAMPLES: Final = 200
"""AppendEntries that a rate is taken over (etcd v3.4.23 etcdserver/api/v2stats/queue.go, queueCapacity)."""
_RATE_SILENCE_NS: Final = 1_000_000_000
"""After a second without one the rates are 0, and their samples forgotten (the same, `Rate`)."""
_APPEND_BYTES: Final = 64
"""About what an AppendEntries has beside its entries."""


def go_time(wall_ns: int) -> str:
    """RFC3339 with nanoseconds, trailing zeros trimmed, as Go prints a UTC time."""
    seconds, nanoseconds = divmod(wall_ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{nanoseconds:09d}".rstrip("0").rstrip(".")
    return f"{text}{fraction}Z"


def go_duration(nanoseconds: int) -> str:
    """Go's `time.Duration.String` for spans of a second and more; shorter ones in their own unit."""
    if nanoseconds < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000)):
            if nanoseconds >= size:
                return f"{nanoseconds / size:.6f}".rstrip("0").rstrip(".") + unit
        return f"{nanoseconds}ns" if nanoseconds else "0s"
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{seconds}" + (f".{rest:09d}".rstrip("0") if rest else "") + "s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


@final
@dataclass(slots=True)
class FollowerStats:
    """Round trips of AppendEntries to one follower, in milliseconds (etcd's LatencyStats)."""

    success: int = 0
    fail: int = 0
    current: float = 0.0
    average: float = 0.0
    sum_of_squares: float = 0.0
    minimum: float = _NO_MINIMUM
    maximum: float = 0.0
    failing: bool = False
    """Whether nothing was acknowledged since the last failure."""

    def add(self, milliseconds: float) -> None:
        """Count one acknowledged round trip."""
        self.failing = False
        total = self.average * self.success
        self.success += 1
        self.current = milliseconds
        self.average = (total + milliseconds) / self.success
        self.sum_of_squares += milliseconds * milliseconds
        self.minimum = min(self.minimum, milliseconds)
        self.maximum = max(self.maximum, milliseconds)

    def add_failure(self) -> None:
        """Count one a loss: etcd sends nothing more that it would count before the follower answers again."""
        if not self.failing:
            self.failing = True
            self.fail += 1

    def show(self) -> dict[str, object]:
        """As in the answer."""
        deviation = 0.0
        if self.success:
            deviation = math.sqrt(max(0.0, self.sum_of_squares / self.success - self.average * self.average))
        return {
            "latency": {
                "current": self.current,
                "average": self.average,
                "standardDeviation": deviation,
                "minimum": self.minimum,
                "maximum": self.maximum,
            },
            "counts": {"fail": self.fail, "success": self.success},
        }


@final
class Rates:
    """Packages and bytes a second over the last AppendEntries in one direction (etcd's statsQueue)."""

    __slots__ = ("_bytes", "_samples")

    def __init__(self) -> None:
        self._samples: deque[tuple[int, int]] = deque()
        """(monotonic nanoseconds, bytes), oldest first."""
        self._bytes = 0

    def add(self, now_ns: int, size: int) -> None:
        """Count one of so many bytes."""
        if len(self._samples) == _RATE_SAMPLES:
            self._bytes -= self._samples.popleft()[1]
        self._samples.append((now_ns, size))
        self._bytes += size

    def per_second(self, now_ns: int) -> tuple[float, float]:
        """(packages, bytes); zeros if there were less than two, where etcd divides by zero, or none of late."""
        samples = self._samples
        if samples and now_ns - samples[-1][0] > _RATE_SILENCE_NS:
            samples.clear()
            self._bytes = 0
        span_ns = samples[-1][0] - samples[0][0] if samples else 0
        if not span_ns:
            return 0.0, 0.0
        return len(samples) * 1e9 / span_ns, self._bytes * 1e9 / span_ns


def append_bytes(entries: Sequence[Entry]) -> int:
    """About how many bytes an AppendEntries with these has on the wire."""
    return _APPEND_BYTES + sum([len(entry.record) for entry in entries])


@final
@dataclass(slots=True)
class ServerStats:
    """Counters of one run of a member."""

    member_id: int
    name: str
    appends_received: int = 0
    appends_sent: int = 0
    leader_changes: int = 0
    slow_applies: int = 0
    """Slices of applying that took over `SLOW_APPLY_MS`."""
    late_heartbeats: int = 0
    """Times that the leader came to its heartbeat late by an interval or more."""
    started_wall_ns: int = field(default_factory=clock.wall_ns)
    _leader_since_ns: int = 0
    _leader_since_wall_ns: int = 0
    _followers: dict[int, FollowerStats] = field(default_factory=dict)
    _sent_ns: dict[int, int] = field(default_factory=dict)
    _received: Rates = field(default_factory=Rates)
    _sent: Rates = field(default_factory=Rates)

    def on_role_change(self, change: RoleChange) -> None:
        """A leader was found or lost."""
        if change.leader_id:
            self.leader_changes += 1
            self._leader_since_ns = clock.monotonic_ns()
            self._leader_since_wall_ns = clock.wall_ns()
        if change.role is Role.LEADER:
            self._followers.clear()
            self._sent_ns.clear()

    def on_append_sent(self, to_member: int, entries: Sequence[Entry]) -> None:
        """An AppendEntries left; its round trip is measured unless one is being measured already."""
        now_ns = clock.monotonic_ns()
        self.appends_sent += 1
        self._sent.add(now_ns, append_bytes(entries))
        self._sent_ns.setdefault(to_member, now_ns)

    def on_append_received(self, entries: Sequence[Entry]) -> None:
        """An AppendEntries of a leader arrived."""
        self.appends_received += 1
        self._received.add(clock.monotonic_ns(), append_bytes(entries))

    def on_append_reply(self, from_member: int) -> None:
        """A follower acknowledged."""
        sent_ns = self._sent_ns.pop(from_member, None)
        if sent_ns is not None:
            self._follower(from_member).add((clock.monotonic_ns() - sent_ns) / 1e6)

    def on_unreachable(self, member_id: int) -> None:
        """Something for a follower was dropped."""
        self._sent_ns.pop(member_id, None)
        self._follower(member_id).add_failure()

    def _follower(self, member_id: int) -> FollowerStats:
        found = self._followers.get(member_id)
        if found is None:
            found = self._followers[member_id] = FollowerStats()
        return found

    def self_stats(self, role: Role, leader_id: int) -> dict[str, object]:
        """/v2/stats/self."""
        now_ns = clock.monotonic_ns()
        uptime_ns = now_ns - self._leader_since_ns if leader_id else 0
        return {
            "name": self.name,
            "id": f"{self.member_id:x}",
            "state": "StateLeader" if role is Role.LEADER else "StateFollower",
            "startTime": go_time(self.started_wall_ns),
            "leaderInfo": {
                "leader": f"{leader_id:x}",
                "uptime": go_duration(uptime_ns),
                "startTime": go_time(self._leader_since_wall_ns),
            },
            "recvAppendRequestCnt": self.appends_received,
            **_shown_rates("recv", self._received, now_ns),
            "sendAppendRequestCnt": self.appends_sent,
            **_shown_rates("send", self._sent, now_ns),
        }

    def leader_stats(self, members: Iterable[int]) -> dict[str, object]:
        """/v2/stats/leader."""
        followers = {
            f"{member:x}": self._follower(member).show() for member in sorted(members) if member != self.member_id
        }
        return {"leader": f"{self.member_id:x}", "followers": followers}


def _shown_rates(direction: str, rates: Rates, now_ns: int) -> dict[str, object]:
    """As in the answer; zeros are left out (`omitempty`)."""
    packages, size = rates.per_second(now_ns)
    return {f"{direction}PkgRate": packages, f"{direction}BandwidthRate": size} if packages else {}
