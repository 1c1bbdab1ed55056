"""What a cluster was founded with, as each member's data directory keeps it for all later starts."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(slots=True, frozen=True)
class Founder:
    """A member of the initial configuration."""

    member_id: int
    name: str
    peer_urls: tuple[str, ...]
    """Sorted."""


@final
@dataclass(slots=True, frozen=True)
class Identity:
    """Whose data it is, and of which cluster."""

    cluster_id: int
    member_id: int
    name: str
    """Of this member, as it was last started; the founders keep the names with which they founded."""
    token: str = ""
    """`--initial-cluster-token`."""
    founders: tuple[Founder, ...] = ()
    """Every initial member by name, this one included; empty if the directory is older than this record."""
