"""Leadership is handed over before a stop, and a stop waits for nobody who cannot take it."""

import asyncio
import pathlib
import random
from collections.abc import Callable, Coroutine
from typing import Any

from kvraft.member.settings import MemberSettings
from kvraft.raft.effects import Role
from tests.member import virtual_time
from tests.member.host import MEMBER_IDS, Host, Run
from tests.member.network import Network

ELECTION_TIMEOUT_S = MemberSettings().election_timeout_ms / 1000
SEED = 5

Story = Callable[["Three"], Coroutine[Any, Any, None]]


class Three:
    """Three members with a leader."""

    def __init__(self, directory: pathlib.Path) -> None:
        rng = random.Random(SEED)
        self.network = Network(random.Random(rng.random()))
        self.hosts = []
        for member_id in MEMBER_IDS:
            (directory / str(member_id)).mkdir()
            own_rng = random.Random(rng.random())
            self.hosts.append(Host(member_id, self.network, directory / str(member_id), MemberSettings(), own_rng))

    async def lead(self) -> tuple[Run, list[Run]]:
        """Start them; the leader, and the others as the leader would choose among them."""
        runs = {host.member_id: host.start() for host in self.hosts}
        async with asyncio.timeout(60):
            await asyncio.gather(*(run._starting for run in runs.values()))
        leader = runs.pop(next(iter(runs.values())).member.clients.leader_id)
        return leader, list(runs.values())

    def leaders(self) -> list[Run]:
        """Who leads now."""
        runs = [host.run for host in self.hosts if host.run is not None]
        return [run for run in runs if run.member._raft.role is Role.LEADER]


def tell(tmp_path: pathlib.Path, story: Story) -> None:
    """Run a story about three members in virtual time."""

    async def whole() -> None:
        await story(Three(tmp_path))

    virtual_time.run(whole())


async def _seconds(work: Coroutine[Any, Any, object]) -> float:
    began = asyncio.get_running_loop().time()
    await work
    return asyncio.get_running_loop().time() - began


def test_stop_of_the_leader_leaves_another_leading_already(tmp_path: pathlib.Path) -> None:
    """Clients of the others see no time without a leader."""

    async def story(three: Three) -> None:
        leader, others = await three.lead()
        assert await _seconds(leader.member.transfer_leadership()) < ELECTION_TIMEOUT_S / 5
        [successor] = three.leaders()
        assert successor in others

    tell(tmp_path, story)


def test_leader_whose_chosen_successor_dies_asks_the_other(tmp_path: pathlib.Path) -> None:
    """At once, and not when the core's own time for the first one is over."""

    async def story(three: Three) -> None:
        leader, (chosen, other) = await three.lead()
        three.network.slow_down(leader.member.clients.member_id, chosen.member.clients.member_id, 10.0)
        handing_over = asyncio.ensure_future(_seconds(leader.member.transfer_leadership()))
        await virtual_time.turns()
        chosen.crash()
        assert await handing_over < ELECTION_TIMEOUT_S / 5
        assert three.leaders() == [other]

    tell(tmp_path, story)


def test_stop_of_all_members_at_once_waits_for_no_successor(tmp_path: pathlib.Path) -> None:
    """Whoever is asked is leaving as well; that is seen when its streams end."""

    async def story(three: Three) -> None:
        leader, others = await three.lead()
        stops = asyncio.gather(*(run.stop() for run in (leader, *others)))

        async def whole() -> None:
            await stops

        assert await _seconds(whole()) < ELECTION_TIMEOUT_S / 5

    tell(tmp_path, story)


def test_leader_without_any_peer_stops_at_once(tmp_path: pathlib.Path) -> None:
    """Nobody is there who could take over."""

    async def story(three: Three) -> None:
        leader, others = await three.lead()
        for run in others:
            run.crash()
        await virtual_time.turns()
        assert await _seconds(leader.stop()) < ELECTION_TIMEOUT_S / 5

    tell(tmp_path, story)
