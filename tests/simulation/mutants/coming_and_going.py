"""Planted bugs of whole members that come and go: M74 to M86e. The schedules of `tests/member` must find them."""

from typing import Any

from kvraft.keyspace.keyspace import Keyspace
from kvraft.member import reconfiguration
from kvraft.member.cluster import Cluster
from kvraft.member.membership_watch import MembershipWatch
from kvraft.member.peer_memory import PeerMemory
from kvraft.member.reconfiguration import HandOver, Membership, Reconfiguration, Rounds
from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused
from kvraft.raft import election, membership, rebuild, replication
from kvraft.raft.configuration import Configuration
from kvraft.raft.quorum import reached_by_majority, vote_result
from kvraft.raft.roles import Leader
from kvraft.raft.state import State
from kvraft.storage import going_alone
from tests.simulation.mutants.planting import Mutant, replaced, together, wrapped

_TEST = "tests/member/test_membership_schedules.py::test_whoever_is_wanted_votes_in_the_end_and_nothing_is_lost[all]"


def _held_by_anybody(state: State, leader: Leader) -> int:
    reached = [progress.match_index for progress in leader.progress.values()]
    if state.server_id in state.configuration.servers:
        reached.append(state.log.durable_index)
    return reached_by_majority(reached)


def _ask_learners_too(ask: Any, state: State, voters: list[int], request: Any) -> None:
    ask(state, [*voters, *(learner for learner in state.configuration.learners if learner != state.server_id)], request)


def _count_every_vote(voters: Any, votes: Any) -> Any:
    counted = set(voters)
    strangers = [server for server, granted in votes.items() if granted and server not in counted]
    # Each vote of somebody else stands for one that has not come.
    missing = sorted(counted - {voter for voter, granted in votes.items() if granted})
    return vote_result(voters, {**votes, **dict.fromkeys(missing[: len(strangers)], True)})


def _voter_at_once(next_move: Any, own_id: int, now: Configuration, wanted: Membership, *rest: Any) -> Any:
    move = next_move(own_id, now, wanted, *rest)
    if isinstance(move, Configuration) and set(move.learners) > set(now.learners):
        return Configuration.of({*move.voters, *set(move.learners) - set(now.learners)}, now.learners)
    return move


def _never_itself(next_move: Any, own_id: int, now: Configuration, *rest: Any) -> Any:
    move = next_move(own_id, now, *rest)
    is_own = isinstance(move, HandOver) or (isinstance(move, Configuration) and own_id not in move.servers)
    return None if is_own else move


def _told_as_soon_as_unwanted(memory: PeerMemory, member_id: int) -> GreetingRefused | None:
    if memory._cluster.is_removed(member_id):
        return GreetingRefused(GreetingRefusalReason.REMOVED, "removed")
    return None


def _without_removed_ids(restore: Any, keyspace: Keyspace, *arguments: Any) -> None:
    restore(keyspace, *arguments)
    keyspace.cluster.removed_ids.clear()


def _only_where_it_was_wanted(look: Any, reconfiguring: Reconfiguration, now_ms: int) -> None:
    """Goes on only in the term in which its member first led with something to do."""
    raft = reconfiguring._loop.raft
    first = reconfiguring.__dict__.setdefault("_first_term", raft.current_term)
    if raft.current_term == first:
        look(reconfiguring, now_ms)


class _KeepsVoters:
    """Of configurations only what going alone makes of them."""

    @staticmethod
    def of(voters: Any, removed: Any, founding: bytes) -> Configuration:
        return Configuration.of({*voters, *removed}, founding=founding)


def _ask_the_removed(to_ask: Any, state: State, asking: Any) -> Configuration:
    found = to_ask(state, asking)
    return Configuration.of(found.voters, {*found.learners, *found.removed})


def _mutant(name: str, title: str, plant: Any) -> Mutant:
    return Mutant(name, title, ("I12",), plant, test=_TEST)


MUTANTS = (
    _mutant(
        "M74", "counts a learner in the quorum of commits", replaced(replication, "_held_by_majority", _held_by_anybody)
    ),
    _mutant(
        "M75",
        "counts the vote of a learner",
        together(wrapped(election, "_ask", _ask_learners_too), replaced(election, "vote_result", _count_every_vote)),
    ),
    _mutant(
        "M76",
        "promotes a learner that lags",
        together(
            replaced(Rounds, "is_close", lambda *_arguments: True),
            replaced(membership, "keeps_up", lambda *_arguments: True),
        ),
    ),
    _mutant("M77", "lets a removed member in", replaced(PeerMemory, "removal", lambda _memory, _member_id: None)),
    _mutant(
        "M78", "does not tell the transport of new peers", replaced(MembershipWatch, "follow", lambda _watch: None)
    ),
    _mutant("M79", "loads a snapshot without the removed ids", wrapped(Keyspace, "_restore", _without_removed_ids)),
    _mutant("M80", "adds a voter at once", wrapped(reconfiguration, "next_move", _voter_at_once)),
    _mutant(
        "M81",
        "tells a member that it was removed before that is committed",
        replaced(PeerMemory, "removal", _told_as_soon_as_unwanted),
    ),
    _mutant(
        "M82",
        "changes the configuration though no majority can be reached",
        replaced(reconfiguration, "_has_majority", lambda voters, _reached: bool(voters)),
    ),
    _mutant("M83", "leads on though it is to be removed", wrapped(reconfiguration, "next_move", _never_itself)),
    _mutant(
        "M84",
        "does not go on where another leader has stopped",
        wrapped(Reconfiguration, "look", _only_where_it_was_wanted),
    ),
    Mutant(
        "M85",
        "a survivor that goes on alone keeps the old voters",
        ("I12",),
        replaced(going_alone, "Configuration", _KeepsVoters),
        test="tests/storage/test_going_alone.py",
    ),
    _mutant("M86", "a rebuild asks a removed member", wrapped(rebuild, "to_ask", _ask_the_removed)),
    _mutant(
        "M86b",
        "counts on a member that has lost its disk and still asks",
        replaced(PeerMemory, "has_forgotten", lambda _memory, _member_id: False),
    ),
    Mutant(  # The schedules hardly find it, as the log says where members are while nobody leads.
        "M86c",
        "does not know after a restart where a member is whose removal waits",
        ("I12",),
        replaced(Cluster, "urls_at_start", lambda _cluster, _member_id: ()),
        test="tests/member/test_membership_watch.py::test_a_removed_member_is_found_after_a_restart_until_its_removal_is_committed",
    ),
    _mutant(
        "M86e",
        "looks for a voter only where it was by what is applied, also while nobody leads",
        replaced(MembershipWatch, "look_ahead", lambda _watch: None),
    ),
    Mutant(
        "M86d",
        "never counts on a member again that has lost its disk once",
        ("I12",),
        replaced(PeerMemory, "took_part", lambda _memory, _member_id: None),
        test="tests/member/test_member.py::test_peer_that_asks_what_it_lost_is_counted_on_again_once_it_answers",
    ),
)
