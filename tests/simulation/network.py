"""Directed links between servers: delay, loss, duplication, lateness, reordering, cuts; or sessions on them.

Loose links are worse than any transport: every frame travels alone. In a share of the seeds frames travel on sessions
(`sessions`), as between members.
"""

from collections import Counter, deque
from collections.abc import Callable
from typing import Final, final

from tests.simulation.frames import Frame
from tests.simulation.options import Options
from tests.simulation.scheduler import Scheduler
from tests.simulation.sessions import Link, Sessions
from tests.simulation.streams import stream

_DROP_REPORT_US: Final = 50_000
"""A transport notices a dead link at most this often."""
_REMEMBERED_FRAMES: Final = 300
"""So many frames to each server can come again."""


@final
class Network:
    """Carries frames between servers. What is in a frame does not matter here."""

    def __init__(
        self,
        scheduler: Scheduler,
        options: Options,
        deliver: Callable[[int, int, Frame], None],
        dropped: Callable[[int, int], None],
        sessions: Callable[["Network"], Sessions],
    ) -> None:
        """`deliver(to, from, frame)` hands a frame over; `dropped(from, to)` tells a sender that its link lost one.

        `sessions` makes those of a run that has any.
        """
        self._scheduler = scheduler
        self._in_order = options.in_order
        self._reports_drops = options.reports_drops
        self._deliver = deliver
        self._dropped = dropped
        self._random = {
            (source, target): stream(options.seed, source * 64 + target, "link")
            for source in options.server_ids
            for target in options.server_ids
        }
        self._cuts: dict[Link, int] = {}
        """How many cuts lie on a link now: they may overlap."""
        self._busy_until_us: dict[Link, int] = dict.fromkeys(self._random, 0)
        self._reported_us: dict[Link, int] = {}
        self.loss_per_mille = options.loss_per_mille
        self.duplicate_per_mille = options.duplicate_per_mille
        self.late_per_mille = options.late_per_mille
        self.latency_us = options.latency_us
        self.jitter_us = options.jitter_us
        self.extra_delay_us = 0
        self.counts: Counter[str] = Counter()
        self.lives: dict[int, int] = dict.fromkeys(options.server_ids, 0)
        """How often each server has lost its disk. Connections belong to one process, as in the transport."""
        self._heard: dict[Link, int] = dict.fromkeys(self._random, 0)
        """The latest life of the source that the target has heard: nothing older is read behind it."""
        self._replay_random = stream(options.seed, 0, "replay")
        self._remembers = "replay" in options.fault_kinds and not options.sessions
        self._remembered: dict[int, deque[tuple[Link, Frame, tuple[int, int]]]] = {
            target: deque(maxlen=_REMEMBERED_FRAMES) for target in options.server_ids
        }
        """The latest frames to each server, lost ones too, if this run repeats any."""
        self.sessions = sessions(self) if options.sessions else None

    def is_cut(self, source: int, target: int) -> bool:
        """Whether a cut lies on the link."""
        return (source, target) in self._cuts

    def carries(self, source: int, target: int) -> bool:
        """Whether anything gets from `source` to `target` now."""
        stands = self.sessions is None or self.sessions.stands(source, target)
        return stands and (source, target) not in self._cuts

    def cut(self, links: list[Link]) -> None:
        """Cut links, once more if they are cut already."""
        for link in links:
            self._cuts[link] = self._cuts.get(link, 0) + 1
            if self.sessions is not None:
                self.sessions.was_cut(link)

    def mend(self, links: list[Link]) -> None:
        """Undo one cut of each link; healed links stay healed."""
        for link in links:
            count = self._cuts.get(link, 0)
            if count > 1:
                self._cuts[link] = count - 1
            elif count:
                self._mended(link)

    def _mended(self, link: Link) -> None:
        del self._cuts[link]
        if self.sessions is not None:
            self.sessions.was_mended(link, self.send)

    def heal(self, servers: tuple[int, ...]) -> None:
        """Remove every cut between `servers`, and end all disturbance."""
        for source in servers:
            for target in servers:
                if (source, target) in self._cuts:
                    self._mended((source, target))
        if self.sessions is not None:
            self.sessions.heal()
        self.loss_per_mille = 0
        self.duplicate_per_mille = 0
        self.late_per_mille = 0
        self.extra_delay_us = 0

    def send(self, source: int, target: int, frame: Frame, *, once: bool = False) -> None:
        """Send a frame on its way, or lose it. With `once` it is not duplicated: a stream does not repeat frames."""
        link = (source, target)
        random = self._random[link].random
        self.counts["sent"] += 1
        lives = (self.lives[source], self.lives[target])
        if self._remembers and not once:
            self._remembered[target].append((link, frame, lives))
        # Always the same number of draws a frame, so that a change of one probability leaves later frames as they were.
        chance = int(random() * 1000)
        second = int(random() * 1000)
        delay_us = self.latency_us + int(random() * self.jitter_us)
        if link in self._cuts:
            if self.sessions is not None and self.sessions.hold(link, frame):
                self.counts["held"] += 1
                return
            self.counts["cut"] += 1
            self._report(link)
            return
        if chance < self.loss_per_mille:
            self.counts["lost"] += 1
            self._report(link)
            return
        if self.extra_delay_us:
            delay_us += int(random() * self.extra_delay_us)
        if self.sessions is not None:
            way = self.sessions.transmit(link, frame, delay_us)
            if way is None:
                self._report(link)
            else:
                self._scheduler.at(way[0], self._arrive_on, link, frame, lives, way[1])
            return
        arrival_us = self._scheduler.now_us + delay_us
        if self._in_order:
            busy_until_us = self._busy_until_us[link]
            if arrival_us <= busy_until_us:
                arrival_us = busy_until_us + 1
            self._busy_until_us[link] = arrival_us
        if second < self.late_per_mille:
            self.counts["late"] += 1
            arrival_us += int(random() * 5_000_000)
        elif second >= 1000 - self.duplicate_per_mille and not once:
            self.counts["duplicated"] += 1
            self._scheduler.at(arrival_us + int(random() * 2_000_000), self._arrive, link, frame, lives)
        self._scheduler.at(arrival_us, self._arrive, link, frame, lives)

    def replay(self, target: int, over_us: int) -> bool:
        """What was sent to a server lately arrives again, spread over a while. False if nothing was.

        So answers come into terms that never asked for them, as from streams of before a reconnect.
        """
        remembered = self._remembered[target]
        for link, frame, lives in remembered:
            self.counts["replayed"] += 1
            self._scheduler.after(int(self._replay_random.random() * over_us), self._arrive, link, frame, lives)
        return bool(remembered)

    def _arrive_on(self, link: Link, frame: Frame, lives: tuple[int, int], session: object) -> None:
        assert self.sessions is not None
        if not self.sessions.carries(link, session):
            self.counts["ended"] += 1
        elif link not in self._cuts or not self.sessions.hold(link, frame):
            self._arrive(link, frame, lives)

    def _arrive(self, link: Link, frame: Frame, lives: tuple[int, int]) -> None:
        source_life, target_life = lives
        if target_life < self.lives[link[1]] or source_life < self._heard[link]:
            self.counts["stale"] += 1
            return
        if link in self._cuts:
            self.counts["cut"] += 1
            self._report(link)
            return
        self._heard[link] = source_life
        self._deliver(link[1], link[0], frame)

    def _report(self, link: Link) -> None:
        if not self._reports_drops:
            return
        now_us = self._scheduler.now_us
        if now_us - self._reported_us.get(link, -_DROP_REPORT_US) >= _DROP_REPORT_US:
            self._reported_us[link] = now_us
            self._scheduler.after(1, self._dropped, *link)
