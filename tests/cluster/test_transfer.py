"""SIGTERM of the leader hands leadership over before the process ends."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster
from kvraft.testing.raw_http import Connection

TRANSFERS = 20
WRITERS = 8


class Writer:
    """Writes without pause; a request that fails is tried once more, on the next member."""

    def __init__(self, number: int, urls: list[str]) -> None:
        self._number = number
        self._urls = urls
        self._member = number % len(urls)
        self._connection: Connection | None = None
        self.written = 0
        self.retries = 0
        self.longest_ms = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            began = time.monotonic()
            try:
                await self._write()
            except (OSError, asyncio.IncompleteReadError):
                self.retries += 1
                await self._next_member()
                await self._write()
            self.longest_ms = max(self.longest_ms, (time.monotonic() - began) * 1000)
            self.written += 1
        await self._disconnect()

    async def _write(self) -> None:
        if self._connection is None:
            self._connection = await Connection.open(self._urls[self._member])
        form = {"value": str(self.written)}
        answer = await self._connection.request("PUT", f"/v2/keys/transfer/{self._number}", form=form)
        assert answer.status in {200, 201}, (answer.status, answer.body)
        if answer.header("Connection") == "close":
            await self._disconnect()

    async def _next_member(self) -> None:
        await self._disconnect()
        self._member = (self._member + 1) % len(self._urls)

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None


async def _transfer_again_and_again(cluster: Cluster, writers: list[Writer]) -> list[float]:
    stop = asyncio.Event()
    writing = [asyncio.create_task(writer.run(stop)) for writer in writers]
    stops_s = []
    try:
        for _ in range(TRANSFERS):
            leader = await asyncio.to_thread(cluster.leader)
            began = time.monotonic()
            assert await asyncio.to_thread(leader.terminate) == 0, leader.log_tail()
            stops_s.append(time.monotonic() - began)
            leader.start()
            await asyncio.to_thread(leader.wait_ready)
            for task in writing:
                if task.done():
                    task.result()
    finally:
        stop.set()
        await asyncio.gather(*writing)
    return stops_s


@pytest.mark.slow
@pytest.mark.landing
@pytest.mark.timeout(240)
def test_no_request_fails_twice_over_twenty_hand_overs_under_load(tmp_path: Path) -> None:
    """Each SIGTERM ends with exit code 0, and one retry is enough for every request."""
    with Cluster(tmp_path / "cluster", flags={"election-timeout": "3000"}) as cluster:
        writers = [Writer(number, cluster.client_urls) for number in range(WRITERS)]
        stops_s = asyncio.run(_transfer_again_and_again(cluster, writers))
        handed_over = sum(member.log_text().count("handing leadership over") for member in cluster.members)
        not_taken = sum(member.log_text().count("nobody took leadership over") for member in cluster.members)
        final = {
            member.name: member.http("GET", "/v2/keys/transfer?recursive=true&quorum=true")
            for member in cluster.members
        }
    trees = [json.loads(answer.body)["node"]["nodes"] for answer in final.values()]
    print(
        f"{sum(writer.written for writer in writers)} writes, {sum(writer.retries for writer in writers)} retries, "
        f"longest request {max(writer.longest_ms for writer in writers):.0f} ms, longest stop {max(stops_s):.2f} s"
    )
    assert handed_over == TRANSFERS
    assert not_taken == 0
    assert max(stops_s) < 5
    for tree in trees:
        values = {node["key"]: node["value"] for node in tree}
        assert values == {f"/transfer/{n}": str(writer.written - 1) for n, writer in enumerate(writers)}
