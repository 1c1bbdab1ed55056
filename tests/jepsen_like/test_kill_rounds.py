"""Kill -9 under load on a real disk, judged by a program that did not write the data."""

import sys
from pathlib import Path

import pytest

from kvraft.testing.cluster import Program
from tests.jepsen_like import kill_rounds

SEED = 20_261_121
FORGETFUL = (sys.executable, "-m", "tests.jepsen_like.forgetful_member")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("kills", "writes"),
    [
        (4, 6_000),
        pytest.param(8, 12_000, marks=pytest.mark.landing),
        pytest.param(30, 50_000, marks=pytest.mark.torture),
    ],
)
def test_no_acknowledged_write_is_lost_in_many_kills(tmp_path: Path, kills: int, writes: int) -> None:
    """Kill -9, every second time of the leader, under 64 clients: every acknowledged write is on every member."""
    nemesis = kill_rounds.kill_one_by_one(kills, SEED)
    verdict = kill_rounds.run_and_check(tmp_path, Program(), nemesis, writes=writes, seed=SEED)
    assert verdict.problems == [], f"seed {SEED}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_power_cut_of_all_members_loses_nothing_that_was_synced(tmp_path: Path) -> None:
    """All three at once: what was acknowledged is on the disks of a quorum."""
    verdict = kill_rounds.run_and_check(tmp_path, Program(), kill_rounds.cut_power, writes=1_000, seed=SEED)
    assert verdict.problems == [], f"seed {SEED}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_judge_sees_the_loss_when_the_sync_is_switched_off(tmp_path: Path) -> None:
    """The control: members that acknowledge before they sync lose writes in the same power cut, and it is noticed."""
    program = Program(wrapper=FORGETFUL)
    verdict = kill_rounds.run_and_check(tmp_path, program, kill_rounds.cut_power, writes=1_000, seed=SEED)
    assert any("is lost" in problem for problem in verdict.problems), f"seed {SEED}: {verdict.problems[:3]}"
