"""Real members that come and go under random schedules; see `membership_schedules.py`."""

import pathlib
from collections import Counter
from typing import Final

import pytest

from tests.member.disk_schedules import DiskSchedule
from tests.member.host import Run
from tests.member.membership_schedules import MembershipSchedule
from tests.member.schedules import ScheduleError, run_seeds

SEEDS: Final = (187, 141, 1046, 3389090397, 77104, 700094, *range(100, 140))
"""Enough for every planted bug of `tests/simulation/mutants/coming_and_going.py`. In the fourth a learner is added
while the other voter is out of reach, which the judge once took for a fault. In the fifth a member that has slept
through its removal was believed by the operator when he asked who votes. In the sixth nobody could be elected without a
voter that had moved, and who needed its vote did not know yet that the move is committed."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "seeds", [pytest.param(SEEDS[:16], id="16"), pytest.param(SEEDS, id="all", marks=pytest.mark.landing)]
)
def test_whoever_is_wanted_votes_in_the_end_and_nothing_is_lost(tmp_path: pathlib.Path, seeds: tuple[int, ...]) -> None:
    """Every kind of change has to occur, under every kind of fault."""
    tally: Counter[str] = run_seeds(seeds, tmp_path, MembershipSchedule)
    print(dict(sorted(tally.items())))
    for happened in (
        "joins",
        "moves",
        "promotion",
        "removal",
        "replacements",
        "wipes",
        "told of their removal",
        "crash",
    ):
        assert tally[happened] > 0, happened
    assert tally["snapshots installed"] > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seeds", [10, pytest.param(40, marks=pytest.mark.landing)])
def test_disks_that_fill_up_and_fail_lose_nothing_while_members_come_and_go(tmp_path: pathlib.Path, seeds: int) -> None:
    """A process whose disk fails ends by itself, and what it has acknowledged is there."""
    # In the first a move was still on its way to the others when the cluster was taken for one that is well.
    tally: Counter[str] = run_seeds((88126, *range(100, 100 + seeds)), tmp_path, DiskSchedule)
    print(dict(sorted(tally.items())))
    for happened in ("joins", "removal", "disk room", "disk error", "writes refused"):
        assert tally[happened] > 0, happened


@pytest.mark.slow
def test_member_that_goes_on_with_a_failed_disk_is_found(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: nobody is told."""
    monkeypatch.setattr(Run, "fail", lambda _run: None)
    with pytest.raises(ScheduleError, match="goes on with a disk that has failed"):
        run_seeds(range(100, 110), tmp_path, DiskSchedule)
