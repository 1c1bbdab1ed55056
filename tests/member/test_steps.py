"""What a write costs in steps of the core, with one client on the leader of three members."""

import asyncio
import pathlib
import random
from collections import Counter
from collections.abc import Sequence
from unittest import mock

from kvraft.keyspace.commands import Set
from kvraft.member.settings import MemberSettings
from kvraft.raft.core import Raft
from kvraft.raft.effects import Effects, Role
from kvraft.raft.inputs import Input
from kvraft.records import Written
from tests.member import virtual_time
from tests.member.host import MEMBER_IDS, Host
from tests.member.network import Network, Weather

WRITES = 100
LINK_DELAY_S_MAX = Weather().delay_s[1]


async def three_members(directory: pathlib.Path) -> list[Host]:
    """Founded, with a leader, and serving."""
    rng = random.Random(1)
    network = Network(rng)
    hosts = [Host(member_id, network, directory / str(member_id), MemberSettings(), rng) for member_id in MEMBER_IDS]
    for host in hosts:
        host._directory.mkdir()
        host.start()
    await asyncio.sleep(10)
    assert all(host.serving for host in hosts)
    return hosts


def test_no_step_is_made_for_the_disk_or_the_keyspace_alone(tmp_path: pathlib.Path) -> None:
    """A leader steps for the proposal and to commit it, a follower for the entry and for its commit.

    The acknowledgement of the other follower, which commits nothing, waits for the next of these, or for a heartbeat.
    """

    async def story() -> dict[Role, float]:
        hosts = await three_members(tmp_path)
        rafts = {id(host.run.member._raft): host.run.member._raft for host in hosts if host.run is not None}
        leader = next(host.run for host in hosts if host.run is not None and host.run.member._raft.role is Role.LEADER)
        steps: Counter[int] = Counter()
        step = Raft.step

        def counted(raft: Raft, inputs: Sequence[Input], now_ms: int) -> Effects:
            steps[id(raft)] += 1
            return step(raft, inputs, now_ms)

        with mock.patch.object(Raft, "step", counted):
            for number in range(WRITES):
                assert isinstance(await leader.write(Set(path=b"/k", value=b"%d" % number)), Written)
        return {
            role: max(steps[key] for key, raft in rafts.items() if raft.role is role) / WRITES
            for role in (Role.LEADER, Role.FOLLOWER)
        }

    found = virtual_time.run(story())
    assert found[Role.LEADER] <= 2.2
    assert found[Role.FOLLOWER] <= 2.1


def test_followers_show_a_write_one_way_of_a_message_after_its_answer(tmp_path: pathlib.Path) -> None:
    """Clients go round the members: who reads elsewhere what was just acknowledged here should find it."""

    async def story() -> list[int]:
        hosts = await three_members(tmp_path)
        leader, *followers = sorted(
            (host.run.member for host in hosts if host.run is not None),
            key=lambda member: member._raft.role is not Role.LEADER,
        )
        (run,) = [host.run for host in hosts if host.run is not None and host.run.member is leader]
        late = []
        for number in range(WRITES):
            written = await run.write(Set(path=b"/k", value=b"%d" % number))
            assert isinstance(written, Written)
            await asyncio.sleep(LINK_DELAY_S_MAX)
            late += [number for member in followers if member.clients.keyspace.etcd_index < written.etcd_index]
            await asyncio.sleep(0.02)
        return late

    assert virtual_time.run(story()) == []
