"""Who may talk to whom, decided without a network."""

import dataclasses

import pytest

from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused, PeerHello
from kvraft.transport.handshake import PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, Gate, Greeting, Lane
from tests.transport import support

MINE = support.hello(1)
THEIRS = Greeting(support.hello(2), 1, Lane.CONTROL, b"instance", 7)


def _gate(local: support.Local | None = None) -> Gate:
    gate = Gate(local or support.Local(MINE), b"mine is8")
    gate.members = frozenset({2, 3})
    return gate


def test_a_correct_peer_is_accepted_both_as_dialler_and_as_acceptor() -> None:
    """The normal case."""
    assert _gate().judge(THEIRS) is None
    assert _gate().judge_answer(THEIRS, 2, Lane.CONTROL, 7) is None


def test_our_greeting_says_what_is_true_when_it_is_sent() -> None:
    """The log grows between two greetings."""
    local = support.Local(MINE)
    gate = _gate(local)
    first = gate.greeting(2, Lane.ENTRIES, 7)
    local.hello = dataclasses.replace(MINE, last_log_index=9, last_log_term=3)
    second = gate.greeting(2, Lane.ENTRIES, 7)
    assert (first.hello, second.hello) == (MINE, local.hello)
    assert (first.to_member_id, first.lane, first.instance) == (2, Lane.ENTRIES, b"mine is8")
    assert (first.protocol_version_min, first.protocol_version_max) == (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION_MAX)


@pytest.mark.parametrize(
    ("greeting", "kind", "words"),
    [
        (
            dataclasses.replace(THEIRS, protocol_version_min=PROTOCOL_VERSION_MAX + 1, protocol_version_max=9),
            GreetingRefusalReason.PROTOCOL,
            "upgrade",
        ),
        (
            dataclasses.replace(THEIRS, hello=support.hello(2, 99)),
            GreetingRefusalReason.WRONG_CLUSTER,
            "--initial-cluster-token, and each the --data-dir of that cluster; a directory that was begun with",
        ),
        (
            dataclasses.replace(THEIRS, to_member_id=3),
            GreetingRefusalReason.WRONG_MEMBER,
            "looked for member 3 where member 1",
        ),
        (
            dataclasses.replace(THEIRS, hello=support.hello(1)),
            GreetingRefusalReason.WRONG_MEMBER,
            "two processes are member 1",
        ),
        (
            dataclasses.replace(THEIRS, hello=support.hello(9)),
            GreetingRefusalReason.UNKNOWN_MEMBER,
            "does not know member 9",
        ),
    ],
)
def test_a_greeting_that_cannot_be_meant_for_us_is_refused_with_a_remedy(
    greeting: Greeting, kind: GreetingRefusalReason, words: str
) -> None:
    """Each with its kind for programs and one sentence for people."""
    refusal = _gate().judge(greeting)
    assert refusal is not None
    assert refusal.reason is kind
    assert words in refusal.detail


def test_a_peer_of_another_founding_is_refused_with_both_histories() -> None:
    """Same settings, same ids, two logs. While one side knows of no founding, there is nothing to compare."""
    ours = dataclasses.replace(MINE, founding=b"m" * 16, last_log_index=20, last_log_term=2)
    theirs = dataclasses.replace(THEIRS.hello, founding=b"t" * 16, last_log_index=50, last_log_term=3)
    gate = _gate(support.Local(ours))
    refusal = gate.judge(dataclasses.replace(THEIRS, hello=theirs))
    assert refusal is not None
    assert refusal.reason is GreetingRefusalReason.OTHER_HISTORY
    assert "member 2 holds history 74747474 up to index 50 of term 3" in refusal.detail
    assert "member 1 holds history 6d6d6d6d up to index 20 of term 2" in refusal.detail
    for agreeing in (b"", ours.founding):
        hello = dataclasses.replace(theirs, founding=agreeing)
        assert gate.judge(dataclasses.replace(THEIRS, hello=hello)) is None
    assert _gate().judge(dataclasses.replace(THEIRS, hello=theirs)) is None


def test_a_newer_program_that_still_speaks_our_protocol_is_accepted() -> None:
    """A rolling upgrade goes member by member."""
    assert _gate().judge(dataclasses.replace(THEIRS, protocol_version_max=PROTOCOL_VERSION_MAX + 5)) is None


def test_what_a_peer_speaks_is_known_from_its_last_accepted_greeting() -> None:
    """An older program may be replaced by a newer one, and the other way round; who was refused has said nothing."""
    gate = _gate()
    for spoken in (1, 2, 1):
        gate.judge(dataclasses.replace(THEIRS, protocol_version_max=spoken))
        gate.judge(dataclasses.replace(THEIRS, hello=support.hello(9), protocol_version_max=spoken))
        assert gate.spoken == {2: spoken}


def test_an_answer_from_another_member_or_lane_is_refused() -> None:
    """Crossed peer URLs: the dialled address belongs to somebody else."""
    crossed = _gate().judge_answer(THEIRS, 3, Lane.CONTROL, 7)
    assert crossed is not None
    assert crossed.reason is GreetingRefusalReason.WRONG_MEMBER
    assert "answered as 2 where member 3 was dialled" in crossed.detail
    other_lane = _gate().judge_answer(THEIRS, 2, Lane.ENTRIES, 7)
    assert other_lane is not None
    assert other_lane.reason is GreetingRefusalReason.OTHER
    other_session = _gate().judge_answer(THEIRS, 2, Lane.CONTROL, 8)
    assert other_session is not None
    assert other_session.reason is GreetingRefusalReason.OTHER


def test_the_member_judges_last_and_never_a_stranger() -> None:
    """Its durable memory is asked only about peers of this cluster and protocol, and may still refuse them."""
    asked: list[PeerHello] = []

    def verdict(hello: PeerHello) -> GreetingRefused | None:
        asked.append(hello)
        return GreetingRefused(GreetingRefusalReason.WIPED, "wiped")

    gate = _gate(support.Local(MINE, verdict))
    gate.judge(dataclasses.replace(THEIRS, hello=support.hello(2, 99)))
    gate.judge(dataclasses.replace(THEIRS, protocol_version_min=9, protocol_version_max=9))
    gate.judge(dataclasses.replace(THEIRS, to_member_id=3))
    assert asked == []
    assert gate.judge(THEIRS) == GreetingRefused(GreetingRefusalReason.WIPED, "wiped")
    assert asked == [THEIRS.hello]


def test_a_removed_member_hears_that_it_was_removed_and_not_that_it_is_unknown() -> None:
    """It left the configuration, so both are true, and only one of them says what to do."""
    gate = _gate(support.Local(MINE, lambda _hello: GreetingRefused(GreetingRefusalReason.REMOVED, "removed")))
    refusal = gate.judge(dataclasses.replace(THEIRS, hello=support.hello(9)))
    assert refusal is not None
    assert refusal.reason is GreetingRefusalReason.REMOVED
