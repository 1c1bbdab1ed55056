"""Processes that are killed, or whose disk fails, in the middle of writing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.child import FAILED_EXIT, open_small
from tests.storage.processes import check_left_behind, child, injecting, run, run_and_kill

pytestmark = pytest.mark.slow

FAULTS = [
    ("fdatasync", "error=EIO"),
    ("pwrite64", "error=EIO"),
    ("pwrite64", "error=ENOSPC"),
    ("writev", "error=EIO"),
]


def test_whatever_was_acknowledged_survives_kill_9_again_and_again(data_path: Path) -> None:
    """One directory, killed six times at random moments, each run going on where the last one ended."""
    last = 0
    for seed in range(6):
        outcome = run_and_kill(data_path, seed)
        assert outcome.failures == [], f"seed {seed}"
        last = check_left_behind(data_path, outcome)
    assert last > 100


@pytest.mark.parametrize(("call", "fault"), FAULTS)
@pytest.mark.parametrize("when", [2, 9])
def test_failed_write_or_sync_stops_all_acknowledgements(data_path: Path, call: str, fault: str, when: int) -> None:
    """LMDB would take the next commit after a failed sync: the store says so once, and acknowledges nothing more."""
    open_small(data_path).close()
    outcome = run("write", data_path, 5, trace=injecting(call, fault, when))
    assert outcome.exit_code == FAILED_EXIT, outcome
    assert len(outcome.failures) == 1, outcome
    assert "failed" in outcome.failures[0]
    assert outcome.late == []
    check_left_behind(data_path, outcome)


@pytest.mark.parametrize("when", [1, 4, 7])
def test_process_killed_inside_a_commit_leaves_it_whole_or_absent(data_path: Path, when: int) -> None:
    """SIGKILL as the n-th sync begins."""
    open_small(data_path).close()
    outcome = run("write", data_path, 6, trace=injecting("fdatasync", "signal=KILL", when))
    assert outcome.exit_code != 0
    check_left_behind(data_path, outcome)


@pytest.mark.torture
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("call", ["fdatasync", "pwrite64", "writev", "fsync", "rename", "ftruncate"])
def test_kill_at_every_storage_call(data_path: Path, call: str) -> None:
    """Creation included: SIGKILL at the first, second, ... call of a kind, each on a new directory."""
    for when in range(1, 60):
        path = data_path.with_name(f"{call}-{when}")
        outcome = run("write", path, when, trace=injecting(call, "signal=KILL", when))
        check_left_behind(path, outcome)
        if outcome.exit_code == 0:
            break


@pytest.mark.torture
@pytest.mark.timeout(1200)
def test_a_hundred_kills(data_path: Path, torture_seed: int, scaled: Callable[[int, str], int]) -> None:
    """As the six above."""
    for seed in range(torture_seed * 1000, torture_seed * 1000 + scaled(100, "kills at random moments")):
        check_left_behind(data_path, run_and_kill(data_path, seed))


def test_second_process_is_refused_with_the_pid_of_the_first(data_path: Path) -> None:
    """Flock on the directory: the second says who holds it, the first goes on unharmed."""
    with child("hold", data_path, "-") as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "opened 0\n"
        refused = run("write", data_path, 1)
        assert refused.exit_code == 1
        (line,) = refused.refusals
        assert f"{data_path} is in use by process {holder.pid}" in line
        holder.communicate(input="", timeout=30)
        assert holder.returncode == 0
    assert run("hold", data_path, "-").exit_code == 0
