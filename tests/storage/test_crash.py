"""Processes that are killed in the middle of writing. test_every_call.py kills them at every storage call there is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.storage.processes import check_left_behind, child, run, run_and_kill

pytestmark = pytest.mark.slow


def test_whatever_was_acknowledged_survives_kill_9_again_and_again(data_path: Path) -> None:
    """One directory, killed six times at random moments, each run going on where the last one ended."""
    last = 0
    for seed in range(6):
        outcome = run_and_kill(data_path, seed)
        assert outcome.failures == [], f"seed {seed}"
        last = check_left_behind(data_path, outcome)
    assert last > 100


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
