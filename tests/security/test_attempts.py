"""Wrong passwords are counted by user and by address, if somebody wants that."""

import pytest

from kvraft.security import attempts
from kvraft.security.attempts import SPAN_MS, Attempts


def fail(counted: Attempts, user: bytes, address: str, now_ms: int) -> None:
    """A wrong password is compared."""
    assert counted.begin(user, address, now_ms)
    counted.end(user, address, now_ms, was_wrong=True)


def test_a_user_and_an_address_are_not_listened_to_after_so_many_failures() -> None:
    """Each by itself, for the rest of the minute; others are."""
    counted = Attempts(2)
    for now_ms in (0, 10):
        assert not counted.is_over(b"root", "10.0.0.1", now_ms)
        fail(counted, b"root", "10.0.0.1", now_ms)
    assert counted.is_over(b"root", "10.0.0.2", 20)
    assert counted.is_over(b"other", "10.0.0.1", 20)
    assert not counted.is_over(b"other", "10.0.0.2", 20)
    assert counted.is_over(b"root", "10.0.0.1", SPAN_MS - 1)
    assert not counted.is_over(b"root", "10.0.0.1", SPAN_MS)


def test_what_is_being_compared_counts_until_it_was_right() -> None:
    """Of a user and of an address; a right one, and one that nobody has looked at, leave room again."""
    counted = Attempts(2)
    assert counted.begin(b"root", "10.0.0.1", 0)
    assert counted.begin(b"root", "10.0.0.2", 0)
    assert not counted.begin(b"root", "10.0.0.3", 0)
    assert counted.begin(b"other", "10.0.0.1", 0)
    assert not counted.begin(b"third", "10.0.0.1", 0)
    assert not counted.is_over(b"root", "10.0.0.1", 0)
    counted.end(b"root", "10.0.0.1", 0, was_wrong=False)
    assert counted.begin(b"root", "10.0.0.1", 0)


def test_without_a_bound_nothing_is_counted() -> None:
    """As in etcd."""
    counted = Attempts(0)
    for _ in range(100):
        fail(counted, b"root", "10.0.0.1", 0)
    assert not counted.is_over(b"root", "10.0.0.1", 0)
    assert vars(counted)["_counts"] == vars(counted)["_under_way"] == {}


def test_strangers_cannot_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten for a new one, and of a long name a part is kept."""
    monkeypatch.setattr(attempts, "KEPT_MAX", 10)
    counted = Attempts(1)
    for number in range(100):
        fail(counted, b"%d" % number + b"x" * 1_000_000, str(number), 0)
    kept = vars(counted)["_counts"]
    assert len(kept) == 10
    assert not vars(counted)["_under_way"]
    assert max(len(name) for _, name in kept) <= 256
    assert counted.is_over(b"99" + b"x" * 1_000_000, "", 0)
