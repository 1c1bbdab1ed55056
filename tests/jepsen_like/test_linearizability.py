"""The checker of linearizability: against a checker that tries every order, and on histories of known quality."""

from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.jepsen_like import histories, index_order
from tests.jepsen_like.check import Verdict as JudgesVerdict
from tests.jepsen_like.histories import ACTIONS, Placed, without_indices
from tests.jepsen_like.linearizability import (
    OPERATIONS_PER_KEY_MAX,
    Action,
    Operation,
    Outcome,
    State,
    Verdict,
    apply,
    check,
    check_keys,
)

BAD_HISTORIES: Final = 250
"""Of each class of anomaly."""
GOOD_HISTORIES: Final = 1_000


def brute_force(operations: list[Operation], state: State = None) -> bool:
    """Whether some order of all answered operations, and any of the others, is legal and keeps real time."""
    if all(operation.outcome == "unknown" for operation in operations):
        return True
    first_end = min(operation.end for operation in operations if operation.end is not None)
    for number, operation in enumerate(operations):
        possible, after = apply(state, operation)
        if operation.start <= first_end and possible:
            rest = operations[:number] + operations[number + 1 :]
            if brute_force(rest, after):
                return True
    return False


@st.composite
def operation_lists(draw: st.DrawFn) -> list[Operation]:
    """Up to eight operations on one key with few values, so that many histories are nearly right."""
    values = st.sampled_from(["a", "b", None])
    operations = []
    for _ in range(draw(st.integers(1, 8))):
        action: Action = draw(st.sampled_from(ACTIONS))
        start = draw(st.integers(0, 20))
        outcomes: tuple[Outcome, ...] = (
            ("ok", "ok", "unknown") if action == "write" else ("ok", "ok", "failed", "unknown")
        )
        outcome: Outcome = "ok" if action == "read" else draw(st.sampled_from(outcomes))
        end = None if outcome == "unknown" else start + draw(st.integers(0, 8))
        value = draw(values) if action == "read" else None if action == "delete" else draw(st.sampled_from(["a", "b"]))
        compared = draw(values) if action in {"cas", "delete"} else None
        operations.append(Operation(action, value, start, end, outcome, compared))
    return operations


@settings(max_examples=1_000)
@given(operation_lists())
def test_verdict_is_that_of_trying_every_order(operations: list[Operation]) -> None:
    """The cache, the list and the cut branches lose nothing and allow nothing."""
    expected = Verdict.LINEARIZABLE if brute_force(operations) else Verdict.VIOLATED
    assert check(operations).verdict is expected


def test_history_of_a_correct_register_is_accepted() -> None:
    """A thousand of them, with answers lost and conditions not met."""
    for seed in range(GOOD_HISTORIES):
        assert check(without_indices(histories.good(seed).history)).verdict is Verdict.LINEARIZABLE, f"seed {seed}"


def test_longest_allowed_history_is_decided_quickly() -> None:
    """200 operations by 8 clients, within the steps that a run allows."""
    history = without_indices(histories.good(1, clients=8, count=OPERATIONS_PER_KEY_MAX).history)
    result = check(history)
    assert result.verdict is Verdict.LINEARIZABLE
    assert result.steps < 100_000


@pytest.mark.slow
def test_history_before_an_anomaly_is_good() -> None:
    """So what is found in the bad ones is the anomaly."""
    for seed in range(BAD_HISTORIES):
        assert check(without_indices(histories.settled(seed).history)).verdict is Verdict.LINEARIZABLE, f"seed {seed}"


@pytest.mark.slow
@pytest.mark.parametrize("spoil", histories.ANOMALIES)
def test_each_class_of_anomaly_is_found(spoil: Callable[[int], list[Placed]]) -> None:
    """Behind 250 different good histories."""
    for seed in range(BAD_HISTORIES):
        assert check(without_indices(spoil(seed))).verdict is Verdict.VIOLATED, f"seed {seed}"


@pytest.mark.slow
def test_order_of_indices_accepts_the_histories_of_a_correct_register() -> None:
    """The same thousand, and those before an anomaly."""
    for seed in range(GOOD_HISTORIES):
        assert index_problems(histories.good(seed).history) == [], f"seed {seed}"
    for seed in range(BAD_HISTORIES):
        assert index_problems(histories.settled(seed).history) == [], f"seed {seed}"


@pytest.mark.slow
@pytest.mark.parametrize("spoil", histories.ANOMALIES)
def test_order_of_indices_finds_each_class_of_anomaly(spoil: Callable[[int], list[Placed]]) -> None:
    """Whether the store that lies shows an index that suits the lie or not."""
    for seed in range(BAD_HISTORIES):
        assert index_problems(spoil(seed)) != [], f"seed {seed}"


def index_problems(history: list[Placed]) -> list[str]:
    verdict = JudgesVerdict()
    index_order.check_order(histories.records(history), verdict)
    return verdict.problems


def test_violation_names_an_operation_that_no_order_explains() -> None:
    """The stale read itself."""
    assert check(without_indices(histories.stale_read(1))).stuck_at == without_indices(histories.stale_read(1))[-1]


def test_search_that_takes_too_long_is_no_pass() -> None:
    """It is undecided, which a run counts as a problem."""
    assert check(without_indices(histories.good(1).history), steps_max=10).verdict is Verdict.UNDECIDED


def test_keys_are_judged_alone() -> None:
    """One bad key does not hide another."""
    results = check_keys(
        {"good": without_indices(histories.good(1).history), "bad": without_indices(histories.stale_read(1))}
    )
    assert {key: result.verdict for key, result in results.items()} == {
        "good": Verdict.LINEARIZABLE,
        "bad": Verdict.VIOLATED,
    }
