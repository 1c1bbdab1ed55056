"""The limits of a search. Within them nothing is left out."""

import random
from dataclasses import dataclass
from typing import Final, final

SERVERS: Final = (1, 2, 3)
"""Three is the least number in which a majority can go on without somebody."""


@final
@dataclass(slots=True, frozen=True)
class Scope:
    """How much may happen along one path."""

    terms: int = 3
    """No server campaigns beyond this term."""
    entries: int = 3
    """Clients propose while the leader's log is shorter. The empty entry of a new leader comes in any case."""
    crashes: int = 1
    duplicates: int = 0
    """Deliveries of a message that stays on its way all the same."""
    heartbeats: int = 0
    """How often a leader's timer runs out: retries, and news of the commit index."""
    in_flight: int = 4
    """Messages on their way. When there are more, any of them is lost. (A message that is never delivered is lost as
    well, so this limit alone makes loss an event.)"""
    slow_disk: bool = False
    """A batch becomes durable by an action of its own; otherwise at once, before anything leaves the server."""
    pre_vote: bool = False
    """Elections ask first. Without it, what a pre-vote could prevent happens too."""


SCOPES: Final = {
    "elections": Scope(terms=2, entries=0, crashes=2, duplicates=1, slow_disk=True, in_flight=3),
    "pre-votes": Scope(terms=2, entries=0, crashes=1, in_flight=3, pre_vote=True),
    "commitment": Scope(terms=3, entries=2, crashes=0, in_flight=3),
    "durability": Scope(terms=2, entries=2, crashes=2, slow_disk=True, in_flight=3),
    "all": Scope(terms=3, entries=3, crashes=2, duplicates=1, heartbeats=1, slow_disk=True, in_flight=4),
}
"""By the kind of mistake that each would show soonest."""


def drawn(seed: int) -> Scope:
    """A scope with limits of a seed: what is never combined is never searched."""
    draw = random.Random(seed)
    return Scope(
        terms=draw.choice((1, 2, 2, 3, 3, 4)),
        entries=draw.choice((0, 1, 2, 3)),
        crashes=draw.choice((0, 1, 2)),
        duplicates=draw.choice((0, 0, 1)),
        heartbeats=draw.choice((0, 0, 1, 2)),
        in_flight=draw.choice((1, 2, 3, 4)),
        slow_disk=draw.random() < 0.5,
        pre_vote=draw.random() < 0.2,
    )
