"""Entries in order, once, in slices; requests answered; what is told of terms and hashes."""

import pytest

from kvraft.keyspace.commands import Set
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.applier import Applier
from kvraft.member.waiters import Waiters
from kvraft.raft.configuration import Configuration
from kvraft.raft.entries import Entry, EntryKind, make_entry
from kvraft.raft.restored import LogPosition
from kvraft.records import Written
from tests.member import virtual_time
from tests.member.fakes import Silence, applier_of, log_of, payload_of

SET = payload_of(Set(path=b"/key", value=b"v"))


def make(heard: Silence, ticks: list[int], slice_ms: int = 10) -> tuple[Applier, Waiters]:
    """An applier whose clock shows these ticks, and then the last one for good."""

    def monotonic_ms() -> int:
        return ticks.pop(0) if len(ticks) > 1 else ticks[0]

    waiters = Waiters(1, 1, 7000)
    return applier_of(Keyspace(), waiters, heard, monotonic_ms, slice_ms), waiters


def test_long_run_is_cut_into_slices_by_the_clock() -> None:
    """Heartbeats and reads go on between two slices; `on_applied` comes once a slice."""

    async def story() -> None:
        heard = Silence()
        applier, _ = make(heard, [0, 5, 10, 10, 10, 19])
        applier.enqueue(log_of(*[SET] * 100))
        assert applier.apply_slice()
        assert heard.applied == [64]
        assert not applier.apply_slice()
        assert (heard.applied, applier.position.index, applier.applied_commands) == ([64, 100], 100, 100)
        assert not applier.apply_slice()
        assert heard.applied == [64, 100]

    virtual_time.run(story())


def test_first_entry_of_a_later_term_is_told_before_it_is_applied() -> None:
    """Once a term, also when it begins in the middle of a slice or with a command."""

    async def story() -> None:
        heard = Silence()
        applier, _ = make(heard, [0])
        first = log_of(None, SET)
        second = log_of(SET, SET, term=3, after=first[-1])
        third = log_of(None, term=4, after=second[-1])
        applier.enqueue(first)
        applier.apply_slice()
        applier.enqueue([*second, *third])
        applier.apply_slice()
        assert heard.later_terms == [1, 3, 4]

    virtual_time.run(story())


def test_answer_carries_the_indices_of_its_own_entry_and_a_broken_client_stops_nothing() -> None:
    """Also in the middle of a slice; every request is answered once."""

    async def story() -> None:
        heard = Silence()
        applier, waiters = make(heard, [0])
        answers: list[Written | EtcdError] = []

        def broken(outcome: Written | EtcdError) -> None:
            answers.append(outcome)
            raise ConnectionResetError

        payloads = [waiters.add(payload_of(Set(path=b"/a"))[24:], done, 0).payload for done in (broken, answers.append)]
        applier.enqueue(log_of(None, *payloads, SET))
        applier.apply_slice()
        written = [(answer.etcd_index, answer.raft_index) for answer in answers if isinstance(answer, Written)]
        assert written == [(1, 2), (2, 3)]
        assert (len(waiters), applier.position.index) == (0, 4)

    virtual_time.run(story())


def test_hashes_are_told_at_the_same_indices_on_every_member() -> None:
    """Slices do not matter: at each multiple of the interval, whatever kind of entry stands there."""

    async def story() -> None:
        heard = Silence()
        applier, _ = make(heard, [0])
        applier.enqueue(log_of(*[SET] * 1023, None, *[SET] * 1024))
        applier.apply_slice()
        assert heard.hashes == [1024, 2048]

    virtual_time.run(story())


def test_configuration_entry_goes_with_the_state() -> None:
    """What is flushed at a position is the configuration in force there."""

    async def story() -> None:
        applier, _ = make(Silence(), [0])
        first = log_of(None)[0]
        four = Configuration.of([1, 2, 3, 4])
        second: Entry = make_entry(first.chain_hash, 2, 1, EntryKind.CONFIGURATION, 0, four.encode())
        applier.enqueue([first, second])
        applier.apply_slice()
        assert applier.configuration == four

    virtual_time.run(story())


def test_entries_are_never_applied_twice_or_out_of_order() -> None:
    """Our own mistake, so an assertion; an installed snapshot takes the place of what was queued."""

    async def story() -> None:
        applier, _ = make(Silence(), [0])
        entries = log_of(*[SET] * 4)
        applier.enqueue(entries[1:2])
        with pytest.raises(AssertionError, match="in order, never twice"):
            applier.apply_slice()
        last = entries[2]
        applier.replace(Keyspace(), LogPosition(3, 1, last.chain_hash, last.clock_ms))
        applier.enqueue(entries[3:])
        assert not applier.apply_slice()
        assert applier.position.index == 4
        with pytest.raises(AssertionError, match="never takes the applied state back"):
            applier.replace(Keyspace(), LogPosition(3))

    virtual_time.run(story())
