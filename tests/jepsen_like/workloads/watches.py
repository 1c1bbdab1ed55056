"""Watchers of every member while clients write: the clients, watchers and judge of the kill rounds."""

import asyncio
from pathlib import Path
from typing import final

from tests.jepsen_like import check, kill_rounds
from tests.jepsen_like.check import Verdict
from tests.jepsen_like.clients import Client, Tally
from tests.jepsen_like.watch_logs import WatchLog
from tests.jepsen_like.workloads.base import Arena


@final
class Watches:
    """Sets, swaps, creations in order and keys that expire."""

    about = "every watcher is sent every event once, in order, and alike on all members"

    async def run(self, arena: Arena) -> None:
        """Work until told to stop; the watchers go on until the end is seen."""
        members = arena.database.members
        urls = arena.database.cluster.client_urls
        logs = [
            WatchLog(
                [member.client_url],
                arena.directory / f"watch-{member.name}.jsonl",
                arena.first_index,
                arena.database.way,
            )
            for member in members
        ]
        watching = [asyncio.create_task(log.run()) for log in logs]
        tally = Tally()
        clients = [
            Client(number, urls, arena.seed, tally, arena.directory / f"history-{number}.jsonl", arena.database.way)
            for number in range(arena.first_client, arena.first_client + arena.clients)
        ]
        try:
            await asyncio.gather(*(client.run(arena.stop) for client in clients))
            etcd_index = await kill_rounds.dump_members(arena.database.members, arena.directory)
            await kill_rounds.until_watched(logs, etcd_index)
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)

    async def finish(self, arena: Arena) -> None:
        """Nothing: the members were dumped while the watchers still ran."""

    def judge(self, directory: Path, *, quorum: bool) -> Verdict:
        """See check.py."""
        return check.check_directory(directory)
