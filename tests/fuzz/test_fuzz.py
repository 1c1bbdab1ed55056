import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st

from tests.fuzz.engine import REACHED_WITHIN, Check, Target, fuzz
from tests.fuzz.targets import targets

SECONDS = 1.0
SEED = 20


@pytest.mark.slow
@pytest.mark.parametrize("target", targets(member=False), ids=lambda target: target.name)
def test_a_second_of_each_fuzzer_finds_nothing(target: Target) -> None:
    """The same inputs every time, for a second and until every kind has come; `make torture` has longer ones."""
    result = fuzz(target, SECONDS, SEED, until_reached=True)
    assert result.finding is None, f"seed {result.seed}\n{result.finding}"
    assert target.outcomes, "nothing says what the inputs should reach"
    assert target.outcomes <= result.outcomes.keys(), f"never reached: {result.missed}"


@pytest.mark.slow
def test_outcome_that_never_comes_up_is_told() -> None:
    """After as many inputs as it may take, and no sooner."""

    @contextlib.contextmanager
    def opened() -> Iterator[Check]:
        yield lambda number: "even" if number % 2 == 0 else "odd"

    narrow = Target("narrow", st.integers(0, 10**9).map(lambda number: 2 * number), opened, frozenset({"even", "odd"}))
    result = fuzz(narrow, 0, 7, until_reached=True)
    assert result.inputs == REACHED_WITHIN
    assert result.missed == {"odd"}
    assert fuzz(narrow, 0, 7).missed == set()


def test_finding_is_shrunk_and_comes_again_with_its_seed() -> None:
    """What a campaign prints is the smallest input that fails, and the batch that finds it."""

    def check(number: int) -> str:
        assert number <= 500
        return "fine"

    @contextlib.contextmanager
    def opened() -> Iterator[Check]:
        yield check

    broken = Target("broken", st.integers(0, 1000), opened)
    first = fuzz(broken, 30, 7)
    assert first.finding is not None
    assert "given=501" in first.finding
    again = fuzz(broken, 30, first.seed)
    assert again.seed == first.seed
    assert again.finding is not None
