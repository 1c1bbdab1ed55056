"""The verdict of a soak can be both."""

import itertools
import pathlib
import random
import sys
from collections.abc import Callable

import pytest

from kvraft.testing.member import Program
from tests.cluster.resources import MIB
from tests.soak.__main__ import BOUNDS, FLAGS, soak
from tests.soak.flatness import SAMPLES_MIN, Bound, Verdict, judge

MINUTE_S = 60.0
BOUND = BOUNDS["anonymous"]


def _samples(minutes: int, figure: Callable[[float], float]) -> list[tuple[float, float]]:
    return [(moment, figure(moment)) for moment in (10.0 * number for number in range(6 * minutes + 1))]


def _verdict(minutes: int, figure: Callable[[float], float]) -> Verdict:
    verdict = judge(_samples(minutes, figure), BOUND)
    assert verdict is not None
    return verdict


def test_member_that_fills_up_and_stays_there_is_flat() -> None:
    """With a start that grows, a sawtooth of 30 MiB, noise, and now and then a peak."""
    chance = random.Random(1)

    def figure(moment: float) -> float:
        filled = min(moment / (15 * MINUTE_S), 1.0) * 100 * MIB
        peak = 200 * MIB if chance.random() < 0.1 else 0.0
        return 50 * MIB + filled + (moment % 70) / 70 * 30 * MIB + peak + chance.random() * 8 * MIB

    assert _verdict(60, figure).is_flat


@pytest.mark.parametrize("minutes", [10, 60])
def test_leak_under_noise_grows(minutes: int) -> None:
    """40 MiB in the second half, half hidden by a sawtooth."""
    chance = random.Random(2)
    leak = 80 * MIB / (minutes * MINUTE_S)
    verdict = _verdict(minutes, lambda moment: 100 * MIB + leak * moment + chance.random() * 30 * MIB)
    assert not verdict.is_flat
    assert 25 * MIB < verdict.growth < 55 * MIB


def test_descriptor_lost_every_minute_grows() -> None:
    """One at each restart of a neighbour, say."""
    verdict = judge(_samples(60, lambda moment: 40 + moment // MINUTE_S), BOUNDS["descriptors"])
    assert verdict is not None
    assert not verdict.is_flat


def test_large_figure_may_vary_by_a_part_of_itself() -> None:
    """And by no more."""

    def growing(part: float) -> Verdict:
        return _verdict(60, lambda moment: 1000 * MIB * (1 + part * max(moment / 1800 - 1, 0)))

    assert growing(0.04).is_flat
    assert not growing(0.2).is_flat


def test_few_samples_are_not_judged() -> None:
    """Nobody is told that a member is flat which was hardly looked at."""
    assert judge([], BOUND) is None
    assert judge(list(itertools.islice(_samples(10, float), 2 * SAMPLES_MIN - 4)), Bound(1)) is None


LEAKING = """
import sys, threading
kept = []
def leak():
    kept.append(b"x" * (2 << 20))
    timer = threading.Timer(0.5, leak)
    timer.daemon = True
    timer.start()
leak()
from kvraft.cli import main
sys.exit(main(sys.argv[4:]))
"""
"""Leaves 4 MiB a second lying around; it stands in front of `PYTHON -m kvraft FLAGS...`."""


@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("is_leaking", [False, True])
def test_soak_of_a_minute_finds_a_leak_and_only_a_leak(
    tmp_path: pathlib.Path, torture_seed: int, *, is_leaking: bool
) -> None:
    """The same load twice; memory that a member does not give back shows within a minute."""
    (tmp_path / "leaking.py").write_text(LEAKING)
    wrapper = (sys.executable, str(tmp_path / "leaking.py")) if is_leaking else ()
    program = Program(flags=FLAGS, wrapper=wrapper)
    assert soak(tmp_path / "soak", MINUTE_S, torture_seed, program) is not is_leaking
    table = (tmp_path / "soak" / "soak.txt").read_text()
    assert ("anonymous of n3: GROWS" in table) is is_leaking
