"""A member whose state went astray is named by the majority."""

from kvraft.keyspace.records import STATE_HASH_BYTES
from kvraft.member.state_hashes import Disagreement, StateHashes


def test_members_that_agree_are_left_alone() -> None:
    """Equal hashes at an index are no news, in any order of arrival."""
    hashes = StateHashes(lambda: 2)
    assert [hashes.report(member, 1024, b"same") for member in (1, 2, 3)] == [None, None, None]


def test_minority_is_named_once_a_quorum_agrees() -> None:
    """One against one says nothing; the third report decides."""
    hashes = StateHashes(lambda: 2)
    assert hashes.report(1, 1024, b"astray") is None
    assert hashes.report(2, 1024, b"good") is None
    assert hashes.report(3, 1024, b"good") == Disagreement(1024, (1,))


def test_reports_of_different_indices_are_not_compared() -> None:
    """A member that lags reports the same index later."""
    hashes = StateHashes(lambda: 2)
    assert hashes.report(1, 1024, b"a") is None
    assert hashes.report(2, 2048, b"b") is None
    assert hashes.report(3, 1024, b"a") is None


def test_old_indices_are_forgotten() -> None:
    """What is remembered is bounded."""
    hashes = StateHashes(lambda: 2)
    for index in range(1, 200):
        hashes.report(1, index, b"x")
    assert len(hashes._reports) <= 64


def test_member_whose_nodes_differ_is_named_though_its_answers_agree() -> None:
    """The second part is compared among those that report it."""
    hashes = StateHashes(lambda: 2)
    answers = b"a" * STATE_HASH_BYTES
    assert hashes.report(1, 1024, answers + b"nodes") is None
    assert hashes.report(2, 1024, answers) is None  # it is still counting
    assert hashes.report(3, 1024, answers + b"nodes") is None
    assert hashes.report(2, 1024, answers + b"astray") == Disagreement(1024, (2,))
