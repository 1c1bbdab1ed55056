"""Whole members, one of which lost its disk and knows it (`kvraft/raft/rebuild.py`), in virtual time."""

import asyncio
import pathlib
import random
from collections.abc import Callable

import pytest

from kvraft.keyspace.commands import Set
from kvraft.raft.effects import HardState, Rebuilding
from kvraft.records import Written
from tests.member import virtual_time
from tests.member.host import CONFIGURATION, MEMBER_IDS, Host, Run
from tests.member.network import Network
from tests.member.schedules import SETTINGS
from tests.storage.memory import MemoryDisk


async def _until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 -- virtual time passes; no event covers every condition
            await asyncio.sleep(0.01)


async def _write(run: Run, number: int) -> None:
    answer = await run.write(Set(path=b"/k%d" % number, value=b"v"))
    assert isinstance(answer, Written)


def _runs(hosts: list[Host]) -> list[Run]:
    return [host.run for host in hosts if host.run is not None]


def _leader_of(hosts: list[Host]) -> Host:
    return next(host for host in hosts if host.run is not None and host.run.member.clients.leader_id == host.member_id)


@pytest.mark.slow
@pytest.mark.parametrize("leads", [True, False], ids=["the leader", "a follower"])
@pytest.mark.parametrize("writes", [5, 200], ids=["by entries", "by snapshot"])
def test_member_that_lost_its_disk_serves_once_it_has_everything(
    writes: int, leads: bool, tmp_path: pathlib.Path
) -> None:
    """Not while one of the others is away; then its clients never see less than before, and it counts for a quorum."""

    async def story() -> None:
        network = Network(random.Random(1))
        hosts = []
        for member_id in MEMBER_IDS:
            (tmp_path / str(member_id)).mkdir()
            hosts.append(Host(member_id, network, tmp_path / str(member_id), SETTINGS, random.Random(member_id)))
        for host in hosts:
            host.start()
        await _until(lambda: all(host.serving for host in hosts))
        first = _leader_of(hosts)
        assert first.run is not None
        for number in range(writes):
            await _write(first.run, number)
        await asyncio.sleep(2)
        lost = first if leads else next(host for host in hosts if host is not first)
        away, stays = (host for host in hosts if host is not lost)
        for run in (lost.run, away.run):
            assert run is not None
            run.crash()
        lost.disk = MemoryDisk.empty(CONFIGURATION)
        lost.disk.hard_state = HardState(0, 0, 0, Rebuilding(asking=True))
        lost.start()
        await asyncio.sleep(10)
        assert not lost.serving
        away.start()
        await _until(lambda: lost.serving)
        assert lost.run is not None
        assert lost.run.member.clients.keyspace.etcd_index >= lost.shown_index > 0
        assert lost.disk.hard_state.rebuilding is None
        assert (lost.installed > 0) is (writes == 200)
        assert stays.run is not None
        stays.run.crash()
        await _until(lambda: lost.run is not None and lost.run.member.clients.leader_id not in {0, stays.member_id})
        await _write(lost.run, writes)
        await asyncio.sleep(2)
        hashes = {run.member.clients.keyspace.state_hash for run in _runs(hosts)}
        assert len(hashes) == 1
        assert not any(host.failures for host in hosts)
        for run in _runs(hosts):
            await run.stop()

    virtual_time.run(story())
