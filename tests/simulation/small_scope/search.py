"""The states of the cluster, level by level.

A state is what the three servers are, which messages are on their way, what of the limits is used up, who led each
term and what was ever called committed. Two states that differ in the names of servers only are one.

Two things are not tried since they lead nowhere new. A delivery that changes nothing leaves a state with one message
less, which can do nothing that the state before cannot. An answer of an earlier term than its receiver has on disk
is dropped from the network, since the core does not read it, now or later (planted bug M20 breaks that rule, and the
simulator hunts it).

A state is known by a hash of 64 bits: among ten million states two meet by chance once in some hundred thousand
searches, and then one of the two is not looked at.
"""

import itertools
import math
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Final, final
from unittest import mock

from kvraft.raft import election
from kvraft.raft.entries import Entry
from kvraft.raft.state import State
from tests.simulation.small_scope.safety import broken_rule
from tests.simulation.small_scope.scope import SERVERS, Scope
from tests.simulation.small_scope.server import (
    COMPLETE,
    CRASH,
    PROPOSE,
    RENAMINGS,
    STEP_DOWN,
    TIME_OUT,
    Cast,
    Local,
    Transition,
)

Servers = tuple[int, int, int]
Network = tuple[int, ...]
"""Numbers of messages, ascending; one that is on its way twice stands there twice."""
Cluster = tuple[Servers, Network, tuple[int, int, int], tuple[int, ...], tuple[Entry, ...]]
"""(servers, network, used: crashes, duplicates, heartbeats, leader of each term, committed)."""
Happening = tuple[int, int, bool]
"""(server, action, whether the message stays on its way)."""

_ORDERS: Final = tuple(tuple(renaming.index(server) - 1 for server in SERVERS) for renaming in RENAMINGS)
"""For each renaming: at which place the server stands whose new id is 1, 2, 3."""


@final
@dataclass(slots=True)
class Found:
    """What a search has seen."""

    scope: Scope
    states: int = 0
    transitions: int = 0
    steps: int = 0
    depth: int = 0
    """Every state up to so many events from the start was looked at, unless a limit came first."""
    complete: bool = False
    """The scope holds no further state."""
    finding: str = ""
    path: tuple[int, ...] = ()
    """Hashes of the states on the shortest way to it, the start included."""
    core_s: float = 0.0

    def table(self) -> str:
        """The totals as a person reads them."""
        end = "all there are" if self.complete else "more to come"
        speed = self.states / self.core_s if self.core_s else 0
        return (
            f"{self.states} states ({end}) up to {self.depth} events deep, {self.transitions} transitions, "
            f"{self.steps} steps of a core, {self.core_s:.1f} s of processor time: {speed:.0f} states per second"
        )


def _stand_at_once(state: State) -> None:
    """Without PreVote, and without leases that would stand against it."""
    election.become_candidate(state, leadership_transfer=True)


@final
class Search:
    """One search through one scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.cast = Cast(scope)
        self._safe: dict[tuple[object, ...], str] = {}
        self.broken = ""
        """The rule that the event under way breaks, if any."""

    def rules(self) -> AbstractContextManager[object]:
        """What the scope changes in the core while a search or a story runs."""
        if self.scope.pre_vote:
            return nullcontext()
        return mock.patch.object(election, "become_pre_candidate", _stand_at_once)

    def first(self) -> Cluster:
        """Three servers that start for the first time."""
        one, two, three = (self.cast.first(server).number for server in SERVERS)
        return (one, two, three), (), (0, 0, 0), (0,) * (self.scope.terms + 2), ()

    def run(
        self, states_max: int | None = None, depth_max: int | None = None, seconds_max: float | None = None
    ) -> Found:
        """Look at every state within the scope, up to a number of states, a depth, or a time."""
        found = Found(self.scope)
        started_s = time.process_time()
        deadline_s = time.monotonic() + seconds_max if seconds_max is not None else math.inf
        with self.rules():
            self._search(found, states_max or sys.maxsize, depth_max or sys.maxsize, deadline_s)
        found.steps = self.cast.steps
        found.core_s = time.process_time() - started_s
        return found

    def _search(self, found: Found, states_max: int, depth_max: int, deadline_s: float) -> None:
        first = self.first()
        name = self.name(first)
        parents = {name: name}
        level = [(name, first)]
        while level and found.depth < depth_max:
            following: list[tuple[int, Cluster]] = []
            for parent, cluster in level:
                for _, after in self.followers(cluster):
                    found.transitions += 1
                    name = self.name(after)
                    if name in parents and not self.broken:
                        continue
                    finding = self.finding(after)
                    if finding:
                        found.finding, found.path = finding, (*_path(parents, parent), name)
                        found.depth += 1
                        found.states = len(parents)
                        return
                    parents[name] = parent
                    following.append((name, after))
                if len(parents) >= states_max or time.monotonic() >= deadline_s:
                    found.states = len(parents)
                    return
            level = following
            found.depth += bool(level)
        found.states = len(parents)
        found.complete = not level

    # What can happen.

    def followers(self, cluster: Cluster) -> Iterator[tuple[Happening, Cluster]]:
        """Everything that can happen next, with what it leads to."""
        servers, network, used, _, _ = cluster
        scope, cast = self.scope, self.cast
        message = -1
        for place, each in enumerate(network):
            if each == message:
                continue
            message = each
            to_server = cast.messages[message][1]
            local = cast.local(servers[to_server - 1])
            transition = cast.transition(local, message)
            if transition.after is local and not transition.sent and not transition.finding:
                continue
            less = network[:place] + network[place + 1 :]
            for after in self._after(cluster, to_server, transition, less, used):
                yield (to_server, message, False), after
            if used[1] < scope.duplicates:
                more = (used[0], used[1] + 1, used[2])
                for after in self._after(cluster, to_server, transition, network, more):
                    yield (to_server, message, True), after
        for server, number in enumerate(servers, 1):
            local = cast.local(number)
            for action, now_used in self._actions(local, used):
                transition = cast.transition(local, action)
                for after in self._after(cluster, server, transition, network, now_used):
                    yield (server, action, False), after

    def _actions(self, local: Local, used: tuple[int, int, int]) -> Iterator[tuple[int, tuple[int, int, int]]]:
        """What can happen to a server besides a message, and what of the limits is used up then."""
        scope = self.scope
        if local.pending:
            yield COMPLETE, used
        if used[0] < scope.crashes and local.term:
            yield CRASH, (used[0] + 1, used[1], used[2])
        if local.leads:
            if len(local.log) < scope.entries:
                yield PROPOSE, used
            if used[2] < scope.heartbeats:
                yield TIME_OUT, (used[0], used[1], used[2] + 1)
            if local.term < scope.terms:
                yield STEP_DOWN, used
        elif local.term < scope.terms:
            yield TIME_OUT, used

    def _after(
        self, cluster: Cluster, server: int, transition: Transition, network: Network, used: tuple[int, int, int]
    ) -> Iterator[Cluster]:
        """The cluster when one server has changed; several if the network is too full for what it sends."""
        servers, _, _, leaders, committed = cluster
        local = transition.after
        self.broken = transition.finding
        if local.leads and leaders[local.leads] != server:
            if leaders[local.leads]:
                self.broken = (
                    f"election safety: servers {leaders[local.leads]} and {server} both lead term {local.leads}"
                )
            leaders = (*leaders[: local.leads], server, *leaders[local.leads + 1 :])
        if local.commit_index:
            committed = self._commit(server, local, committed)
        now = (*servers[: server - 1], local.number, *servers[server:])
        on_way = self._unread(network, server, local) + transition.sent
        rest = ((now[0], now[1], now[2]), used, leaders, committed)
        if len(on_way) <= self.scope.in_flight:
            yield rest[0], tuple(sorted(on_way)), *rest[1:]
            return
        for kept in sorted({tuple(sorted(some)) for some in itertools.combinations(on_way, self.scope.in_flight)}):
            yield rest[0], kept, *rest[1:]

    def _unread(self, network: Network, server: int, local: Local) -> Network:
        """The network without answers that this server will never read."""
        durable_term = local.hard_state.current_term
        if not durable_term:
            return network
        messages, answer_term = self.cast.messages, self.cast.answer_term
        return tuple(
            [
                each
                for each in network
                if messages[each][1] != server or not answer_term[each] or answer_term[each] >= durable_term
            ]
        )

    def _commit(self, server: int, local: Local, committed: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """State machine safety: what one server applies at an index, every other applies there too (Figure 3)."""
        claimed = local.log[: local.commit_index]
        for ours, known in zip(claimed, committed, strict=False):
            if ours.chain_hash != known.chain_hash:
                self.broken = (
                    f"state machine safety: server {server} commits another entry at {ours.index} than was committed"
                )
        return claimed if len(claimed) > len(committed) else committed

    # What was seen.

    def finding(self, cluster: Cluster) -> str:
        """What is wrong with the event under way, or with the state that it leads to."""
        return self.broken or self._check(cluster)

    def _check(self, cluster: Cluster) -> str:
        servers, _, _, _, committed = cluster
        locals_ = [self.cast.local(number) for number in servers]
        key = (*[local.logs for local in locals_], committed[-1].chain_hash if committed else b"")
        known = self._safe.get(key)
        if known is None:
            logs, disks = [local.log for local in locals_], [local.durable for local in locals_]
            known = self._safe[key] = broken_rule(logs, disks, committed)
        return known

    def name(self, cluster: Cluster) -> int:
        """A hash that is the same for clusters that differ in the names of servers only."""
        servers, network, used, leaders, committed = cluster
        locals_ = [self.cast.local(number) for number in servers]
        one, two, three = (local.shape for local in locals_)
        renamed = self.cast.renamed
        images = []
        for which in _FITTING[(one > two) - (one < two), (one > three) - (one < three), (two > three) - (two < three)]:
            renaming = RENAMINGS[which]
            images.append(
                (
                    tuple([locals_[place].symbols[which] for place in _ORDERS[which]]),
                    tuple(sorted([renamed[message][which] for message in network])),
                    tuple([renaming[leader] for leader in leaders]),
                )
            )
        image = images[0] if len(images) == 1 else min(images)
        return hash((image, used, int.from_bytes(committed[-1].chain_hash[:8]) if committed else 0))


def _fitting() -> dict[tuple[int, int, int], tuple[int, ...]]:
    """For each way in which three shapes compare: the renamings that put them in ascending order."""
    fitting = {}
    for shapes in itertools.product(range(3), repeat=3):
        one, two, three = shapes
        compared = ((one > two) - (one < two), (one > three) - (one < three), (two > three) - (two < three))
        fitting[compared] = tuple(
            which for which, order in enumerate(_ORDERS) if [shapes[place] for place in order] == sorted(shapes)
        )
    return fitting


_FITTING: Final = _fitting()


def _path(parents: dict[int, int], name: int) -> tuple[int, ...]:
    path = [name]
    while parents[name] != name:
        name = parents[name]
        path.append(name)
    return tuple(reversed(path))
