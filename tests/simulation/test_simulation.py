"""The simulation tier: many seeds without an alarm, determinism, replay."""

import dataclasses
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.simulation.background import MASTER_SEED, SEEDS
from tests.simulation.campaign import Totals, run_many, seeds_of
from tests.simulation.faults import Fault, draw_schedule, schedule_as_json, schedule_from_json
from tests.simulation.options import Options, draw_options
from tests.simulation.streams import stream
from tests.simulation.world import run_seed

ROOT = Path(__file__).parents[2]


def _short(seed: int) -> Options:
    """A sixth of the run that a seed stands for."""
    return dataclasses.replace(draw_options(seed), safety_ms=20_000)


@pytest.mark.slow
@pytest.mark.landing
@pytest.mark.timeout(600)
def test_no_seed_breaks_an_invariant(campaign: Totals, capsys: pytest.CaptureFixture[str]) -> None:
    """Under every kind of fault all invariants hold, and after healing every cluster converges.

    A failure names its seed; `python -m tests.simulation replay SEED` shows what happened.
    """
    totals = campaign
    with capsys.disabled():
        sys.stdout.write(f"\n{totals.table()}\n")
    assert not totals.failures, "\n".join(
        f"python -m tests.simulation replay {outcome.seed}  # {outcome.summary()}" for outcome in totals.failures
    )
    assert totals.runs == SEEDS
    assert totals.faults.total() >= 10_000
    assert totals.virtual_ms >= 10 * 3_600_000
    assert totals.commits > 100_000
    # About three quarters of what these seeds do: an oracle that sees much less than that judges little.
    assert totals.acknowledged >= 110_000
    assert totals.reads >= 36_000
    assert totals.expired >= 7_000
    assert totals.events >= 130_000
    assert not totals.missed(), "a run that never gets there proves little"


@pytest.mark.slow
def test_first_seeds_break_no_invariant(capsys: pytest.CaptureFixture[str]) -> None:
    """A tenth of the campaign, for every `make test`; the whole of it is run through for each landing."""
    totals = run_many(seeds_of(MASTER_SEED, SEEDS)[: SEEDS // 10])
    with capsys.disabled():
        sys.stdout.write(f"\n{totals.table()}\n")
    assert not totals.failures, "\n".join(
        f"python -m tests.simulation replay {outcome.seed}  # {outcome.summary()}" for outcome in totals.failures
    )
    assert totals.runs == SEEDS // 10
    assert totals.faults.total() >= 1_000
    assert totals.commits > 8_000


def test_a_seed_plays_the_same_run_twice() -> None:
    """Equal seeds mean equal trace hashes, which cover every step of every server."""
    seed = seeds_of(MASTER_SEED, 3)[2]
    first, second = run_seed(seed), run_seed(seed)
    assert first.trace_hash == second.trace_hash
    assert first.messages == second.messages


@pytest.mark.slow
def test_a_seed_does_not_depend_on_pythonhashseed() -> None:
    """No iteration order of sets or dicts of hashed objects leaks into a run."""
    seed = seeds_of(MASTER_SEED, 5)[4]
    command = [sys.executable, "-m", "tests.simulation", "replay", "--quiet", str(seed)]

    def replay(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=True
        ).stdout

    with ThreadPoolExecutor() as both:
        results = list(both.map(replay, ("1", "2")))
    assert "trace" in results[0]
    assert results[0] == results[1]


def test_another_seed_plays_another_run() -> None:
    """The trace hash tells runs apart."""
    first, second = (run_seed(seed, options=_short(seed)).trace_hash for seed in seeds_of(MASTER_SEED, 2))
    assert first != second


def test_a_schedule_survives_printing() -> None:
    """A printed schedule replays exactly."""
    options = draw_options(7)
    schedule = draw_schedule(options)
    assert len(schedule) > 10
    assert schedule_from_json(schedule_as_json(schedule)) == schedule


def test_removing_a_fault_leaves_the_draws_of_others_alone() -> None:
    """Each purpose has its own stream, so that a failing schedule shrinks."""
    first = [stream(5, 1, "disk").random() for _ in range(3)]
    stream(5, 2, "disk").random()
    stream(5, 1, "election").random()
    assert [stream(5, 1, "disk").random() for _ in range(3)] == first
    assert stream(5, 2, "disk").random() != first[0]


@pytest.mark.slow
@pytest.mark.parametrize("up", [True, False])
def test_only_faults_that_struck_are_counted(*, up: bool) -> None:
    """What is done to a dead server, a clock told to go on as it went, a fault that is armed for nothing: no faults."""
    small = dataclasses.replace(_short(7), servers=3, spares=0, sectors=False, drift_per_mille=10, wipe_interval_ms=0)
    options = dataclasses.replace(small, safety_ms=8000)
    kinds = (("slow", 20_000), ("slow_disk", 20_000), ("crash_at", 0), ("drift", 15 if up else 10), ("disconnect", 0))
    crash = () if up else (Fault(3000, "crash", 1, 5000, 0),)
    schedule = (*crash, *(Fault(3500 + 200 * at, kind, 1, 100, amount) for at, (kind, amount) in enumerate(kinds)))
    outcome = run_seed(7, options=options, schedule=schedule)
    assert not outcome.failed
    assert outcome.faults == (dict.fromkeys((kind for kind, _ in kinds), 1) if up else {"crash": 1})


def test_a_transcript_reads_as_milliseconds_server_and_term() -> None:
    """Replay prints `[ms] server@term what`."""
    lines: list[str] = []
    seed = seeds_of(MASTER_SEED, 1)[0]
    run_seed(seed, options=_short(seed), sink=lines.append)
    assert any("is leader in term" in line for line in lines)
    assert any("*** " in line for line in lines)
