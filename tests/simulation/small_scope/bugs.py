"""Planted bugs that the search must find, each with a scope in which its shortest way is soon met."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, final

from kvraft.raft.messages import AppendEntriesReply, Message, RequestVoteReply
from tests.simulation.mutants.catalogue import MUTANTS
from tests.simulation.mutants.planting import wrapped
from tests.simulation.small_scope import server
from tests.simulation.small_scope.scope import Scope


@final
@dataclass(slots=True, frozen=True)
class Bug:
    """One planted bug."""

    name: str
    """Its number in the fault programme."""
    title: str
    plant: Callable[[], AbstractContextManager[None]]
    scope: Scope
    rule: str
    """How the finding begins."""


def _votes_leave_at_once(wait: Any, message: Message) -> Any:
    return not isinstance(message, RequestVoteReply) and wait(message)


def _acknowledgements_leave_at_once(wait: Any, message: Message) -> Any:
    return not isinstance(message, AppendEntriesReply) and wait(message)


def _of_the_core(name: str, scope: Scope, rule: str) -> Bug:
    """A bug that the simulator hunts too."""
    mutant = next(mutant for mutant in MUTANTS if mutant.name == name)
    return Bug(name, mutant.title, mutant.plant, scope, rule)


BUGS = (
    _of_the_core("M1", Scope(terms=1, entries=0, crashes=0), "election safety"),
    Bug(
        "M2",
        "sends a vote before it is on disk",
        wrapped(server, "must_wait", _votes_leave_at_once),
        Scope(terms=1, entries=0, crashes=1, in_flight=2, slow_disk=True),
        "election safety",
    ),
    _of_the_core("M3", Scope(terms=2, entries=0, crashes=0, in_flight=2), "leader completeness"),
    _of_the_core("M4", Scope(terms=2, entries=0, crashes=0, in_flight=2, pre_vote=True), "election safety"),
    _of_the_core("M12", Scope(terms=2, entries=2, crashes=0, in_flight=2), "durability"),
    _of_the_core("M15", Scope(terms=3, entries=0, crashes=0, in_flight=1), "leader completeness"),
    _of_the_core("M17", Scope(terms=1, entries=0, crashes=0, in_flight=2, slow_disk=True), "durability"),
    Bug(
        "M19",
        "acknowledges entries before they are synced",
        wrapped(server, "must_wait", _acknowledgements_leave_at_once),
        Scope(terms=1, entries=0, crashes=0, in_flight=2, slow_disk=True),
        "durability",
    ),
)
