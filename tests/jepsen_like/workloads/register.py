"""Registers: one value a key, read, written, swapped, created and deleted by all clients at once."""

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Final, final

from tests.jepsen_like import history, index_order, linearizability
from tests.jepsen_like.check import Verdict
from tests.jepsen_like.history import Record
from tests.jepsen_like.linearizability import Operation
from tests.jepsen_like.session import Session
from tests.jepsen_like.workloads import base
from tests.jepsen_like.workloads.base import ROOT_KEY, Arena

ACTIONS: Final = {"read": 10, "write": 5, "cas": 4, "delete": 1, "create": 1}
"""With their weights."""


@final
class Register:
    """All clients work on one key until it has seen enough, or an unknown outcome, and then on the next one."""

    about = "each key is linearizable"

    async def run(self, arena: Arena) -> None:
        """Work until told to stop."""
        assert arena.clients <= linearizability.CLIENTS_MAX, "the search would not end"
        keys = itertools.count()
        key, left = f"{ROOT_KEY}/r{next(keys)}", linearizability.OPERATIONS_PER_KEY_MAX
        seen: dict[int, str | None] = {}
        values = itertools.count()

        async def step(session: Session) -> None:
            nonlocal key, left
            if not left:
                key, left = f"{ROOT_KEY}/r{next(keys)}", linearizability.OPERATIONS_PER_KEY_MAX
                seen.clear()
            left -= 1
            mine = key
            record = await one(arena, session, mine, str(next(values)), seen.get(session.number))
            if record.outcome == "unknown" and record.action != "read" and mine == key:
                left = 0
            elif record.outcome == "ok" and mine == key:
                seen[session.number] = record.value

        await base.run_clients(arena, step)

    async def finish(self, arena: Arena) -> None:
        """Nothing: every read was judged against all others."""

    def judge(self, directory: Path, *, quorum: bool) -> Verdict:
        """Search each key for a legal order; with linearizable reads, compare with the order of indices too."""
        verdict = Verdict()
        records = history.read(directory)
        base.count_outcomes(records, verdict)
        if quorum:
            index_order.check_order(records, verdict)
        judge_keys(records, verdict)
        return verdict


async def one(arena: Arena, session: Session, key: str, value: str, seen: str | None) -> Record:
    """One random operation; what is compared is what this client saw last, if anything."""
    (action,) = session.chance.choices([*ACTIONS], [*ACTIONS.values()])
    if action == "read":
        record, _ = await session.ask("read", key, "GET", arena.read_query)
    elif action == "delete":
        record, _ = await session.ask("delete", key, "DELETE")
    elif action == "create":
        record, _ = await session.ask("create", key, "PUT", "?prevExist=false", value=value, form={"value": value})
    elif action == "cas" and seen is not None:
        query = f"?prevValue={seen}"
        record, _ = await session.ask("cas", key, "PUT", query, value=value, form={"value": value}, compared=seen)
    else:
        record, _ = await session.ask("write", key, "PUT", value=value, form={"value": value})
    return record


def judge_keys(records: list[Record], verdict: Verdict) -> None:
    """Search each key's history for a legal order."""
    histories: dict[str, list[Operation]] = defaultdict(list)
    for record in records:
        if record.outcome != "not sent":
            histories[record.key].append(operation_of(record))
    for key, result in linearizability.check_keys(histories).items():
        verdict.counts[f"keys {result.verdict.value}"] += 1
        if result.verdict is not linearizability.Verdict.LINEARIZABLE:
            verdict.problems.append(f"{key} is {result.verdict.value} in {result.steps} steps at {result.stuck_at}")


def operation_of(record: Record) -> Operation:
    """The operation that the checker knows."""
    assert record.action in {"read", "write", "cas", "create", "delete"}
    assert record.outcome != "not sent"
    end = None if record.outcome == "unknown" else record.end
    value = None if record.action == "delete" else record.value
    return Operation(record.action, value, record.start, end, record.outcome, record.compared)  # type: ignore[arg-type]  # asserted above
