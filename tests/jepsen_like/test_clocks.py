"""Wall clocks that lie, and a cluster that is down for a while: a TTL is neither cut short nor forgotten."""

import asyncio
import functools
import time
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing.cluster import Member
from tests.jepsen_like import db
from tests.jepsen_like.nemesis import YEAR_S

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

TTL_S: Final = 3
EXPIRES_WITHIN_S: Final = 4.0
"""Behind its deadline, on a busy machine."""

PATIENT: Final = {"election-timeout": "3000", "heartbeat-interval": "300"}
"""The jumps are of hours and decades; a machine that stands still for two seconds is none."""

KILLED_WITHIN_S: Final = 1.0
"""From the write to the kill of all members."""


def _put(member: Member, key: str, ttl_s: int) -> int:
    """The index at which it was created."""
    answer = member.http("PUT", f"/v2/keys/{key}", form={"value": "v", "ttl": str(ttl_s)})
    assert answer.status == 201, answer.body
    return int(answer.json()["node"]["modifiedIndex"])


def _expiration(member: Member) -> str:
    """What a member shows for a key that lives for a minute from now: its wall clock's word."""
    answer = member.http("PUT", "/v2/keys/minute", form={"value": "v", "ttl": "60"})
    expiration: str = answer.json()["node"]["expiration"]
    return expiration


def _is_there(member: Member, key: str) -> bool:
    return member.http("GET", f"/v2/keys/{key}").status == 200


def _is_gone(member: Member, key: str) -> bool:
    return not _is_there(member, key)


def _wait_gone(database: db.Database, key: str, within_s: float) -> None:
    for member in database.members:
        member.wait_for(f"expiry of {key}", functools.partial(_is_gone, member, key), within_s)


def _assert_expired_once(database: db.Database, key: str, created_index: int) -> None:
    """One expire event behind the creation, the same on every member, and no index taken by another one."""
    events = []
    for member in database.members:
        answer = member.http("GET", f"/v2/keys/{key}?wait=true&waitIndex={created_index + 1}")
        assert answer.json()["action"] == "expire"
        events.append(answer.json()["node"]["modifiedIndex"])
    assert len(set(events)) == 1
    for member in database.members:
        stats = member.http("GET", "/v2/stats/store").json()
        assert stats["expireCount"] == 1


def test_jumping_wall_clocks_move_neither_leaders_nor_ttls(tmp_path: Path) -> None:
    """One member in 1970, one ten years ahead, one that strobes: only the `expiration` that is shown moves."""
    with db.started(tmp_path, "kvraft", clocks=True, flags=PATIENT) as database:
        first, second, third = database.members
        began = time.monotonic()  # Before: what the log's clock says is later, however long the answer takes.
        created = _put(second, "short", TTL_S)
        _put(second, "long", 3600)
        database.set_clock(first, -int(time.time()) + 86_400)
        database.set_clock(second, 10 * YEAR_S)
        database.set_clock(third, -3600)
        first.wait_for("1970", lambda: _expiration(first).startswith("1970"), 10)
        second.wait_for("ten years later", lambda: _expiration(second) > f"{time.gmtime().tm_year + 9}", 10)
        step = 0
        while time.monotonic() - began < TTL_S - 0.3:
            step += 1
            database.set_clock(third, (-1) ** step * 3600)
            there = [_is_there(member, "short") for member in database.members]
            assert time.monotonic() - began > TTL_S or there == [True] * 3, "expired early"
            third.http("GET", "/v2/keys/long?quorum=true")
        _wait_gone(database, "short", TTL_S + EXPIRES_WITHIN_S - (time.monotonic() - began))
        _assert_expired_once(database, "short", created)
        passed_s = time.monotonic() - began
        for member in database.members:
            left_s = member.http("GET", "/v2/keys/long?quorum=true").json()["node"]["ttl"]
            assert 3600 - passed_s - 2 < left_s <= 3600
        assert sum(member.log_text().count("became leader") for member in database.members) == 1


def test_ttls_outlive_a_restart_of_all_members_with_wrong_clocks(tmp_path: Path) -> None:
    """Whatever the clocks say afterwards: what was left of a TTL is left, and it ends once, for all."""
    with db.started(tmp_path, "kvraft", clocks=True) as database:
        created = _put(database.members[0], "short", TTL_S)
        for member in database.members:
            database.kill(member)
        for member, years in zip(database.members, (10, 5, 1), strict=True):
            database.set_clock(member, years * YEAR_S)
        starting = time.monotonic()
        for member in database.members:
            database.start(member)
        asyncio.run(database.heal(60))
        there = [_is_there(member, "short") for member in database.members]
        now = time.monotonic()
        assert now - starting > TTL_S or there == [True] * 3, "expired early"
        _wait_gone(database, "short", TTL_S + 30 + EXPIRES_WITHIN_S)
        assert time.monotonic() - starting >= TTL_S - KILLED_WITHIN_S
        _assert_expired_once(database, "short", created)
