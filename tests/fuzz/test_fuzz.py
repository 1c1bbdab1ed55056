import contextlib
import pathlib
from collections.abc import Iterator

import pytest
from hypothesis import strategies as st

from tests.fuzz import guided
from tests.fuzz.engine import REACHED_WITHIN, Check, Target, fuzz
from tests.fuzz.http import check_json
from tests.fuzz.targets import targets

SECONDS = 0.5
SEED = 20


@pytest.mark.slow
@pytest.mark.parametrize("target", targets(member=False), ids=lambda target: target.name)
def test_half_a_second_of_each_fuzzer_finds_nothing(target: Target) -> None:
    """The same inputs every time, for half a second and until every kind has come; `make torture` has longer ones."""
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


def check_word(data: bytes) -> None:
    """A bug behind four bytes, each with a branch of its own: found soon only if each step is seen."""
    if data[:1] == b"k" and data[1:2] == b"v" and data[2:3] == b"r" and data[3:4] == b"a":
        raise AssertionError("the word")


@pytest.mark.slow
def test_guided_fuzzer_finds_what_chance_would_not(tmp_path: pathlib.Path) -> None:
    """A planted bug that one input in four thousand million shows; its input is kept, and shows it again."""
    _, finding = guided.campaign(f"{__name__}:check_word", 60, SEED, tmp_path)
    assert finding is not None
    assert "AssertionError: the word" in finding
    (kept,) = tmp_path.glob("*crash-*")
    with pytest.raises(AssertionError, match="the word"):
        check_word(kept.read_bytes())


@pytest.mark.parametrize("target", guided.TARGETS)
def test_examples_of_the_guided_fuzzer_pass_their_check(target: str) -> None:
    """They begin where a grammar would; `make torture` goes on from there."""
    check, examples = guided.check_of(target)
    assert examples
    for example in examples:
        check(example)


@pytest.mark.parametrize(
    ("text", "is_json"),
    [
        ('{"nodes":[' * 2_000 + '{"key":"/a{[","n":1}' + "]}" * 2_000, True),
        ('{"nodes":[' * 2_000 + "]}" * 1_999 + "]", False),
        ('{"nodes":[' * 2_000 + '{"key":}' + "]}" * 2_000, False),
        ('{"nodes":[' * 2_000 + '"\\x"' + "]}" * 2_000, False),
    ],
    ids=["whole", "no end", "no value", "no escape"],
)
def test_deep_answers_are_judged_like_others(text: str, is_json: bool) -> None:
    """A listing of a deep tree is valid JSON, and damage in it is seen at any depth."""
    with contextlib.nullcontext() if is_json else pytest.raises(ValueError, match=r"[Ee]xpecting|Invalid"):
        check_json(text)
