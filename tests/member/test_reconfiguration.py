"""Which change of the configuration comes next, and when a learner has caught up."""

from types import SimpleNamespace
from typing import Any, cast, final

import pytest

from kvraft.keyspace.commands import PublishMember
from kvraft.member.raft_loop import RaftLoop
from kvraft.member.reconfiguration import HandOver, Membership, Reconfiguration, Rounds, next_move
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Role
from kvraft.raft.progress import Progress
from tests.member.fakes import ScriptedRaft

OWN = 1


def move(
    now: Configuration,
    wanted: set[int],
    *,
    removed: set[int] | None = None,
    connected: set[int] | None = None,
    caught_up: set[int] | None = None,
    successor: int = 0,
) -> Configuration | HandOver | None:
    """What leader 1 does; everybody can be reached unless a test says otherwise."""
    everybody = set(now.servers) - {OWN}
    return next_move(
        OWN,
        now,
        Membership(wanted, removed or set()),
        everybody if connected is None else connected,
        caught_up or set(),
        successor,
    )


def test_nothing_is_done_where_the_configuration_is_what_is_wanted() -> None:
    """In whatever order, and whoever was removed before."""
    assert move(Configuration.of((1, 2, 3), removed=(4,)), {3, 1, 2}, removed={4}) is None


def test_a_member_comes_as_a_learner_and_votes_once_it_has_caught_up() -> None:
    """So adding never costs the quorum."""
    now = Configuration.of((1,))
    learning = Configuration.of((1,), (2,))
    assert move(now, {1, 2}) == learning
    assert move(learning, {1, 2}) is None
    assert move(learning, {1, 2}, connected=set(), caught_up={2}) is None, "a majority of two is both"
    assert move(learning, {1, 2}, caught_up={2}) == Configuration.of((1, 2))


def test_several_learners_come_before_the_first_is_promoted() -> None:
    """They catch up side by side; then one after another."""
    assert move(Configuration.of((1,), (2,)), {1, 2, 3}, caught_up={2}) == Configuration.of((1,), (2, 3))
    assert move(Configuration.of((1,), (2, 3)), {1, 2, 3}, caught_up={3}) == Configuration.of((1, 3), (2,))


def test_who_goes_goes_before_anybody_comes() -> None:
    """A cluster of three whose dead member is replaced is one of two meanwhile, and never one of four."""
    now = Configuration.of((1, 2, 3))
    assert move(now, {1, 2, 4}, removed={3}, connected={2}) == Configuration.of((1, 2))
    assert move(Configuration.of((1, 2), (4,)), {1, 2}, removed={4}) == Configuration.of((1, 2))


def test_voters_out_of_reach_go_first() -> None:
    """Without 3 the majority of the other four would be out of reach, and its removal could never be committed."""
    now = Configuration.of((1, 2, 3, 4, 5))
    assert move(now, {1, 2}, removed={3, 4, 5}, connected={2, 3}) == Configuration.of((1, 2, 3, 5))


def test_a_removal_waits_as_long_as_it_would_stop_writes() -> None:
    """Server 2 lives and 3 does not: of the two that are left, both must be there."""
    now = Configuration.of((1, 2, 3))
    assert move(now, {1, 3}, removed={2}, connected={2}) is None
    assert move(now, {1, 3}, removed={2}) == Configuration.of((1, 3))


def test_absence_is_no_removal() -> None:
    """Who is in the configuration may be wanted by an entry that is not applied here yet."""
    assert move(Configuration.of((1, 2), (3,)), {1, 2}) is None


def test_a_removed_server_never_comes_back() -> None:
    """The configuration remembers it, even if the membership did not."""
    assert move(Configuration.of((1,), removed=(2,)), {1, 2}) is None


def test_a_leader_that_is_to_go_hands_over_when_nothing_else_is_left_to_do() -> None:
    """Who takes over goes on with the rest, so what can be done before is done."""
    now = Configuration.of((1, 2, 3))
    assert move(now, {2, 3}, removed={1}, successor=2) == HandOver(2)
    assert move(now, {2, 3}, removed={1}) == Configuration.of((2, 3)), "in vain: it leads until that is committed"
    assert move(now, {2}, removed={1, 3}, successor=2) == Configuration.of((1, 2))
    assert move(now, {2, 3}, removed={1}, connected={2}) is None


def test_the_last_voter_stays_until_another_votes() -> None:
    """A cluster of nobody holds nothing."""
    assert move(Configuration.of((1,)), set(), removed={1}) is None
    assert move(Configuration.of((1,), (2,)), {2}, removed={1}) is None
    assert move(Configuration.of((1,), (2,)), {2}, removed={1}, caught_up={2}) == Configuration.of((1, 2))


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_member_that_never_comes_changes_nothing_for_the_others(size: int) -> None:
    """A wrong address is undone by one removal, at any size."""
    voters = tuple(range(1, size + 1))
    now, others = Configuration.of(voters), set(voters) - {OWN}
    with_wrong = move(now, {*voters, 9}, connected=others)
    assert with_wrong == Configuration.of(voters, (9,))
    assert move(with_wrong, {*voters, 9}, connected=others) is None
    assert move(with_wrong, set(voters), removed={9}, connected=others) == now


def test_a_learner_is_close_once_a_round_was_short() -> None:
    """Thesis 4.2.1: rounds shrink as it catches up, and what came during the last one is all that it lacks."""
    rounds = Rounds(500)
    assert not rounds.is_close(2, 0, 1000, 0)
    assert not rounds.is_close(2, 900, 1500, 400)
    assert not rounds.is_close(2, 1000, 2000, 900), "that round was long"
    assert not rounds.is_close(2, 1900, 2300, 1200)
    assert rounds.is_close(2, 2000, 2400, 1300)
    assert rounds.is_close(2, 2300, 2900, 1700), "within the next round it is what it was"
    assert not rounds.is_close(2, 2399, 9000, 1800), "unless that one takes long"
    assert not rounds.is_close(2, 2399, 9000, 1800)


def test_a_learner_that_holds_everything_is_close_however_long_it_took() -> None:
    """Nobody writes: there is no second round to wait for."""
    rounds = Rounds(500)
    assert not rounds.is_close(2, 0, 1000, 0)
    assert rounds.is_close(2, 1000, 1000, 60_000)


def test_a_learner_that_has_gone_begins_anew() -> None:
    """As does one under another leader."""
    rounds = Rounds(500)
    assert rounds.is_close(2, 10, 10, 0)
    rounds.keep({3})
    assert not rounds.is_close(2, 10, 20, 1)


@final
class _Stage:
    """What a leader sees of its cluster; also the loop that it is given."""

    def __init__(self) -> None:
        self.raft = cast("Any", ScriptedRaft(Role.LEADER))
        self.raft.configuration = Configuration.of((1, 2, 3), (4,))
        self.raft.may_reconfigure = True
        self.raft.progress = {server: Progress(0, 0) for server in (2, 3)}
        self.own = PublishMember(1, "n1", ())
        self.reached = {2, 3}
        self.put: list[object] = []
        stage = cast("Any", self)
        loop = SimpleNamespace(raft=self.raft, put=self.put.append)
        self.reconfiguration = Reconfiguration(stage, cast("RaftLoop", loop), self.reached.__contains__, 1000)

    def is_due_after_a_look(self) -> bool:
        """Whether each step may bring something then."""
        self.reconfiguration.look(0)
        return self.reconfiguration.is_due

    def member_ids(self) -> set[int]:
        return {1, 2, 3, 4}

    def removed_ids(self) -> frozenset[int]:
        return frozenset()


def test_learner_that_nobody_reaches_costs_no_look_in_each_step() -> None:
    """Only the housekeeping's; each step may bring something again once it is reached."""
    stage = _Stage()
    assert not stage.is_due_after_a_look()
    stage.reached.add(4)
    assert stage.is_due_after_a_look()
    stage.reached.discard(4)
    stage.raft.may_reconfigure = False  # a change is on its way, and its commit lets the next one follow
    assert stage.is_due_after_a_look()


def test_change_that_is_proposed_is_followed_step_by_step() -> None:
    """It is not in the log yet when that is asked."""
    stage = _Stage()
    stage.raft.configuration = Configuration.of((1, 2, 3))
    assert stage.is_due_after_a_look()
    assert stage.put
