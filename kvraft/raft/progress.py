"""What a leader knows of one follower, and how fast it sends (paper section 5.3; etcd-io/raft: tracker/progress.go).

A follower is in one of three states. In PROBE the leader does not know where the logs agree: it sends one message and
waits for the answer or for the next heartbeat's. In REPLICATE it knows, and sends ahead of the answers, bounded in
messages and bytes. In SNAPSHOT it sends nothing until the transfer has ended.

Two rules keep lost, doubled and reordered messages from turning into a storm. A rejection counts only if it can answer
what is outstanding now: in PROBE it must refuse exactly the last probe, so every message causes at most one other.
And a retry is paced by heartbeats, never sent in answer to a rejection that brought nothing new.
"""

import enum
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import final


class ProgressState(enum.StrEnum):
    """How entries are sent to a follower."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@final
@dataclass(slots=True)
class Progress:
    """One follower, as the leader of one term sees it. Starts in PROBE at the end of the leader's log."""

    next_index: int
    """The next entry to send. Above `match_index`; in REPLICATE beyond what is outstanding."""
    last_contact_ms: int
    """When the follower was last heard in this term; the start of the leadership counts as contact."""
    match_index: int = 0
    """Highest entry known to be durable there and equal to the leader's."""
    state: ProgressState = ProgressState.PROBE
    recent_active: bool = False
    """Whether it has answered in this term at all, and within the last election timeout."""
    probe_sent: bool = False
    """In PROBE: a message is outstanding, or sending is paused until the next heartbeat is answered."""
    probe_repeated: bool = False
    """In PROBE: what was sent last was not answered in time. It may still be under way, on a thin link for long, while
    heartbeats overtake it: what is sent again is only the question, since copies of the entries would fill the link."""
    sent_ms: int = 0
    """When the last probe or query left, or an acknowledgement came: retries wait one heartbeat interval from here."""
    sent_commit: int = 0
    """The commit index that the follower was last told."""
    read_id: int = 0
    """The latest ReadIndex round that the follower has confirmed."""
    inflight: deque[tuple[int, int]] = field(default_factory=deque)
    """In REPLICATE: (last index, bytes) of the messages outstanding."""
    inflight_bytes: int = 0
    unheard: int = 0
    """How many messages with entries have left since the last answer to one."""

    def may_send(self, messages_max: int, bytes_max: int) -> bool:
        """Whether another message with entries may leave now."""
        if self.state is ProgressState.REPLICATE:
            return len(self.inflight) < messages_max and self.inflight_bytes < bytes_max
        return self.state is ProgressState.PROBE and not self.probe_sent

    def sent(self, last_index: int, size: int, now_ms: int) -> None:
        """A message with entries up to `last_index` (none, if that is below `next_index`) has been sent."""
        if self.state is ProgressState.PROBE:
            self.probe_sent = True
            self.sent_ms = now_ms
        elif last_index >= self.next_index:
            self.unheard += 1
            if not self.inflight:
                self.sent_ms = now_ms
            self.inflight.append((last_index, size))
            self.inflight_bytes += size
            self.next_index = last_index + 1

    def acknowledged(self, match_index: int, now_ms: int) -> bool:
        """A success reply came. True if `match_index` moved."""
        self.unheard = 0
        advanced = match_index > self.match_index
        if advanced:
            self.match_index = match_index
            self.sent_ms = now_ms
            self.next_index = max(self.next_index, match_index + 1)
        inflight = self.inflight
        while inflight and inflight[0][0] <= match_index:
            self.inflight_bytes -= inflight.popleft()[1]
        if self.state is ProgressState.PROBE and match_index >= self.match_index:
            self._enter(ProgressState.REPLICATE, self.match_index + 1)
        return advanced

    def is_stale_rejection(self, refused_prev_index: int) -> bool:
        """Whether a refusal of that `prev_log_index` answers a message that is no longer outstanding."""
        if self.state is ProgressState.REPLICATE:
            return not self.match_index < refused_prev_index < self.next_index
        return self.state is ProgressState.SNAPSHOT or refused_prev_index != self.next_index - 1

    def rejected(self, refused_prev_index: int, agree_index: int) -> None:
        """A refusal that is not stale came; the logs may agree at `agree_index`, by hint and the leader's own terms.

        From REPLICATE the leader falls back to what is known to match, since only messages after that were lost.
        """
        if self.state is ProgressState.REPLICATE:
            self._enter(ProgressState.PROBE, self.match_index + 1)
            return
        self._enter(ProgressState.PROBE, max(min(refused_prev_index, agree_index + 1), self.match_index + 1))

    def heartbeat_answered(self, now_ms: int, retry_ms: int) -> bool:
        """The follower is there. Unpauses a probe; True if it should be asked whether messages to it were lost."""
        if now_ms - self.sent_ms < retry_ms:
            return False
        if self.state is ProgressState.PROBE:
            self.probe_repeated = self.probe_repeated or self.probe_sent
            self.probe_sent = False
            return False
        if self.state is ProgressState.REPLICATE and self.match_index + 1 < self.next_index:
            self.sent_ms = now_ms
            return True
        return False

    def unreachable(self, now_ms: int) -> None:
        """A message was dropped on the way: no more sending ahead, and nothing until a heartbeat is answered."""
        if self.state is ProgressState.REPLICATE:
            self._enter(ProgressState.PROBE, self.match_index + 1)
        self.probe_sent = True
        self.sent_ms = now_ms

    def connected(self) -> None:
        """There is a way to the follower again, and what was sent before went with the one before: ask at once."""
        self.probe_sent = False

    def snapshot_needed(self) -> None:
        """A snapshot has been asked for; nothing is sent until `snapshot_ended` or an acknowledgement."""
        self._enter(ProgressState.SNAPSHOT, self.next_index)

    def snapshot_ended(self, last_included_index: int, now_ms: int) -> None:
        """The transfer has ended, with 0 if it failed. Sending goes on when a heartbeat is answered."""
        if self.state is ProgressState.SNAPSHOT:
            self._enter(ProgressState.PROBE, max(self.match_index, last_included_index) + 1)
            self.probe_sent = True
            self.sent_ms = now_ms

    def snapshot_superseded(self) -> None:
        """The follower acknowledged what the log still continues, transfer or not: go on from there."""
        self._enter(ProgressState.PROBE, self.match_index + 1)

    def _enter(self, state: ProgressState, next_index: int) -> None:
        self.state = state
        self.next_index = next_index
        self.probe_sent = False
        self.probe_repeated = False
        self.unheard = 0
        self.inflight.clear()
        self.inflight_bytes = 0


def most_up_to_date(progress: Mapping[int, Progress], servers: Iterable[int]) -> int:
    """Which of these followers should lead next: who holds most, among those that answered lately if any did.

    The lowest id of several; 0 if there is none.
    """
    return max(
        servers,
        key=lambda server: (progress[server].recent_active, progress[server].match_index, -server),
        default=0,
    )
