"""Keys that expire, some of them refreshed once."""

import asyncio
import itertools
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, Final, final

from tests.jepsen_like import event_log, history
from tests.jepsen_like.check import Verdict
from tests.jepsen_like.history import Fault, Record
from tests.jepsen_like.session import Session
from tests.jepsen_like.workloads import base
from tests.jepsen_like.workloads.base import ROOT_KEY, Arena

TTLS_S: Final = (1, 2, 3)
SECOND: Final = 1_000_000_000
"""Nanoseconds."""
LATE_S: Final = 5.0
"""After the deadline and what faults since the request have cost: an election and a loaded machine."""
RECOVERY_S: Final = 3.0
"""Without a leader after a fault, when the log's clock stands still: members start, or time out and elect."""
GONE_WITHIN_S: Final = 60.0


@final
class Ttls:
    """All times are those of one monotonic clock outside the members, whatever their own clocks do."""

    about = "keys expire never early, not late, by one event that is the same on all members"

    async def run(self, arena: Arena) -> None:
        """Work until told to stop, then wait until everything has expired and the watchers have seen it."""
        numbers = itertools.count()

        async def step(session: Session) -> None:
            key = f"{ROOT_KEY}/t{next(numbers)}"
            record = await ask_with_ttl(session, "write", key, "", {"value": key})
            if record.outcome == "ok" and session.chance.random() < 0.3:
                await asyncio.sleep(session.chance.uniform(0.0, 0.5))
                await ask_with_ttl(session, "refresh", key, "?prevExist=true", {"refresh": "true"})

        async with base.event_logs(arena) as logs:
            await base.run_clients(arena, step)
            deadline = time.monotonic() + GONE_WITHIN_S
            while True:
                trees = await base.final_trees(arena)
                if not any(tree and tree.get("nodes") for _, tree in trees.values()):
                    break
                assert time.monotonic() < deadline, f"keys with a TTL are still there after {GONE_WITHIN_S:.0f} s"
                await asyncio.sleep(0.1)
            # The last change is an expiry, which every watcher sees.
            await base.until_watched(logs, max(index for index, _ in trees.values()), GONE_WITHIN_S)

    async def finish(self, arena: Arena) -> None:
        """Nothing: the end was waited for while the watchers still ran."""

    def judge(self, directory: Path, *, quorum: bool) -> Verdict:
        """Compare each key's expiry with its requests."""
        verdict = Verdict()
        records = history.read(directory)
        base.count_outcomes(records, verdict)
        faults = history.read_faults(directory)
        expiries = read_expiries(directory, verdict)
        members = set(event_log.read(directory))
        verdict.require(len(members) > 1, f"only {members} were watched")
        by_key: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            by_key[record.key].append(record)
        for key, requests in by_key.items():
            judge_key(key, requests, expiries.pop(key, {}), members, faults, verdict)
        verdict.require(not expiries, f"keys expired that nobody wrote: {sorted(expiries)[:3]}")
        return verdict


async def ask_with_ttl(session: Session, action: str, key: str, query: str, form: dict[str, str]) -> Record:
    """Write or refresh with a random TTL, which is kept with the record."""
    ttl_s = session.chance.choice(TTLS_S)
    record, _ = await session.ask(action, key, "PUT", query, value=form.get("value"), form=form | {"ttl": str(ttl_s)})
    record.details = ttl_s
    return record


def read_expiries(directory: Path, verdict: Verdict) -> dict[str, dict[str, tuple[int, int]]]:
    """By key and member: when its expiry came and at which index."""
    expiries: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for name, lines in event_log.read(directory).items():
        last = 0
        for line in lines:
            if "refused" in line:
                verdict.problems.append(f"the watcher of {name} was refused: {line}")
                continue
            node: dict[str, Any] = line["event"]["node"]
            verdict.require(node["modifiedIndex"] > last, f"{name}: event {node} came after {last}")
            last = node["modifiedIndex"]
            if line["event"]["action"] == "expire":
                verdict.require(name not in expiries[node["key"]], f"{node['key']} expired twice on {name}")
                expiries[node["key"]][name] = (line["at"], last)
                verdict.counts[f"{name} expiries"] += 1
    return expiries


def judge_key(
    key: str,
    requests: list[Record],
    expiries: dict[str, tuple[int, int]],
    members: set[str],
    faults: list[Fault],
    verdict: Verdict,
) -> None:
    """One key: its expiry is one event on every member, not before the last acknowledged deadline, not long after."""
    done = [request for request in requests if request.outcome == "ok"]
    unknown = any(request.outcome == "unknown" for request in requests)
    verdict.require(
        len({index for _, index in expiries.values()}) <= 1, f"{key} expired at several indices: {expiries}"
    )
    seen_by_all = expiries.keys() == members or not (done or expiries)
    verdict.require(seen_by_all, f"{key} did not expire on {sorted(members - expiries.keys())}: {expiries}")
    if not done:
        verdict.require(unknown or not expiries, f"{key} was never written and has expired")
        return
    if not expiries:
        return
    first = min(at for at, _ in expiries.values())
    last = done[-1]
    # A refresh without an answer may have taken effect after the last one that was answered.
    deadlines = [
        max(request.start, last.start) + request.details * SECOND
        for request in requests
        if request is last or request.outcome == "unknown"
    ]
    early_s = (min(deadlines) - first) / SECOND
    verdict.require(early_s <= 0, f"{key} expired {early_s:.3f} s early: {last}, {expiries}")
    if not unknown:
        late_s = (first - last.end) / SECOND - last.details - fault_seconds(faults, last.start, first)
        verdict.counts["latest expiry ms"] = max(verdict.counts["latest expiry ms"], int(late_s * 1000))
        verdict.require(late_s <= LATE_S, f"{key} expired {late_s:.1f} s late: {last}, {expiries}")


def fault_seconds(faults: list[Fault], start: int, end: int) -> float:
    """How much of this time had a fault or was a recovery from one, two at once counted twice."""
    recovery = int(RECOVERY_S * SECOND)
    return sum(max(0, min(fault.end + recovery, end) - max(fault.start, start)) for fault in faults) / SECOND
