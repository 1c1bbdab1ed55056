"""The checker of linearizability: against a checker that tries every order, and on histories of known quality."""

import dataclasses
import random
from collections.abc import Callable
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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

ACTIONS: Final[tuple[Action, ...]] = ("read", "read", "write", "cas", "create", "delete")
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


def simulated_history(seed: int, clients: int = 6, operations: int = 40) -> list[Operation]:
    """What clients of a correct register see: each operation takes effect at one moment of its interval."""
    chance = random.Random(seed)
    busy_until = [0] * clients
    plans = []
    for number in range(operations):
        client = number % clients
        start = busy_until[client] + chance.randint(1, 20)
        end = start + chance.randint(2, 40)
        busy_until[client] = end
        plans.append((chance.randint(start + 1, end - 1), number, start, end))
    state: State = None
    history = []
    for _, number, start, end in sorted(plans):
        action: Action = chance.choice(ACTIONS)
        compared = chance.choice((state, "never")) if action in {"cas", "delete"} else None
        value = state if action == "read" else None if action == "delete" else f"v{number}"
        planned = Operation(action, value, start, end, compared=compared)
        possible, after = apply(state, planned)
        if possible:
            state = after
        lost_answer = action != "read" and chance.random() < 0.03
        outcome: Outcome = "unknown" if lost_answer else "ok" if possible else "failed"
        history.append(dataclasses.replace(planned, outcome=outcome, end=None if lost_answer else end))
    return history


def test_history_of_a_correct_register_is_accepted() -> None:
    """A thousand of them, with answers lost and conditions not met."""
    for seed in range(GOOD_HISTORIES):
        assert check(simulated_history(seed)).verdict is Verdict.LINEARIZABLE, f"seed {seed}"


def test_longest_allowed_history_is_decided_quickly() -> None:
    """200 operations by 8 clients, within the steps that a run allows."""
    history = simulated_history(1, clients=8, operations=OPERATIONS_PER_KEY_MAX)
    result = check(history)
    assert result.verdict is Verdict.LINEARIZABLE
    assert result.steps < 100_000


def after_all(history: list[Operation]) -> int:
    return max(operation.end or operation.start for operation in history) + 1


def settled(seed: int) -> tuple[list[Operation], int]:
    """A good history that ends, with nothing going on any more, in two writes and a read of the second."""
    history = [operation for operation in simulated_history(seed) if operation.outcome != "unknown"]
    at = after_all(history)
    history.append(Operation("write", "first", at, at + 1))
    history.append(Operation("write", "second", at + 2, at + 3))
    history.append(Operation("read", "second", at + 4, at + 5))
    return history, at + 6


def stale_read(seed: int) -> list[Operation]:
    history, at = settled(seed)
    return [*history, Operation("read", "first", at, at + 1)]


def lost_update(seed: int) -> list[Operation]:
    """Two swaps of one value both succeed."""
    history, at = settled(seed)
    return [
        *history,
        Operation("cas", "mine", at, at + 5, compared="second"),
        Operation("cas", "yours", at + 1, at + 4, compared="second"),
    ]


def lost_write(seed: int) -> list[Operation]:
    """A write is acknowledged and what stood before it is read."""
    history, at = settled(seed)
    return [*history, Operation("write", "lost", at, at + 1), Operation("read", "second", at + 2, at + 3)]


def dirty_read(seed: int) -> list[Operation]:
    """A value is read whose swap was refused."""
    history, at = settled(seed)
    return [
        *history,
        Operation("cas", "refused", at, at + 1, "failed", "no such value"),
        Operation("read", "refused", at + 2, at + 3),
    ]


def resurrected_value(seed: int) -> list[Operation]:
    """A deleted key is back though nobody wrote it."""
    history, at = settled(seed)
    return [
        *history,
        Operation("delete", None, at, at + 1),
        Operation("read", None, at + 2, at + 3),
        Operation("read", "second", at + 4, at + 5),
    ]


def read_goes_back(seed: int) -> list[Operation]:
    """While a write goes on, one client reads its value and a later one does not."""
    history, at = settled(seed)
    return [
        *history,
        Operation("write", "third", at, at + 9),
        Operation("read", "third", at + 1, at + 2),
        Operation("read", "second", at + 3, at + 4),
    ]


def unknown_write_happens_twice(seed: int) -> list[Operation]:
    history, at = settled(seed)
    return [
        *history,
        Operation("write", "twice", at, None, "unknown"),
        Operation("read", "twice", at + 1, at + 2),
        Operation("write", "third", at + 3, at + 4),
        Operation("read", "third", at + 5, at + 6),
        Operation("read", "twice", at + 7, at + 8),
    ]


@pytest.mark.parametrize(
    "spoil",
    [stale_read, lost_update, lost_write, dirty_read, resurrected_value, read_goes_back, unknown_write_happens_twice],
)
def test_each_class_of_anomaly_is_found(spoil: Callable[[int], list[Operation]]) -> None:
    """Behind 250 different good histories."""
    for seed in range(BAD_HISTORIES):
        assert check(spoil(seed)).verdict is Verdict.VIOLATED, f"seed {seed}"


def test_violation_names_an_operation_that_no_order_explains() -> None:
    """The stale read itself."""
    assert check(stale_read(1)).stuck_at == stale_read(1)[-1]


def test_search_that_takes_too_long_is_no_pass() -> None:
    """It is undecided, which a run counts as a problem."""
    assert check(simulated_history(1), steps_max=10).verdict is Verdict.UNDECIDED


def test_keys_are_judged_alone() -> None:
    """One bad key does not hide another."""
    results = check_keys({"good": simulated_history(1), "bad": stale_read(1)})
    assert {key: result.verdict for key, result in results.items()} == {
        "good": Verdict.LINEARIZABLE,
        "bad": Verdict.VIOLATED,
    }
