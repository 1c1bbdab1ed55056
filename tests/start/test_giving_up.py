"""Whether a member may give up what it has, by what the others say."""

import pytest

from kvraft.start.giving_up import enough_would_be_left

N1, N2, N3, N4, N5 = range(1, 6)
"""N1 is to give up its data."""
OTHERS = frozenset({N2, N3, N4, N5})
TWO, THREE, FOUR = (frozenset(range(1, count + 1)) for count in (2, 3, 4))


@pytest.mark.parametrize(
    ("holding", "voters", "others", "is_enough"),
    [
        ({N2}, TWO, {N2}, True),
        ({N2}, TWO, {N2, N3}, False),  # N1 and N3 may have promoted N3, and written on
        ({N2, N4}, TWO, {N2, N3, N4}, False),  # the same, and N4 learns, too
        ({N2, N3}, TWO, {N2, N3}, True),  # N3 would know
        ({N2, N4}, THREE, {N2, N3, N4}, False),  # N3 may have lost its disk, with what N1 and N3 committed
        ({N2, N3}, THREE, {N2, N3}, True),
        ({N2, N3}, THREE, {N2, N3, N4}, True),  # a learner that was never started is not waited for
        ({N2, N3}, FOUR, {N2, N3, N4}, False),  # N1 and N4 may have removed N2, and written on
        ({N2, N3, N4}, FOUR, {N2, N3, N4}, True),
        ({N2}, THREE, {N2, N3}, False),
        (set(), TWO, {N2}, False),
    ],
)
def test_each_majority_of_today_and_of_the_next_change_keeps_the_data(
    holding: set[int], voters: frozenset[int], others: set[int], is_enough: bool
) -> None:
    """Whoever holds the data may not have heard of the last change."""
    assert enough_would_be_left(holding, dict.fromkeys(OTHERS, voters), others) is is_enough


def test_each_configuration_that_a_holder_goes_by_has_to_agree() -> None:
    """One of them has not heard yet of the last change; who holds nothing may be far behind, and is not asked."""
    five = frozenset({N1, N2, N3, N4, N5})
    assert not enough_would_be_left({N2, N3}, {N2: THREE, N3: five}, OTHERS)
    assert enough_would_be_left({N2, N3, N4}, {N2: THREE, N3: THREE, N4: FOUR}, {N2, N3, N4})
    assert enough_would_be_left({N2}, {N2: TWO, N3: THREE}, {N2})


def test_holder_that_does_not_say_who_votes_does_not_count() -> None:
    """Nothing is certain by what it holds."""
    assert not enough_would_be_left({N2}, {}, OTHERS)
    assert not enough_would_be_left({N2, N3}, {N2: THREE}, OTHERS)
