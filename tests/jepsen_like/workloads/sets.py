"""A set that only grows: clients add elements of their own and list all."""

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import final

from tests.jepsen_like import history
from tests.jepsen_like.check import Verdict
from tests.jepsen_like.session import Session
from tests.jepsen_like.workloads import base
from tests.jepsen_like.workloads.base import ROOT_KEY, Arena

ELEMENTS_PER_KEY = 200
"""So that a listing stays small."""


@final
class Sets:
    """POST makes a key in order for each element."""

    about = "each acknowledged element is in every later listing, once, and nothing that was not added"

    async def run(self, arena: Arena) -> None:
        """Work until told to stop."""
        elements = itertools.count()

        async def step(session: Session) -> None:
            element = next(elements)
            key = f"{ROOT_KEY}/s{element // ELEMENTS_PER_KEY}"
            if session.chance.random() < 0.2:
                record, answer = await session.ask("read", key, "GET", arena.read_query)
                if record.outcome == "ok":
                    nodes = answer.get("node", {}).get("nodes", [])
                    record.details = [node["value"] for node in nodes]
            else:
                await session.ask("add", key, "POST", value=f"e{element}", form={"value": f"e{element}"})

        await base.run_clients(arena, step)

    async def finish(self, arena: Arena) -> None:
        """Read every member's whole set."""
        (arena.directory / "final.json").write_text(json.dumps(await base.final_trees(arena)))

    def judge(self, directory: Path, *, quorum: bool) -> Verdict:
        """Compare listings with what was acknowledged before them."""
        verdict = Verdict()
        records = history.read(directory)
        base.count_outcomes(records, verdict)
        adds = [record for record in records if record.action == "add"]
        asked = {record.value for record in adds}
        for name, (_, tree) in json.loads((directory / "final.json").read_text()).items():
            found = Counter(leaf["value"] for key in tree["nodes"] for leaf in key.get("nodes", []))
            lost = [record for record in adds if record.outcome == "ok" and record.value not in found]
            verdict.require(not lost, f"{name} lost {len(lost)} acknowledged elements, the first {lost[:1]}")
            undone = [record for record in adds if record.outcome in {"failed", "not sent"} and record.value in found]
            verdict.require(not undone, f"{name} holds what was refused: {undone[:1]}")
            verdict.require(set(found) <= asked, f"{name} holds what nobody added: {sorted(set(found) - asked)[:3]}")
            twice = [element for element, count in found.items() if count > 1]
            verdict.require(not twice, f"{name} holds elements twice: {twice[:3]}")
            verdict.counts[f"{name} elements"] = len(found)
        if quorum:
            judge_listings(records, verdict)
        return verdict


def judge_listings(records: list[history.Record], verdict: Verdict) -> None:
    """A listing holds all that was acknowledged before it began."""
    by_key: dict[str, list[history.Record]] = {}
    for record in records:
        if record.action == "add" and record.outcome == "ok":
            by_key.setdefault(record.key, []).append(record)
    for read in records:
        if read.action == "read" and read.outcome == "ok":
            listed = set(read.details)
            missing = [add for add in by_key.get(read.key, []) if add.end < read.start and add.value not in listed]
            verdict.require(not missing, f"{read.member} listed {read.key} at {read.start} without {missing[:1]}")
