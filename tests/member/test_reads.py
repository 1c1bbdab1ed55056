"""Linearizable reads share rounds, never too early ones."""

from functools import partial

from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.member.outcomes import STOPPED, TIMED_OUT
from kvraft.member.reads import Read, ReadBarriers
from kvraft.raft.effects import ReadReady


class Reader:
    """Remembers how its reads ended."""

    def __init__(self, barriers: ReadBarriers) -> None:
        self._barriers = barriers
        self.outcomes: dict[str, EtcdError | None] = {}

    def read(self, name: str, now_ms: int = 0) -> None:
        def done(outcome: EtcdError | None) -> None:
            assert name not in self.outcomes, "answered twice"
            self.outcomes[name] = outcome

        self._barriers.add(done, now_ms)


def test_read_that_arrives_during_a_round_waits_for_the_next() -> None:
    """The round's read index may be older than a write that the late reader has already seen."""
    barriers = ReadBarriers(timeout_ms=7000)
    reader = Reader(barriers)
    reader.read("early")
    round_one = barriers.start_round()
    reader.read("late")
    assert not barriers.wants_round()
    barriers.ready(ReadReady(round_one.read_id, 5), applied_index=5)
    assert reader.outcomes == {"early": None}
    assert barriers.wants_round()
    round_two = barriers.start_round()
    assert round_two.read_id > round_one.read_id
    barriers.ready(ReadReady(round_two.read_id, 6), applied_index=5)
    assert "late" not in reader.outcomes
    barriers.applied(6)
    assert reader.outcomes == {"early": None, "late": None}


def test_late_answer_to_a_failed_round_is_ignored() -> None:
    """A retried read has a fresh id, so a late answer to the old one cannot serve it (etcd-io/etcd#20418)."""
    barriers = ReadBarriers(timeout_ms=7000)
    reader = Reader(barriers)
    reader.read("a")
    first = barriers.start_round()
    assert not barriers.wants_round()
    barriers.failed(first.read_id)
    second = barriers.start_round()
    barriers.ready(ReadReady(first.read_id, 1), applied_index=9)
    assert reader.outcomes == {}
    barriers.ready(ReadReady(second.read_id, 9), applied_index=9)
    assert reader.outcomes == {"a": None}


def test_failed_round_is_tried_again_with_its_reads_first() -> None:
    """A lost leader fails the round, not the reads."""
    barriers = ReadBarriers(timeout_ms=7000)
    reader = Reader(barriers)
    reader.read("a", now_ms=1)
    lost = barriers.start_round()
    reader.read("b", now_ms=2)
    assert barriers.failed(lost.read_id)
    assert not barriers.failed(lost.read_id)
    again = barriers.start_round()
    barriers.ready(ReadReady(again.read_id, 1), applied_index=1)
    assert list(reader.outcomes) == ["a", "b"]


def test_reads_time_out_wherever_they_wait() -> None:
    """Without a quorum a read answers 500/300 after the request timeout."""
    barriers = ReadBarriers(timeout_ms=100)
    reader = Reader(barriers)
    reader.read("applying", now_ms=0)
    first = barriers.start_round()
    barriers.ready(ReadReady(first.read_id, 50), applied_index=1)
    reader.read("in round", now_ms=10)
    barriers.start_round()
    reader.read("waiting", now_ms=20)
    barriers.end_overdue(99)
    assert reader.outcomes == {}
    barriers.end_overdue(120)
    assert list(reader.outcomes) == ["in round", "waiting", "applying"]
    assert barriers.timed_out == 3
    assert (len(barriers), len(barriers._until_applied)) == (0, 0)
    for outcome in reader.outcomes.values():
        assert outcome is not None
        assert outcome.code is ErrorCode.RAFT_INTERNAL
        assert outcome.cause == b"etcdserver: request timed out"


def test_every_way_to_an_end_leaves_nothing_and_tells_once_even_if_telling_fails() -> None:
    """Ready at once, ready once applied, timed out, stopped: the next one is told all the same."""
    barriers = ReadBarriers(timeout_ms=100)
    outcomes: list[EtcdError | None] = []

    def broken(outcome: EtcdError | None) -> None:
        outcomes.append(outcome)
        if len(outcomes) < 4:
            barriers.add(outcomes.append, 1000)  # as the next request of a pipeline does
        raise ConnectionResetError

    for _ in range(2):
        barriers.add(broken, 0)
    barriers.ready(ReadReady(barriers.start_round().read_id, 1), applied_index=1)
    assert (outcomes, len(barriers)) == ([None] * 2, 2)
    barriers.ready(ReadReady(barriers.start_round().read_id, 1), applied_index=1)
    for _ in range(2):
        barriers.add(broken, 0)
    barriers.ready(ReadReady(barriers.start_round().read_id, 2), applied_index=1)
    barriers.applied(2)
    assert outcomes == [None] * 6
    for _ in range(2):
        barriers.add(broken, 0)
    barriers.end_overdue(100)
    for _ in range(2):
        barriers.add(broken, 0)
    barriers.end_all(STOPPED)
    assert [error.cause for error in outcomes if error is not None] == [TIMED_OUT] * 2 + [STOPPED] * 2
    assert len(barriers) == 0


def test_read_that_nobody_waits_for_is_told_nothing_and_counts_no_more() -> None:
    """Wherever it waits; the others of its round are served."""
    barriers = ReadBarriers(timeout_ms=100)
    told: list[str] = []

    def add(*names: str) -> dict[str, Read]:
        return {name: barriers.add(partial(tell, name), 0) for name in names}

    def tell(name: str, _error: EtcdError | None) -> None:
        told.append(name)

    reads = add("a", "b")
    first = barriers.start_round()
    barriers.ready(ReadReady(first.read_id, 50), applied_index=1)
    reads |= add("c", "d")
    second = barriers.start_round()
    reads |= add("e", "f")
    for name in ("a", "c", "e", "e"):
        barriers.abandon(reads[name])
    assert len(barriers) == 3
    barriers.applied(50)
    barriers.ready(ReadReady(second.read_id, 50), applied_index=50)
    barriers.abandon(reads["d"])
    assert told == ["b", "d"]
    barriers.end_overdue(100)
    assert told == ["b", "d", "f"]
    assert (len(barriers), barriers.timed_out) == (0, 1)


def test_reads_of_clients_that_come_and_go_do_not_pile_up() -> None:
    """While there is no leader each of them would keep its place for the request timeout."""
    barriers = ReadBarriers(timeout_ms=100)
    kept = barriers.add(lambda _: None, 0)
    for _ in range(10_000):
        barriers.abandon(barriers.add(lambda _: None, 0))
    assert len(barriers._waiting) < 200
    assert (len(barriers), kept in barriers._waiting) == (1, True)
