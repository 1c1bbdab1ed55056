"""Sessions between servers, as on the peer port: who can dial whom, two lanes, links with a bandwidth.

Two servers have a session once either has dialled the other; it carries both directions, whichever side that was. What
travels on it keeps its order within a lane; control overtakes entries. A frame that meets a cut is held, as TCP holds
what is not acknowledged, and comes after all if the cut is mended before the session is given up as half-open. A
session ends with one of its processes, or is reset, or is given up; both ends that live are told, what was on its way
is gone, and it is dialled anew by whoever can.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, final

from kvraft.raft.entries import HASH_BYTES
from kvraft.raft.messages import AppendEntries
from tests.simulation.frames import Forwarded, Frame, SnapshotStream
from tests.simulation.options import Options
from tests.simulation.scheduler import Scheduler
from tests.simulation.streams import stream

Link = tuple[int, int]
"""(from server, to server)."""

THIN_BYTES_PER_S: Final = 8_000
"""64 kbit/s."""
_FRAME_BYTES: Final = 60
"""Of a frame beside its payload."""
_HELD_MAX: Final = 300
"""Frames that a cut holds in each direction; beyond it the sender's queue is full."""
_SECOND_US: Final = 1_000_000


@final
@dataclass(slots=True)
class _Direction:
    """One direction of a session."""

    control_free_us: int = 0
    """When the link has sent every control frame so far."""
    entries_free_us: int = 0
    """When it has sent everything so far."""
    latest_us: list[int] = field(default_factory=lambda: [0, 0])
    """The latest arrival on each lane (control, entries): order is kept within it."""
    held: list[Frame] = field(default_factory=list)


@final
@dataclass(slots=True, eq=False)
class _Session:
    dialled_by: int
    directions: dict[Link, _Direction]


@final
class Sessions:
    """All sessions of a world. Cuts are the network's; what they do to sessions is here."""

    def __init__(
        self,
        scheduler: Scheduler,
        options: Options,
        counts: Counter[str],
        is_cut: Callable[[int, int], bool],
        runs: Callable[[int], bool],
        answers: Callable[[int], bool],
        began: Callable[[int, int, bool, int], None],
        ended: Callable[[int, int], None],
        reach: Callable[[str], None],
    ) -> None:
        """What the network asks and tells.

        `runs(server)`: it has a process; `answers(server)`: which is not paused either.
        `began(server, peer, reaches_majority, higher_ids)` tells it of a session, and whom it reaches;
        `ended(server, peer)` that its session with a peer is gone.
        """
        self._scheduler = scheduler
        self._options = options
        self._counts = counts
        self._is_cut = is_cut
        self._runs = runs
        self._answers = answers
        self._began = began
        self._ended = ended
        self._reach = reach
        self._random = stream(options.seed, 0, "sessions under way")
        self._sessions: dict[Link, _Session] = {}
        """By (lower id, higher id)."""
        self._dialling: set[Link] = set()
        """(who dials, whom): an attempt or the wait for the next one is under way."""
        self._unaware: set[Link] = set()
        """(who, of whom): the other's process is gone, and its last words were cut off."""
        self._no_dials: Counter[Link] = Counter()
        """(who cannot dial, whom): how many faults say so."""
        self.bandwidth = dict.fromkeys(self._links(), options.bandwidth_bytes_per_s)
        """Bytes a second of each link; 0 for no limit."""

    def _links(self) -> list[Link]:
        ids = self._options.server_ids
        return [(source, target) for source in ids for target in ids if source != target]

    def stands(self, one: int, other: int) -> bool:
        """Whether these two have a session."""
        return (min(one, other), max(one, other)) in self._sessions

    # Dialling.

    def process_started(self, server: int) -> None:
        """It dials everybody, and everybody goes on trying to dial it."""
        for other in self._options.server_ids:
            if other != server:
                self._dial_soon(server, other)
                self._dial_soon(other, server)

    def process_ended(self, server: int) -> None:
        """Its connections are closed by the kernel: peers that it reaches hear of it, the others find out."""
        for other in self._options.server_ids:
            if other == server or not self.stands(server, other):
                continue
            if self._is_cut(server, other):
                del self._sessions[min(server, other), max(server, other)]
                self._unaware.add((other, server))
                self._scheduler.after(self._options.election_timeout_ms * 1000, self._notice, other, server)
            else:
                self._end(server, other)

    def _notice(self, server: int, peer: int) -> None:
        """By silence, or by another session with the same peer: that the one before is gone."""
        if (server, peer) in self._unaware:
            self._reach("session: half-open until somebody noticed")
            self._unaware.discard((server, peer))
            self._ended(server, peer)
            self._dial_soon(server, peer)

    def reset(self, server: int) -> bool:
        """Every session of a server is reset, at both ends. Whether it had any."""
        found = [other for other in self._options.server_ids if other != server and self.stands(server, other)]
        for other in found:
            self._end(server, other)
        return bool(found)

    def cut_dials(self, links: list[Link]) -> None:
        """Nobody gets through to the other end of these any more, and the sessions between the two are reset."""
        for source, target in links:
            self._no_dials[source, target] += 1
            self._end(source, target)

    def mend_dials(self, links: list[Link]) -> None:
        """Undo one such fault for each."""
        for link in links:
            self._no_dials[link] = max(0, self._no_dials[link] - 1)

    def heal(self) -> None:
        """Everybody can dial everybody, on links as wide as the sea."""
        self._no_dials.clear()
        self.bandwidth = dict.fromkeys(self.bandwidth, 0)

    def _dial_soon(self, source: int, target: int) -> None:
        if (source, target) not in self._dialling:
            self._dialling.add((source, target))
            self._scheduler.after(int(self._random.random() * 1000), self._dial, source, target)

    def _dial(self, source: int, target: int) -> None:
        """Try until there is a session, or nobody who tries; a paused process goes on when it is resumed."""
        if self.stands(source, target) or not self._runs(source):
            self._dialling.discard((source, target))
            return
        if self._answers(source) and self._may_dial(source, target):
            # A round trip for the connection, one for the greeting.
            setup_us = 4 * self._options.latency_us + int(self._random.random() * 4 * self._options.jitter_us)
            self._scheduler.after(setup_us, self._dialled, source, target)
        else:
            self._again_later(source, target)

    def _again_later(self, source: int, target: int) -> None:
        wait_us = self._options.dial_retry_ms * 1000
        self._scheduler.after(wait_us // 2 + int(self._random.random() * wait_us), self._dial, source, target)

    def _may_dial(self, source: int, target: int) -> bool:
        return not (
            self._no_dials[source, target]
            or self._is_cut(source, target)
            or self._is_cut(target, source)
            or not self._answers(target)
        )

    def _dialled(self, source: int, target: int) -> None:
        if self.stands(source, target):
            self._reach("session: both sides dialled at once")
            self._dialling.discard((source, target))
            return
        if not self._answers(source) or not self._may_dial(source, target):
            self._again_later(source, target)
            return
        self._dialling.discard((source, target))
        if self._no_dials[target, source]:
            self._reach("session: only one side could dial")
        directions = {(source, target): _Direction(), (target, source): _Direction()}
        self._sessions[min(source, target), max(source, target)] = _Session(source, directions)
        self._counts["sessions"] += 1
        self._notice(source, target)
        self._notice(target, source)
        for server, peer in ((source, target), (target, source)):
            ids = self._options.server_ids
            reached = [other for other in ids if other == server or self.stands(server, other)]
            self._began(server, peer, len(reached) > len(ids) // 2, sum(other > server for other in reached))

    # Ends.

    def _of(self, one: int, other: int) -> _Session:
        return self._sessions[min(one, other), max(one, other)]

    def _end(self, one: int, other: int) -> None:
        session = self._sessions.pop((min(one, other), max(one, other)), None)
        if session is None:
            return
        for server, peer in ((one, other), (other, one)):
            delay_us = self._options.latency_us + int(self._random.random() * self._options.jitter_us)
            self._scheduler.after(delay_us, self._ended, server, peer)
            self._dial_soon(server, peer)

    def _give_up(self, session: _Session) -> None:
        """Half-open: nothing has come from the other end for an election timeout."""
        pair = next(iter(session.directions))
        is_silent = any(self._is_cut(*link) for link in session.directions)
        if is_silent and self.stands(*pair) and self._of(*pair) is session:
            self._reach("session: half-open until somebody noticed")
            self._end(*pair)

    def was_cut(self, link: Link) -> None:
        """A cut lies on a link from now on."""
        if self.stands(*link):
            self._scheduler.after(self._options.election_timeout_ms * 1000, self._give_up, self._of(*link))

    def was_mended(self, link: Link, send: Callable[[int, int, Frame], None]) -> None:
        """The last cut of a link is gone: what it held goes on its way."""
        if not self.stands(*link):
            return
        direction = self._of(*link).directions[link]
        held, direction.held = direction.held, []
        if held:
            self._reach("session: what a cut held came after all")
        for frame in held:
            send(*link, frame)

    # Frames.

    def hold(self, link: Link, frame: Frame) -> bool:
        """A cut lies on the link. False if too much waits for its end already, or there is no session."""
        if not self.stands(*link):
            return False
        direction = self._of(*link).directions[link]
        if len(direction.held) >= _HELD_MAX:
            return False
        direction.held.append(frame)
        return True

    def transmit(self, link: Link, frame: Frame, delay_us: int) -> tuple[int, object] | None:
        """When a frame arrives and on which session; None if nothing carries it or its queue is full."""
        if not self.stands(*link):
            self._counts["without a session"] += 1
            return None
        session = self._of(*link)
        direction = session.directions[link]
        now_us = self._scheduler.now_us
        bytes_per_s = self.bandwidth[link]
        on_entries = isinstance(frame, AppendEntries | Forwarded)
        sent_us = now_us
        if bytes_per_s:
            taken_us = size_of(frame) * _SECOND_US // bytes_per_s
            if isinstance(frame, SnapshotStream):
                sent_us += taken_us  # Beside the lanes, with a flow control of its own.
            elif on_entries:
                waits_us = direction.entries_free_us - now_us
                if waits_us > 0 and waits_us * bytes_per_s > self._options.queue_bytes_max * _SECOND_US:
                    self._reach("link: a queue was full")
                    return None
                if waits_us > self._options.election_timeout_ms * 1000:
                    self._reach("link: entries waited for an election timeout")
                sent_us = direction.entries_free_us = max(now_us, direction.entries_free_us) + taken_us
            else:
                if direction.entries_free_us > now_us:
                    direction.entries_free_us += taken_us
                    self._reach("link: control overtook entries")
                sent_us = direction.control_free_us = max(now_us, direction.control_free_us) + taken_us
        arrival_us = sent_us + delay_us
        if not isinstance(frame, SnapshotStream):
            arrival_us = direction.latest_us[on_entries] = max(arrival_us, direction.latest_us[on_entries] + 1)
        return arrival_us, session

    def carries(self, link: Link, session: object) -> bool:
        """Whether a frame that was sent on that session can still arrive."""
        return self.stands(*link) and self._of(*link) is session


def size_of(frame: Frame) -> int:
    """Bytes on the wire, roughly."""
    if isinstance(frame, AppendEntries):
        return _FRAME_BYTES + sum(len(entry.record) + HASH_BYTES for entry in frame.entries)
    if isinstance(frame, Forwarded):
        return _FRAME_BYTES + len(frame.payload)
    if isinstance(frame, SnapshotStream):
        return _FRAME_BYTES + sum(len(key) + len(value) for key, value in frame.state.nodes.items())
    return _FRAME_BYTES
