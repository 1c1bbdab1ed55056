import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Protocol, final

from tests.jepsen_like.check import Verdict
from tests.jepsen_like.db import Database
from tests.jepsen_like.event_log import EventLog
from tests.jepsen_like.history import Record
from tests.jepsen_like.session import Session, ask_until_answered

ROOT_KEY: Final = "/jepsen"
FINAL_READ_WITHIN_S: Final = 60.0


@final
@dataclasses.dataclass(slots=True)
class Arena:
    """What a workload runs in."""

    database: Database
    directory: Path
    """For the records."""
    seed: int
    quorum: bool
    """Reads are linearizable; otherwise they are etcd's default, from the member that is asked."""
    stop: asyncio.Event
    clients: int = 6
    rate_hz: float = 200.0
    """Operations of all clients together, at most."""
    first_index: int = 1
    """The index of the first event."""
    first_client: int = 0
    """Clients whose values must not come twice are numbered from here."""

    @property
    def read_query(self) -> str:
        """The query of a read."""
        return "?quorum=true" if self.quorum else ""


class Workload(Protocol):
    """One kind of clients, and their judge."""

    @property
    def about(self) -> str:
        """What is claimed, in one line."""

    async def run(self, arena: Arena) -> None:
        """Work until told to stop."""

    async def finish(self, arena: Arena) -> None:
        """Note down the end, with every member back and no fault any more."""

    def judge(self, directory: Path, *, quorum: bool) -> Verdict:
        """Read the records and nothing else."""


async def run_clients(arena: Arena, step: Callable[[Session], Awaitable[None]]) -> None:
    """Let clients take steps at random times until the arena stops. Every second one stays with its member."""

    async def work(session: Session) -> None:
        try:
            while not arena.stop.is_set():
                await step(session)
                pause_s = session.chance.expovariate(arena.rate_hz / arena.clients)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(arena.stop.wait(), pause_s)
        finally:
            session.close()

    async with asyncio.TaskGroup() as group:
        for number in range(arena.clients):
            chance = random.Random(f"{arena.seed}/client/{number}")
            session = Session(
                number,
                arena.database.members,
                chance,
                arena.directory,
                roams=number >= arena.clients // 2,
                way=arena.database.way,
            )
            group.create_task(work(session))


@contextlib.asynccontextmanager
async def event_logs(arena: Arena) -> AsyncIterator[list[EventLog]]:
    """A watcher on every member, which runs until the end of the block."""
    way = arena.database.way
    logs = [EventLog(member, ROOT_KEY, arena.directory, arena.first_index, way) for member in arena.database.members]
    tasks = [asyncio.create_task(log.run()) for log in logs]
    try:
        yield logs
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_watched(logs: list[EventLog], index: int, within_s: float) -> None:
    """Wait until every watcher has seen the event of this index, if there is one, or a later one."""
    async with asyncio.timeout(within_s):
        for log in logs:
            await log.reached(index)


async def final_trees(arena: Arena) -> dict[str, tuple[int, Any]]:
    """By member, the index and the tree below the root key, read with a quorum."""
    trees = {}
    for member in arena.database.members:
        target = f"/v2/keys{ROOT_KEY}?quorum=true&recursive=true&sorted=true"
        answer = await asyncio.to_thread(ask_until_answered, member, target, FINAL_READ_WITHIN_S)
        trees[member.name] = (answer.etcd_index, answer.json().get("node"))
    return trees


def count_outcomes(records: list[Record], verdict: Verdict) -> None:
    """Count what happened; require that something did, and that no member failed but by saying so as etcd does."""
    for record in records:
        verdict.counts[f"{record.action} {record.outcome}"] += 1
    verdict.counts["operations"] = len(records)
    for record in records:
        verdict.require(not record.is_broken, f"answered {record.status} with errorCode {record.error_code}: {record}")
    verdict.require(any(record.outcome == "ok" for record in records), "no operation succeeded")
