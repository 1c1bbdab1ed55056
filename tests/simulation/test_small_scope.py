"""Small-scope search: every state of three real cores within small limits is safe, and planted bugs are met."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from kvraft.raft.messages import AppendEntriesReply, RequestPreVoteReply, RequestVote, RequestVoteReply
from tests.simulation.small_scope.bugs import BUGS, Bug
from tests.simulation.small_scope.scope import Scope, drawn
from tests.simulation.small_scope.search import Cluster, Search
from tests.simulation.small_scope.server import answer_term
from tests.simulation.small_scope.story import tell

pytestmark = pytest.mark.pure  # a search copies cores and looks into them

ROOT = Path(__file__).parents[2]

WHOLE = (
    Scope(terms=1, entries=1, crashes=1, in_flight=1, slow_disk=True),
    Scope(terms=2, entries=0, crashes=0, in_flight=1),
    Scope(terms=1, entries=0, crashes=0, in_flight=2, duplicates=1, pre_vote=True),
    Scope(terms=1, entries=1, crashes=0, in_flight=2, heartbeats=1),
)
"""Searched to their end."""
BEGUN = (
    Scope(terms=3, entries=3, crashes=2, in_flight=2, heartbeats=1),
    Scope(terms=2, entries=2, crashes=2, in_flight=1, slow_disk=True),
)
"""Searched as far as a few seconds go; `make torture` goes further."""


def _exactly(cluster: Cluster) -> tuple[object, ...]:
    servers, network, used, leaders, committed = cluster
    return servers, network, used, leaders, tuple(entry.chain_hash for entry in committed)


@pytest.mark.slow
@pytest.mark.parametrize("scope", WHOLE, ids=str)
def test_no_state_within_small_limits_breaks_a_rule(scope: Scope) -> None:
    """Election safety, log matching, durability, leader completeness and state machine safety, in every state."""
    found = Search(scope).run()
    assert found.complete
    assert found.states > 500
    assert not found.finding, "\n".join(tell(Search(scope), found))


@pytest.mark.slow
@pytest.mark.parametrize("scope", BEGUN, ids=str)
def test_no_state_near_the_start_breaks_a_rule(scope: Scope) -> None:
    """With all kinds of events together."""
    found = Search(scope).run(states_max=20_000)
    assert found.states >= 20_000
    assert found.depth >= 6
    assert not found.finding, "\n".join(tell(Search(scope), found))


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_planted_bug_is_met_and_its_shortest_way_told(bug: Bug) -> None:
    """A search that finds nothing says something only if it can find."""
    search = Search(bug.scope)
    with bug.plant():
        found = search.run(states_max=60_000)
        assert found.finding.startswith(bug.rule), found.table()
        story = tell(search, found)
    assert len(story) == found.depth + 1
    assert bug.rule in story[-1]


@pytest.mark.slow
def test_two_clusters_have_one_name_only_if_renaming_servers_makes_them_equal() -> None:
    """All states up to a depth are closed under renaming, so of one name there are 1, 2, 3 or 6."""
    scope = Scope(terms=2, entries=1, crashes=1, in_flight=2, duplicates=1)
    search = Search(scope)
    depth = 4
    with search.rules():
        level = [search.first()]
        known = {_exactly(cluster): search.name(cluster) for cluster in level}
        for _ in range(depth):
            following = []
            for cluster in level:
                for _, after in search.followers(cluster):
                    if _exactly(after) not in known:
                        known[_exactly(after)] = search.name(after)
                        following.append(after)
            level = following
        names = Counter(known.values())
    assert set(names.values()) <= {1, 2, 3, 6}
    assert max(names.values()) == 6
    found = Search(scope).run(depth_max=depth)
    assert found.states == len(names)


@pytest.mark.slow
def test_a_greater_limit_goes_on_where_a_smaller_one_ended() -> None:
    """Nothing is drawn while searching, so a number of states names a part of the scope."""
    scope = Scope(terms=2, entries=1, crashes=1, in_flight=2)
    small, again, large = (Search(scope).run(depth_max=depth) for depth in (4, 4, 5))
    assert (small.states, small.transitions) == (again.states, again.transitions)
    assert small.states < large.states
    assert Search(scope).run(states_max=small.states).depth <= small.depth


def test_only_answers_that_nobody_reads_any_more_leave_the_network_by_themselves() -> None:
    """A pre-vote of a server in an earlier term still counts, until the term it was asked about has come."""
    assert answer_term(RequestPreVoteReply(term=0, prospective_term=3, granted=True)) == 2
    assert answer_term(RequestVoteReply(term=2, granted=True)) == 2
    assert answer_term(AppendEntriesReply(2, success=True, match_index=1, hint_index=0, hint_term=0)) == 2
    assert answer_term(RequestVote(2, 0, 0, leadership_transfer=False)) == 0


def test_limits_are_drawn_from_a_seed() -> None:
    """The same seed, the same scope; and not always the same."""
    assert drawn(7) == drawn(7)
    assert len({drawn(seed) for seed in range(50)}) > 25


@pytest.mark.slow
def test_a_search_does_not_depend_on_pythonhashseed() -> None:
    """The story of a planted bug is printed twice by processes that hash strings differently."""
    stories = []
    for hash_seed in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation.small_scope", "--plant", "M2"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        finished = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100, check=True
        )
        lines = finished.stdout.splitlines()
        assert "states per second" in lines[1]
        stories.append(lines[2:-1])
    assert "both lead term 1" in stories[0][-1]
    assert stories[0] == stories[1]
