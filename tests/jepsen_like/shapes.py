"""Shapes of partitions, and of networks in which not everybody can dial everybody, around a leader and the others."""

from collections.abc import Callable
from typing import Final, TypeAlias

Cuts: TypeAlias = tuple[str, list[tuple[str, str]]]
"""In words, and as (from, to) of each direction that is cut."""


def isolated_leader(leader: str, others: list[str]) -> Cuts:
    """The leader is alone, the others are a quorum."""
    return f"leader {leader} alone", _between([leader], others)


def isolated_follower(leader: str, others: list[str]) -> Cuts:
    """One follower is alone."""
    return f"follower {others[0]} alone", _between([others[0]], [leader, *others[1:]])


def halves(leader: str, others: list[str]) -> Cuts:
    """The leader with one less than a quorum, against the rest."""
    minority = [leader, *others[: (len(others) - 1) // 2]]
    majority = [name for name in others if name not in minority]
    return f"{'+'.join(minority)} (leader {leader}) | {'+'.join(majority)}", _between(minority, majority)


def deaf_leader(leader: str, others: list[str]) -> Cuts:
    """The leader sends and hears nothing."""
    return f"leader {leader} is deaf", [(other, leader) for other in others]


def dumb_leader(leader: str, others: list[str]) -> Cuts:
    """The leader hears and nobody hears it."""
    return f"leader {leader} is dumb", [(leader, other) for other in others]


def deaf_follower(leader: str, others: list[str]) -> Cuts:
    """A follower hears nothing, so that it wants an election which the others hear of."""
    return f"follower {others[0]} is deaf", [(other, others[0]) for other in [leader, *others[1:]]]


def ring(leader: str, others: list[str]) -> Cuts:
    """Each hears only its neighbours: both of them with five members, the one before it with three."""
    names = [leader, *others]
    count = len(names)
    distances = (1,) if count == 3 else (1, count - 1)
    kept = {(names[at], names[(at + step) % count]) for at in range(count) for step in distances}
    cuts = [(one, other) for one in names for other in names if one != other and (one, other) not in kept]
    return f"ring {'>'.join(names)}", cuts


def bridge(leader: str, others: list[str]) -> Cuts:
    """Two groups that share one member, which is not the leader."""
    middle, *rest = others
    near = [leader, *rest[: (len(rest) - 1) // 2]]
    far = [name for name in rest if name not in near]
    return f"{'+'.join(near)} and {'+'.join(far)} see only {middle}", _between(near, far)


def cloudflare(leader: str, others: list[str]) -> Cuts:
    """The cut of Cloudflare's incident of 2 November 2020: a follower and the leader lose each other, nobody else."""
    return f"{others[0]} and leader {leader} cut", _between([others[0]], [leader])


Shape: TypeAlias = Callable[[str, list[str]], Cuts]
SHAPES: Final[tuple[Shape, ...]] = (
    isolated_leader,
    isolated_follower,
    halves,
    deaf_leader,
    dumb_leader,
    deaf_follower,
    ring,
    bridge,
    cloudflare,
)


def lower_cannot_dial(leader: str, others: list[str]) -> Cuts:
    """Of any two members, only the one with the higher name can dial."""
    names = sorted([leader, *others])
    pairs = [(one, other) for one in names for other in names if one < other]
    return "only the higher of two names can dial", pairs


def higher_cannot_dial(leader: str, others: list[str]) -> Cuts:
    """Of any two members, only the one with the lower name can dial."""
    return "only the lower of two names can dial", [pair[::-1] for pair in lower_cannot_dial(leader, others)[1]]


def nobody_dials_leader(leader: str, others: list[str]) -> Cuts:
    """The leader dials everybody."""
    return f"nobody can dial leader {leader}", [(other, leader) for other in others]


def leader_dials_nobody(leader: str, others: list[str]) -> Cuts:
    """Everybody dials the leader."""
    return f"leader {leader} can dial nobody", [(leader, other) for other in others]


def follower_dials_nobody(leader: str, others: list[str]) -> Cuts:
    """Everybody dials one follower."""
    return f"follower {others[0]} can dial nobody", [(others[0], other) for other in [leader, *others[1:]]]


def neither_dials(leader: str, others: list[str]) -> Cuts:
    """A follower and the leader cannot dial each other, and only see the others."""
    return f"{others[0]} and leader {leader} cannot dial each other", _between([others[0]], [leader])


DIALS: Final[tuple[Shape, ...]] = (
    lower_cannot_dial,
    higher_cannot_dial,
    nobody_dials_leader,
    leader_dials_nobody,
    follower_dials_nobody,
    neither_dials,
)
"""Who cannot dial whom; what can be dialled carries both ways."""


def _between(one: list[str], other: list[str]) -> list[tuple[str, str]]:
    return [pair for first in one for second in other for pair in ((first, second), (second, first))]
