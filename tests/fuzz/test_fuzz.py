import pytest

from tests.fuzz.engine import Target, fuzz
from tests.fuzz.targets import targets

SECONDS = 1.0
SEED = 20


@pytest.mark.slow
@pytest.mark.parametrize("target", targets(member=False), ids=lambda target: target.name)
def test_a_second_of_each_fuzzer_finds_nothing(target: Target) -> None:
    """And its inputs reach what they are meant to reach."""
    result = fuzz(target, SECONDS, SEED)
    assert result.finding is None, f"seed {result.seed}\n{result.finding}"
    assert result.inputs > 0
