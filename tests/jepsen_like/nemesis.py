"""Faults, and schedules of them that follow from a seed.

A fault is a context manager: it begins, says what it is, and ends, also by an exception. Which kind comes when and for
how long is known before a run begins; on whom it falls may depend on who leads at that time.
"""

import asyncio
import contextlib
import dataclasses
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final, TypeAlias, final

from kvraft.testing.cluster import Member
from tests.jepsen_like.db import Database
from tests.jepsen_like.history import Fault
from tests.jepsen_like.names import Names
from tests.jepsen_like.roster import Roster
from tests.jepsen_like.shapes import DIALS, SHAPES, Shape

Kind: TypeAlias = Callable[[Database, random.Random], AbstractAsyncContextManager[str]]

SETTLE_S: Final = 1.0
"""Without faults at both ends of a schedule."""
RESTART_S: Final = 0.2
"""How often it is looked who has to be started again."""
YEAR_S: Final = 365 * 86_400


@contextlib.asynccontextmanager
async def kill(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """Kill -9 of the leader, of another, of two, or of all."""
    leader = await database.leader(chance)
    others = [member for member in database.members if member is not leader]
    victims = chance.choice(([leader], [leader], [chance.choice(others)], [leader, others[0]], [*database.members]))
    try:
        for victim in victims:
            database.kill(victim)
        yield f"kill {_names(victims, leader)}"
    finally:
        for victim in victims:
            database.start(victim)


@contextlib.asynccontextmanager
async def storm(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """One member after another is killed and started at once, as fast as they come up, or faster."""

    async def restart_again_and_again() -> None:
        while True:
            victim = chance.choice(database.members)
            database.kill(victim)
            database.start(victim)
            await asyncio.sleep(chance.uniform(0.1, 1.0))

    restarting = asyncio.create_task(restart_again_and_again())
    try:
        yield "restarts of all members in turn"
    finally:
        restarting.cancel()
        await asyncio.gather(restarting, return_exceptions=True)
        for member in database.members:
            database.start(member)


@contextlib.asynccontextmanager
async def pause(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """SIGSTOP to the leader, another or all; SIGCONT."""
    leader = await database.leader(chance)
    victims = chance.choice(([leader], [leader], [chance.choice(database.members)], [*database.members]))
    victims = [victim for victim in victims if victim.is_running]
    try:
        for victim in victims:
            victim.pause()
        yield f"pause {_names(victims, leader)}"
    finally:
        for victim in victims:
            victim.resume()


def partition(*shapes: Shape) -> Kind:
    """A partition of one of these shapes."""

    @contextlib.asynccontextmanager
    async def cut(database: Database, chance: random.Random) -> AsyncIterator[str]:
        leader = await database.leader(chance)
        others = [member.name for member in database.members if member is not leader]
        chance.shuffle(others)
        what, cuts = chance.choice(shapes)(leader.name, others)
        with database.network.rules([database.network.drop(*cut) for cut in cuts]):
            yield what

    return cut


@contextlib.asynccontextmanager
async def loss(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """A part of all packets between members is lost."""
    probability = chance.choice((0.02, 0.1, 0.2))
    names = [member.name for member in database.members]
    rules = [database.network.lose(one, other, probability) for one in names for other in names if one != other]
    with database.network.rules(rules):
        yield f"{probability:.0%} of packets lost"


@contextlib.asynccontextmanager
async def resets(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """Connections of one member to the others are reset, again and again."""
    victim = chance.choice((await database.leader(chance), chance.choice(database.members))).name
    others = [member.name for member in database.members if member.name != victim]
    rules = [database.network.reset(victim, other) for other in others]

    async def reset_again_and_again() -> None:
        while True:
            with database.network.rules(rules):
                await asyncio.sleep(chance.uniform(0.05, 0.2))
            await asyncio.sleep(chance.uniform(0.1, 0.6))

    resetting = asyncio.create_task(reset_again_and_again())
    try:
        yield f"connections of {victim} reset"
    finally:
        resetting.cancel()
        await asyncio.gather(resetting, return_exceptions=True)


@contextlib.asynccontextmanager
async def cannot_dial(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """Some links can be dialled from one side only, or from none; what stands on them is reset, and then they carry."""
    leader = await database.leader(chance)
    others = [member.name for member in database.members if member is not leader]
    chance.shuffle(others)
    what, pairs = chance.choice(DIALS)(leader.name, others)
    network = database.network
    with network.rules([network.no_dial(*pair) for pair in pairs]):
        with network.rules([network.reset(*pair) for one, other in pairs for pair in ((one, other), (other, one))]):
            await asyncio.sleep(chance.uniform(0.05, 0.3))
        yield what


@contextlib.asynccontextmanager
async def nat(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """One member is behind a NAT: nobody can dial it, and what it dials dies silently after so many packets."""
    victim = chance.choice(database.members).name
    packets = chance.choice((100, 300, 1000))
    others = [member.name for member in database.members if member.name != victim]
    network = database.network
    rules = [network.no_dial(other, victim) for other in others]
    for other in others:
        rules += [network.forget(victim, other, packets), network.forget(other, victim, packets)]
    with network.rules(rules):
        yield f"{victim} behind a NAT that forgets after {packets} packets"


@contextlib.asynccontextmanager
async def name_server(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """The name server answers late or not at all, while one member has to be found again by the others."""
    server = _names_of(database).server
    victim = chance.choice(database.members).name
    delay_s = chance.choice((None, None, 0.5, 2.0, 6.0))
    others = [member.name for member in database.members if member.name != victim]
    resets = [database.network.reset(*pair) for other in others for pair in ((victim, other), (other, victim))]
    server.answers_after_s = delay_s
    try:
        with database.network.rules(resets):
            await asyncio.sleep(chance.uniform(0.05, 0.3))
        how = "dead" if delay_s is None else f"{delay_s} s late"
        yield f"name server {how}, connections of {victim} reset"
    finally:
        server.answers_after_s = 0.0


@contextlib.asynccontextmanager
async def move(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """A member's name moves to another address; the name server hears of it at once or later."""
    names = _names_of(database)
    victim = chance.choice((await database.leader(chance), chance.choice(database.members))).name
    later_s = chance.choice((0.0, 0.3, 1.0))
    names.move(victim)
    try:
        await asyncio.sleep(later_s)
    finally:
        names.server.zone = names.zone()
    yield f"{victim} moved, the name server told {later_s} s later"


def _names_of(database: Database) -> Names:
    assert database.names is not None, "members were started by address"
    return database.names


@contextlib.asynccontextmanager
async def slow(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """The cable of one member lets little through."""
    victim = chance.choice(database.members).name
    kbit = chance.choice((64, 256, 1024))
    with database.network.slow_link(victim, kbit):
        yield f"{victim} has {kbit} kbit/s"


@contextlib.asynccontextmanager
async def clock(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """Wall clocks jump, each for itself; those of half of the members strobe. They stay wrong until the fault ends."""
    offsets = {member: chance.choice((-10 * YEAR_S, -3600, -60, 5, 3600, 10 * YEAR_S)) for member in database.members}

    async def strobe() -> None:
        while True:
            for member, offset_s in offsets.items():
                if chance.random() < 0.5:
                    database.set_clock(member, offset_s + chance.randint(-100, 100))
            await asyncio.sleep(0.5)

    for member, offset_s in offsets.items():
        database.set_clock(member, offset_s)
    strobing = asyncio.create_task(strobe())
    try:
        yield "clocks " + ", ".join(f"{member.name} {offset_s:+d} s" for member, offset_s in offsets.items())
    finally:
        strobing.cancel()
        await asyncio.gather(strobing, return_exceptions=True)
        for member in database.members:
            database.set_clock(member, 0)


@contextlib.asynccontextmanager
async def cpu(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """One member gets a small part of a core."""
    leader = await database.leader(chance)
    victim = chance.choice((leader, chance.choice(database.members)))
    percent = chance.choice((5, 10, 20))
    if not victim.is_running:
        yield f"{victim.name} is down and needs no CPU"
        return
    with database.little_cpu(victim, percent):
        yield f"{_names([victim], leader)} has {percent} % of a core"


@contextlib.asynccontextmanager
async def disk(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """The disk of one member is full. It may stop, cleanly; `follow` starts it when there is room again."""
    leader = await database.leader(chance)
    victim = chance.choice((leader, chance.choice(database.members)))
    with database.full_disk(victim):
        yield f"disk of {_names([victim], leader)} is full"


@contextlib.asynccontextmanager
async def membership(database: Database, chance: random.Random) -> AsyncIterator[str]:
    """A member is removed for good; with an empty disk it comes back in its place, as a new one that learns first."""
    leader = await database.leader(chance)
    victim = chance.choice((leader, chance.choice(database.members)))
    database.start(victim)
    database.killed.add(victim.name)  # from here on it may end
    roster = Roster(database.members, database.members)
    await asyncio.to_thread(roster.remove_from_list, victim)
    try:
        yield f"{_names([victim], leader)} removed"
    finally:
        database.kill_if_alive(victim)
        roster.wipe(victim)
        await asyncio.to_thread(roster.add, victim)
        database.killed.discard(victim.name)
        database.filled.discard(victim.name)
        await asyncio.to_thread(roster.wait_voter, victim)


MIXED: Final[dict[str, Kind]] = {
    "kill": kill,
    "storm": storm,
    "pause": pause,
    "partition": partition(*SHAPES),
    "loss": loss,
    "resets": resets,
    "cannot_dial": cannot_dial,
    "nat": nat,
    "name_server": name_server,
    "move": move,
    "slow": slow,
    "clock": clock,
    "cpu": cpu,
    "disk": disk,
    "membership": membership,
}
KINDS: Final[dict[str, Kind]] = MIXED | {shape.__name__: partition(shape) for shape in SHAPES}
ONE_AT_A_TIME: Final = frozenset({"kill", "storm", "pause", "cpu", "disk", "membership"})
"""They handle processes, and would handle one another's."""
NEEDS_CLOCKS: Final = frozenset({"clock"})
NEEDS_SMALL_DISKS: Final = frozenset({"disk"})
NEEDS_NAMES: Final = frozenset({"name_server", "move"})
NEMESES: Final[dict[str, tuple[str, ...]]] = {
    "none": (),
    **{kind: (kind,) for kind in KINDS},
    "mixed": tuple(MIXED),
}
"""What `--nemesis` takes."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Planned:
    """One entry of a schedule."""

    kind: str
    at_s: float
    for_s: float
    seed: str


def schedule(kinds: Iterable[str], seconds: float, seed: int) -> list[Planned]:
    """Faults over so many seconds: of 0.5 to 4 s, with breaks in which the cluster may recover, some overlapping."""
    chance = random.Random(f"{seed}/schedule")
    names = sorted(kinds)
    planned: list[Planned] = []
    at_s = SETTLE_S
    while names:
        for_s = chance.choice((0.5, 1.0, 1.5, 2.5, 4.0))
        if at_s + for_s > seconds - SETTLE_S:
            return planned
        kind = chance.choice(names)
        planned.append(Planned(kind, round(at_s, 2), for_s, f"{seed}/{len(planned)}"))
        beside = [name for name in names if (name in ONE_AT_A_TIME) != (kind in ONE_AT_A_TIME)]
        if beside and chance.random() < 0.3:
            later_s = for_s / 4
            other = chance.choice(beside)
            planned.append(Planned(other, round(at_s + later_s, 2), for_s - later_s, f"{seed}/{len(planned)}"))
        at_s += for_s + chance.choice((0.2, 1.0, 2.0, 3.0))
    return planned


async def follow(database: Database, planned: list[Planned], path: Path) -> list[Fault]:
    """Do what is planned; every fault is noted in `path`. The first error that is no fault's ends the run.

    Who stops on a full disk may still be stopping when that has room again, and is started whenever it has ended: with
    it away, a removal of another member would leave one that can agree to nothing.
    """
    began = time.monotonic()
    faults: list[Fault] = []

    async def do(plan: Planned) -> None:
        await asyncio.sleep(max(0.0, plan.at_s - (time.monotonic() - began)))
        async with KINDS[plan.kind](database, random.Random(plan.seed)) as what:
            start = time.monotonic_ns()
            await asyncio.sleep(plan.for_s)
        fault = Fault(plan.kind, what, start, time.monotonic_ns())
        faults.append(fault)
        with path.open("a") as lines:
            lines.write(json.dumps(dataclasses.asdict(fault)) + "\n")

    async def one_after_another(plans: list[Planned]) -> None:
        for plan in plans:
            await do(plan)

    async def start_the_stopped() -> None:
        while True:
            database.start_stopped()
            await asyncio.sleep(RESTART_S)

    lanes = [[plan for plan in planned if (plan.kind in ONE_AT_A_TIME) == alone] for alone in (True, False)]
    async with asyncio.TaskGroup() as whole:
        service_manager = whole.create_task(start_the_stopped())
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(one_after_another(lane))
        service_manager.cancel()
    return faults


def _names(members: list[Member], leader: Member) -> str:
    return "+".join(f"leader {member.name}" if member is leader else member.name for member in members) or "nobody"
