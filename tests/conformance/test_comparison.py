"""The comparison itself: what it lets pass, what it does not, and how a failing sequence is made short."""

from dataclasses import replace
from random import Random

import pytest

from tests.conformance.auth_matrix.cells import Cell
from tests.conformance.auth_matrix.run import compared
from tests.conformance.comparison import comparable, difference, is_removal_of_a_neighbour
from tests.conformance.differential.accounts import secured
from tests.conformance.differential.coverage import ROWS, Coverage
from tests.conformance.differential.generate import sequence_of
from tests.conformance.differential.shrink import shrink
from tests.conformance.differential.steps import Account, Ask, Sequence
from tests.conformance.wire import Answer, Head

HEADERS = (("Content-Type", "application/json"), ("X-Etcd-Index", "7"), ("X-Raft-Term", "2"), ("Content-Length", "9"))
NODE = b'{"action":"get","node":{"key":"/a","value":"1","expiration":"2026-11-21T00:00:00.5Z","ttl":9}}\n'


def answer(body: bytes = NODE, headers: tuple[tuple[str, str], ...] = HEADERS, status: int = 200) -> Answer:
    """An answer of a server."""
    return Answer(Head(status, "", headers), body)


@pytest.mark.parametrize(
    "other",
    [
        answer(NODE.replace(b"00:00:00.5Z", b"23:59:59.123456789Z")),
        answer(NODE.replace(b'"ttl":9', b'"ttl":8')),
        answer(headers=(*HEADERS, ("Date", "today"), ("Access-Control-Allow-Origin", "*"))),
        answer(headers=tuple((name, "31" if name == "X-Raft-Term" else value) for name, value in HEADERS)),
    ],
    ids=["another time", "a second less", "a date and CORS", "another term"],
)
def test_what_may_differ_passes(other: Answer) -> None:
    """Times of the right form, a second of TTL, dates, CORS headers and raft positions."""
    assert difference(comparable(answer()), comparable(other)) is None


@pytest.mark.parametrize(
    "other",
    [
        answer(NODE.replace(b"00:00:00.5Z", b"00:00:00.50Z")),
        answer(NODE.replace(b'"ttl":9', b'"ttl":5')),
        answer(NODE.replace(b'"value":"1"', b'"value":"2"')),
        answer(NODE.rstrip(b"\n")),
        answer(status=201),
        answer(headers=tuple((name.lower(), value) for name, value in HEADERS)),
        answer(headers=tuple((name, "8" if name == "X-Etcd-Index" else value) for name, value in HEADERS)),
        answer(headers=tuple((name, "0" if name == "X-Raft-Term" else value) for name, value in HEADERS)),
        answer(headers=HEADERS[:-1]),
    ],
    ids=[
        "a fraction with a trailing zero",
        "seconds of TTL",
        "value",
        "line feed",
        "status",
        "header case",
        "index",
        "term 0",
        "no Content-Length",
    ],
)
def test_what_must_not_differ_is_found(other: Answer) -> None:
    """A time in another form, a value, the line feed, the case of a header name, an index."""
    assert difference(comparable(answer()), comparable(other)) is not None


def test_the_order_of_a_listing_counts_only_where_it_was_asked_for() -> None:
    """Go's maps have no order."""
    one = answer(b'{"node":{"nodes":[{"key":"/a"},{"key":"/b","nodes":[{"key":"/b/x"},{"key":"/b/y"}]}]}}')
    other = answer(b'{"node":{"nodes":[{"key":"/b","nodes":[{"key":"/b/y"},{"key":"/b/x"}]},{"key":"/a"}]}}')
    assert difference(comparable(one, unsorted=True), comparable(other, unsorted=True)) is None
    assert difference(comparable(one), comparable(other)) is not None


def test_a_seed_gives_the_same_sequence_again() -> None:
    """Steps depend on the seed alone, and ten of them at least."""
    sequences = [sequence_of(Random(f"5/{number}")) for number in range(50)]
    assert sequences == [sequence_of(Random(f"5/{number}")) for number in range(50)]
    assert all(len(sequence.steps) >= 10 for sequence in sequences)


def test_shrinking_leaves_what_matters() -> None:
    """Of a long sequence that fails because of two of its steps, those two are left, without their adornment."""
    sequence = next(
        sequence
        for sequence in (sequence_of(Random(f"6/{number}")) for number in range(100))
        if {"POST", "DELETE"} <= {step.method for step in sequence.steps if isinstance(step, Ask)}
    )

    def fails(shorter: Sequence) -> bool:
        methods = [step.method for step in shorter.steps if isinstance(step, Ask)]
        return "POST" in methods and "DELETE" in methods

    steps = shrink(sequence, fails).steps
    assert sorted(step.method for step in steps if isinstance(step, Ask)) == ["DELETE", "POST"]
    assert len(steps) == 2
    assert all(not step.query and not step.form for step in steps if isinstance(step, Ask))


def test_rows_are_counted_and_missing_ones_named() -> None:
    """A row counts what it describes; one hit too seldom is named with its count."""
    coverage = Coverage()
    body = b'{"errorCode":101,"message":"Compare failed","cause":"[two != one] [1 != 25]","index":25}\n'
    coverage.note("compareAndSwap", Ask("compareAndSwap", "PUT", "/a"), answer(body, status=412))
    assert {name for name, count in coverage.rows.items() if count} == {"A.4 101", "A.6 compare fails by both"}
    assert coverage.counts["compareAndSwap", 412, 101] == 1
    assert "A.4 101: 1" in coverage.missing()
    assert len(coverage.missing()) == len(ROWS)


@pytest.mark.parametrize(
    ("watched", "is_one"),
    [(b"/pre", False), (b"/pre/k", False), (b"/prefixother", True), (b"/other", False), (b"/pr", False)],
)
def test_a_neighbour_is_told_from_an_ancestor(watched: bytes, *, is_one: bool) -> None:
    """Of a removal only: the same node written is never taken for an ancestor."""
    removal = b'{"action":"expire","node":{"key":"/pre","dir":true}}'
    assert is_removal_of_a_neighbour(watched, removal) is is_one
    assert not is_removal_of_a_neighbour(watched, removal.replace(b"expire", b"set"))


def test_matrix_asks_for_no_event_of_a_neighbour() -> None:
    """A history watch of `/m/ab` is given the removal of `/m/a` by etcd alone; that of `/m` must come from both."""
    cell = Cell("GET", "/v2/keys/m/ab?wait=true&waitIndex=$history", None, None, "none")
    removal = b'{"action":"delete","node":{"key":"/m/a","dir":true,"modifiedIndex":9,"createdIndex":8}}\n'
    assert compared(cell, answer(removal), answer(b""), None) is None
    assert compared(cell, answer(removal.replace(b"/m/a", b"/m")), answer(b""), None) is not None


def test_no_role_by_chance_has_an_empty_pattern() -> None:
    """The members refuse it, as etcd breaks off what is judged by it; the root itself is what drew it."""
    for number in range(300):
        sequence = secured(Random(f"9/{number}"), replace(sequence_of(Random(f"8/{number}")), on_root=True))
        accounts = [step for step in sequence.steps if isinstance(step, Account)]
        assert not [step for step in accounts if '""' in (step.body or "")], number
