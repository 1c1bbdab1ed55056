import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st

from tests.fuzz.engine import Check, Target, fuzz
from tests.fuzz.targets import targets

SECONDS = 1.0
SEED = 20


@pytest.mark.slow
@pytest.mark.parametrize("target", targets(member=False), ids=lambda target: target.name)
def test_a_second_of_each_fuzzer_finds_nothing(target: Target) -> None:
    """The same second every time; `make torture` has longer ones, and other seeds."""
    result = fuzz(target, SECONDS, SEED)
    assert result.finding is None, f"seed {result.seed}\n{result.finding}"
    assert result.inputs > 0


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
