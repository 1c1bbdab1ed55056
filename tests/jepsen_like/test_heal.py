"""Which members that end by themselves are findings, and which are started again."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, final

import pytest

from kvraft.testing.cluster import ClusterError
from tests.jepsen_like.db import Database


@final
@dataclasses.dataclass(slots=True)
class Stopping:
    """A member that has decided to stop, and ends while somebody waits for it."""

    said: str = "no space left"
    name: str = "n1"
    is_running: bool = True
    exit_code: int | None = None
    starts: int = 0

    def start(self) -> None:
        self.is_running, self.exit_code = True, None
        self.starts += 1

    def wait_ready(self, timeout_s: float) -> None:
        assert timeout_s > 0
        if not self.starts:
            self.is_running, self.exit_code = False, 1
            raise ClusterError("n1 ended with 1")

    def log_tail(self) -> str:
        return self.said


def database_of(member: Stopping) -> Database:
    cluster = SimpleNamespace(members=(member,))
    return Database(cast("Any", cluster), cast("Any", None), Path(), clocks=False, small_disks=True)


async def test_member_that_still_stops_when_its_disk_has_room_again_is_started() -> None:
    """On a busy machine the fault is over before the process is."""
    member = Stopping()
    database = database_of(member)
    database.filled.add("n1")
    await database.heal(10)
    assert (member.starts, database.problems, database.filled) == (1, [], set())


async def test_member_that_stops_uncleanly_on_a_full_disk_is_a_finding() -> None:
    """Whenever it ends."""
    member = Stopping(said="Traceback (most recent call last)")
    database = database_of(member)
    database.filled.add("n1")
    await database.heal(10)
    assert [problem.partition("\n")[0] for problem in database.problems] == [
        "n1 did not stop cleanly on a full disk: 1"
    ]


async def test_member_that_ends_though_its_disk_was_never_full_is_a_finding() -> None:
    """The run ends with it."""
    with pytest.raises(ClusterError):
        await database_of(Stopping()).heal(10)


async def test_who_stopped_on_a_full_disk_is_started_once_it_has_ended_and_has_room() -> None:
    """Not before, and not if a fault wants it down."""
    member = Stopping()
    database = database_of(member)
    database.filled.add("n1")
    database.start_stopped()
    assert member.starts == 0, "it is stopping still"
    member.is_running, member.exit_code = False, 1
    database.full.add("n1")
    database.start_stopped()
    assert member.starts == 0, "its disk is full"
    database.full.clear()
    database.killed.add("n1")
    database.start_stopped()
    assert member.starts == 0, "it was killed"
    database.killed.clear()
    database.start_stopped()
    assert (member.starts, database.problems, database.filled) == (1, [], set())
