"""Locks by compare-and-swap, without a TTL: a key that only one client can create and only its creator removes."""

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Final, final

from tests.jepsen_like import history
from tests.jepsen_like.check import Verdict
from tests.jepsen_like.history import Record
from tests.jepsen_like.session import Session
from tests.jepsen_like.workloads import base
from tests.jepsen_like.workloads.base import ROOT_KEY, Arena

LOCKS: Final = 2


@final
class Locks:
    """A client that does not know whether it holds a lock asks with a quorum until it knows."""

    about = "a lock has one holder at a time, by real time and by index"

    async def run(self, arena: Arena) -> None:
        """Work until told to stop."""
        attempts = itertools.count()
        given_up: set[str | None] = set()

        async def step(session: Session) -> None:
            key = f"{ROOT_KEY}/lock{session.chance.randrange(LOCKS)}"
            token = f"t{next(attempts)}"
            record, _ = await session.ask("acquire", key, "PUT", "?prevExist=false", value=token, form={"value": token})
            if record.outcome == "failed" and given_up:
                await break_forgotten(session, key, given_up)
            elif record.outcome == "ok" or (record.outcome == "unknown" and await settle(session, key, token)):
                await release(session, key, token)
            elif record.outcome == "unknown":
                given_up.add(token)

        await base.run_clients(arena, step)

    async def finish(self, arena: Arena) -> None:
        """Nothing: what matters is who held what when."""

    def judge(self, directory: Path, *, quorum: bool) -> Verdict:
        """No two holders at one time."""
        verdict = Verdict()
        records = history.read(directory)
        base.count_outcomes(records, verdict)
        by_token: dict[tuple[str, str | None], list[Record]] = defaultdict(list)
        for record in records:
            token = record.compared if record.action in {"release", "settle"} else record.value
            by_token[record.key, token].append(record)
        holdings: dict[str, list[tuple[Record, Record | None]]] = defaultdict(list)
        for (key, token), steps in by_token.items():
            acquired = next((step for step in steps if held_at(step, token)), None)
            if acquired is not None:
                released = next((step for step in steps if step.action == "release"), None)
                holdings[key].append((acquired, released))
        for key, held in holdings.items():
            verdict.counts["holdings"] += len(held)
            judge_time(key, held, verdict)
            judge_indices(key, held, verdict)
        return verdict


def held_at(step: Record, token: str | None) -> bool:
    """Whether this answer tells a client that it holds the lock."""
    return step.outcome == "ok" and step.value == token and step.action in {"acquire", "settle"}


async def settle(session: Session, key: str, token: str) -> bool:
    """After an unknown outcome: swap the token for itself, which succeeds if and only if it is there.

    A creation on its way may still happen after an answer of "no"; then nobody holds the lock that is there: see
    `break_forgotten`.
    """
    while True:
        record, _ = await session.ask(
            "settle", key, "PUT", f"?prevValue={token}", value=token, form={"value": token}, compared=token
        )
        if record.outcome in {"ok", "failed"}:
            return record.outcome == "ok"


async def break_forgotten(session: Session, key: str, given_up: set[str | None]) -> None:
    """Remove a token that its client has given up, and that came nevertheless."""
    record, _ = await session.ask("read", key, "GET", "?quorum=true")
    if record.outcome == "ok" and record.value in given_up:
        await session.ask("break", key, "DELETE", f"?prevValue={record.value}", compared=record.value)


async def release(session: Session, key: str, token: str) -> None:
    """Remove the token, until it is certainly gone."""
    while True:
        record, _ = await session.ask("release", key, "DELETE", f"?prevValue={token}", compared=token)
        if record.outcome in {"ok", "failed"}:
            return


def judge_time(key: str, held: list[tuple[Record, Record | None]], verdict: Verdict) -> None:
    """From the answer to the acquisition to the first request to release it, no other client thinks so too."""
    last_end, last = 0, None
    for acquired, released in sorted(held, key=lambda holding: holding[0].end):
        until = released.start if released is not None else acquired.end
        verdict.require(acquired.end >= last_end, f"{key}: {acquired} while {last}")
        if until > last_end:
            last_end, last = until, acquired


def judge_indices(key: str, held: list[tuple[Record, Record | None]], verdict: Verdict) -> None:
    """By the index of its creation and of its removal."""
    last_end = 0
    for acquired, released in sorted(held, key=lambda holding: holding[0].index or 0):
        assert acquired.index is not None
        verdict.require(acquired.index > last_end, f"{key}: {acquired} before {last_end}, where the last one ended")
        known = released is not None and released.outcome == "ok" and released.index is not None
        last_end = max(acquired.index, released.index if known and released is not None and released.index else 0)
