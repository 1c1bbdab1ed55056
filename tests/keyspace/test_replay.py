"""The state is a function of the log: not of the time of day, of the order of hashes, of locale or time zone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SEED = 20_261_121
ROOT = Path(__file__).parents[2]


def _replay(seed: int, environment: dict[str, str]) -> tuple[str, str]:
    """The state after a replay in a process of its own, and what was different about that process."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.keyspace.replay", str(seed)],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    state, surroundings = ended.stdout.splitlines()
    return state, surroundings


@pytest.mark.slow
def test_a_log_that_is_replayed_elsewhere_and_at_another_time_gives_the_same_state() -> None:
    """Ten years later or in 1970, with another PYTHONHASHSEED: hash, index and every stored byte agree."""
    faketime = {"LD_PRELOAD": str(next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")))}
    here = _replay(SEED, {"PYTHONHASHSEED": "1"})
    later = _replay(SEED, faketime | {"FAKETIME": "+10y", "PYTHONHASHSEED": "2", "TZ": "Pacific/Kiritimati"})
    before = _replay(SEED, faketime | {"FAKETIME": "@1970-01-02 00:00:00", "PYTHONHASHSEED": "3", "LC_ALL": "C"})
    assert here[0] == later[0] == before[0], f"seed {SEED}"
    assert len({here[1], later[1], before[1]}) == 3, "the processes were alike"
    assert _replay(SEED + 1, {})[0] != here[0], "every log gives that state"
