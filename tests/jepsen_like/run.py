"""One run: a cluster, a workload, a nemesis, a verdict. Everything that was seen stays in the directory."""

import asyncio
import dataclasses
import json
from pathlib import Path
from typing import Final, final

from kvraft.testing.cluster import ClusterError, Kind
from tests.jepsen_like import backups, db, nemesis, report
from tests.jepsen_like.check import Verdict
from tests.jepsen_like.db import Database
from tests.jepsen_like.nemesis import Planned
from tests.jepsen_like.workloads import WORKLOADS
from tests.jepsen_like.workloads.base import Arena

HEALED_WITHIN_S: Final = 60.0
"""All members serve again after the last fault."""
AFTERWARDS_S: Final = 1.0
"""The workload goes on for so long on the healed cluster."""
FINISHED_WITHIN_S: Final = 180.0
CLIENTS_MAX: Final = 1000
"""Those of a cluster that goes on with a backup are numbered from here."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Settings:
    """What makes a run; with these it can be repeated, up to the timing of processes."""

    workload: str = "register"
    nemesis: str = "mixed"
    seconds: float = 20.0
    seed: int = 1
    kind: Kind = "kvraft"
    members: int = 3
    quorum: bool = True
    """Reads are linearizable; otherwise each is its member's own."""
    rate_hz: float = 200.0
    secure: bool = False
    """TLS for clients and peers, and auth with a user for the clients."""

    def words(self) -> str:
        """The run in one line, as the command that repeats it."""
        return (
            f"python -m tests.jepsen_like run --workload {self.workload} --nemesis {self.nemesis} "
            f"--seconds {self.seconds:g} --seed {self.seed} --kind {self.kind} --members {self.members} "
            f"--rate {self.rate_hz:g}"
            + ("" if self.quorum else " --default-reads")
            + (" --secure" if self.secure else "")
        )


@final
@dataclasses.dataclass(slots=True, frozen=True)
class GoesOn:
    """A cluster that begins with a backup of another one, and with its story up to there."""

    backup: Path
    before: Path
    """The directory of the run in which it was taken."""


def run(
    settings: Settings, directory: Path, planned: list[Planned] | None = None, *, goes_on: GoesOn | None = None
) -> Verdict:
    """Run, judge, and write the page of results. `planned` is a schedule instead of the seed's own."""
    directory.mkdir(parents=True, exist_ok=True)
    backup_index = 0
    if goes_on is not None:
        backup_index = backups.index_of(goes_on.backup)
        backups.hand_over(goes_on.before, directory, backup_index)
    kinds = kinds_for(settings)
    if planned is None:
        planned = nemesis.schedule(kinds, settings.seconds, settings.seed)
    (directory / "settings.json").write_text(json.dumps(dataclasses.asdict(settings), indent=1))
    (directory / "schedule.jsonl").write_text("".join(json.dumps(dataclasses.asdict(p)) + "\n" for p in planned))
    used = {plan.kind for plan in planned}
    problems: list[str] = []
    with db.started(
        directory,
        settings.kind,
        size=settings.members,
        clocks=bool(used & nemesis.NEEDS_CLOCKS),
        small_disks=bool(used & nemesis.NEEDS_SMALL_DISKS),
        named=bool(used & nemesis.NEEDS_NAMES),
        secure=settings.secure,
        before_start=lambda cluster: None if goes_on is None else backups.restored(goes_on.backup, cluster),
    ) as database:
        try:
            asyncio.run(_run(settings, database, planned, backup_index))
        except* (ClusterError, TimeoutError, AssertionError) as errors:
            problems = [f"the run did not end as it should: {error!r}" for error in flat(errors)]
        problems += database.problems
    verdict = WORKLOADS[settings.workload].judge(directory, quorum=settings.quorum)
    verdict.problems += problems
    report.write(directory, settings.words(), WORKLOADS[settings.workload].about, verdict)
    return verdict


def kinds_for(settings: Settings) -> list[str]:
    """The kinds of faults of a nemesis that this kind of member can have."""
    kinds = list(nemesis.NEMESES[settings.nemesis])
    if settings.kind == "etcd":
        # A Go program asks the kernel for the time without libc, where libfaketime sits.
        kinds = [kind for kind in kinds if kind not in nemesis.NEEDS_CLOCKS]
    return kinds


async def _run(settings: Settings, database: Database, planned: list[Planned], backup_index: int) -> None:
    """Those who go on with a backup are judged by all events behind it."""
    stop = asyncio.Event()
    first_index = (backup_index or database.members[0].http("GET", "/v2/keys/").etcd_index) + 1
    arena = Arena(
        database,
        database.directory,
        settings.seed,
        settings.quorum,
        stop,
        rate_hz=settings.rate_hz,
        first_index=first_index,
        first_client=CLIENTS_MAX if backup_index else 0,
    )
    workload = WORKLOADS[settings.workload]
    working = asyncio.create_task(workload.run(arena))
    try:
        following = asyncio.create_task(_faults(settings, database, planned))
        # A workload that fails ends the run; it does not end by itself before it is told.
        await asyncio.wait([working, following], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        else:
            await following
    finally:
        stop.set()
        async with asyncio.timeout(FINISHED_WITHIN_S):
            await working
    await workload.finish(arena)


async def _faults(settings: Settings, database: Database, planned: list[Planned]) -> None:
    """Follow the schedule for the whole time, then heal, and let the workload see the healed cluster."""
    async with asyncio.TaskGroup() as group:
        group.create_task(nemesis.follow(database, planned, database.directory / "faults.jsonl"))
        group.create_task(asyncio.sleep(settings.seconds))
    await database.heal(HEALED_WITHIN_S)
    await asyncio.sleep(AFTERWARDS_S)


def flat(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors of a group, groups in it opened."""
    errors: list[BaseException] = []
    for error in group.exceptions:
        errors += flat(error) if isinstance(error, BaseExceptionGroup) else [error]
    return errors
