"""The schedule of faults of one run: plain data, printed, stored, replayed and shrunk."""

import json
import random as random_module
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from tests.simulation.options import Options
from tests.simulation.streams import stream

BOUNDARIES: Final = ("before persist", "persisted not sent", "sent not acknowledged", "applied not replied")
"""Where in a server's round of duties an armed crash strikes."""

LEADER: Final = 0
"""As a target: whoever leads when the fault strikes (server ids start at 1)."""


@final
@dataclass(slots=True, frozen=True)
class Fault:
    """One fault. What the numbers mean depends on the kind; `nemesis` has the table."""

    at_ms: int
    kind: str
    target: int
    """Server id, or `LEADER`. Not used by faults of the whole network."""
    duration_ms: int
    """How long it lasts; of a crash, how long the server stays down."""
    amount: int
    """A strength or a choice: per mille, microseconds, a mask of servers, an index into `BOUNDARIES`."""

    def describe(self) -> str:
        """One readable phrase."""
        target = "leader" if self.target == LEADER else f"server {self.target}"
        return f"{self.kind} {target} for {self.duration_ms} ms ({self.amount})"


def draw_schedule(options: Options) -> tuple[Fault, ...]:
    """The faults of a seed, in order of time."""
    return tuple(sorted((*_draw_usual(options), *_draw_wipes(options)), key=lambda fault: fault.at_ms))


def _draw_wipes(options: Options) -> tuple[Fault, ...]:
    random = stream(options.seed, 0, "wipe times")
    faults: list[Fault] = []
    at_ms = 3000
    while options.wipe_interval_ms and not options.spares and not options.quorum_core_only:
        at_ms += 1 + int(random.expovariate(1 / options.wipe_interval_ms))
        if at_ms >= options.safety_ms:
            break
        target = LEADER if random.random() < 0.4 else random.choice(options.server_ids)
        down_ms = random.choice((0, 10, 100, 2000))
        faults.append(Fault(at_ms, "wipe", target, down_ms, 0))
    return tuple(faults)


def _draw_usual(options: Options) -> tuple[Fault, ...]:
    random = stream(options.seed, 0, "nemesis")
    faults = [
        _draw(random, options, random.choice(options.fault_kinds), at_ms)
        for at_ms in _times(random, options, options.fault_interval_ms)
    ]
    if options.sectors:
        random = stream(options.seed, 0, "disk nemesis")
        times = _times(random, options, options.disk_fault_interval_ms)
        faults += [_draw(random, options, random.choice(options.disk_fault_kinds), at_ms) for at_ms in times]
        faults.sort(key=lambda fault: fault.at_ms)
    return tuple(faults)


def _times(random: random_module.Random, options: Options, interval_ms: int) -> Iterator[int]:
    at_ms = 1000
    while True:
        at_ms += 1 + int(random.expovariate(1 / interval_ms))
        if at_ms >= options.safety_ms:
            return
        yield at_ms


def _draw(random: random_module.Random, options: Options, kind: str, at_ms: int) -> Fault:
    target = LEADER if random.random() < 0.4 else random.choice(options.server_ids)
    timeout_ms = options.election_timeout_ms
    duration_ms = random.choice((timeout_ms // 10, timeout_ms, 3 * timeout_ms, 8 * timeout_ms))
    amount = 0
    match kind:
        case "crash_at":
            amount = random.randrange(len(BOUNDARIES))
        case "cut" | "cut_one_way" | "swizzle" | "cut_dial":
            amount = random.randrange(1, 1 << min(options.servers * options.servers, 60))
        case "loss" | "duplicate":
            amount = random.choice((50, 200, 500))
        case "late":
            amount = random.choice((10, 100))
        case "delay":
            amount = random.choice((20_000, 200_000, 1_000_000))
        case "slow" | "slow_disk":
            amount = random.choice((20_000, 100_000, 600_000))
        case "drift":
            amount = random.randrange(0, 2 * options.drift_per_mille + 1)
        case "burst":
            amount = random.choice((20, 100))
        case _:
            amount = random.randrange(1 << 16)
    return Fault(at_ms, kind, target, duration_ms, amount)


def schedule_as_json(schedule: tuple[Fault, ...]) -> str:
    """The schedule as one line; `schedule_from_json` reads it back."""
    return json.dumps([[f.at_ms, f.kind, f.target, f.duration_ms, f.amount] for f in schedule])


def schedule_from_json(text: str) -> tuple[Fault, ...]:
    """The schedule that `schedule_as_json` wrote."""
    return tuple(Fault(*fields) for fields in json.loads(text))
