"""Backups of every member, again and again, while elements are added: each is whole, and true at its index."""

import json
from pathlib import Path
from typing import Final, final

from kvraft.storage.errors import StorageError
from tests.jepsen_like import backups, history
from tests.jepsen_like.backups import Taken
from tests.jepsen_like.check import Verdict
from tests.jepsen_like.history import Record
from tests.jepsen_like.workloads.base import ROOT_KEY, Arena
from tests.jepsen_like.workloads.sets import Sets

_UNDER_ROOT: Final = f"{ROOT_KEY}/".encode()


@final
class Backups:
    """The set that only grows, with `kvraft backup` beside it. Where auth is on, its clients may not take one."""

    about = "each backup is whole, holds every element that was acknowledged up to its index, and none beyond"

    def __init__(self) -> None:
        self._sets = Sets()

    async def run(self, arena: Arena) -> None:
        """Work until told to stop."""
        taken = Taken()
        place = arena.directory / "backups"
        async with backups.taking(arena.database.members, taken, place, arena.seed):
            await self._sets.run(arena)
        (arena.directory / "refusals.json").write_text(json.dumps(taken.refusals))

    async def finish(self, arena: Arena) -> None:
        """Read every member's whole set."""
        await self._sets.finish(arena)

    def judge(self, directory: Path, *, quorum: bool) -> Verdict:
        """Judge the set, then every file against what was acknowledged."""
        verdict = self._sets.judge(directory, quorum=quorum)
        adds = [record for record in history.read(directory) if record.action == "add"]
        for path in sorted((directory / "backups").glob("*.backup")):
            verdict.counts["backups"] += 1
            try:
                judge_file(path, adds, verdict)
            except StorageError as error:
                verdict.problems.append(f"{path.name}: {error}")
        refusals = json.loads((directory / "refusals.json").read_text())
        verdict.counts["backups refused"] = len(refusals)
        unclear = [said for said in refusals if not said.startswith("kvraft: ") or len(said.splitlines()) != 1]
        verdict.require(not unclear, f"refused, and not in one line: {unclear[:1]}")
        return verdict


def judge_file(path: Path, adds: list[Record], verdict: Verdict) -> None:
    """One backup. Raises StorageError if it is not whole."""
    keyspace = backups.keyspace_of(path)
    held = {
        node.modified_index: json.loads(node.value_json or b"null")
        for node in keyspace.nodes()
        if not node.directory and node.path.startswith(_UNDER_ROOT)
    }
    at = keyspace.etcd_index
    verdict.require(max(held, default=0) <= at, f"{path.name} at index {at} holds something later")
    for record in adds:
        if record.outcome == "ok" and record.index is not None and record.index <= at:
            found = held.get(record.index)
            verdict.require(found == record.value, f"{path.name} at index {at} holds {found} in place of {record}")
    asked = {record.value for record in adds}
    strange = sorted(value for value in held.values() if value not in asked)
    verdict.require(not strange, f"{path.name} holds what nobody added: {strange[:3]}")
