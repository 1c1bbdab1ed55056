"""Backups of every member, again and again, while clients write: each is whole, and true at its index."""

import json
from pathlib import Path
from typing import final

from kvraft.storage.errors import StorageError
from tests.jepsen_like import backups
from tests.jepsen_like.backups import Taken
from tests.jepsen_like.check import Verdict
from tests.jepsen_like.workloads.base import Arena
from tests.jepsen_like.workloads.watches import Watches


@final
class Backups:
    """The clients and watchers of the kill rounds with `kvraft backup` beside them, root's where auth is on."""

    about = "each backup is whole, and what the events up to its index add up to"

    def __init__(self) -> None:
        self._watches = Watches()

    async def run(self, arena: Arena) -> None:
        """Work until told to stop."""
        taken = Taken()
        place = arena.directory / "backups"
        async with backups.taking(arena.database.members, taken, place, arena.seed):
            await self._watches.run(arena)
        (arena.directory / "refusals.json").write_text(json.dumps(taken.refusals))

    async def finish(self, arena: Arena) -> None:
        """Nothing: the members were dumped while the watchers still ran."""

    def judge(self, directory: Path, *, quorum: bool) -> Verdict:
        """Judge the clients, then every file against the events."""
        verdict = self._watches.judge(directory, quorum=quorum)
        taken = Taken(files=list((directory / "backups").glob("*.backup")))
        verdict.counts["backups"] = len(taken.files)
        try:
            verdict.problems += backups.judge(taken, directory)
        except StorageError as error:
            verdict.problems.append(str(error))
        refusals = json.loads((directory / "refusals.json").read_text())
        verdict.counts["backups refused"] = len(refusals)
        unclear = [said for said in refusals if not said.startswith("kvraft: ") or len(said.splitlines()) != 1]
        verdict.require(not unclear, f"refused, and not in one line: {unclear[:1]}")
        return verdict
