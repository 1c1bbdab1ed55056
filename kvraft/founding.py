"""What a member's first start was given of its cluster, as its data directory keeps it for all later starts."""

from dataclasses import dataclass
from typing import final


@final
@dataclass(slots=True, frozen=True)
class Founder:
    """A member as the others are told of it: of the initial configuration, or of a later day."""

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
    """Every initial member by name, this one included; empty if this one came later, or the directory is older than
    this record."""
    members: tuple[Founder, ...] = ()
    """The members of the newest day that is known, if they are not the founders: where to go for a member whose state
    tells nothing yet, or nothing any more."""
    replaces: int = 0
    """The member that this one removes once it is a voter (`--replace`); 0: nobody, or it has been done."""
    forced: bool = False
    """`--force-new-cluster` was carried out, and has been among the flags at every start since."""

    @property
    def known_members(self) -> tuple[Founder, ...]:
        """The members of the newest day that is known."""
        return self.members or self.founders
