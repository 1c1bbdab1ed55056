"""The client on members that are killed, and on Debian's etcd."""

import asyncio
import contextlib
import pathlib

import pytest

from kvraft.client import Client, EtcdError, EventIndexCleared, UnknownOutcome, Unreachable
from kvraft.client.errors import NODE_EXISTS
from kvraft.testing.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.landing]

WRITES = 600


async def test_nothing_is_lost_or_doubled_while_members_are_killed(tmp_path: pathlib.Path) -> None:
    """Each write that was acknowledged is seen once by a watch, in order, whoever is killed; those unknown at most."""
    with Cluster(tmp_path / "cluster") as cluster:
        urls = cluster.client_urls
        acknowledged: list[int] = []
        unknown: set[int] = set()
        moved = asyncio.Event()

        async def write() -> None:
            async with Client(urls) as client:
                for number in range(WRITES):
                    while True:
                        try:
                            acknowledged.append((await client.set("/n", str(number))).node.modified_index)
                        except Unreachable:
                            continue
                        except (EtcdError, UnknownOutcome):
                            unknown.add(number)
                        moved.set()
                        break

        async def disturb() -> None:
            for member in cluster.members:
                wanted = len(acknowledged) + WRITES // 5
                while len(acknowledged) + len(unknown) < min(wanted, WRITES - 10):
                    moved.clear()
                    await moved.wait()
                await asyncio.to_thread(member.kill)
                await asyncio.to_thread(member.start)
                await asyncio.to_thread(member.wait_ready)

        async with Client(urls) as client:
            begin = (await client.set("/n", "begin")).node.modified_index
            seen: list[tuple[int, str]] = []

            async def watch() -> None:
                async with contextlib.aclosing(client.watch("/n", from_index=begin + 1)) as events:
                    async for event in events:
                        assert event.node.value is not None
                        seen.append((event.node.modified_index, event.node.value))
                        if event.node.value == "end":
                            return

            async with asyncio.timeout(100), asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(watch())
                disturbing = tasks.create_task(disturb())
                await write()
                await disturbing
                await client.set("/n", "end")
                await watching
        indices = [index for index, _ in seen]
        assert indices == sorted(set(indices))
        assert set(acknowledged) <= set(indices)
        values = [int(value) for _, value in seen[:-1]]
        assert values == sorted(set(values)), "no write was done twice"
        assert set(range(WRITES)) - set(values) <= unknown


async def test_etcd_is_a_server_like_any_other(tmp_path: pathlib.Path) -> None:
    """Values, conditions, TTLs, watches and a history that has an end."""
    with Cluster(tmp_path / "cluster", size=1, kind="etcd") as cluster:
        async with Client(cluster.client_urls) as client:
            first = await client.set("/a b", "ü", ttl=100)
            assert (first.node.value, first.node.ttl) == ("ü", 100)
            with pytest.raises(EtcdError) as exists:
                await client.set("/a b", "2", prev_exist=False)
            assert exists.value.code == NODE_EXISTS
            async with contextlib.aclosing(client.watch("/", recursive=True)) as events:
                waiting = asyncio.ensure_future(anext(events))
                while not waiting.done():
                    await client.set("/seen", "x")
                assert waiting.result().node.key == "/seen"
            for number in range(1100):
                await client.set("/b", str(number))
            with pytest.raises(EventIndexCleared):
                await anext(client.watch("/a b", from_index=first.node.modified_index))
